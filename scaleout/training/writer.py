"""Passes of a micro-batch through a chunk, written as blocks: each kind of pass once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.program import COMPUTE, RECEIVE, SEND, Message
from scaleout.models import LayerKind
from scaleout.parallel import Block, Frozen, Layers, Tables, interleave
from scaleout.specs import Stack
from scaleout.training.schedules import Pass
from scaleout.training.stages import Chunk, Place
from scaleout.training.state import State
from scaleout.training.timetable import DOWN, UP

__all__ = ["PassWriter", "Span", "Written", "message_way"]

_LINES = {DOWN: ("pp_forward", "forward"), UP: ("pp_backward", "backward")}
"""Family and streams of the messages to the next stage, and to the one before."""
_PARTS: dict[str, Literal["both", "input", "weight"]] = {"B": "both", "I": "input", "W": "weight"}


def message_way(step: Pass, place: Place) -> int:
    """Which way the message that a pass waits for comes; 0 for none."""
    if step.kind == "W":
        return 0
    return place.came if step.kind == "F" else -place.goes


@dataclass(frozen=True, slots=True)
class Span:
    """A pass in a block: its first operation that is no message from another stage, its first kernel
    and its last gradient reduction, each -1 for none."""

    first: int
    kernel: int
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


class PassWriter:
    """Writes each kind of pass once."""

    def __init__(
        self, stack: Stack, layers: Mapping[LayerKind, Layers], state: State, tables: Tables, boundary: float
    ) -> None:
        self.stack, self.layers, self.state, self.tables = stack, layers, state, tables
        self.ends = next(iter(layers.values()))
        self._boundary_bytes = boundary
        self._blocks: dict[tuple[str, int, bool, bool], Written] = {}
        self._pairs: dict[tuple[int, int], Written] = {}
        self._numbers: dict[Place, int] = {}

    def written(self, step: Pass, place: Place, *, whole: bool, received: bool) -> Written:
        """The block of a pass.

        Parameters
        ----------
        whole
            The gradients of the chunk are, after it.
        received
            The message that it waits for was taken before.
        """
        key = (step.kind, self._numbers.setdefault(place, len(self._numbers)), whole, received)
        if key not in self._blocks:
            block, reduction = (
                (self._forward(place, received), -1)
                if step.kind == "F"
                else self._backward(step, place, whole, received)
            )
            kinds = block.ops[:, 0]
            kernels, sends = np.flatnonzero(kinds == COMPUTE), np.flatnonzero(kinds == SEND)
            blocked = len(sends) and not self.stack.overlap_sends
            first = _end(np.flatnonzero(kinds != RECEIVE), 0)
            span = Span(first, _end(kernels, 0), reduction)
            self._blocks[key] = Written(block, (span,), _end(sends if blocked else kernels, -1))
        return self._blocks[key]

    def overlapped(self, a: Written, b: Written) -> Written:
        """Two passes as one block, where each hides the messages of the other, those between stages too."""
        key = id(a), id(b)
        if key not in self._pairs:
            block, *places = interleave(a.block, b.block)
            spans = [
                Span(*(int(where[op]) if op >= 0 else -1 for op in (span.first, span.kernel, span.reduction)))
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

    def _forward(self, place: Place, received: bool) -> Frozen:
        block, ends = Block(self.tables), self.ends
        after = self._enter(block, place.came, received)
        if place.first:
            after = (ends.embed(block, after),)
        for kind in place.chunk.kinds:
            after = (self.layers[kind].forward(block, after),)
        if place.last:
            ends.loss(block, after)
        self._send(block, place.goes, after)
        return block.freeze()

    def _backward(self, step: Pass, place: Place, reduce: bool, received: bool) -> tuple[Frozen, int]:
        """The block and its last gradient reduction, or -1."""
        block, ends = Block(self.tables), self.ends
        part = _PARTS[step.kind]
        after = self._enter(block, message_way(step, place), received)
        overlapped = reduce and self.stack.overlap_gradient_reduction
        bucket, reduction = 0.0, -1
        if place.last:
            after = (ends.loss_backward(block, after, part),)
            bucket += self.state.count(Chunk((), False, True))
        for index, kind in enumerate(reversed(place.chunk.kinds)):
            after = (self.layers[kind].backward(block, after, part),)
            bucket += self.state.shards[kind].layer
            full = bucket * self.state.mine.gradient_width >= self.stack.bucket
            if overlapped and full and (place.first or index < place.chunk.layers - 1):
                reduction, bucket = self.state.reduce(block, bucket, after), 0.0
        if place.first:
            # the embedding's gradient is no product: it is not put off
            if part != "weight":
                after = (ends.embed_backward(block, after),)
            bucket += self.state.count(Chunk((), True, False))
        if part != "weight":
            self._send(block, -place.came, after)
        if overlapped and bucket:
            reduction = self.state.reduce(block, bucket, after)
        return block.freeze(), reduction
