"""Runs: stretches of a program that nothing outside can disturb, timed in closed form.

A compute operation, or a collective whose links no other transfer loads and whose members are all
of one class, takes the same time whenever it starts. A stretch of such operations, between two
points where the program meets the rest of the machine, is one run: one event for the whole, the
times inside it from a recurrence over its streams. Times are integers, so this is equal to
simulating each operation, tick for tick.

Beside transfers that take cores or HBM, what a stretch takes is found anew under what is taken
(`scaleout.engine.contention`): the steps here then hold the stretch itself, and a kernel by itself is a
stretch of one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.engine.contention import NOTHING, Kernels, Row, Stretch, Taken, leads_to_last
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, STREAMS, Job, Program, ticks
from scaleout.engine.quotient import Quotient, Transfer

__all__ = ["Step", "Steps", "Task", "Track", "compile_class"]


class Pattern(NamedTuple):
    """Runs that are alike: start and end of each operation, and the stretch where others may disturb it."""

    begin: Ints
    end: Ints
    stretch: Stretch | None


Known = dict[bytes, Pattern | None]
"""Patterns by streams, times and distances; None where a run would not be equal to its operations."""


class Task(NamedTuple):
    """What a step of a stream does; steps that are alike share one.

    Parameters
    ----------
    duration
        Of a compute operation or a run [tick].
    transfer, role
        Of a communication: what it carries, and which side this is.
    held, taken
        By a communication, of the rank's cores and HBM: from its arrival on, and from its start on; None for nothing.
    stretch
        Of a compute operation or a run that what is taken may disturb.
    """

    duration: int
    transfer: Transfer | None = None
    role: int = 0
    held: Taken | None = None
    taken: Taken | None = None
    stretch: Stretch | None = None


Step = tuple[int, tuple[int, ...], Task]
"""What one stream does next: the operation whose end the step reports, of a run the last; operations of other
streams that must have ended; and what it does."""


class Steps(NamedTuple):
    """The steps of a stream, by what they are made of: so there are no objects of steps that lie in wait."""

    ops: list[int]
    waits: list[tuple[int, ...]]
    tasks: list[Task]

    def each(self) -> Iterator[Step]:
        """One after another."""
        return zip(self.ops, self.waits, self.tasks, strict=True)


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A class's program, ready to run.

    Parameters
    ----------
    steps
        Per stream.
    kinds, lows
        Of each run: its pattern, and its first position in `local`.
    patterns
        Start and end of each operation of a run, relative to its start, with nothing taken [tick].
    local
        Operations inside runs, in program order.
    """

    steps: tuple[Steps, ...]
    kinds: Ints
    lows: Ints
    patterns: tuple[Pattern, ...]
    local: Ints


_NONE = np.zeros(0, dtype=np.int64)
_NO_RUNS: tuple[Ints, Ints, list[Pattern], Ints] = (_NONE, _NONE, [], _NONE)


def durations(job: Job, wiring: Quotient, cls: int) -> tuple[Ints, Bools, dict[tuple[int, int], Transfer]]:
    """Time of each operation of a class [tick], whether it never varies, and its transfers."""
    rank = int(wiring.representatives[cls])
    program = job.programs[job.program_of[rank]]
    speed = job.speed.get(rank, 1.0)
    # by kind and item
    time = np.zeros((RECEIVE + 1, max(len(job.labels), len(job.messages))), dtype=np.int64)
    time[COMPUTE, : len(job.labels)] = [ticks(label.seconds / speed) for label in job.labels]
    known = np.zeros(time.shape, dtype=bool)
    known[COMPUTE] = True
    transfers: dict[tuple[int, int], Transfer] = {}
    for kind, message in program.meetings():
        family = job.messages[message].family
        transfer = wiring.transfers[wiring.orbit_of[family, int(kind == RECEIVE), cls], message]
        transfers[kind, message] = transfer
        if transfer.private:
            time[kind, message], known[kind, message] = transfer.alone_ticks, True
    at = program.kind * time.shape[1] + program.item
    return time.take(at), known.take(at), transfers


