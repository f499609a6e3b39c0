"""Chunk-level schedules: who sends which piece of the data to whom, and after what.

A schedule is a set of *lanes*. A lane is a connection from one rank to another that sends piece
after piece, in order: the next send starts when the last byte of the one before has left and
everything that it waits for has happened. There is no barrier anywhere. A directed acyclic graph
of single sends is a schedule whose lanes have one step each.

The engine needs sizes and dependencies alone; which piece goes where (`Moves`) is what the check
of correctness reads, and what uneven sizes come from.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.collectives.goal import Goal
from scaleout.errors import WorkloadError

__all__ = ["Edges", "Moves", "Schedule", "Waits"]


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
    """What every send does to the ranks' buffers: one row for each slot that a send carries. Shapes (rows,).

    The receiver's slot `destination` becomes what came, or what came plus the receiver's slot
    `add`. Where `add` is the destination, arrivals may come in any order.

    Parameters
    ----------
    send
        Which send, counted lane by lane, step by step; ascending.
    origin, destination
        Slot of the sender's buffer that is read, of the receiver's that is written.
    add
        Slot of the receiver's buffer that is added to what came; -1 for none.
    """

    send: Ints
    origin: Ints
    destination: Ints
    add: Ints


class Waits(NamedTuple):
    """`Edges` and the order within lanes, send by send. Shapes (waits,), sorted by `behind`.

    Send `behind` does not start before send `before` has arrived, or has left where not `arrived`.
    """

    before: Ints
    behind: Ints
    arrived: Bools


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """What the members of one group send to each other in one operation.

    Parameters
    ----------
    name
        Of the algorithm.
    members
        Ranks of the group, numbered from 0. Members from this number on are virtual: switches that
        add and copy (`virtual` of them).
    source, target
        Members that each lane connects, shape (lanes,). A lane from a member to itself is a copy
        or a sum within its memory: it has no bytes, no latency and takes no time.
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
    goal
        What ranks hold before and after; None for schedules that are only timed.
    virtual
        Members beside the ranks.
    chunk_steps
        Steps that a chunk goes through before one that sends nothing, which the library's idle step
        makes longer or shorter; 0 where there is no such step.
    labels
        Name of each lane in messages; empty for none.
    rounds
        Round that each send belongs to, shape (sends,), where the algorithm is made in rounds.
    note
        What a reader should know, such as that a flat ring stands in for two levels.
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
    goal: Goal | None = None
    virtual: int = 0
    chunk_steps: int = 0
    labels: tuple[str, ...] = ()
    rounds: Ints | None = None
    note: str = ""

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

    @property
    def lane(self) -> Ints:
        """Lane of each send."""
        return np.repeat(np.arange(self.lanes), self.steps)

    @property
    def portion(self) -> Floats:
        """Bytes of each send over bytes of the message [1]; zero within a member."""
        each = self.share[self.lane] if len(self.share) == self.lanes else self.share
        return np.where((self.source == self.target)[self.lane], 0.0, each)

    def waits(self) -> Waits:
        """What every send waits for, the one before it in its lane included."""
        first, steps = self.first, self.steps
        # steps of `before` for which the step of `behind` exists
        low = np.maximum(0, -self.edges.lag)
        high = np.minimum(steps[self.edges.before], steps[self.edges.behind] - self.edges.lag)
        count = np.maximum(high - low, 0)
        edge = np.repeat(np.arange(len(count)), count)
        k = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + low[edge]
        before = first[self.edges.before[edge]] + k
        behind = first[self.edges.behind[edge]] + k + self.edges.lag[edge]
        later = np.setdiff1d(np.arange(self.sends), first[:-1])
        before = np.concatenate((before, later - 1))
        behind = np.concatenate((behind, later))
        arrived = np.concatenate((self.edges.arrived[edge], np.zeros(len(later), dtype=bool)))
        order = np.argsort(behind, kind="stable")
        return Waits(before[order], behind[order], arrived[order])

    def timed(self) -> "Schedule":
        """The same sends without the copies within members, which take no time, and without moves.

        What waits for a copy then waits for what the copy waits for. Send by send: every lane has one step.
        """
        local = (self.source == self.target)[self.lane]
        if not local.any():
            return self
        waits = self.waits()
        start = np.searchsorted(waits.behind, np.arange(self.sends + 1))
        before, arrived = waits.before.tolist(), waits.arrived.tolist()
        # in an order in which a copy comes after all that it waits for
        needs: dict[int, dict[int, bool]] = {}
        for first in range(self.sends):
            stack = [first]
            while stack:
                send = stack[-1]
                if send in needs:
                    stack.pop()
                    continue
                mine = range(start[send], start[send + 1])
                missing = [before[i] for i in mine if local[before[i]] and before[i] not in needs]
                if missing:
                    stack.extend(missing)
                    if len(stack) > self.sends * 2 + len(before):
                        raise WorkloadError(f"{self.name}: deadlock among copies within members")
                    continue
                stack.pop()
                found: dict[int, bool] = {}
                for i in mine:
                    beyond = needs[before[i]] if local[before[i]] else {before[i]: arrived[i]}
                    for other, come in beyond.items():
                        found[other] = found.get(other, False) or come
                needs[send] = found
        number = np.cumsum(~local) - 1
        rows = [
            (number[other], number[send], come)
            for send in np.flatnonzero(~local).tolist()
            for other, come in sorted(needs[send].items())
        ]
        edges = np.array(rows, dtype=np.int64).reshape(-1, 3)
        lane = self.lane[~local]
        return replace(
            self,
            source=self.source[lane],
            target=self.target[lane],
            steps=np.ones(len(lane), dtype=np.int64),
            share=self.portion[~local],
            edges=Edges(edges[:, 0], edges[:, 1], np.zeros(len(edges), dtype=np.int64), edges[:, 2] > 0),
            moves=None,
            labels=tuple(self.labels[i] for i in lane) if self.labels else (),
            rounds=None if self.rounds is None else self.rounds[~local],
        )
