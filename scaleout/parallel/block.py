"""Blocks: short programs that are built once and repeated, such as one layer's forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, SEND, STREAMS, Label, Mark, Message, Program

__all__ = ["Block", "Frozen", "Tables", "interleave", "join"]

COMPUTE_STREAM, TP_STREAM = STREAMS.index("compute"), STREAMS.index("tp")
_DEPS = 3


class Tables:
    """Labels and messages of a job, each kept once."""

    def __init__(self) -> None:
        self.labels: dict[Label, int] = {}
        self.messages: dict[Message, int] = {}

    def label(self, label: Label) -> int:
        """Its index."""
        return self.labels.setdefault(label, len(self.labels))

    def message(self, message: Message) -> int:
        """Its index."""
        return self.messages.setdefault(message, len(self.messages))


@dataclass(frozen=True, slots=True, eq=False)
class Frozen:
    """A block as arrays.

    Parameters
    ----------
    ops
        Columns kind, stream, item. Shape (ops, 3).
    after
        Dependencies as distances back, 0 for none, shape (ops, 3).
    memory
        Columns operation, at end, kind, byte. Shape (changes, 4).
    """

    ops: Ints
    after: Ints
    memory: Floats

    def __len__(self) -> int:
        return len(self.ops)

    @property
    def parts(self) -> tuple[Ints, Ints, Floats]:
        """All three."""
        return self.ops, self.after, self.memory


class Block:
    """A block under construction. Every method returns the index of what it adds."""

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        self._ops: list[tuple[int, int, int]] = []
        self._after: list[tuple[int, ...]] = []
        self._memory: list[tuple[int, bool, int, float]] = []

    def compute(self, label: Label, after: Sequence[int] = ()) -> int:
        """Kernels on the compute stream."""
        return self._add(COMPUTE, COMPUTE_STREAM, self.tables.label(label), after)

    def collective(self, message: Message, after: Sequence[int], stream: int = TP_STREAM) -> int:
        """A collective operation."""
        return self._add(COLLECTIVE, stream, self.tables.message(message), after)

    def send(self, message: Message, stream: str, after: Sequence[int]) -> int:
        """A message to the next in line."""
        return self._add(SEND, STREAMS.index(stream), self.tables.message(message), after)

    def receive(self, message: Message, stream: str) -> int:
        """A message from the one before; its buffer is ready as soon as the one before is in."""
        return self._add(RECEIVE, STREAMS.index(stream), self.tables.message(message), ())

    def hold(self, op: int, kind: int, nbytes: float, *, at_end: bool = False) -> None:
        """Take (or, negative, give back) HBM at the start or the end of an operation [byte]."""
        if nbytes:
            self._memory.append((op, at_end, kind, nbytes))

    @property
    def last(self) -> int:
        """Index of the newest operation."""
        return len(self._ops) - 1

    def kernel(self, op: int) -> int:
        """The first operation on the compute stream from here on."""
        return next(at for at in range(op, len(self._ops)) if self._ops[at][0] == COMPUTE)

    def _add(self, kind: int, stream: int, item: int, after: Sequence[int]) -> int:
        here = len(self._ops)
        distances = sorted({here - op for op in after})
        self._ops.append((kind, stream, item))
        self._after.append((*distances, *[0] * (_DEPS - len(distances))))
        return here

    def freeze(self) -> Frozen:
        """The block as arrays."""
        return Frozen(
            np.array(self._ops, dtype=np.int64).reshape(-1, 3),
            np.array(self._after, dtype=np.int64).reshape(-1, _DEPS),
            np.array(self._memory, dtype=np.float64).reshape(-1, 4),
        )


def interleave(a: Frozen, b: Frozen) -> tuple[Frozen, Ints, Ints]:
    """One block from two, so that the kernels of each run while messages of the other are under way.

    Both are cut behind each collective and merged evenly. Receives come first and sends last, those of
    `a` before those of `b`.

    Returns
    -------
    tuple
        The block, and where in it the operations of `a` and of `b` are.
    """
    keys = []
    for block in (a, b):
        kind = block.ops[:, 0]
        cut = np.cumsum(kind == COLLECTIVE) - (kind == COLLECTIVE)
        key = (cut + 0.5) / (cut.max(initial=0) + 1)
        key[kind == RECEIVE], key[kind == SEND] = -1.0, 2.0
        keys.append(key)
    order = np.argsort(np.concatenate(keys), kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    ops, after, memory = (np.concatenate(pair) for pair in zip(a.parts, b.parts, strict=True))
    shift = np.repeat((0, len(a)), (len(a.memory), len(b.memory)))
    memory[:, 0] = place[memory[:, 0].astype(np.int64) + shift]
    here = np.arange(len(order))[:, None]
    after = np.where(after > 0, place[:, None] - place[here - after], 0)
    return Frozen(ops[order], after[order], memory), place[: len(a)], place[len(a) :]


def join(blocks: Sequence[Frozen], names: Sequence[str], extra: Sequence[tuple[int, int, int]] = ()) -> Program:
    """One program from blocks in order.

    Parameters
    ----------
    names
        Of each block, for timelines; "" for none.
    extra
        Dependencies between blocks: (block, operation in it, absolute operation it waits for).
    """
    sizes = np.array([len(block) for block in blocks])
    start = np.concatenate(([0], np.cumsum(sizes)))
    ops = np.concatenate([block.ops for block in blocks])
    distance = np.concatenate([block.after for block in blocks])
    after = np.where(distance > 0, np.arange(len(ops))[:, None] - distance, -1)
    for block, op, target in extra:
        row = after[start[block] + op]
        row[int(np.flatnonzero(row < 0)[0])] = target
    memory = np.concatenate([block.memory for block in blocks])
    shift = np.repeat(start[:-1], [len(block.memory) for block in blocks])
    return Program(
        kind=np.ascontiguousarray(ops[:, 0]),
        stream=np.ascontiguousarray(ops[:, 1]),
        item=np.ascontiguousarray(ops[:, 2]),
        after=after,
        memory_op=memory[:, 0].astype(np.int64) + shift,
        memory_end=memory[:, 1] > 0,
        memory_kind=memory[:, 2].astype(np.int64),
        memory_bytes=np.ascontiguousarray(memory[:, 3]),
        marks=tuple(
            Mark(name, int(first), int(first + size - 1))
            for name, first, size in zip(names, start[:-1], sizes, strict=True)
            if name
        ),
    )
