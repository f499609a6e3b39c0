"""Does a schedule do what its operation promises?

The sends are executed on symbols: a slot holds a piece and how often each rank's data is in its
sum. Then every pair of uses of a slot that do not commute is shown to be ordered by what waits
for what, so that every other order of execution gives the same result.
"""

from collections import deque
from itertools import pairwise

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.goal import Goal
from scaleout.collectives.schedule import Moves, Schedule, Waits
from scaleout.errors import WorkloadError

__all__ = ["PROVABLE", "check", "levels", "order"]

PROVABLE = 25_000
"""Sends up to which the order of uses is proved; the proof takes memory with the square of them."""


def order(schedule: Schedule) -> Ints:
    """Sends in an order in which each comes after what it waits for.

    Raises
    ------
    WorkloadError
        Sends wait for each other in a circle; the message names one.
    """
    waits = schedule.waits()
    left = np.bincount(waits.behind, minlength=schedule.sends)
    by_before = np.argsort(waits.before, kind="stable")
    start = np.searchsorted(waits.before[by_before], np.arange(schedule.sends + 1))
    ready, out = deque(np.flatnonzero(left == 0).tolist()), []
    behind = waits.behind[by_before]
    while ready:
        send = ready.popleft()
        out.append(send)
        for other in behind[start[send] : start[send + 1]].tolist():
            left[other] -= 1
            if left[other] == 0:
                ready.append(other)
    if len(out) < schedule.sends:
        raise WorkloadError(f"{schedule.name}: deadlock, {_circle(schedule, waits, left)}")
    return np.array(out, dtype=np.int64)


def levels(schedule: Schedule) -> Ints:
    """Round that each send belongs to: one more than the latest that it waits for. Shape (sends,).

    Copies within a member belong to the round before.
    """
    waits, out = schedule.waits(), np.zeros(schedule.sends, dtype=np.int64)
    start = np.searchsorted(waits.behind, np.arange(schedule.sends + 1))
    local = (schedule.source == schedule.target)[schedule.lane]
    for send in order(schedule).tolist():
        before = waits.before[start[send] : start[send + 1]]
        out[send] = out[before].max(initial=0) + (not local[send])
    return out


def check(schedule: Schedule, goal: Goal | None = None, *, races: bool = True) -> None:
    """Execute a schedule on symbols.

    Parameters
    ----------
    goal
        What it is to do; None is the schedule's own.
    races
        Whether to prove that every other order of execution gives the same.

    Raises
    ------
    WorkloadError
        It deadlocks, a rank ends with something else than the operation defines, or the result
        depends on the order of sends; the message names rank, slot, piece, and what is there.
    """
    goal = goal or schedule.goal
    if goal is None or schedule.moves is None:
        raise WorkloadError(f"{schedule.name}: says nothing of what its sends move, and cannot be checked")
    if goal.members != schedule.members:
        raise WorkloadError(f"{schedule.name}: has {schedule.members} members, its goal {goal.members}")
    moves, turn = schedule.moves(), order(schedule)
    if races and schedule.sends > PROVABLE:
        raise WorkloadError(
            f"{schedule.name}: the order of {schedule.sends:,} sends is too much to prove; at most that of {PROVABLE:,}"
        )
    _execute(schedule, goal, moves, turn)
    if races:
        _no_races(schedule, moves, turn)


def _named(schedule: Schedule, send: int) -> str:
    lane = int(np.searchsorted(schedule.first, send, side="right")) - 1
    a, b = (_member(schedule, int(end[lane])) for end in (schedule.source, schedule.target))
    step = send - int(schedule.first[lane])
    if schedule.labels:
        return schedule.labels[lane] + (f", step {step}," if schedule.steps[lane] > 1 else "")
    what = f"copy in {a}" if a == b else f"send from {a} to {b}"
    return what + (f" (step {step} of lane {lane})" if schedule.steps[lane] > 1 else f" (lane {lane})")


def _member(schedule: Schedule, member: int) -> str:
    return f"rank {member}" if member < schedule.members else f"switch {member - schedule.members}"


def _circle(schedule: Schedule, waits: Waits, left: Ints) -> str:
    """One circle among the sends that never become ready, in words."""
    stuck = left > 0
    inside = stuck[waits.before] & stuck[waits.behind]
    # every stuck send waits for a stuck one: walk back until one comes again
    back = dict(zip(waits.behind[inside].tolist(), waits.before[inside].tolist(), strict=True))
    send, seen = int(np.flatnonzero(stuck)[0]), {}
    path: list[int] = []
    while send not in seen:
        seen[send] = len(path)
        path.append(send)
        send = back[send]
    path = path[seen[send] :]
    named = [_named(schedule, send) for send in path[:6]]
    more = f" which waits for {len(path) - 6} more," if len(path) > 6 else ""
    return f"{' waits for '.join(named)}{more} waits for {named[0]}"


