"""Passes of a micro-batch through a chunk, written as blocks: each kind of pass once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.program import COMPUTE, RECEIVE, SEND, Message
from scaleout.models import LayerKind
from scaleout.parallel import KINDS, Block, Frozen, Layers, Tables, interleave
from scaleout.specs import Stack
from scaleout.training.held import Held
from scaleout.training.schedules import Pass
from scaleout.training.stages import Place
from scaleout.training.state import State
from scaleout.training.timetable import DOWN, UP
from scaleout.training.units import Units

__all__ = ["PassWriter", "Span", "Written", "message_way"]

_LINES = {DOWN: ("pp_forward", "forward"), UP: ("pp_backward", "backward")}
"""Family and streams of the messages to the next stage, and to the one before."""
Part = Literal["both", "input", "weight"]
_PARTS: dict[str, Part] = {"F": "both", "B": "both", "I": "input", "W": "weight"}


def message_way(step: Pass, place: Place) -> int:
    """Which way the message that a pass waits for comes; 0 for none."""
    if step.kind == "W":
        return 0
    return place.came if step.kind == "F" else -place.goes


class Span(NamedTuple):
    """A pass in a block: its first operation that is no message from another stage, its first kernel, its first
    gather of weights and its last gradient reduction, each -1 for none."""

    first: int
    kernel: int
    gather: int
    reduction: int


@dataclass(frozen=True, slots=True)
class Written:
    """A step as a block: its passes, and what must be through before the next step (-1 for nothing)."""

    block: Frozen
    spans: tuple[Span, ...]
    through: int


def _end(found: Ints, which: int) -> int:
    """The first (0) or last (-1) of some operations, -1 for none."""
    return int(found[which]) if len(found) else -1


@dataclass(frozen=True, slots=True)
class _Unit:
    """Part of a chunk: its parameters, how its passes are written, and whether its weights stay until backward."""

    held: Held
    forward: Callable[[Block, tuple[int, ...]], int]
    backward: Callable[[Block, tuple[int, ...], Part], int]
    stays: bool = False


class PassWriter:
    """Writes each kind of pass once.

    Parameters
    ----------
    layers, plain
        Layers of every kind, and those of them that recompute nothing.
    """

    def __init__(
        self,
        stack: Stack,
        layers: Mapping[LayerKind, Layers],
        plain: Mapping[LayerKind, Layers],
        state: State,
        tables: Tables,
        boundary: float,
    ) -> None:
        self.stack, self.layers, self.plain, self.state, self.tables = stack, layers, plain, state, tables
        self.ends = next(iter(layers.values()))
        self._boundary_bytes = boundary
        self._blocks: dict[tuple[str, int, bool, bool], Written] = {}
        self._pairs: dict[tuple[int, int], Written] = {}
        self._numbers: dict[Place, int] = {}

    def written(self, step: Pass, place: Place, *, edge: bool, received: bool) -> Written:
        """The block of a pass.

        Parameters
        ----------
        edge
            Forward, it is the first of its chunk; otherwise the gradients of the chunk are whole after it.
        received
            The message that it waits for was taken before.
        """
        key = (step.kind, self._numbers.setdefault(place, len(self._numbers)), edge, received)
        if key not in self._blocks:
            write = self._forward if step.kind == "F" else self._backward
            block, gather, reduction = write(step, place, edge, received)
            kinds = block.ops[:, 0]
            kernels, sends = np.flatnonzero(kinds == COMPUTE), np.flatnonzero(kinds == SEND)
            through = _end(kernels, -1)
            if len(sends) and not self.stack.overlap_sends:
                through = _end(sends, -1)
            elif reduction >= 0 and not self.overlapped:
                through = reduction
            first = _end(np.flatnonzero(kinds != RECEIVE), 0)
            self._blocks[key] = Written(block, (Span(first, _end(kernels, 0), gather, reduction),), through)
        return self._blocks[key]

    def pair(self, a: Written, b: Written) -> Written:
        """Two passes as one block, where each hides the messages of the other, those between stages too."""
        key = id(a), id(b)
        if key not in self._pairs:
            block, *places = interleave(a.block, b.block)
            spans = [
                Span(*(int(where[op]) if op >= 0 else -1 for op in span))
                for one, where in zip((a, b), places, strict=True)
                for span in one.spans
            ]
            kernels = np.flatnonzero(block.ops[:, 0] == COMPUTE)
            self._pairs[key] = Written(block, tuple(spans), _end(kernels, -1))
        return self._pairs[key]

    def received(self, way: int) -> Frozen:
        """A message alone, for a pass to come."""
        block = Block(self.tables)
        self._receive(block, way)
        return block.freeze()

    def _receive(self, block: Block, way: int) -> int:
        family, line = _LINES[way]
        return block.receive(Message(family, "send", self._boundary_bytes), f"receive {line}")

    def _send(self, block: Block, way: int, after: tuple[int, ...]) -> None:
        if way:
            family, line = _LINES[way]
            block.send(Message(family, "send", self._boundary_bytes), f"send {line}", after)

    def _enter(self, block: Block, way: int, received: bool) -> tuple[int, ...]:
        """What came from another stage, ready for the first kernel."""
        if not way:
            return ()
        return self.ends.enter(block, () if received else (self._receive(block, way),))

    @property
    def overlapped(self) -> bool:
        """Whether gradients are reduced beside backward."""
        return self.stack.overlap_gradient_reduction

    def _units(self, place: Place) -> list[_Unit]:
        """Units of a chunk in the order of the model."""
        state, ends, units = self.state, self.ends, []
        root = state.units and (self.stack.root_unit or (state.mine.tied > 0.0 and place.first and place.last))
        embedding, loss = state.end(embedding=place.first), state.end(loss=place.last)
        if root and place.first and place.last:
            # what is gathered once is counted with the embedding
            embedding, loss = embedding + loss, Held()
        if place.first:
            units.append(_Unit(embedding, ends.embed, self._embed_backward, stays=root))
        kinds = place.chunk.kinds
        again = state.experiment.recompute_layers
        for at, kind in enumerate(kinds):
            layer = (self.plain if again is not None and at >= again else self.layers)[kind]
            units.append(_Unit(state.layer(kind), layer.forward, layer.backward))
        if place.last:
            units.append(_Unit(loss, ends.loss, ends.loss_backward, stays=True))
        return units

    def _embed_backward(self, block: Block, after: tuple[int, ...], part: Part) -> int:
        """The embedding's gradient is no product: it is not put off."""
        return self.ends.embed_backward(block, after)

    def _forward(self, step: Pass, place: Place, first: bool, received: bool) -> tuple[Frozen, int, int]:
        """The block and its first gather, -1 for none; a forward pass reduces nothing."""
        block, units = Block(self.tables), self._units(place)
        after = self._enter(block, place.came, received)
        kept = self.state.experiment.reshard
        flow = Units(
            block,
            self.state,
            [unit.held for unit in units],
            gather=range(len(units)) if kept in ("forward", "backward") or (kept == "step" and first) else (),
            drop=[at for at, unit in enumerate(units) if not unit.stays] if kept == "forward" else (),
            ahead=self.stack.forward_prefetch,
            reduce=False,
        )
        for at, unit in enumerate(units):
            after = (unit.forward(block, flow.before(at, after)),)
            flow.behind(at, after[0])
        self._send(block, place.goes, after)
        return block.freeze(), flow.first_gather, -1

    def _backward(self, step: Pass, place: Place, whole: bool, received: bool) -> tuple[Frozen, int, int]:
        """The block, its first gather and its last gradient reduction, -1 for none."""
        block, units, part = Block(self.tables), self._units(place)[::-1], _PARTS[step.kind]
        after = self._enter(block, message_way(step, place), received)
        state, kept = self.state, self.state.experiment.reshard
        reduces = part != "input" and (whole or state.experiment.reduces_each)
        embedding = Held()
        if part == "weight" and place.first:
            # computed before, and reduced with the rest
            embedding = units.pop().held
        again = [at for at, unit in enumerate(units) if not unit.stays] if kept == "forward" else ()
        # gradients of weights need the weights no more, but the last of them ends the step
        drops = whole if kept == "step" else kept != "never" and part != "weight"
        flow = Units(
            block,
            state,
            [unit.held for unit in units],
            gather=again if part != "weight" else (),
            drop=range(len(units)) if drops else (),
            ahead=self.stack.backward_prefetch,
            reduce=state.units and reduces,
        )
        buckets = _Buckets(state, block, overlapped=self.overlapped) if reduces and not state.units else None
        for at, unit in enumerate(units):
            after = (unit.backward(block, flow.before(at, after), part),)
            flow.behind(at, after[0])
            if buckets is not None:
                more = at < len(units) - 1 or bool(embedding.total)
                buckets.add(unit.held, after, full=place.last <= at and more)
        if drops and embedding.total:
            block.hold(after[0], KINDS.index("weights"), -state.gathered(embedding), at_end=True)
        if part != "weight":
            self._send(block, -place.came, after)
        if buckets is not None:
            buckets.add(embedding, after, full=False)
            buckets.close(after)
            return block.freeze(), -1, buckets.reduction
        reduction = flow.reduction
        if state.units and reduces and embedding.total:
            reduction = max(reduction, state.reduce(block, embedding, after))
        return block.freeze(), flow.first_gather, reduction


class _Buckets:
    """Gradients of whole weights, reduced as soon as there are enough of them."""

    def __init__(self, state: State, block: Block, *, overlapped: bool) -> None:
        self.state, self.block, self.overlapped = state, block, overlapped
        self._bucket = Held()
        self.reduction = -1

    def add(self, held: Held, after: tuple[int, ...], *, full: bool) -> None:
        """Gradients of a unit; reduced, if the bucket is full and something comes after it."""
        self._bucket += held
        if self.overlapped and full and self._bucket.total * self.state.width.kept >= self.state.stack.bucket:
            self._reduce(after)

    def close(self, after: tuple[int, ...]) -> None:
        """Reduce what is left, unless all of it is after the last pass."""
        if self._bucket.total and (self.overlapped or self.state.experiment.reduces_each):
            self._reduce(after)

    def _reduce(self, after: tuple[int, ...]) -> None:
        self.reduction, self._bucket = self.state.reduce(self.block, self._bucket, after), Held()
