"""Where a step's time went: an exact partition of the compute stream, and what bounds the step."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS
from scaleout.evaluate.event import Recording

__all__ = ["CATEGORIES", "breakdown", "critical_path", "ends_last"]

CATEGORIES = (
    "compute", "optimizer", "exposed_tp", "exposed_cp", "exposed_ep", "exposed_pp", "exposed_dp", "imbalance", "bubble",
)  # fmt: skip
"""Parts of a step: kernels; waiting while a transfer is under way; waiting for a peer that is
late; waiting when nothing has been sent."""


class _Ops(NamedTuple):
    """A class's operations, as lists that are quick to walk."""

    kind: list[int]
    item: list[int]
    after: list[list[int]]
    before: list[int]
    """The operation before on the same stream, -1 for none."""
    arrived: list[int]
    started: list[int]
    ended: list[int]

    def releaser(self, op: int) -> int:
        """The dependency or stream neighbour that ended last before an operation arrived, -1 for none."""
        candidates = [dep for dep in (*self.after[op], self.before[op]) if dep >= 0]
        return max(candidates, key=lambda dep: (self.ended[dep], dep), default=-1)


def _ops(recording: Recording, cls: int) -> _Ops:
    program = recording.job.programs[recording.class_program(cls)]
    times = recording.timeline.classes[cls]
    before = np.full(len(program), -1, dtype=np.int64)
    for stream in range(len(STREAMS)):
        mine = np.flatnonzero(program.stream == stream)
        before[mine[1:]] = mine[:-1]
    columns = (program.kind, program.item, program.after, before, times.arrived, times.started, times.ended)
    return _Ops(*(column.tolist() for column in columns))


def ends_last(recording: Recording) -> int:
    """The class whose last operation ends last; of several, the lowest."""
    return max(
        range(recording.wiring.classes), key=lambda cls: (int(recording.timeline.classes[cls].ended.max()), -cls)
    )


def breakdown(recording: Recording, cls: int) -> dict[str, int]:
    """Partition of [0, step] of one class's compute stream, by category [tick]; sums to the step."""
    job, ops = recording.job, _ops(recording, cls)
    program = job.programs[recording.class_program(cls)]
    total = dict.fromkeys(CATEGORIES, 0)
    computing = np.flatnonzero(program.kind == COMPUTE)
    started, ended = np.array(ops.started)[computing], np.array(ops.ended)[computing]
    optimizer = np.array([label.category == "optimizer" for label in job.labels])[program.item[computing]]
    total["optimizer"] = int((ended - started)[optimizer].sum())
    total["compute"] = int((ended - started)[~optimizer].sum())

    # gaps: before each compute operation, and after the last one
    low = np.concatenate(([0], ended))
    high = np.concatenate((started, [recording.timeline.end]))
    final = max(range(len(ops.ended)), key=lambda op: (ops.ended[op], op))
    for gap in np.flatnonzero(high > low).tolist():
        # the operation that waited; of the last gap, the step's last operation is what was waited for
        blocker = ops.releaser(int(computing[gap])) if gap < len(computing) else final
        _attribute(recording, ops, int(low[gap]), int(high[gap]), blocker, total)
    return total


def _attribute(recording: Recording, ops: _Ops, low: int, high: int, blocker: int, total: dict[str, int]) -> None:
    """Split the wait [low, high] over the operations that it was for, latest first."""
    job = recording.job
    while high > low:
        if blocker < 0 or ops.kind[blocker] == COMPUTE:
            total["imbalance"] += high - low
            return
        family = job.families[job.messages[ops.item[blocker]].family]
        moving = max(0, high - max(low, ops.started[blocker]))
        total[f"exposed_{family.category}"] += moving
        high -= moving
        absent = max(0, high - max(low, ops.arrived[blocker]))
        total["bubble" if ops.kind[blocker] in (SEND, RECEIVE) else "imbalance"] += absent
        high -= absent
        blocker = ops.releaser(blocker)


def critical_path(recording: Recording) -> dict[str, int]:
    """What the longest chain of the step is made of [tick]; sums to the step.

    Walks back from the last operation over the one that released each: a dependency, the
    operation before on the stream, or the member of a communicator that came last. Kernels
    count by their parts (``matmul``, ``attention``, ``elementwise``), transfers by category.
    """
    job, wiring = recording.job, recording.wiring
    known: dict[int, _Ops] = {}
    places: dict[tuple[int, int, int], tuple[dict[int, int], list[int]]] = {}
    total: dict[str, int] = {}

    def ops_of(cls: int) -> _Ops:
        if cls not in known:
            known[cls] = _ops(recording, cls)
        return known[cls]

    def sequence(cls: int, orbit: int, role: int) -> tuple[dict[int, int], list[int]]:
        """A class's operations on an orbit: place of each, and each in order."""
        if (cls, orbit, role) not in places:
            program, family = job.programs[recording.class_program(cls)], wiring.orbits[orbit].family
            ours = np.array([m.family == family for m in job.messages])
            mine = (program.kind != COMPUTE) & ours[np.where(program.kind == COMPUTE, 0, program.item)]
            mine &= (program.kind == RECEIVE) == bool(role)
            order = np.flatnonzero(mine).tolist()
            places[cls, orbit, role] = {op: place for place, op in enumerate(order)}, order
        return places[cls, orbit, role]

    cls = ends_last(recording)
    ops = ops_of(cls)
    op = max(range(len(ops.ended)), key=lambda index: (ops.ended[index], index))
    while op >= 0:
        taken = ops.ended[op] - ops.started[op]
        if ops.kind[op] == COMPUTE:
            _add_parts(total, job.labels[ops.item[op]].parts, taken)
        else:
            message = job.messages[ops.item[op]]
            name = job.families[message.family].category
            total[name] = total.get(name, 0) + taken
            role = int(ops.kind[op] == RECEIVE)
            orbit = wiring.orbit_of[message.family, role, cls]
            members = wiring.orbits[orbit].members
            if len(members) > 1:
                place = sequence(cls, orbit, role)[0][op]
                fellows = [(c, sequence(c, orbit, r)[1][place]) for c, r in members]
                cls, op = max(fellows, key=lambda at: (ops_of(at[0]).arrived[at[1]], -at[0]))
                ops = ops_of(cls)
        op = ops.releaser(op)
    return total


def _add_parts(total: dict[str, int], parts: tuple[tuple[str, float], ...], taken: int) -> None:
    """Share an operation's ticks out over its parts; the last takes what rounding leaves."""
    whole, left = sum(seconds for _, seconds in parts), taken
    for index, (name, seconds) in enumerate(parts):
        share = left if index == len(parts) - 1 else round(taken * seconds / whole)
        total[name] = total.get(name, 0) + share
        left -= share


def per_class(recording: Recording) -> npt.NDArray[np.int64]:
    """Breakdown of every class [tick], shape (classes, categories)."""
    rows = [list(breakdown(recording, cls).values()) for cls in range(recording.wiring.classes)]
    return np.array(rows, dtype=np.int64)
