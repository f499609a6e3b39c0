"""Runs: stretches of a program that nothing outside can disturb, timed in closed form.

A compute operation, or a collective whose links no other transfer loads and whose members are all
of one class, takes the same time whenever it starts. A stretch of such operations, between two
points where the program meets the rest of the machine, is one run: one event for the whole, the
times inside it from a recurrence over its streams. Times are integers, so this is equal to
simulating each operation, tick for tick.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.engine.program import COMPUTE, RECEIVE, STREAMS, Job, Program, ticks
from scaleout.engine.quotient import Quotient, Transfer

__all__ = ["Step", "Track", "compile_class"]

Known = dict[bytes, tuple[Ints, Ints] | None]
"""Stretches by streams, times and distances, with start and end of each operation; None where a
run would not be equal to its operations."""


class Step(NamedTuple):
    """What one stream does next.

    Parameters
    ----------
    op
        Operation whose end the step reports: of a run, the last.
    waits
        Operations of other streams that must have ended.
    duration
        Of a compute operation or a run [tick].
    transfer, role
        Of a communication: what it carries, and which side this is.
    """

    op: int
    waits: tuple[int, ...]
    duration: int
    transfer: Transfer | None
    role: int


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """A class's program, ready to run.

    Parameters
    ----------
    steps
        Per stream.
    signals
        Operations whose end another stream waits for.
    runs
        (pattern, first and last + 1 position in `local`) of each run.
    patterns
        Start and end of each operation of a run, relative to its start [tick].
    local
        Operations inside runs, in program order.
    """

    steps: tuple[tuple[Step, ...], ...]
    signals: frozenset[int]
    runs: tuple[tuple[int, int, int], ...]
    patterns: tuple[tuple[Ints, Ints], ...]
    local: Ints


_NO_RUNS: tuple[Ints, list[tuple[int, int]], list[tuple[Ints, Ints]], list[int]] = (
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


def compile_class(job: Job, wiring: Quotient, cls: int, *, runs: bool = True, known: Known | None = None) -> Track:
    """Steps of each stream of a class.

    Parameters
    ----------
    runs
        False makes a step of every operation; the times are the same.
    known
        Stretches that are timed already; classes of one job share many.
    """
    program = job.programs[job.program_of[int(wiring.representatives[cls])]]
    taken, fixed, transfers = durations(job, wiring, cls)
    steps: list[list[Step]] = [[] for _ in STREAMS]
    in_run = np.zeros(len(program), dtype=bool)
    local, bounds, patterns, kinds = _NO_RUNS
    if runs:
        local, bounds, patterns, kinds = _find_runs(program, taken, fixed, {} if known is None else known)
        in_run[local] = True

    # what each operation waits for on other streams; a run's first operation waits for the run
    after = program.after
    elsewhere = (after >= 0) & np.where(
        in_run[:, None], ~in_run[after], program.stream[after] != program.stream[:, None]
    )
    waited, waits = _rows(np.where(elsewhere, after, -1))
    lows, highs = np.array(bounds, dtype=np.int64).reshape(-1, 2).T
    spans = [int(end[-1]) for _, end in patterns]
    for op, first, pattern in zip(local[highs - 1].tolist(), local[lows].tolist(), kinds, strict=True):
        steps[0].append(Step(op, waits[first], spans[pattern], None, 0))
    alone = np.flatnonzero(~in_run)
    columns = (alone, program.kind[alone], program.item[alone], program.stream[alone], taken[alone])
    for op, kind, item, stream, time in zip(*(column.tolist() for column in columns), strict=True):
        transfer = None if kind == COMPUTE else transfers[kind, item]
        steps[stream].append(Step(op, waits[op], time, transfer, int(kind == RECEIVE)))
    table = tuple(zip(kinds, lows.tolist(), highs.tolist(), strict=True))
    signals = frozenset(waited.tolist())
    return Track(tuple(tuple(s) for s in steps), signals, table, tuple(patterns), local)


def _rows(table: Ints) -> tuple[Ints, list[tuple[int, ...]]]:
    """The entries of a table that are not negative, all together and row by row."""
    valid = table >= 0
    entries = table[valid]
    rows: list[tuple[int, ...]] = [()] * len(table)
    flat, begin = entries.tolist(), 0
    some = np.flatnonzero(valid.any(axis=1))
    for row, size in zip(some.tolist(), valid[some].sum(axis=1).tolist(), strict=True):
        rows[row] = tuple(flat[begin : begin + size])
        begin += size
    return entries, rows


def _find_runs(
    program: Program, taken: Ints, fixed: Bools, known: Known
) -> tuple[Ints, list[tuple[int, int]], list[tuple[Ints, Ints]], list[int]]:
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
    rows = np.column_stack((program.stream[local], taken[local], anchored, distance))

    numbers: dict[bytes, int] = {}
    patterns: list[tuple[Ints, Ints]] = []
    kinds = []
    for low, high in bounds:
        key = rows[low:high].tobytes()
        if key not in numbers:
            if key not in known:
                known[key] = _time_run(rows[low:high])
            timed = known[key]
            if timed is None:
                return _NO_RUNS
            numbers[key] = len(patterns)
            patterns.append(timed)
        kinds.append(numbers[key])
    return local, bounds, patterns, kinds


def _time_run(rows: Ints) -> tuple[Ints, Ints] | None:
    """Start and end of each operation of a run.

    None if its last operation does not end last, or if one could start before the run: that is
    on another stream, is the first there, and waits for nothing inside the run.
    """
    free: dict[int, int] = {}
    begin: list[int] = []
    end: list[int] = []
    for index, (stream, taken, anchored, *distances) in enumerate(rows.tolist()):
        if stream and stream not in free and not anchored and not any(distances):
            return None
        start = max([free.get(stream, 0), *(end[index - d] for d in distances if d)])
        begin.append(start)
        end.append(start + taken)
        free[stream] = end[-1]
    if end[-1] != max(end) or rows[-1, 0] != 0:
        return None
    return np.array(begin, dtype=np.int64), np.array(end, dtype=np.int64)
