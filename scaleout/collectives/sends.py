"""Schedules from sends written one after another: what waits for what follows from the slots.

A send that reads a slot waits for what was written there; one that writes a slot waits for those
that read it before, and for what was written before. Sums into one slot may come in any order.
Everything else runs at the same time, so the order of writing costs nothing.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.goal import Goal
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.errors import WorkloadError

__all__ = ["Sends"]

_READ, _ADD, _WRITE = range(3)

Slots = int | Sequence[int] | Ints


class _Uses(NamedTuple):
    """The last uses of a slot: alike ones that need no order, and those before them that they all wait for.

    Each is a send, and whether it is over with the send's arrival or when it has left.
    """

    kind: int
    last: tuple[tuple[int, bool], ...]
    before: tuple[tuple[int, bool], ...]


class Sends:
    """Sends of one operation in the order of a sequential program.

    Parameters
    ----------
    goal
        What ranks hold before and after.
    virtual
        Members beside the ranks, such as a switch that adds; numbered from ``goal.members`` on.

    A ring of three that gathers:

    >>> from scaleout.collectives.correctness import check
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
        everyone = goal.members + virtual
        # by member and slot: size of what is there, NaN for nothing; and number of the uses it has seen
        self._size = [np.full(goal.slots, np.nan) for _ in range(everyone)]
        self._state = [np.zeros(goal.slots, dtype=np.int64) for _ in range(everyone)]
        self._states = [_Uses(_WRITE, (), ())]
        for rank in range(goal.members):
            start = goal.start(rank)
            self._size[rank][list(start)] = goal.sizes[list(start.values())]
        self._lanes: dict[Hashable, int] = {}
        self._ends: list[tuple[int, int]] = []
        self._round = 0
        self._rounds: list[int] = []
        self._shares: list[float] = []
        self._waits: list[tuple[int, int, bool]] = []
        self._rows: list[tuple[Ints, Ints, Ints]] = []

    def __len__(self) -> int:
        return len(self._ends)

    def send(
        self,
        source: int,
        target: int,
        slots: Slots,
        to: Slots | None = None,
        *,
        reduce: bool = False,
        add: Slots | None = None,
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
        added = written if reduce else _listed(add) if add is not None else None
        if len(read) != len(written) or (added is not None and len(added) != len(read)):
            raise WorkloadError(
                f"send {number} from rank {source} to rank {target}: {len(read)} slots read, {len(written)} written"
                + ("" if added is None else f" and {len(added)} added")
            )
        self._reach(source, read)
        sizes = self._size[source][read]
        if np.isnan(sizes).any():
            slot = int(read[np.isnan(sizes)][0])
            raise WorkloadError(f"send {number} from rank {source} to rank {target}: slot {slot} holds nothing yet")
        self._reach(target, written)
        waits: dict[int, bool] = dict.fromkeys(after, True)
        self._use(waits, source, read, _READ, number, False)
        if added is None:
            self._use(waits, target, written, _WRITE, number, True)
        elif reduce or np.array_equal(added, written):
            self._use(waits, target, written, _ADD, number, True)
        else:
            self._reach(target, added)
            self._use(waits, target, added, _READ, number, True)
            self._use(waits, target, written, _WRITE, number, True)
        self._rows.append((read, written, np.full(len(read), -1) if added is None else added))
        self._size[target][written] = sizes
        key = (source, target) if lane is None else lane
        if source != target or lane is not None:
            if key in self._lanes:
                waits.setdefault(self._lanes[key], False)
            self._lanes[key] = number
        waits.pop(number, None)
        self._waits.extend((before, number, arrived) for before, arrived in sorted(waits.items()))
        self._ends.append((source, target))
        self._rounds.append(self._round)
        self._shares.append(0.0 if source == target else float(sizes.sum()) if share is None else share)
        return number

    def next_round(self) -> None:
        """Say that what follows is another round.

        For the phases of a schedule only (`scaleout.collectives.phases`); nobody waits for a round to end.
        """
        self._round += 1

    def copy(
        self,
        member: int,
        slots: Slots,
        to: Slots,
        *,
        reduce: bool = False,
        add: Slots | None = None,
        after: Sequence[int] = (),
    ) -> int:
        """Copy or add within a member's memory, which takes no time."""
        return self.send(member, member, slots, to, reduce=reduce, add=add, after=after)

    def _reach(self, member: int, slots: Ints) -> None:
        """Make room for slots beyond those of the goal."""
        if len(slots) and slots.min() < 0:
            raise WorkloadError(f"send {len(self._ends)}: slots are numbered from 0, not {slots.min()}")
        beyond = int(slots.max(initial=-1)) + 1 - len(self._size[member])
        if beyond > 0:
            beyond += len(self._size[member]) // 2
            self._size[member] = np.concatenate((self._size[member], np.full(beyond, np.nan)))
            self._state[member] = np.concatenate((self._state[member], np.zeros(beyond, dtype=np.int64)))

    def _use(self, waits: dict[int, bool], member: int, slots: Ints, kind: int, send: int, arrived: bool) -> None:
        """Note a use of slots by a send, and what it waits for. Slots with one past have one future."""
        state = self._state[member]
        now = state[slots]
        pasts = now[:1] if len(now) == 1 else np.unique(now)
        new = len(self._states)
        for past in pasts.tolist():
            uses = self._states[past]
            mine = (send, arrived)
            if kind == uses.kind and kind != _WRITE:
                self._states.append(_Uses(kind, (*uses.last, mine), uses.before))
            else:
                self._states.append(_Uses(kind, (mine,), uses.last))
            for before, has_arrived in self._states[-1].before:
                waits[before] = waits.get(before, False) or has_arrived
        state[slots] = new + (np.searchsorted(pasts, now) if len(pasts) > 1 else 0)

    def schedule(self, name: str, note: str = "") -> Schedule:
        """The schedule of all sends so far."""
        ends = np.array(self._ends, dtype=np.int64).reshape(-1, 2)
        waits = np.array(self._waits, dtype=np.int64).reshape(-1, 3)
        none = np.zeros(0, dtype=np.int64)
        origin, to, add = (np.concatenate([none, *(row[i] for row in self._rows)]) for i in range(3))
        moves = Moves(np.repeat(np.arange(len(ends)), [len(row[0]) for row in self._rows]), origin, to, add)
        return Schedule(
            name=name,
            members=self.goal.members,
            source=ends[:, 0],
            target=ends[:, 1],
            steps=np.ones(len(ends), dtype=np.int64),
            share=np.array(self._shares),
            edges=Edges(waits[:, 0], waits[:, 1], np.zeros(len(waits), dtype=np.int64), waits[:, 2] > 0),
            moves=lambda: moves,
            slots=max(self.goal.slots, *(int(used.max(initial=-1)) + 1 for used in (origin, to, add))),
            goal=self.goal,
            virtual=self.virtual,
            rounds=np.array(self._rounds, dtype=np.int64) if self._round else None,
            note=note,
        )


def _listed(slots: Slots) -> Ints:
    return np.array([slots] if isinstance(slots, int | np.integer) else slots, dtype=np.int64)