def compile_class(
    job: Job,
    wiring: Quotient,
    cls: int,
    *,
    runs: bool = True,
    known: Known | None = None,
    kernels: Kernels | None = None,
) -> Track:
    """Steps of each stream of a class.

    Parameters
    ----------
    runs
        False makes a step of every operation; the times are the same.
    known
        Patterns that are timed already; classes of one speed share many.
    kernels
        Times of the class's kernels beside transfers; None where transfers take nothing from them.
    """
    program = job.programs[job.program_of[int(wiring.representatives[cls])]]
    taken, fixed, transfers = durations(job, wiring, cls)
    in_run = np.zeros(len(program), dtype=bool)
    local, lows, patterns, kinds = _NO_RUNS
    takes = _takes(kernels, wiring, transfers)
    if runs:
        shared = _columns(program, takes) if kernels else np.zeros((len(program), 0), dtype=np.int64)
        local, lows, patterns, kinds = _find_runs(
            program, taken, fixed, shared, {} if known is None else known, kernels
        )
        in_run[local] = True

    # a step is a run, which waits for what its first operation waits for, or an operation by itself
    alone = np.flatnonzero(~in_run)
    first = np.concatenate((local[lows], alone))
    last = np.concatenate((local[np.append(lows, len(local))[1 : len(lows) + 1] - 1], alone))
    stream = program.stream[first]
    stream[: len(lows)] = 0
    # what it waits for on other streams
    after = program.after[first]
    elsewhere = (after >= 0) & np.where(in_run[first, None], ~in_run[after], program.stream[after] != stream[:, None])
    waits = _rows(np.where(elsewhere, after, -1))

    def task(op: int) -> Task:
        kind, item, time = int(program.kind[op]), int(program.item[op]), int(taken[op])
        if kind == COMPUTE:
            return Task(time, stretch=kernels.alone(item, time) if kernels else None)
        taking = takes.get((kind, item))
        # the kernels of a collective wait for their peers; those of a send are there when both sides are
        held = Taken(taking.cores, 0) if taking and taking.cores and kind == COLLECTIVE else None
        return Task(time, transfers[kind, item], int(kind == RECEIVE), held, taking)

    codes = program.item[alone] * (RECEIVE + 1) + program.kind[alone]
    _, examples, which = np.unique(codes, return_index=True, return_inverse=True)
    tasks = [Task(int(pattern.end[-1]), stretch=pattern.stretch) for pattern in patterns]
    tasks += [task(op) for op in alone[examples].tolist()]
    which = np.concatenate((kinds, which + len(patterns)))
    steps = []
    for number in range(len(STREAMS)):
        mine = np.flatnonzero(stream == number)
        chosen = [tasks[at] for at in which[mine].tolist()]
        steps.append(Steps(last[mine].tolist(), [waits[at] for at in mine.tolist()], chosen))
    return Track(tuple(steps), kinds, lows, tuple(patterns), local)


def _takes(
    kernels: Kernels | None, wiring: Quotient, transfers: dict[tuple[int, int], Transfer]
) -> dict[tuple[int, int], Taken]:
    """What each transfer takes of its ranks, for those that take anything."""
    if not kernels:
        return {}
    takes, orbits = kernels.contention.takes, wiring.orbits
    all_of = {key: takes(transfer.message, orbits[transfer.orbit].group) for key, transfer in transfers.items()}
    return {key: taken for key, taken in all_of.items() if taken != NOTHING}


def _columns(program: Program, takes: dict[tuple[int, int], Taken]) -> Ints:
    """Of each operation: label, -1 for a transfer; cores and traffic that it takes."""
    columns = np.zeros((len(program), 3), dtype=np.int64)
    columns[:, 0] = np.where(program.kind == COMPUTE, program.item, -1)
    for (kind, message), taken in takes.items():
        columns[(program.kind == kind) & (program.item == message), 1:] = taken
    return columns


