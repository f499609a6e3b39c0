"""Where a step's time went: an exact partition of the compute stream, and what bounds the step."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine import ClassTimeline
from scaleout.engine.program import COMPUTE, RECEIVE, SEND, Job, Program
from scaleout.evaluate.event import Recording

__all__ = ["CATEGORIES", "breakdown", "critical_path", "ends_last", "parts_of"]

CATEGORIES = (
    "compute", "optimizer", "exposed_tp", "exposed_cp", "exposed_ep", "exposed_pp", "exposed_dp", "exposed_copy",
    "imbalance", "bubble",
)  # fmt: skip
"""Parts of a step: kernels; waiting while a transfer is under way; waiting for a peer that is
late; waiting when nothing has been sent."""


class _Ops(NamedTuple):
    """A class's operations: what they are, when they happened, and what each waited for."""

    kind: Ints
    item: Ints
    arrived: Ints
    started: Ints
    ended: Ints
    releaser: Ints
    """The dependency or stream neighbour that ended last before the operation arrived, -1 for none."""


def _ops(program: Program, times: ClassTimeline) -> _Ops:
    # small numbers sort fast
    order = np.argsort(program.stream.astype(np.int8), kind="stable")
    stream = program.stream[order]
    releaser = np.full(len(program), -1, dtype=np.int64)
    releaser[order[1:]] = np.where(stream[1:] == stream[:-1], order[:-1], -1)
    # entry -1 stands for nothing
    ended = np.append(times.ended, -1)
    latest = ended[releaser]
    for waited in program.after.T:
        # of those that ended together, the latest in the program
        some = np.flatnonzero(waited >= 0)
        op, known = waited[some], latest[some]
        when = ended[op]
        later = (when > known) | ((when == known) & (op > releaser[some]))
        some = some[later]
        releaser[some], latest[some] = op[later], when[later]
    return _Ops(program.kind, program.item, times.arrived, times.started, times.ended, releaser)


def _last(times: ClassTimeline) -> int:
    """The operation that ended last."""
    return len(times.ended) - 1 - int(times.ended[::-1].argmax())


def ends_last(recording: Recording) -> int:
    """The class whose last operation ends last; of several, the lowest."""
    return int(recording.timeline.ends.argmax())


def breakdown(recording: Recording, cls: int) -> dict[str, int]:
    """Partition of [0, step] of one class's compute stream, by category [tick]; sums to the step."""
    times = recording.timeline.classes[cls]
    return parts_of(recording.job, recording.class_program(cls), times, recording.timeline.end)


def parts_of(job: Job, number: int, times: ClassTimeline, end: int) -> dict[str, int]:
    """`breakdown` of a program that ran at these times, of a step that took so long [tick]."""
    program = job.programs[number]
    ops = _ops(program, times)
    total = dict.fromkeys(CATEGORIES, 0)
    computing = np.flatnonzero(program.kind == COMPUTE)
    started, ended = ops.started[computing], ops.ended[computing]
    optimizer = np.array([label.category == "optimizer" for label in job.labels])[program.item[computing]]
    total["optimizer"] = int((ended - started)[optimizer].sum())
    total["compute"] = int((ended - started)[~optimizer].sum())

    # gaps: before each compute operation, and after the last one until the step's last operation
    low = np.concatenate(([0], ended))
    high = np.concatenate((started, [end]))
    blocker = np.append(ops.releaser[computing], _last(times))
    gaps = high > low
    low, high, blocker = low[gaps], high[gaps], blocker[gaps]
    # most gaps are one transfer from end to end
    plain = (blocker >= 0) & (ops.kind[blocker] != COMPUTE) & (ops.started[blocker] <= low)
    categories = [job.families[message.family].category for message in job.messages]
    for message in np.unique(ops.item[blocker[plain]]).tolist():
        mine = plain & (ops.item[blocker] == message)
        total[f"exposed_{categories[message]}"] += int((high - low)[mine].sum())
    for row in zip(low[~plain].tolist(), high[~plain].tolist(), blocker[~plain].tolist(), strict=True):
        _attribute(ops, categories, *row, total)
    return total


def _attribute(ops: _Ops, categories: list[str], low: int, high: int, blocker: int, total: dict[str, int]) -> None:
    """Split the wait [low, high] over the operations that it was for, latest first."""
    while high > low:
        if blocker < 0 or ops.kind[blocker] == COMPUTE:
            total["imbalance"] += high - low
            return
        moving = max(0, high - max(low, int(ops.started[blocker])))
        total[f"exposed_{categories[int(ops.item[blocker])]}"] += moving
        high -= moving
        absent = max(0, high - max(low, int(ops.arrived[blocker])))
        total["bubble" if ops.kind[blocker] in (SEND, RECEIVE) else "imbalance"] += absent
        high -= absent
        blocker = int(ops.releaser[blocker])


