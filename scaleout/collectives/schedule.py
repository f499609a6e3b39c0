"""Chunk-level schedules: who sends which piece of the data to whom, and after what.

A schedule is a set of *lanes*. A lane is a connection from one rank to another that sends piece
after piece, in order: the next send starts when the last byte of the one before has left and
everything that it waits for has happened. There is no barrier anywhere. A directed acyclic graph
of single sends is a schedule whose lanes have one step each.

The engine needs sizes and dependencies alone; which piece goes where (`Moves`) is what the check
of correctness reads, and what uneven sizes come from.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints

__all__ = ["Edges", "Moves", "Schedule"]


class Edges(NamedTuple):
    """What waits for what: step k + lag of lane `behind` does not start before step k of lane `before`
    has arrived, or, where not `arrived`, before its last byte has left.

    Steps that fall outside of either lane are not bound. Shapes (edges,).
    """

    before: Ints
    behind: Ints
    lag: Ints
    arrived: Bools


class Moves(NamedTuple):
    """What every send does to the ranks' buffers; lane by lane, step by step. Shapes (sends,).

    Parameters
    ----------
    origin, destination
        Slot of the sender's buffer that is read, of the receiver's that is written.
    reduce
        Whether what is written is added to what is there, or put in its place.
    """

    origin: Ints
    destination: Ints
    reduce: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """What the members of one group send to each other in one operation.

    Parameters
    ----------
    name
        Of the algorithm.
    members
        Ranks of the group, numbered from 0.
    source, target
        Members that each lane connects, shape (lanes,).
    steps
        Sends of each lane, shape (lanes,).
    share
        Bytes of a send over bytes of the message [1]: of each lane, shape (lanes,), where all its
        sends are alike, else of each send, lane by lane, shape (sum of steps,).
    edges
        What waits for what, beside the order within a lane.
    moves
        What each send does; None for schedules that are only timed.
    slots
        Slots of a rank's buffer; `Moves` count them from 0.
    """

    name: str
    members: int
    source: Ints
    target: Ints
    steps: Ints
    share: Floats
    edges: Edges
    moves: Callable[[], Moves] | None = None
    slots: int = 0

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.source)

    @property
    def sends(self) -> int:
        """Sends of all lanes."""
        return int(self.steps.sum())

    @property
    def first(self) -> Ints:
        """Where the sends of each lane begin when all are counted lane by lane, shape (lanes + 1,)."""
        return np.concatenate(([0], np.cumsum(self.steps)))
