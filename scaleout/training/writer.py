"""Passes of a micro-batch through a chunk, written as blocks: each kind of pass once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, Message
from scaleout.models import LayerKind
from scaleout.parallel import Block, Frozen, Layers, Tables
from scaleout.specs import Stack
from scaleout.training.held import Held
from scaleout.training.schedules import Pass
from scaleout.training.stages import Place
from scaleout.training.state import State
from scaleout.training.units import Units

__all__ = ["PassWriter", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """A pass as a block.

    Parameters
    ----------
    first, kernel, gather
        Its first operation that is no message from another stage, its first kernel, and its first
        gather of weights, -1 for none.
    through
        What must be through before the next pass.
    reduction
        Its last gradient reduction, -1 for none.
    """

    block: Frozen
    first: int
    kernel: int
    gather: int
    through: int
    reduction: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """Part of a chunk: its parameters, how its passes are written, and whether its weights stay until backward."""

    held: Held
    forward: Callable[[Block, tuple[int, ...]], int]
    backward: Callable[[Block, tuple[int, ...]], int]
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
        self._blocks: dict[tuple[bool, int, bool], Written] = {}
        self._numbers: dict[Place, int] = {}

    def written(self, step: Pass, place: Place, last: bool) -> Written:
        """The block of a pass; `last`: of the last micro-batch, after which gradients are whole."""
        edge = last if step.backward else step.micro_batch == 0
        key = (step.backward, self._numbers.setdefault(place, len(self._numbers)), edge)
        if key not in self._blocks:
            block, gather, reduction = (
                self._backward(place, edge) if step.backward else (*self._forward(place, edge), -1)
            )
            kernels = np.flatnonzero(block.ops[:, 0] == COMPUTE)
            sends = np.flatnonzero(block.ops[:, 0] == SEND)
            through = int(kernels[-1])
            if len(sends) and not self.stack.overlap_sends:
                through = int(sends[-1])
            elif reduction >= 0 and not self.overlapped:
                through = reduction
            self._blocks[key] = Written(
                block=block,
                first=int(np.flatnonzero(block.ops[:, 0] != RECEIVE)[0]),
                kernel=int(kernels[0]),
                gather=gather,
                through=through,
                reduction=reduction,
            )
        return self._blocks[key]

    @property
    def overlapped(self) -> bool:
        """Whether gradients are reduced beside backward; units always are."""
        return self.stack.overlap_gradient_reduction or self.state.units

    def _units(self, place: Place) -> list[_Unit]:
        """Units of a chunk in the order of the model."""
        state, ends, units = self.state, self.ends, []
        root = self.stack.root_unit or (state.mine.tied > 0.0 and place.first and place.last)
        embedding, loss = state.end(embedding=place.first), state.end(loss=place.last)
        if root and place.first and place.last:
            # what is gathered once is counted with the embedding
            embedding, loss = embedding + loss, Held()
        if place.first:
            units.append(_Unit(embedding, ends.embed, ends.embed_backward, stays=root))
        kinds = place.chunk.kinds
        again = state.experiment.recompute_layers
        for at, kind in enumerate(kinds):
            layer = (self.plain if again is not None and at >= again else self.layers)[kind]
            units.append(_Unit(state.layer(kind), layer.forward, layer.backward))
        if place.last:
            units.append(_Unit(loss, ends.loss, ends.loss_backward, stays=True))
        return units

    def _forward(self, place: Place, first: bool) -> tuple[Frozen, int]:
        """The block and its first gather, or -1."""
        block, units = Block(self.tables), self._units(place)
        after: tuple[int, ...] = ()
        if not place.first:
            after = (block.receive(self._boundary("pp_forward"), "receive forward"),)
            after = self.ends.enter(block, after)
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
        if not place.last:
            block.send(self._boundary("pp_forward"), "send forward", after)
        return block.freeze(), flow.first_gather

    def _backward(self, place: Place, last: bool) -> tuple[Frozen, int, int]:
        """The block, its first gather and its last gradient reduction, or -1."""
        block, units = Block(self.tables), self._units(place)[::-1]
        after: tuple[int, ...] = ()
        if not place.last:
            after = (block.receive(self._boundary("pp_backward"), "receive backward"),)
            after = self.ends.enter(block, after)
        state, kept = self.state, self.state.experiment.reshard
        reduces = last or state.experiment.reduces_each
        again = [at for at, unit in enumerate(units) if not unit.stays] if kept == "forward" else ()
        flow = Units(
            block,
            state,
            [unit.held for unit in units],
            gather=again,
            drop=range(len(units)) if kept in ("forward", "backward") or (kept == "step" and last) else (),
            ahead=self.stack.backward_prefetch,
            reduce=state.units and reduces,
        )
        buckets = _Buckets(state, block, overlapped=self.overlapped) if reduces and not state.units else None
        for at, unit in enumerate(units):
            after = (unit.backward(block, flow.before(at, after)),)
            flow.behind(at, after[0])
            if buckets is not None:
                buckets.add(unit.held, after, full=place.last <= at < len(units) - 1)
        if not place.first:
            block.send(self._boundary("pp_backward"), "send backward", after)
        if buckets is not None:
            buckets.close(after)
            return block.freeze(), -1, buckets.reduction
        return block.freeze(), flow.first_gather, flow.reduction

    def _boundary(self, family: str) -> Message:
        return Message(family, "send", self._boundary_bytes)


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
