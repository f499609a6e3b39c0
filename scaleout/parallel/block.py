"""Blocks: short programs that are built once and repeated, such as one layer's forward pass."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, SEND, STREAMS, Label, Mark, Message, Program
from scaleout.parallel.ranks import HOST_IN, HOST_OUT

__all__ = ["DEPENDENCIES", "Block", "Frozen", "Tables", "begins", "interleave", "join"]

COMPUTE_STREAM, TP_STREAM = STREAMS.index("compute"), STREAMS.index("tp")
COPY_STREAMS = {HOST_OUT: STREAMS.index("copy out"), HOST_IN: STREAMS.index("copy in")}
DEPENDENCIES = 4
"""Operations that one may wait for."""


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
        Dependencies as distances back, 0 for none, shape (ops, dependencies).
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

    def copy(self, message: Message, after: Sequence[int]) -> int:
        """A copy to the host, or from it."""
        return self._add(COLLECTIVE, COPY_STREAMS[message.family], self.tables.message(message), after)

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
        self._after.append((*distances, *[0] * (DEPENDENCIES - len(distances))))
        return here

    def freeze(self) -> Frozen:
        """The block as arrays."""
        return Frozen(
            np.array(self._ops, dtype=np.int64).reshape(-1, 3),
            np.array(self._after, dtype=np.int64).reshape(-1, DEPENDENCIES),
            np.array(self._memory, dtype=np.float64).reshape(-1, 4),
        )


def begins(ops: Ints) -> int:
    """The first operation that is neither a message from another stage nor a copy; -1 for none."""
    found = np.flatnonzero((ops[:, 0] != RECEIVE) & ~np.isin(ops[:, 1], list(COPY_STREAMS.values())))
    return int(found[0]) if len(found) else -1


def interleave(a: Frozen, b: Frozen) -> tuple[Frozen, Ints, Ints]:
    """One block from two, so that the kernels of each run while messages of the other are under way.

    Both are cut behind each collective and merged evenly. Receives come first and sends last, those of
    `a` before those of `b`; both begin when all receives are in, and send when all kernels have ended.

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
    after = np.where(after > 0, place[:, None] - place[here - after], 0)[order]
    ops = ops[order]
    where = place[: len(a)], place[len(a) :]
    receives, kernels = np.flatnonzero(ops[:, 0] == RECEIVE), np.flatnonzero(ops[:, 0] == COMPUTE)
    waits = [(int(mine[begins(block.ops)]), receives) for block, mine in zip((a, b), where, strict=True)]
    waits += [(int(op), kernels[-1:]) for op in np.flatnonzero(ops[:, 0] == SEND)]
    for op, others in waits:
        distances = sorted({*after[op].tolist(), *(op - others).tolist()} - {0})
        after[op, : len(distances)] = distances
    return Frozen(ops, after, memory), *where


def join(blocks: Sequence[Frozen], names: Sequence[str], extra: Sequence[tuple[int, int, int]] = ()) -> Program:
    """One program from blocks in order.

    Parameters
    ----------
    names
        Of each block, for timelines; "" for none.
    extra
        Dependencies between blocks: (block, operation in it, absolute operation it waits for).
    """
    # blocks are few and repeated: each is copied out of one table
    numbers: dict[int, int] = {}
    which = np.array([numbers.setdefault(id(block), len(numbers)) for block in blocks])
    distinct = list({id(block): block for block in blocks}.values())
    begin, sizes, rows = _copies([len(block.ops) for block in distinct], which)
    kind, stream, item = (column.take(rows) for column in np.concatenate([block.ops for block in distinct]).T)
    distance = np.concatenate([block.after for block in distinct]).take(rows, axis=0)
    after = np.where(distance > 0, np.arange(len(rows))[:, None] - distance, -1)
    if extra:
        block_of, place, target = np.array(extra, dtype=np.int64).T
        waiting = begin[block_of] + place
        # a row is filled from the left; of several that one operation waits for, each takes the next place
        order = np.argsort(waiting, kind="stable")
        waiting, target = waiting[order], target[order]
        place = np.arange(len(waiting)) - np.searchsorted(waiting, waiting)
        after[waiting, (after[waiting] >= 0).sum(axis=1) + place] = target
    _, changes, rows = _copies([len(block.memory) for block in distinct], which)
    op, at_end, what, nbytes = (column.take(rows) for column in np.concatenate([b.memory for b in distinct]).T)
    return Program(
        kind=kind,
        stream=stream,
        item=item,
        after=after,
        memory_op=op.astype(np.int64) + np.repeat(begin, changes),
        memory_end=at_end > 0,
        memory_kind=what.astype(np.int64),
        memory_bytes=nbytes,
        marks=tuple(
            Mark(name, first, first + size - 1)
            for name, first, size in zip(names, begin.tolist(), sizes.tolist(), strict=True)
            if name
        ),
    )


def _copies(lengths: Sequence[int], which: Ints) -> tuple[Ints, Ints, Ints]:
    """Where each copy of a piece of a table begins, how long it is, and the rows of all of them."""
    ends = np.cumsum(lengths)
    sizes = np.array(lengths)[which]
    begin = np.cumsum(sizes) - sizes
    return begin, sizes, np.repeat((ends - lengths)[which] - begin, sizes) + np.arange(int(sizes.sum()))
