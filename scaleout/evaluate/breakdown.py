"""Where a step's time went: an exact partition of the compute stream, and what bounds the step."""

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.engine import ClassTimeline
from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS, Job, Program
from scaleout.evaluate.event import Recording

__all__ = ["CATEGORIES", "breakdown", "critical_path", "ends_last", "parts_of"]

CATEGORIES = (
    "compute", "optimizer", "exposed_tp", "exposed_cp", "exposed_ep", "exposed_pp", "exposed_dp", "imbalance", "bubble",
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

    @property
    def last(self) -> int:
        """The operation that ended last."""
        return len(self.ended) - 1 - int(self.ended[::-1].argmax())


def _ops(program: Program, times: ClassTimeline) -> _Ops:
    before = np.full(len(program), -1, dtype=np.int64)
    for stream in range(len(STREAMS)):
        mine = np.flatnonzero(program.stream == stream)
        before[mine[1:]] = mine[:-1]
    # of those that ended together, the latest in the program
    releaser = np.full(len(program), -1, dtype=np.int64)
    latest = np.full(len(program), -1, dtype=np.int64)
    for waited in (*program.after.T, before):
        # entry -1 stands for nothing
        when = np.where(waited >= 0, times.ended[waited], -1)
        later = (when > latest) | ((when == latest) & (waited > releaser))
        releaser[later], latest[later] = waited[later], when[later]
    return _Ops(program.kind, program.item, times.arrived, times.started, times.ended, releaser)


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
    blocker = np.append(ops.releaser[computing], ops.last)
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
    families = [message.family for message in job.messages]
    passed: dict[int, list[int]] = {}

    @cache
    def columns(cls: int) -> tuple[list[int], list[int], list[int]]:
        """What released each operation; its kind and its item."""
        ops = _ops(job.programs[program_of[cls]], times[cls])
        return ops.releaser.tolist(), ops.kind.tolist(), ops.item.tolist()

    @cache
    def sequence(program: int, family: str, receives: bool) -> Ints:
        """A program's operations on a family, in order: the k-th meets the k-th of the others."""
        ops = job.programs[program]
        ours = np.array([name == family for name in families])
        return np.flatnonzero((ops.kind != COMPUTE) & ((ops.kind == RECEIVE) == receives) & _pick(ours, ops))

    cls = ends_last(recording)
    op = _ops(job.programs[program_of[cls]], times[cls]).last
    while op >= 0:
        releaser, kinds, items = columns(cls)
        walked = passed.setdefault(cls, [])
        while op >= 0:
            walked.append(op)
            if kinds[op] != COMPUTE:
                family, receives = families[items[op]], kinds[op] == RECEIVE
                members = wiring.members(family, int(receives), cls)
                if len(members) > 1:
                    place = int(np.searchsorted(sequence(program_of[cls], family, receives), op))
                    fellows = [(c, int(sequence(program_of[c], family, bool(role))[place])) for c, role in members]
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


def _pick(wanted: Bools, ops: Program) -> Bools:
    """Whether each communication's message is wanted; compute operations point to no message."""
    return np.asarray(wanted[np.where(ops.kind == COMPUTE, 0, ops.item)])


def _parts(parts: tuple[tuple[str, float], ...], taken: int) -> list[tuple[str, int]]:
    """An operation's ticks shared out over its parts; the last takes what rounding leaves. None without time."""
    if not parts:
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