def _rows(table: Ints) -> list[tuple[int, ...]]:
    """The entries of a table that are not negative, row by row."""
    valid = table >= 0
    rows: list[tuple[int, ...]] = [()] * len(table)
    flat, begin = table[valid].tolist(), 0
    some = np.flatnonzero(valid.any(axis=1))
    for row, size in zip(some.tolist(), valid[some].sum(axis=1).tolist(), strict=True):
        rows[row] = tuple(flat[begin : begin + size])
        begin += size
    return rows


def _find_runs(
    program: Program, taken: Ints, fixed: Bools, shared: Ints, known: Known, kernels: Kernels | None
) -> tuple[Ints, Ints, list[Pattern], Ints]:
    """Cut the fixed operations into runs; none where a run would not be equal to its operations.

    A run begins at an operation that waits for something outside, and ends at one that something
    outside waits for.

    Returns
    -------
    tuple
        Operations inside runs; where in them each run begins; the patterns, and which each run has.
    """
    local = np.flatnonzero(fixed)
    streams = np.bincount(program.stream[local], minlength=len(STREAMS))
    if not len(local) or (streams * np.bincount(program.stream[~fixed], minlength=len(STREAMS))).any():
        return _NO_RUNS
    after = program.after
    outside = (after >= 0) & ~fixed[after]
    begins = np.asarray(outside[local].any(axis=1))
    heard = np.zeros(len(program), dtype=bool)
    theirs = after[~fixed]
    heard[theirs[theirs >= 0]] = True
    begins[1:] |= heard[local[:-1]]
    begins[0] = True
    starts = np.flatnonzero(begins)
    ends = np.append(starts[1:], len(local))

    # inside a run a dependency is a distance; what ended before the run does not matter
    first_op = np.repeat(local[starts], ends - starts)
    position = np.full(len(program) + 1, -1, dtype=np.int64)
    position[local] = np.arange(len(local))
    deps = after[local]
    inside = (deps >= first_op[:, None]) & fixed[deps]
    distance = np.where(inside, np.arange(len(local))[:, None] - position[deps], 0)
    # only the first operation may be on another stream without a dependency in its run: it waits
    # for the end of the run before, so it starts when its own run does
    anchored = np.zeros(len(local), dtype=bool)
    anchored[0] = True
    anchored[starts[1:]] = (deps[starts[1:]] == local[starts[1:] - 1, None]).any(axis=1)
    rows = np.column_stack((program.stream[local], taken[local], anchored, distance, shared[local]))

    table, cuts = rows.tobytes(), rows.itemsize * rows.shape[1] * np.append(starts, len(local))
    keys = [table[low:high] for low, high in pairwise(cuts.tolist())]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    kinds = np.array([numbers[key] for key in keys])
    patterns: list[Pattern] = []
    for key, at in zip(numbers, np.unique(kinds, return_index=True)[1].tolist(), strict=True):
        if key not in known:
            known[key] = _time_run(rows[starts[at] : ends[at]], kernels)
        pattern = known[key]
        if pattern is None:
            return _NO_RUNS
        patterns.append(pattern)
    return local, starts, patterns, kinds


def _time_run(rows: Ints, kernels: Kernels | None) -> Pattern | None:
    """Start and end of each operation of a run.

    None if its last operation does not end last (beside transfers: whatever the times), or if one
    could start before the run: that is on another stream, is the first there, and waits for nothing
    inside the run.
    """
    free: dict[int, int] = {}
    begin: list[int] = []
    end: list[int] = []
    table = []
    for index, (stream, taken, anchored, *others) in enumerate(rows.tolist()):
        distances = others[:-3] if kernels else others
        if stream and stream not in free and not anchored and not any(distances):
            return None
        start = max([free.get(stream, 0), *(end[index - d] for d in distances if d)])
        begin.append(start)
        end.append(start + taken)
        free[stream] = end[-1]
        if kernels:
            after = tuple(index - distance for distance in distances if distance)
            label, *taking = others[-3:]
            table.append(Row(stream, label, taken, Taken(*taking), after))
    if end[-1] != max(end) or rows[-1, 0] != 0:
        return None
    if kernels and not leads_to_last(table):
        return None
    stretch = Stretch(table, kernels) if kernels else None
    return Pattern(np.array(begin, dtype=np.int64), np.array(end, dtype=np.int64), stretch)
