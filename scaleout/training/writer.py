"""Passes of a micro-batch through a chunk, written as blocks: each kind of pass once."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, Message
from scaleout.models import LayerKind
from scaleout.parallel import Block, Frozen, Layers, Tables
from scaleout.specs import Stack
from scaleout.training.schedules import Pass
from scaleout.training.stages import Chunk, Place
from scaleout.training.state import State

__all__ = ["PassWriter", "Written"]


@dataclass(frozen=True, slots=True)
class Written:
    """A pass as a block: its first operation that is no message from another stage, its first
    kernel, what must be through before the next pass, and its last gradient reduction (-1 for none)."""

    block: Frozen
    first: int
    kernel: int
    through: int
    reduction: int


class PassWriter:
    """Writes each kind of pass once."""

    def __init__(
        self, stack: Stack, layers: Mapping[LayerKind, Layers], state: State, tables: Tables, boundary: float
    ) -> None:
        self.stack, self.layers, self.state, self.tables = stack, layers, state, tables
        self.ends = next(iter(layers.values()))
        self._boundary_bytes = boundary
        self._blocks: dict[tuple[bool, int, bool], Written] = {}
        self._numbers: dict[Place, int] = {}

    def written(self, step: Pass, place: Place, last: bool) -> Written:
        """The block of a pass; `last`: of the last micro-batch, after which gradients are whole."""
        key = (step.backward, self._numbers.setdefault(place, len(self._numbers)), last)
        if key not in self._blocks:
            block, reduction = self._backward(place, last) if step.backward else (self._forward(place), -1)
            kernels = np.flatnonzero(block.ops[:, 0] == COMPUTE)
            sends = np.flatnonzero(block.ops[:, 0] == SEND)
            blocked = len(sends) and not self.stack.overlap_sends
            self._blocks[key] = Written(
                block=block,
                first=int(np.flatnonzero(block.ops[:, 0] != RECEIVE)[0]),
                kernel=int(kernels[0]),
                through=int(sends[-1] if blocked else kernels[-1]),
                reduction=reduction,
            )
        return self._blocks[key]

    def _forward(self, place: Place) -> Frozen:
        block, ends = Block(self.tables), self.ends
        after: tuple[int, ...] = ()
        if not place.first:
            after = (block.receive(self._boundary("pp_forward"), "receive forward"),)
            after = ends.enter(block, after)
        if place.first:
            after = (ends.embed(block, after),)
        for kind in place.chunk.kinds:
            after = (self.layers[kind].forward(block, after),)
        if place.last:
            ends.loss(block, after)
        else:
            block.send(self._boundary("pp_forward"), "send forward", after)
        return block.freeze()

    def _backward(self, place: Place, reduce: bool) -> tuple[Frozen, int]:
        """The block and its last gradient reduction, or -1."""
        block, ends = Block(self.tables), self.ends
        after: tuple[int, ...] = ()
        if not place.last:
            after = (block.receive(self._boundary("pp_backward"), "receive backward"),)
            after = ends.enter(block, after)
        overlapped = reduce and self.stack.overlap_gradient_reduction
        bucket, reduction = 0.0, -1
        if place.last:
            after = (ends.loss_backward(block, after),)
            bucket += self.state.count(Chunk((), False, True))
        for index, kind in enumerate(reversed(place.chunk.kinds)):
            after = (self.layers[kind].backward(block, after),)
            bucket += self.state.shards[kind].layer
            full = bucket * self.state.mine.gradient_width >= self.stack.bucket
            if overlapped and full and (place.first or index < place.chunk.layers - 1):
                reduction, bucket = self.state.reduce(block, bucket, after), 0.0
        if place.first:
            after = (ends.embed_backward(block, after),)
            bucket += self.state.count(Chunk((), True, False))
        else:
            block.send(self._boundary("pp_backward"), "send backward", after)
        if overlapped and bucket:
            reduction = self.state.reduce(block, bucket, after)
        return block.freeze(), reduction

    def _boundary(self, family: str) -> Message:
        return Message(family, "send", self._boundary_bytes)
