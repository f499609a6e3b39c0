"""Kernels beside transfers: times of operations whose rank's cores and HBM are shared with its transfers.

A transfer that is under way on a rank takes cores and HBM from the kernels there. What is left decides the
time T of a kernel, whose share done moves on by dt / T; when what is left changes, the rest takes
(1 - done) x T of the new time. A kernel whose time does not change is not touched, and one that ends as
something changes has ended. ``docs/contention.md`` has the equations.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.program import ticks

__all__ = ["NOTHING", "Contention", "Course", "History", "Kernels", "Row", "Stretch", "Taken", "leads_to_last"]


class Taken(NamedTuple):
    """What transfers take of a rank: cores [1], and HBM traffic [byte/s]."""

    cores: int
    traffic: int

    def __add__(self, other: "Taken") -> "Taken":  # type: ignore[override]
        return Taken(self.cores + other.cores, self.traffic + other.traffic)

    def __sub__(self, other: "Taken") -> "Taken":
        return Taken(self.cores - other.cores, self.traffic - other.traffic)


NOTHING = Taken(0, 0)

History = tuple[tuple[int, Taken], ...]
"""What is taken from outside a stretch of operations, from each of these times after its start on [tick]."""


@dataclass(frozen=True, slots=True, eq=False)
class Contention:
    """What transfers take, and what that makes of kernels.

    Parameters
    ----------
    takes
        What a message, by index, takes of each rank of a group of its family, by number, with the network
        to itself; whole numbers, whose sums are exact in any order.
    seconds
        Of the job's labels [s], when so much is taken; never less than with nothing taken.
    """

    takes: Callable[[int, int], Taken]
    seconds: Callable[[Taken], Sequence[float]]


@dataclass(frozen=True, slots=True, eq=False)
class Kernels:
    """Times of a class's kernels [tick], by what is taken of its ranks.

    Parameters
    ----------
    speed
        Of the class's chips, as a share of the nominal rate.
    """

    contention: Contention
    speed: float
    known: dict[Taken, list[int]] = field(default_factory=dict)
    single: "dict[int, Stretch]" = field(default_factory=dict)
    segments: "dict[tuple[Row, ...], Segment]" = field(default_factory=dict)

    def alone(self, label: int, duration: int) -> "Stretch":
        """A kernel by itself; with nothing taken it lasts so long [tick]."""
        if label not in self.single:
            self.single[label] = Stretch([Row(0, label, duration, NOTHING, ())], self)
        return self.single[label]

    def ticks(self, taken: Taken) -> list[int]:
        """By label."""
        if taken not in self.known:
            self.known[taken] = [ticks(seconds / self.speed) for seconds in self.contention.seconds(taken)]
        return self.known[taken]


class Row(NamedTuple):
    """An operation in a stretch.

    Parameters
    ----------
    label
        Of a kernel; -1 for a transfer.
    duration
        With nothing taken [tick].
    taken
        By a transfer, while it lasts.
    after
        Operations of the stretch that must have ended.
    """

    stream: int
    label: int
    duration: int
    taken: Taken
    after: tuple[int, ...]


class Segment:
    """Operations of several streams between two instants at which all before have ended and none after has begun."""

    def __init__(self, rows: tuple[Row, ...], kernels: Kernels) -> None:
        self.rows, self.kernels = rows, kernels
        streams = sorted({row.stream for row in rows})
        self._queues = [[at for at, row in enumerate(rows) if row.stream == stream] for stream in streams]
        self._known: dict[History, tuple[list[int], list[int]]] = {}

    def timed(self, history: History) -> tuple[list[int], list[int]]:
        """Start and end of each operation, after the start of the first [tick]; the last ends last."""
        if history not in self._known:
            self._known[history] = self._play(history) if len(self.rows) > 1 else self._alone(history)
        return self._known[history]

    def _alone(self, history: History) -> tuple[list[int], list[int]]:
        """Of one operation."""
        ((_, label, finish, _, _),) = self.rows
        if label >= 0 and finish:
            done, since, total = 0.0, 0, self.kernels.ticks(history[0][1])[label]
            finish = total
            for at, taken in history[1:]:
                slower = self.kernels.ticks(taken)[label]
                if slower != total:
                    done, finish = _moved(done, at - since, total, slower)
                    finish, since, total = at + finish, at, slower
        return [0], [finish]

    def _play(self, history: History) -> tuple[list[int], list[int]]:
        rows, queues, kernels = self.rows, self._queues, self.kernels
        begin, end = [-1] * len(rows), [-1] * len(rows)
        since, total, finish, done = begin[:], begin[:], begin[:], [0.0] * len(rows)
        heads, running = [0] * len(queues), [-1] * len(queues)
        outside = inside = NOTHING
        now = change = 0
        while True:
            if change < len(history) and history[change][0] == now:
                outside = history[change][1]
                change += 1
            # whatever ends, and whatever that lets begin; some of it takes no time
            moving = True
            while moving:
                moving = False
                for lane, queue in enumerate(queues):
                    op = running[lane]
                    if op >= 0:
                        if finish[op] != now:
                            continue
                        end[op], running[lane], moving = now, -1, True
                        inside -= rows[op].taken
                    if heads[lane] < len(queue):
                        op = queue[heads[lane]]
                        row = rows[op]
                        if all(end[other] >= 0 for other in row.after):
                            begin[op], running[lane], moving = now, op, True
                            heads[lane] += 1
                            inside += row.taken
                            if row.label < 0 or not row.duration:
                                finish[op] = now + row.duration
            times = kernels.ticks(outside + inside)
            soonest = history[change][0] if change < len(history) else -1
            for op in running:
                if op < 0:
                    continue
                label = rows[op].label
                if label >= 0 and times[label] != total[op]:
                    if total[op] < 0:
                        finish[op] = now + times[label]
                    else:
                        done[op], rest = _moved(done[op], now - since[op], total[op], times[label])
                        finish[op] = now + rest
                    since[op], total[op] = now, times[label]
                if soonest < 0 or finish[op] < soonest:
                    soonest = finish[op]
            if max(running) < 0:
                return begin, end
            now = soonest


def _moved(done: float, passed: int, total: int, slower: int) -> tuple[float, int]:
    """Share done of an operation that took `total` in all for so long, and what is left if it takes `slower` [tick]."""
    done += passed / total
    # what has not ended yet does not end because of a change
    return done, max(1, round((1.0 - done) * slower))


class Course:
    """A stretch up to its end, as far as what is taken is known.

    Parameters
    ----------
    before
        The course that the last change turned into this one; None where nothing has changed.
    at, taken
        The last change: when [tick], and what is taken from then on.
    segment, begin, history
        The segment that it fell into: which, when it began, and all changes since then.
    after
        When that segment ends [tick]; nothing changes in those after it.
    end
        Of the last operation [tick].
    """

    __slots__ = ("after", "at", "before", "begin", "end", "history", "segment", "taken", "then", "times")

    def __init__(
        self, before: "Course | None", at: int, taken: Taken, segment: int, begin: int, history: History
    ) -> None:
        self.before, self.at, self.taken = before, at, taken
        self.segment, self.begin, self.history = segment, begin, history
        self.after = self.end = 0
        self.then: dict[tuple[int, Taken], Course] = {}
        self.times: Ints | None = None


class Stretch:
    """Operations that meet nothing outside from the first to the last, under whatever is taken meanwhile."""

    def __init__(self, rows: Sequence[Row], kernels: Kernels) -> None:
        self._segments: list[Segment] = []
        self._lows: list[int] = []
        for low, high in pairwise([0, *_joints(rows)]):
            part = tuple(row._replace(after=tuple(o - low for o in row.after if o >= low)) for row in rows[low:high])
            if part not in kernels.segments:
                kernels.segments[part] = Segment(part, kernels)
            self._segments.append(kernels.segments[part])
            self._lows.append(low)
        self.size = len(rows)
        self._marks: dict[Taken, list[int]] = {}
        self._courses: dict[Taken, Course] = {}

    def begun(self, taken: Taken) -> Course:
        """How it goes if so much is taken all the time."""
        if taken not in self._courses:
            course = Course(None, 0, taken, 0, 0, ((0, taken),))
            marks = self._marks_of(taken)
            course.after, course.end = marks[1], marks[-1]
            self._courses[taken] = course
        return self._courses[taken]

    def changed(self, course: Course, at: int, taken: Taken) -> Course:
        """How it goes if so much is taken from a later time on [tick]."""
        if (at, taken) not in course.then:
            course.then[at, taken] = self._changed(course, at, taken)
        return course.then[at, taken]

    def _changed(self, course: Course, at: int, taken: Taken) -> Course:
        segment, begin, history = course.segment, course.begin, course.history
        if at >= course.after:
            marks = self._marks_of(course.taken)
            shift = course.after - marks[segment + 1]
            segment = bisect_right(marks, at - shift) - 1
            begin, history = marks[segment] + shift, ((0, course.taken),)
        history = (*history, (at - begin, taken)) if at > begin else ((0, taken),)
        made = Course(course, at, taken, segment, begin, history)
        marks = self._marks_of(taken)
        made.after = begin + self._segments[segment].timed(history)[1][-1]
        made.end = made.after + marks[-1] - marks[segment + 1]
        return made

    def _marks_of(self, taken: Taken) -> list[int]:
        """Where segments begin if so much is taken all the time, and where the last ends [tick]."""
        if taken not in self._marks:
            history = ((0, taken),)
            self._marks[taken] = [0, *accumulate(segment.timed(history)[1][-1] for segment in self._segments)]
        return self._marks[taken]

    def times(self, course: Course) -> Ints:
        """Start and end of each operation, after the start of the first [tick], shape (2, operations)."""
        if course.times is None:
            parts, until, there = [], self.size, course
            while there.before is not None:
                low = self._lows[there.segment]
                if low < until:
                    now = np.array(self._segments[there.segment].timed(there.history)) + there.begin
                    shift = there.after - self._marks_of(there.taken)[there.segment + 1]
                    parts += [self.times(self.begun(there.taken))[:, low + now.shape[1] : until] + shift, now]
                    until = low
                there = there.before
            if there is course:
                marks, history = self._marks_of(course.taken), ((0, course.taken),)
                parts = [np.array(s.timed(history)) + mark for s, mark in zip(self._segments, marks, strict=False)]
            else:
                parts = [self.times(there)[:, :until], *reversed(parts)]
            course.times = np.concatenate(parts, axis=1)
        return course.times


def _joints(rows: Sequence[Row]) -> list[int]:
    """Where all operations before have ended and none after has begun, whatever the times; the end is one."""
    ancestors: list[int] = []
    last: dict[int, int] = {}
    for at, row in enumerate(rows):
        known = 0
        for other in (*row.after, *([last[row.stream]] if row.stream in last else [])):
            known |= ancestors[other] | 1 << other
        ancestors.append(known)
        last[row.stream] = at
    joints, common = [len(rows)], -1
    for at in range(len(rows) - 1, 0, -1):
        common &= ancestors[at]
        # the one before waits for all before it, and all from here on wait for it
        if ancestors[at - 1] == (1 << (at - 1)) - 1 and common >> (at - 1) & 1:
            joints.append(at)
    return joints[::-1]


def leads_to_last(rows: Sequence[Row]) -> bool:
    """Whether the last operation waits for all others, directly or through others, so that it ends last."""
    leads, later = {len(rows) - 1}, dict[int, int]()
    for at in range(len(rows) - 1, -1, -1):
        row = rows[at]
        if later.get(row.stream) in leads:
            leads.add(at)
        if at not in leads:
            return False
        leads.update(row.after)
        later[row.stream] = at
    return True