def critical_path(recording: Recording) -> dict[str, int]:
    """What the longest chain of the step is made of [tick]; sums to the step.

    Walks back from the last operation over the one that released each: a dependency, the
    operation before on the stream, or the member of a communicator that came last. Kernels
    count by their parts (``matmul``, ``attention``, ``elementwise``), transfers by category.
    """
    job, wiring, times = recording.job, recording.wiring, recording.timeline.classes
    program_of = job.program_of[wiring.representatives].tolist()
    names = sorted(job.families)
    family_of = np.array([names.index(message.family) for message in job.messages], dtype=np.int64)
    passed: dict[int, list[int]] = {}

    @cache
    def meetings(program: int) -> dict[tuple[str, bool], Ints]:
        """A program's operations on each family, and whether they receive, in order: the k-th meets the k-th of the
        others."""
        ops = job.programs[program]
        met = np.flatnonzero(ops.kind != COMPUTE)
        if not len(met):
            return {}
        # small numbers sort fast
        codes = (2 * family_of[ops.item[met]] + (ops.kind[met] == RECEIVE)).astype(np.int16)
        order = np.argsort(codes, kind="stable")
        found, first = np.unique(codes[order], return_index=True)
        keys = [(names[code // 2], bool(code % 2)) for code in found.tolist()]
        return dict(zip(keys, np.split(met[order], first[1:]), strict=True))

    @cache
    def columns(cls: int) -> tuple[list[int], list[tuple[str, bool] | None]]:
        """What released each operation; and where it has members in other classes, too: on what."""
        apart: list[tuple[str, bool] | None] = [None] * len(times[cls].ended)
        for key, ops in meetings(program_of[cls]).items():
            if len(wiring.members(key[0], int(key[1]), cls)) > 1:
                for op in ops.tolist():
                    apart[op] = key
        return _ops(job.programs[program_of[cls]], times[cls]).releaser.tolist(), apart

    cls = ends_last(recording)
    op = _last(times[cls])
    while op >= 0:
        releaser, apart = columns(cls)
        walked = passed.setdefault(cls, [])
        while op >= 0:
            walked.append(op)
            if key := apart[op]:
                family, receives = key
                place = int(np.searchsorted(meetings(program_of[cls])[key], op))
                fellows = [
                    (c, int(meetings(program_of[c])[family, bool(role)][place]))
                    for c, role in wiring.members(family, int(receives), cls)
                ]
                cls, op = max(fellows, key=lambda at: (int(times[at[0]].arrived[at[1]]), -at[0]))
                op = columns(cls)[0][op]
                break
            op = releaser[op]
    links: Counter[tuple[int, int, int]] = Counter()
    for at, walked in passed.items():
        program, mine = job.programs[program_of[at]], np.array(walked)
        taken = times[at].ended[mine] - times[at].started[mine]
        links.update(zip(program.kind[mine].tolist(), program.item[mine].tolist(), taken.tolist(), strict=True))
    total: dict[str, int] = {}
    for (kind, item, taken), often in links.items():
        if kind == COMPUTE:
            parts = _parts(job.labels[item].parts, taken)
        else:
            parts = [(job.families[job.messages[item].family].category, taken)]
        for name, part in parts:
            total[name] = total.get(name, 0) + part * often
    return total


def _parts(parts: tuple[tuple[str, float], ...], taken: int) -> list[tuple[str, int]]:
    """An operation's ticks shared out over its parts; the last takes what rounding leaves."""
    if not parts:
        # nothing but a place to wait at, which takes no time
        return []
    whole = sum(seconds for _, seconds in parts)
    shares = [round(taken * seconds / whole) for _, seconds in parts[:-1]]
    return list(zip((name for name, _ in parts), [*shares, taken - sum(shares)], strict=True))


def per_class(recording: Recording, classes: Sequence[int] | None = None) -> Ints:
    """Breakdown of every class, or of some [tick], shape (classes, categories)."""
    chosen = range(recording.wiring.classes) if classes is None else classes
    return np.array([list(breakdown(recording, cls).values()) for cls in chosen], dtype=np.int64)


def computing(recording: Recording) -> Ints:
    """What the breakdown of each class calls compute [tick], shape (classes,)."""
    job = recording.job
    kernels = np.array([label.category != "optimizer" for label in job.labels])
    busy = [np.flatnonzero((p.kind == COMPUTE) & kernels[np.where(p.kind == COMPUTE, p.item, 0)]) for p in job.programs]
    programs = job.program_of[recording.wiring.representatives].tolist()
    pairs = zip(programs, recording.timeline.classes, strict=True)
    return np.array([int((times.ended[busy[p]] - times.started[busy[p]]).sum()) for p, times in pairs], dtype=np.int64)
