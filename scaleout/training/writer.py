"""Passes of a micro-batch through a chunk, written as blocks: each kind of pass once."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.program import COMPUTE, SEND, Message
from scaleout.models import LayerKind
from scaleout.parallel import KINDS, Block, Frozen, Layers, Tables, begins, interleave
from scaleout.specs import Stack
from scaleout.training.copies import Copies
from scaleout.training.held import Held
from scaleout.training.itinerary import Form, message_way
from scaleout.training.stages import Place
from scaleout.training.state import State
from scaleout.training.timetable import DOWN, UP
from scaleout.training.units import Units

__all__ = ["PassWriter", "Span", "Written"]

_LINES = {DOWN: ("pp_forward", "forward"), UP: ("pp_backward", "backward")}
"""Family and streams of the messages to the next stage, and to the one before."""
Part = Literal["both", "input", "weight"]
_PARTS: dict[str, Part] = {"F": "both", "B": "both", "I": "input", "W": "weight"}


class Span(NamedTuple):
    """A pass in a block: its first operation that is no message from another stage, its first kernel, its first
    gather of weights and its last gradient reduction; its copies, where something is on the host. Each -1 for none.

    Parameters
    ----------
    fetch, second, kept
        The first copy in; the first for a unit after the first, and of what a forward pass left.
    free
        When it has ended, the next pass's first copy in may begin.
    out
        The last copy out.
    """

    first: int
    kernel: int
    gather: int
    reduction: int
    fetch: int = -1
    second: int = -1
    kept: int = -1
    free: int = -1
    out: int = -1


@dataclass(frozen=True, slots=True)
class Written:
    """A step as a block: its passes, and what must be through before the next step (-1 for nothing)."""

    block: Frozen
    spans: tuple[Span, ...]
    through: int


_Made = tuple[Frozen, tuple[int, ...], int, int]
"""A block, the copies of its span, its first gather and its last reduction."""


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
    kept: float = 0.0
    """What of a layer's activations goes to the host between its passes [byte]."""


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

    def written(self, form: Form, place: Place) -> Written:
        """The block of a pass."""
        key = (form.kind, self._numbers.setdefault(place, len(self._numbers)), form.edge, form.received)
        if key not in self._blocks:
            write = self._forward if form.kind == "F" else self._backward
            block, copies, gather, reduction = write(form, place)
            kinds = block.ops[:, 0]
            kernels, sends = np.flatnonzero(kinds == COMPUTE), np.flatnonzero(kinds == SEND)
            through = _end(kernels, -1)
            if len(sends) and not self.stack.overlap_sends:
                through = _end(sends, -1)
            elif reduction >= 0 and not self.overlapped:
                through = reduction
            span = Span(begins(block.ops), _end(kernels, 0), gather, reduction, *copies)
            self._blocks[key] = Written(block, (span,), through)
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
            # what the very last layer leaves is needed at once
            stays = place.last and at == len(kinds) - 1
            kept = 0.0 if stays else state.experiment.offload.activations * layer.kept.layer
            units.append(_Unit(state.layer(kind), layer.forward, layer.backward, kept=kept))
        if place.last:
            units.append(_Unit(loss, ends.loss, ends.loss_backward, stays=True))
        return units

    def _embed_backward(self, block: Block, after: tuple[int, ...], part: Part) -> int:
        """The embedding's gradient is no product: it is not put off."""
        return self.ends.embed_backward(block, after)

    def _copies(self, block: Block, units: list[_Unit], gather: Collection[int], ahead: int, way: str) -> Copies:
        """Copies of a pass that gathers these units, or needs all weights where they are whole."""
        share, state = self.state.experiment.offload.parameters, self.state
        needed = gather if state.units else range(len(units)) if way != "weight" else ()
        weights = [share * state.stored(unit.held) * (at in needed) for at, unit in enumerate(units)]
        kept, nothing = [unit.kept for unit in units], [0.0] * len(units)
        return Copies(
            block,
            weights,
            nothing if way in ("forward", "weight") else kept,
            kept if way == "forward" else nothing,
            ahead if state.units else 0,
        )

    def _forward(self, form: Form, place: Place) -> _Made:
        """The block and its first gather, -1 for none; a forward pass reduces nothing."""
        block, units = Block(self.tables), self._units(place)
        after = self._enter(block, place.came, form.received)
        kept = self.state.experiment.reshard
        gather = range(len(units)) if kept in ("forward", "backward") or (kept == "step" and form.edge) else ()
        copies = self._copies(block, units, gather, self.stack.forward_prefetch, "forward")
        flow = Units(
            block,
            self.state,
            [unit.held for unit in units],
            gather=gather,
            drop=[at for at, unit in enumerate(units) if not unit.stays] if kept == "forward" else (),
            ahead=self.stack.forward_prefetch,
            reduce=False,
            arrived=copies.arrived,
        )
        for at, unit in enumerate(units):
            copies.begin(at, after)
            waits, start = (*flow.before(at, after), *copies.needed(at)), block.last + 1
            after = (unit.forward(block, waits),)
            flow.behind(at, after[0])
            copies.behind(at, start, after[0])
        self._send(block, place.goes, after)
        return block.freeze(), copies.marks, flow.first_gather, -1

    def _backward(self, form: Form, place: Place) -> _Made:
        """The block, its first gather and its last gradient reduction, -1 for none."""
        block, units, part = Block(self.tables), self._units(place)[::-1], _PARTS[form.kind]
        after = self._enter(block, message_way(form.kind, place.came, place.goes), form.received)
        state, kept = self.state, self.state.experiment.reshard
        reduces = part != "input" and (form.edge or state.experiment.reduces_each)
        embedding = Held()
        if part == "weight" and place.first:
            # computed before, and reduced with the rest
            embedding = units.pop().held
        again = [at for at, unit in enumerate(units) if not unit.stays] if kept == "forward" else []
        # gradients of weights need the weights no more, but the last of them ends the step
        drops = form.edge if kept == "step" else kept != "never" and part != "weight"
        gather = again if part != "weight" else []
        copies = self._copies(block, units, gather, self.stack.backward_prefetch, part)
        flow = Units(
            block,
            state,
            [unit.held for unit in units],
            gather=gather,
            drop=range(len(units)) if drops else (),
            ahead=self.stack.backward_prefetch,
            reduce=state.units and reduces,
            arrived=copies.arrived,
        )
        buckets = _Buckets(state, block, overlapped=self.overlapped) if reduces and not state.units else None
        for at, unit in enumerate(units):
            copies.begin(at, after)
            waits, start = (*flow.before(at, after), *copies.needed(at)), block.last + 1
            after = (unit.backward(block, waits, part),)
            flow.behind(at, after[0])
            copies.behind(at, start, after[0])
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
            return block.freeze(), copies.marks, -1, buckets.reduction
        reduction = flow.reduction
        if state.units and reduces and embedding.total:
            reduction = max(reduction, state.reduce(block, embedding, after))
        return block.freeze(), copies.marks, flow.first_gather, reduction


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
