"""Schedules from sends written one after another: what waits for what follows from the slots.

A send that reads a slot waits for what was written there; one that writes a slot waits for those
that read it before, and for what was written before. Sums into one slot may come in any order.
Everything else runs at the same time, so the order of writing costs nothing.
"""

from collections.abc import Hashable, Sequence

import numpy as np

from scaleout.collectives.goal import Goal
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.errors import WorkloadError

__all__ = ["Sends"]

_READ, _ADD, _WRITE = range(3)


class _Use:
    """The last uses of one slot: a set of alike ones that need no order, and the set before it."""

    __slots__ = ("before", "kind", "last")

    def __init__(self) -> None:
        self.kind = _WRITE
        self.last: list[tuple[int, bool]] = []
        self.before: list[tuple[int, bool]] = []

    def enter(self, kind: int, send: int, arrived: bool) -> list[tuple[int, bool]]:
        """Note a use by a send; returns what it waits for."""
        if kind != self.kind or kind == _WRITE:
            self.before, self.last, self.kind = self.last, [], kind
        self.last.append((send, arrived))
        return self.before


class Sends:
    """Sends of one operation in the order of a sequential program.

    Parameters
    ----------
    goal
        What ranks hold before and after.
    virtual
        Members beside the ranks, such as a switch that adds; numbered from ``goal.members`` on.

    A ring of three that gathers:

    >>> from scaleout.collectives.check import check
    >>> sends = Sends(Goal.of("all_gather", 3))
    >>> for step in range(2):
    ...     for rank in range(3):
    ...         _ = sends.send(rank, (rank + 1) % 3, (rank - step) % 3)
    >>> schedule = sends.schedule("my ring")
    >>> schedule.sends, float(schedule.share[0])
    (6, 0.3333333333333333)
    >>> check(schedule)
    """

    def __init__(self, goal: Goal, virtual: int = 0) -> None:
        self.goal, self.virtual = goal, virtual
        self._size = {
            (rank, slot): float(goal.sizes[piece])
            for rank in range(goal.members)
            for slot, piece in goal.start(rank).items()
        }
        self._uses: dict[tuple[int, int], _Use] = {}
        self._lanes: dict[Hashable, int] = {}
        self._ends: list[tuple[int, int]] = []
        self._round = 0
        self._rounds: list[int] = []
        self._shares: list[float] = []
        self._waits: list[tuple[int, int, bool]] = []
        self._rows: list[tuple[int, int, int, int]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def send(
        self,
        source: int,
        target: int,
        slots: int | Sequence[int],
        to: int | Sequence[int] | None = None,
        *,
        reduce: bool = False,
        add: int | Sequence[int] | None = None,
        share: float | None = None,
        lane: Hashable = None,
        after: Sequence[int] = (),
    ) -> int:
        """One send of some slots; returns its number.

        Parameters
        ----------
        slots
            Slots of the sender that are read.
        to
            Slots of the receiver that are written; None is the same ones.
        reduce
            Whether what comes is added to what is in `to`.
        add
            Slots of the receiver whose sum with what comes is put into `to`.
        share
            Bytes over bytes of the message [1]; None is the sum over the slots.
        lane
            Sends with one key go one after another; None is (source, target).
        after
            Sends that must have arrived before, beside what the slots ask for.

        Raises
        ------
        WorkloadError
            No such member, an empty slot, or lists of unequal length.
        """
        number = len(self._ends)
        everyone = self.goal.members + self.virtual
        for member in (source, target):
            if not 0 <= member < everyone:
                raise WorkloadError(f"send {number}: no member {member}; expected 0 to {everyone - 1}")
        read = _listed(slots)
        written = read if to is None else _listed(to)
        added = written if reduce else _listed(add) if add is not None else [-1] * len(read)
        if not len(read) == len(written) == len(added):
            raise WorkloadError(
                f"send {number} from rank {source} to rank {target}: {len(read)} slots read, {len(written)} written "
                f"and {len(added)} added"
            )
        waits: dict[int, bool] = dict.fromkeys(after, True)
        total = 0.0
        for a, b, c in zip(read, written, added, strict=True):
            size = self._size.get((source, a))
            if size is None:
                raise WorkloadError(f"send {number} from rank {source} to rank {target}: slot {a} holds nothing yet")
            total += size
            self._enter(waits, source, a, _READ, number, False)
            if c >= 0 and c != b:
                self._enter(waits, target, c, _READ, number, True)
            self._enter(waits, target, b, _ADD if c == b else _WRITE, number, True)
            self._rows.append((number, a, b, c))
        for a, b in zip(read, written, strict=True):
            self._size[target, b] = self._size[source, a]
        key = (source, target) if lane is None else lane
        if source != target or lane is not None:
            if key in self._lanes:
                waits.setdefault(self._lanes[key], False)
            self._lanes[key] = number
        waits.pop(number, None)
        self._waits.extend((before, number, arrived) for before, arrived in sorted(waits.items()))
        self._ends.append((source, target))
        self._rounds.append(self._round)
        self._shares.append(0.0 if source == target else total if share is None else share)
        return number

    def next_round(self) -> None:
        """Say that what follows is another round.

        For the phases of a schedule only (`scaleout.collectives.rounds`); nobody waits for a round to end.
        """
        self._round += 1

    def copy(
        self,
        member: int,
        slots: int | Sequence[int],
        to: int | Sequence[int],
        *,
        reduce: bool = False,
        add: int | Sequence[int] | None = None,
        after: Sequence[int] = (),
    ) -> int:
        """Copy or add within a member's memory, which takes no time."""
        return self.send(member, member, slots, to, reduce=reduce, add=add, after=after)

    def _enter(self, waits: dict[int, bool], member: int, slot: int, kind: int, send: int, arrived: bool) -> None:
        use = self._uses.setdefault((member, slot), _Use())
        for before, has_arrived in use.enter(kind, send, arrived):
            waits[before] = waits.get(before, False) or has_arrived

    def schedule(self, name: str, note: str = "") -> Schedule:
        """The schedule of all sends so far."""
        ends = np.array(self._ends, dtype=np.int64).reshape(-1, 2)
        waits = np.array(self._waits, dtype=np.int64).reshape(-1, 3)
        rows = np.array(self._rows, dtype=np.int64).reshape(-1, 4)
        moves = Moves(*rows.T)
        return Schedule(
            name=name,
            members=self.goal.members,
            source=ends[:, 0],
            target=ends[:, 1],
            steps=np.ones(len(ends), dtype=np.int64),
            share=np.array(self._shares),
            edges=Edges(waits[:, 0], waits[:, 1], np.zeros(len(waits), dtype=np.int64), waits[:, 2] > 0),
            moves=lambda: moves,
            slots=max(self.goal.slots, int(rows[:, 1:].max(initial=0)) + 1),
            goal=self.goal,
            virtual=self.virtual,
            rounds=np.array(self._rounds, dtype=np.int64) if self._round else None,
            note=note,
        )


def _listed(slots: int | Sequence[int]) -> list[int]:
    return [int(slots)] if isinstance(slots, int | np.integer) else [int(slot) for slot in slots]
