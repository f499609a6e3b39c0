"""Accelerators: they carry out programs in SimPy's time, stream by stream of each class.

A step of a stream that waits is begun by what it waits for, so only what takes time is an event.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import simpy

from scaleout.arrays import Ints
from scaleout.engine.clock import Alarm, Clock
from scaleout.engine.contention import NOTHING, Contention, Kernels, Stretch, Taken
from scaleout.engine.flows import FlowNetwork
from scaleout.engine.program import COMPUTE, STREAMS, TICKS_PER_SECOND, Job
from scaleout.engine.quotient import Quotient, Transfer
from scaleout.engine.runs import Known, Steps, Track, compile_class
from scaleout.engine.timeline import ClassTimeline, Timeline
from scaleout.errors import WorkloadError

__all__ = ["Lineup", "run", "stuck_at"]


class _Meetings:
    """Where the members of a communicator meet: the transfer starts when the last has come.

    Members match by order: the k-th operation of one is the k-th of all others.
    """

    def __init__(self, env: Clock, network: FlowNetwork, wiring: Quotient) -> None:
        self.env, self.network = env, network
        self._members = [len(orbit.members) for orbit in wiring.orbits]
        # by place and orbit, and by number and orbit
        self._arrived: dict[int, int] = {}
        self._open: dict[int, list[_Stream]] = {}

    def arrive(self, cls: int, role: int, transfer: Transfer, stream: "_Stream") -> None:
        """Report one member: its stream is told when the transfer starts, and when it is over."""
        orbit, orbits = transfer.orbit, len(self._members)
        members = self._members[orbit]
        if members == 1:
            stream.start()
            self.network.start(transfer, [stream.end])
            return
        # a role is 0 or 1
        place = (2 * cls + role) * orbits + orbit
        number = self._arrived.get(place, 0)
        self._arrived[place] = number + 1
        present = self._open.setdefault(number * orbits + orbit, [])
        present.append(stream)
        if len(present) < members:
            return
        del self._open[number * orbits + orbit]
        for member in present:
            member.start()
        self.network.start(transfer, [member.end for member in present])


class _Busy:
    """Kernels at work that transfers may disturb: since when, and how it goes under what is taken from them."""

    __slots__ = ("alarm", "course", "start", "stream", "stretch")

    def __init__(self, stretch: Stretch, taken: Taken, stream: "_Stream") -> None:
        self.stretch, self.stream = stretch, stream
        self.start = stream.owner.env.now
        self.course = stretch.begun(taken)
        self.alarm = -1
        self._set()

    @property
    def end(self) -> int:
        """When they will end, if nothing changes [tick]."""
        return self.start + self.course.end

    def disturb(self, now: int, taken: Taken) -> None:
        """So much is taken from now on. What counts is how it is at the end of an instant."""
        at, course = now - self.start, self.course
        if course.at == at and course.before:
            course = course.before
        if not at:
            course = self.stretch.begun(taken)
        elif course.end == at:
            return
        elif course.taken != taken:
            course = self.stretch.changed(course, at, taken)
        self.course = course
        if self.end < self.alarm:
            # sooner than thought
            self._set()

    def _set(self) -> None:
        env, self.alarm = self.stream.owner.env, self.end
        Alarm(env, self.alarm - env.now, [self._ring])

    def _ring(self, _: simpy.Event) -> None:
        """The end, unless it was put off or put forward since the alarm was set."""
        if self.alarm != self.stream.owner.env.now:
            return
        if self.end > self.alarm:
            self._set()
        else:
            self.alarm = -1
            self.stream.worked(self)


class _Stream:
    """A stream of a class: carries out its steps in order."""

    __slots__ = ("_alarm", "_later", "owner", "step")

    def __init__(self, owner: "Accelerator", steps: Steps) -> None:
        self.owner = owner
        self._alarm: Alarm | None = None
        self._later = steps.each()
        self.step = next(self._later)

    def begin(self) -> None:
        """Begin the step that is next, once all that it waits for has ended."""
        owner = self.owner
        op, waits, (duration, transfer, role, held, _, stretch) = self.step
        for other in waits:
            if owner.ended[other] < 0:
                owner.waiting.setdefault(other, []).append(self)
                return
        owner.arrived[op] = owner.env.now
        if transfer:
            if held:
                owner.take(held)
            owner.meetings.arrive(owner.cls, role, transfer, self)
        elif stretch:
            owner.busy[op] = _Busy(stretch, owner.taken, self)
        elif self._alarm:
            self._alarm.again(duration)
        else:
            self._alarm = Alarm(owner.env, duration, [self.end])

    def start(self) -> None:
        """The transfer of this step starts: a collective holds its cores before."""
        op, _, task = self.step
        self.owner.started[op] = self.owner.env.now
        if task.taken:
            self.owner.take(task.taken - (task.held or NOTHING))

    def worked(self, busy: _Busy) -> None:
        """The kernels of this step have ended."""
        op = self.step[0]
        del self.owner.busy[op]
        if busy.stretch.size > 1:
            self.owner.disturbed[op] = busy.stretch.times(busy.course)
        self.end()

    def end(self, event: simpy.Event | None = None) -> None:
        """The step has ended; others may wait for it."""
        owner = self.owner
        op, _, task = self.step
        if task.taken:
            owner.take(NOTHING - task.taken)
        owner.ended[op] = owner.env.now
        following = next(self._later, None)
        # this stream goes on before those that waited for it: so the compiled loop has it
        if following:
            self.step = following
            self.begin()
        else:
            owner.close()
        for stream in owner.waiting.pop(op, ()):
            stream.begin()


class Accelerator:
    """One class of ranks: its streams, and when each operation arrived, started and ended."""

    def __init__(
        self, env: Clock, cls: int, track: Track, ops: int, meetings: _Meetings, ended: Callable[[], None] | None
    ) -> None:
        self.env, self.cls, self.track, self.meetings = env, cls, track, meetings
        self._open, self._ended = sum(bool(steps.ops) for steps in track.steps), ended
        # of int64, so that they need not be converted
        self.arrived, self.started, self.ended = (array("q", [-1]) * ops for _ in range(3))
        self.waiting: dict[int, list[_Stream]] = {}
        self.taken = NOTHING
        self.busy: dict[int, _Busy] = {}
        self.disturbed: dict[int, Ints] = {}
        """Times of each run that transfers may disturb, by its last operation."""
        for steps in track.steps:
            if steps.ops:
                _Stream(self, steps).begin()

    def close(self) -> None:
        """One of its streams has nothing left to do."""
        self._open -= 1
        if not self._open and self._ended:
            self._ended()

    def take(self, taken: Taken) -> None:
        """Take so much more, or less, from all kernels."""
        self.taken += taken
        for busy in self.busy.values():
            busy.disturb(self.env.now, self.taken)

    def record(self) -> ClassTimeline:
        """Times of all operations, those inside runs filled in."""
        arrived, started, ended = (np.array(t) for t in (self.arrived, self.started, self.ended))
        # what is no transfer starts as it arrives
        started = np.where(started < 0, arrived, started)
        local = self.track.local
        for begin, end, lows in self._runs():
            last = local[lows + len(begin) - 1]
            ops = local[lows[:, None] + np.arange(len(begin))]
            origin = (ended[last] - end[-1])[:, None]
            arrived[ops] = started[ops] = origin + begin
            ended[ops] = origin + end
        return ClassTimeline(arrived, started, ended, local)

    def _runs(self) -> Iterator[tuple[Ints, Ints, Ints]]:
        """Start and end of each operation of runs that went alike, and where in `local` these runs begin."""
        track = self.track
        for kind, pattern in enumerate(track.patterns):
            lows = track.lows[track.kinds == kind]
            if pattern.stretch is None:
                yield pattern.begin, pattern.end, lows
                continue
            alike: dict[int, tuple[Ints, list[int]]] = {}
            for low, last in zip(lows.tolist(), track.local[lows + len(pattern.end) - 1].tolist(), strict=True):
                # one of one operation is on record by itself
                if last in self.disturbed:
                    times = self.disturbed[last]
                    alike.setdefault(id(times), (times, []))[1].append(low)
            for (begin, end), some in alike.values():
                yield begin, end, np.array(some)


class Lineup:
    """A job made ready: its accelerators may begin any number of times, one time after the other.

    Parameters
    ----------
    runs
        False makes an event of every operation instead of every run; the times are the same.
    contention
        What transfers take of the kernels beside them; None for nothing.
    """

    def __init__(self, job: Job, wiring: Quotient, *, runs: bool = True, contention: Contention | None = None) -> None:
        self.wiring = wiring
        self._classes: list[tuple[Track, int]] = []
        prepared: dict[float, tuple[Known, Kernels | None]] = {}
        for cls in range(wiring.classes):
            rank = int(wiring.representatives[cls])
            program, speed = job.programs[job.program_of[rank]], job.speed.get(rank, 1.0)
            if speed not in prepared:
                prepared[speed] = {}, Kernels(contention, speed) if contention else None
            known, kernels = prepared[speed]
            track = compile_class(job, wiring, cls, runs=runs, known=known, kernels=kernels)
            self._classes.append((track, len(program)))

    def begin(self, env: Clock, network: FlowNetwork, ended: Callable[[], None] | None = None) -> list[Accelerator]:
        """Begin now.

        Parameters
        ----------
        ended
            Called when a class has carried out all its operations, once for each that has any.
        """
        meetings = _Meetings(env, network, self.wiring)
        return [Accelerator(env, cls, track, ops, meetings, ended) for cls, (track, ops) in enumerate(self._classes)]

    @property
    def busy_classes(self) -> int:
        """Classes that have operations."""
        return sum(ops > 0 for _, ops in self._classes)


def run(job: Job, wiring: Quotient, *, runs: bool = True, contention: Contention | None = None) -> Timeline:
    """Run every class to its end.

    Parameters
    ----------
    runs
        False makes an event of every operation instead of every run; the times are the same.
    contention
        What transfers take of the kernels beside them; None for nothing.

    Raises
    ------
    WorkloadError
        Some transfers wait for dead links for ever, or some operations for each other; the message
        names them.
    """
    env = Clock()
    network = FlowNetwork(env, wiring.epochs)
    accelerators = Lineup(job, wiring, runs=runs, contention=contention).begin(env, network)
    events = env.run_down()
    _check_moving(job, wiring, network)
    _check_ended(job, wiring, accelerators)
    return Timeline(tuple(a.record() for a in accelerators), events, network.solves, network.account())


def _check_moving(job: Job, wiring: Quotient, network: FlowNetwork) -> None:
    """Refuse an end with transfers that dead links hold up for ever."""
    stalled = network.stalled()
    if not stalled:
        return
    transfer_of = {leg.index: transfer for transfer in wiring.transfers.values() for leg in transfer.legs}
    last = wiring.epochs[-1]
    rows = []
    for leg in stalled[:8]:
        transfer = transfer_of[leg.index]
        message, orbit = job.messages[transfer.message], wiring.orbits[transfer.orbit]
        ranks = job.families[orbit.family].groups[orbit.group].tolist()
        dead = [int(np.argmax(wiring.link_of == at)) for at in leg.links if not last.capacity[at]]
        shown = [wiring.topology.link_name(link) for link in dead[:4]]
        shown += [f"{len(dead) - 4} more"] if len(dead) > 4 else []
        among = ", ".join(map(str, ranks[:4])) + (f", ... ({len(ranks)} in all)" if len(ranks) > 4 else "")
        behind = "dead: " + ", ".join(shown) if dead else "its links are taken up by others that are stalled"
        rows.append(f"{message.operation} on {message.family} of ranks {among}; {behind}")
    more = f"\n  and {len(stalled) - 8} more" if len(stalled) > 8 else ""
    raise WorkloadError(
        f"stalled for ever over dead links, from {last.start / TICKS_PER_SECOND:g} s on; "
        "give the fault an end (until), or take then: reroute:\n  " + "\n  ".join(rows) + more
    )


def _check_ended(job: Job, wiring: Quotient, accelerators: list[Accelerator]) -> None:
    stuck = []
    for accelerator in accelerators:
        for steps in accelerator.track.steps:
            # a stream that has ended its last has ended all
            if steps.ops and accelerator.ended[steps.ops[-1]] < 0:
                first = next(op for op in steps.ops if accelerator.ended[op] < 0)
                stuck.append((int(wiring.representatives[accelerator.cls]), first))
    if stuck:
        raise WorkloadError(stuck_at(job, stuck))


def stuck_at(job: Job, stuck: Sequence[tuple[int, int]]) -> str:
    """That operations wait for each other for ever, in words: rank and operation of the first ones."""
    lines = []
    for rank, op in stuck[:8]:
        program = job.programs[job.program_of[rank]]
        item = int(program.item[op])
        what = (
            job.labels[item].name
            if program.kind[op] == COMPUTE
            else f"{job.messages[item].operation} on {job.messages[item].family}"
        )
        lines.append(f"rank {rank}, stream {STREAMS[int(program.stream[op])]}: operation {op} ({what})")
    shown = "\n  ".join(lines)
    return f"operations wait for each other for ever; first of each stream:\n  {shown}"