def _execute(schedule: Schedule, goal: Goal, moves: Moves, turn: Ints) -> None:
    everyone = schedule.members + schedule.virtual
    held: list[dict[int, tuple[int, Ints]]] = [{} for _ in range(everyone)]
    for rank in range(goal.members):
        for slot, piece in goal.start(rank).items():
            held[rank][slot] = piece, _ones(schedule.members, (rank,))
    start = np.searchsorted(moves.send, np.arange(schedule.sends + 1))
    source, target = schedule.source[schedule.lane], schedule.target[schedule.lane]
    for send in turn.tolist():
        a, b = int(source[send]), int(target[send])
        # all that a send reads at its source is read before it writes
        rows = range(start[send], start[send + 1])
        read = []
        for row in rows:
            slot = int(moves.origin[row])
            if slot not in held[a]:
                raise WorkloadError(
                    f"{schedule.name}: {_named(schedule, send)} reads slot {slot} of {_member(schedule, a)}, "
                    "which holds nothing yet"
                )
            read.append(held[a][slot])
        for row, (piece, counts) in zip(rows, read, strict=True):
            slot, add = int(moves.destination[row]), int(moves.add[row])
            if add >= 0 and add not in held[b] and b < schedule.members:
                raise WorkloadError(
                    f"{schedule.name}: {_named(schedule, send)} adds to slot {add} of {_member(schedule, b)}, "
                    "which holds nothing yet"
                )
            if add >= 0 and add in held[b]:
                # a switch starts from nothing
                other, more = held[b][add]
                if other != piece:
                    raise WorkloadError(
                        f"{schedule.name}: {_named(schedule, send)} adds piece {piece} to piece {other} "
                        f"in slot {add} of {_member(schedule, b)}"
                    )
                counts = counts + more
            held[b][slot] = piece, counts
    for rank in range(goal.members):
        for slot, piece in sorted(goal.end(rank).items()):
            where = f"{schedule.name}: rank {rank} ends with"
            what = f"slot {slot}; {goal.operation} asks for piece {piece} with the data of {_words(goal.givers(piece))}"
            if slot not in held[rank]:
                raise WorkloadError(f"{where} nothing in {what}")
            there, counts = held[rank][slot]
            wanted = _ones(schedule.members, goal.givers(piece))
            right = (counts >= wanted).all() if goal.operation == "barrier" else (counts == wanted).all()
            if there != piece or not right:
                givers = tuple(np.repeat(np.arange(len(counts)), counts).tolist())
                raise WorkloadError(f"{where} piece {there} with the data of {_words(givers)} in {what}")


def _ones(members: int, ranks: tuple[int, ...]) -> Ints:
    out = np.zeros(members, dtype=np.int64)
    out[list(ranks)] = 1
    return out


def _words(ranks: tuple[int, ...]) -> str:
    """Ranks in words, with how often each of them is there.

    >>> _words((0, 1, 2, 2, 5))
    'ranks 0 to 2, 2, 5'
    """
    if not ranks:
        return "no rank"
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    runs: list[list[int]] = []
    for rank in ranks:
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    return "ranks " + ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs)


def _no_races(schedule: Schedule, moves: Moves, turn: Ints) -> None:
    """Whether all uses of a slot that do not commute are ordered."""
    waits = schedule.waits()
    start = np.searchsorted(waits.behind, np.arange(schedule.sends + 1))
    before, has_arrived = waits.before.tolist(), waits.arrived.tolist()
    # sends known to have left, or arrived, when a send starts: bits of one integer
    left, arrived = [0] * schedule.sends, [0] * schedule.sends
    for send in turn.tolist():
        gone = come = 0
        for i in range(start[send], start[send + 1]):
            other = before[i]
            gone |= left[other] | 1 << other
            come |= arrived[other]
            if has_arrived[i]:
                come |= 1 << other
        left[send], arrived[send] = gone, come
    # uses of each slot in turn: number of the send, kind, whether it is over with the arrival
    uses: dict[tuple[int, int], list[tuple[int, int, bool]]] = {}
    rows = np.searchsorted(moves.send, np.arange(schedule.sends + 1))
    source, target = schedule.source[schedule.lane].tolist(), schedule.target[schedule.lane].tolist()
    for send in turn.tolist():
        for row in range(rows[send], rows[send + 1]):
            slot, add = int(moves.destination[row]), int(moves.add[row])
            uses.setdefault((source[send], int(moves.origin[row])), []).append((send, 0, False))
            if add >= 0 and add != slot:
                uses.setdefault((target[send], add), []).append((send, 0, True))
            uses.setdefault((target[send], slot), []).append((send, 1 if add == slot else 2, True))
    for (member, slot), mine in sorted(uses.items()):
        groups: list[list[tuple[int, int, bool]]] = []
        for use in mine:
            if groups and use[1] == groups[-1][0][1] and use[1] != 2:
                groups[-1].append(use)
            else:
                groups.append([use])
        for earlier, later in pairwise(groups):
            over = here = 0
            for send, _, by_arrival in earlier:
                if by_arrival:
                    here |= 1 << send
                else:
                    over |= 1 << send
            for send, _, _ in later:
                # a send may use one slot twice: read and written at once within a member
                free = ~(1 << send)
                missing = (over & ~left[send] & ~arrived[send] | here & ~arrived[send]) & free
                if missing:
                    other = missing.bit_length() - 1
                    raise WorkloadError(
                        f"{schedule.name}: the result depends on the order of sends: {_named(schedule, other)} and "
                        f"{_named(schedule, send)} both use slot {slot} of {_member(schedule, member)}, and "
                        "neither waits for the other"
                    )
