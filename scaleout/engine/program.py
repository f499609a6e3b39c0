"""Programs: what each rank executes, as arrays. The engine knows nothing of language models.

A program is a list of operations on streams. A stream runs its operations in order; an operation
starts when the one before it on its stream has ended and all its dependencies have. A compute
operation spans all kernels between two communication points. A collective starts when its last
member arrives, each holding its stream from its own arrival, and ends for all together.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints

__all__ = [
    "COLLECTIVE",
    "COMPUTE",
    "RECEIVE",
    "SEND",
    "STREAMS",
    "TICKS_PER_SECOND",
    "Family",
    "Job",
    "Label",
    "Mark",
    "Message",
    "Program",
    "ticks",
]

COMPUTE, COLLECTIVE, SEND, RECEIVE = range(4)
STREAMS = (
    "compute", "tp", "send forward", "receive forward", "send backward", "receive backward", "dp", "cp", "ep",
    "gather", "copies", "copy out", "copy in",
)  # fmt: skip
"""Streams of a rank; index 0 is the compute stream."""
TICKS_PER_SECOND = 1_000_000_000_000


def ticks(seconds: float) -> int:
    """Seconds as whole picoseconds, the engine's unit of time."""
    return round(seconds * TICKS_PER_SECOND)


@dataclass(frozen=True, slots=True)
class Label:
    """A kind of compute operation.

    Parameters
    ----------
    name
        For timelines, such as ``forward mlp``.
    category
        ``compute`` or ``optimizer``: where the breakdown puts it.
    parts
        What its time is made of [s]: ``matmul``, ``attention``, ``elementwise``.
    """

    name: str
    category: str
    parts: tuple[tuple[str, float], ...]

    @property
    def seconds(self) -> float:
        """Time at the chip's nominal speed [s]."""
        return sum(value for _, value in self.parts)


@dataclass(frozen=True, slots=True)
class Message:
    """A kind of communication operation.

    Parameters
    ----------
    family
        Name of the family of communicators.
    operation
        ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all``, ``shift`` or ``send``; ``copy``
        is between one rank and its host.
    nbytes
        Size of the whole buffer [byte].
    details
        What else decides how it loads the network; handed on as it is.
    """

    family: str
    operation: str
    nbytes: float
    details: Hashable = None

    def leaving(self, members: int) -> float:
        """Bytes that leave one rank for others, in a communicator of so many [byte].

        What a ring sends, and any algorithm that sends nothing twice; where switches add, it is less.
        """
        if self.operation in ("send", "shift"):
            return self.nbytes
        rounds = {"all_reduce": 2.0, "copy": 0.0}.get(self.operation, 1.0)
        return rounds * self.nbytes * (members - 1) / members


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """Communicators of one kind.

    Parameters
    ----------
    name
        Of the family, such as ``tp``.
    category
        Where the breakdown puts waiting for it: ``tp``, ``cp``, ``ep``, ``pp``, ``dp``, ``copy``.
    groups
        Ranks of each communicator, shape (groups, members); in a family of sends the first
        member is the sender.
    """

    name: str
    category: str
    groups: Ints


class Mark(NamedTuple):
    """A stretch of a program with a name, for timelines: operations first to last."""

    name: str
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """Operations of one rank, in the order in which each stream runs them.

    Parameters
    ----------
    kind, stream
        `COMPUTE`, `COLLECTIVE`, `SEND` or `RECEIVE`, and index into `STREAMS`. Shape (ops,).
    item
        Index into the job's labels (compute) or messages (the rest), shape (ops,).
    after
        Operations that must have ended, -1 for none, shape (ops, dependencies).
    memory_op, memory_end, memory_kind, memory_bytes
        HBM taken (positive) or given back (negative) at the start or the end of an operation
        [byte], shape (changes,).
    marks
        Named stretches.
    """

    kind: Ints
    stream: Ints
    item: Ints
    after: Ints
    memory_op: Ints
    memory_end: Bools
    memory_kind: Ints
    memory_bytes: Floats
    marks: Sequence[Mark] = ()

    def __len__(self) -> int:
        return len(self.kind)

    def meetings(self) -> list[tuple[int, int]]:
        """The distinct (kind, message) of its communication operations, sorted."""
        busy = self.kind != COMPUTE
        most = int(self.item.max(initial=0)) + 1
        codes = np.flatnonzero(np.bincount(self.kind[busy] * most + self.item[busy]))
        return [divmod(code, most) for code in codes.tolist()]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """Everything the engine runs.

    Parameters
    ----------
    programs
        The distinct programs.
    program_of
        Program of each rank, shape (ranks,).
    families
        Communicators by name.
    labels, messages
        What the programs' `item` points to.
    memory_kinds
        Names of the kinds of memory.
    static
        HBM that is held all the time, of each program and kind [byte].
    speed
        Share of the nominal compute rate of ranks that are slow; 1 for the others.
    slower
        Time of every label [s] where transfers hold so many cores and take so much of the rate of
        HBM [byte/s]; None where they slow nothing.
    """

    programs: Sequence[Program]
    program_of: Ints
    families: Mapping[str, Family]
    labels: Sequence[Label]
    messages: Sequence[Message]
    memory_kinds: Sequence[str]
    static: Sequence[Mapping[str, float]]
    speed: Mapping[int, float] = field(default_factory=dict)
    slower: Callable[[float, float], Sequence[float]] | None = None

    @property
    def ranks(self) -> int:
        """Ranks of the job."""
        return len(self.program_of)
