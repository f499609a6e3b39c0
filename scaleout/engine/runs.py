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

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.engine.contention import NOTHING, Kernels, Row, Stretch, Taken, leads_to_last
from scaleout.engine.program import COLLECTIVE, COMPUTE, RECEIVE, STREAMS, Job, Program, ticks
from scaleout.engine.quotient import Quotient, Transfer

__all__ = ["Step", "Task", "Track", "compile_class"]


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
        By a communication, of the rank's cores and HBM: from its arrival on, and from its start on.
    stretch
        Of a compute operation or a run that what is taken may disturb.
    """

    duration: int
    transfer: Transfer | None = None
    role: int = 0
    held: Taken = NOTHING
    taken: Taken = NOTHING
    stretch: Stretch | None = None


Step = tuple[int, tuple[int, ...], Task]
"""What one stream does next: the operation whose end the step reports, of a run the last; operations of other
streams that must have ended; and what it does."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A class's program, ready to run.

    Parameters
    ----------
    steps
        Per stream.
    runs
        (pattern, first and last + 1 position in `local`) of each run.
    patterns
        Start and end of each operation of a run, relative to its start, with nothing taken [tick].
    local
        Operations inside runs, in program order.
    """

    steps: tuple[tuple[Step, ...], ...]
    runs: tuple[tuple[int, int, int], ...]
    patterns: tuple[Pattern, ...]
    local: Ints


_NO_RUNS: tuple[Ints, list[tuple[int, int]], list[Pattern], list[int]] = (
    np.zeros(0, dtype=np.int64),
    [],
    [],
    [],
)


def durations(job: Job, wiring: Quotient, cls: int) -> tuple[Ints, Bools, dict[tuple[int, int], Transfer]]:
    """Time of each operation of a class [tick], whether it never varies, and its transfers."""
    rank = int(wiring.representatives[cls])
    program = job.programs[job.program_of[rank]]
    speed = job.speed.get(rank, 1.0)
    compute = program.kind == COMPUTE
    label_ticks = np.array([ticks(label.seconds / speed) for label in job.labels], dtype=np.int64)
    taken = np.zeros(len(program), dtype=np.int64)
    taken[compute] = label_ticks[program.item[compute]]
    fixed = compute.copy()
    transfers: dict[tuple[int, int], Transfer] = {}
    for kind, message in program.meetings():
        family = job.messages[message].family
        transfer = wiring.transfers[wiring.orbit_of[family, int(kind == RECEIVE), cls], message]
        transfers[kind, message] = transfer
        if transfer.private:
            mine = (program.kind == kind) & (program.item == message)
            taken[mine], fixed[mine] = transfer.alone_ticks, True
    return taken, fixed, transfers


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
    steps: list[list[Step]] = [[] for _ in STREAMS]
    in_run = np.zeros(len(program), dtype=bool)
    local, bounds, patterns, kinds = _NO_RUNS
    takes = _takes(kernels, wiring, transfers)
    if runs:
        shared = _columns(program, takes) if kernels else np.zeros((len(program), 3), dtype=np.int64)
        local, bounds, patterns, kinds = _find_runs(
            program, taken, fixed, shared, {} if known is None else known, kernels
        )
        in_run[local] = True

    # what each operation waits for on other streams; a run's first operation waits for the run
    after = program.after
    elsewhere = (after >= 0) & np.where(
        in_run[:, None], ~in_run[after], program.stream[after] != program.stream[:, None]
    )
    waits = _rows(np.where(elsewhere, after, -1))
    lows, highs = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
    whole = [Task(int(pattern.end[-1]), stretch=pattern.stretch) for pattern in patterns]
    firsts = [waits[op] for op in local[lows].tolist()]
    steps[0] += zip(local[highs - 1].tolist(), firsts, [whole[kind] for kind in kinds], strict=True)

    def task(op: int) -> Task:
        kind, item, time = int(program.kind[op]), int(program.item[op]), int(taken[op])
        if kind == COMPUTE:
            return Task(time, stretch=kernels.alone(item, time) if kernels else None)
        taking = takes.get((kind, item), NOTHING)
        # the kernels of a collective wait for their peers; those of a send are there when both sides are
        held = Taken(taking.cores, 0) if kind == COLLECTIVE else NOTHING
        return Task(time, transfers[kind, item], int(kind == RECEIVE), held, taking)

    alone = np.flatnonzero(~in_run)
    codes = program.item[alone] * (RECEIVE + 1) + program.kind[alone]
    _, examples, which = np.unique(codes, return_index=True, return_inverse=True)
    tasks = [task(op) for op in alone[examples].tolist()]
    for stream, mine in enumerate(steps):
        here = program.stream[alone] == stream
        ops = alone[here].tolist()
        mine += zip(ops, [waits[op] for op in ops], [tasks[at] for at in which[here].tolist()], strict=True)
    table = tuple(zip(kinds, lows.tolist(), highs.tolist(), strict=True))
    return Track(tuple(tuple(s) for s in steps), table, tuple(patterns), local)


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
) -> tuple[Ints, list[tuple[int, int]], list[Pattern], list[int]]:
    """Cut the fixed operations into runs; none where a run would not be equal to its operations.

    A run begins at an operation that waits for something outside, and ends at one that something
    outside waits for.
    """
    local = np.flatnonzero(fixed)
    streams = set(program.stream[local].tolist())
    if not len(local) or streams & set(program.stream[~fixed].tolist()):
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
    bounds = list(zip(starts.tolist(), [*starts[1:].tolist(), len(local)], strict=True))

    # inside a run a dependency is a distance; what ended before the run does not matter
    first_op = local[np.repeat(starts, np.diff(np.append(starts, len(local))))]
    position = np.full(len(program) + 1, -1, dtype=np.int64)
    position[local] = np.arange(len(local))
    deps = after[local]
    inside = (deps >= first_op[:, None]) & fixed[deps]
    distance = np.where(inside, np.arange(len(local))[:, None] - position[deps], 0)
    # only the first operation may be on another stream without a dependency in its run: it waits
    # for the end of the run before, so it starts when its own run does
    ended_by = np.where(first_op > local[0], local[np.maximum(position[first_op] - 1, 0)], -1)
    anchored = (local == first_op) & ((deps == ended_by[:, None]).any(axis=1) | (ended_by < 0))
    rows = np.column_stack((program.stream[local], taken[local], anchored, shared[local], distance))

    numbers: dict[bytes, int] = {}
    patterns: list[Pattern] = []
    kinds = []
    table, width = rows.tobytes(), rows.itemsize * rows.shape[1]
    for low, high in bounds:
        key = table[low * width : high * width]
        if key not in numbers:
            if key not in known:
                known[key] = _time_run(rows[low:high], kernels)
            pattern = known[key]
            if pattern is None:
                return _NO_RUNS
            numbers[key] = len(patterns)
            patterns.append(pattern)
        kinds.append(numbers[key])
    return local, bounds, patterns, kinds


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
    for index, (stream, taken, anchored, label, cores, traffic, *distances) in enumerate(rows.tolist()):
        if stream and stream not in free and not anchored and not any(distances):
            return None
        start = max([free.get(stream, 0), *(end[index - d] for d in distances if d)])
        begin.append(start)
        end.append(start + taken)
        free[stream] = end[-1]
        if kernels:
            after = tuple(index - distance for distance in distances if distance)
            table.append(Row(stream, label, taken, Taken(cores, traffic), after))
    if end[-1] != max(end) or rows[-1, 0] != 0:
        return None
    if kernels and not leads_to_last(table):
        return None
    stretch = Stretch(table, kernels) if kernels else None
    return Pattern(np.array(begin, dtype=np.int64), np.array(end, dtype=np.int64), stretch)
