"""Streams with deadlines: sources send items, stages gather them, chips work on one piece at a time.

A chip takes the waiting job of the highest priority, of these the one that came first, and works on one piece
of it: a batch of a net, a prompt, a token. Then it chooses again, so that a job of higher priority waits for a
piece at most. See ``docs/streams.md``.
"""

import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import partial
from heapq import heappop, heappush
from typing import Any, NamedTuple

import numpy as np
import simpy
from simpy.events import EventPriority

from scaleout.arrays import Floats
from scaleout.engine.program import ticks
from scaleout.specs import StreamExperiment, StreamSource

__all__ = ["Item", "Job", "Pieces", "Streams", "arrivals"]

Process = Generator[simpy.Event, Any, None]
_LAST = 2
"""Of a moment's events; SimPy's own have 0 and 1."""
_ARRIVALS = 1
"""Key of the random numbers of arrivals; each source has its own under it."""


class Pieces(NamedTuple):
    """A job on its chip.

    Parameters
    ----------
    times
        Of what is never interrupted, one after the other [tick].
    first
        Pieces after which the next stages begin.
    joules
        Of all of it, beside what the chip draws at rest: of matrix units, of passes, of memory [J].
    """

    times: tuple[int, ...]
    first: int
    joules: tuple[float, float, float] = (0.0, 0.0, 0.0)


Timing = Callable[[int, int], Pieces]
"""Of a stage, by its number, and so many items."""


class Item:
    """A frame, an utterance: what a source sends, with its deadline.

    Parameters
    ----------
    number
        In the order of coming.
    source, unit
        Which source, and which of those that are alike.
    came
        [tick]
    left
        Last stages that have not ended yet.
    ended
        The last of them [tick]; negative before.
    dropped
        It was thrown away on the way.
    last
        The job that ended last.
    """

    __slots__ = ("came", "dropped", "ended", "last", "left", "number", "source", "unit")

    def __init__(self, number: int, source: int, unit: int, came: int, left: int) -> None:
        self.number, self.source, self.unit, self.came, self.left = number, source, unit, came, left
        self.ended, self.dropped = -1, False
        self.last: Job | None = None


Batch = tuple[Item, ...]
"""Items that go together: one object from where they were gathered to the end, by which stages know it again."""


class Job:
    """A batch in a stage.

    Parameters
    ----------
    came, gathered, queued, started, first, ended
        When its first item came into the stage, when its batch was complete, when it began to wait for the chip,
        when that began, when the next stages could begin, when it left the chip [tick].
    worked
        On the chip until `first` [tick].
    dropped, stale
        Newer items of all its sources came while it waited; of which they came so far.
    pieces, hand
        Of its work, and how many of them come before `first`.
    before
        Of each item the job that handed it on, None where it came from its source.
    joules
        Beside what the chip draws at rest, as of `Pieces` [J].
    spans
        On the chip, from when to when [tick].
    """

    __slots__ = (
        "before", "came", "dropped", "ended", "first", "gathered", "hand", "items", "joules", "pieces", "queued",
        "spans", "stage", "stale", "started", "worked",
    )  # fmt: skip

    def __init__(self, stage: int, items: Batch, before: "dict[Item, Job | None]", came: int, now: int) -> None:
        self.stage, self.items, self.before, self.came, self.gathered = stage, items, before, came, now
        self.queued = self.started = self.first = self.ended = -1
        self.worked, self.dropped = 0, False
        self.joules: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self.pieces: tuple[int, ...] = ()
        self.hand = 0
        self.stale: set[tuple[int, int]] = set()
        self.spans: list[tuple[int, int]] = []


class _Gathering:
    """Items that wait until a batch is complete."""

    def __init__(self) -> None:
        self.before: dict[Item, Job | None] = {}
        self.came, self.batch = 0, 0


class _Chip:
    """Jobs that wait for a chip."""

    def __init__(self) -> None:
        self.waiting: list[tuple[int, int, int, Job]] = []
        self.wake: simpy.Event | None = None
        self.busy = 0


class Streams:
    """The simulation; `run` carries it out, and then its lists have all that happened.

    Parameters
    ----------
    timing
        Pieces of a stage's job.
    moves
        From a stage to one that waits for it, by their numbers [s].
    """

    def __init__(self, experiment: StreamExperiment, timing: Timing, moves: Mapping[tuple[int, int], float]) -> None:
        self.experiment, self.timing, self.moves = experiment, timing, moves
        self.env = simpy.Environment()
        self.stages = experiment.stages
        number = {stage.name: at for at, stage in enumerate(self.stages)}
        self.next: list[list[int]] = [[] for _ in self.stages]
        for at, stage in enumerate(self.stages):
            for name in stage.after:
                self.next[number[name]].append(at)
        self.into = [[number[name] for name in source.into] for source in experiment.sources]
        self.ends = [len(self._last(into)) for into in self.into]
        self.chips = [_Chip() for _ in range(experiment.chips)]
        self.gathering = [_Gathering() for _ in self.stages]
        self.joining: list[dict[int, tuple[Batch, int, int]]] = [{} for _ in self.stages]
        self.replaceable: list[list[Job]] = [[] for _ in self.stages]
        self.items: list[Item] = []
        self.jobs: list[Job] = []
        self._order = 0

    def run(self) -> None:
        """Until every item has gone its way."""
        for at, source in enumerate(self.experiment.sources):
            for unit, times in enumerate(arrivals(source, at, self.experiment.duration, self.experiment.seed)):
                self.env.process(self._send(at, unit, times))
        for chip in self.chips:
            self.env.process(self._work(chip))
        self.env.run()

    @property
    def end(self) -> int:
        """When the last item had come and the last job had ended [tick]."""
        return max(
            (*(item.came for item in self.items), *(job.ended for job in self.jobs), ticks(self.experiment.duration))
        )

    def _last(self, into: Sequence[int]) -> set[int]:
        """Stages behind those given that no other waits for."""
        reached, todo = set(into), list(into)
        while todo:
            more = [at for at in self.next[todo.pop()] if at not in reached]
            reached.update(more)
            todo += more
        return {at for at in reached if not self.next[at]}

    # --- items -------------------------------------------------------------------------------

    def _send(self, source: int, unit: int, times: Sequence[int]) -> Process:
        for time in times:
            yield self.env.timeout(time - self.env.now)
            item = Item(len(self.items), source, unit, time, self.ends[source])
            self.items.append(item)
            batch = (item,)
            for at in self.into[source]:
                self._enter(at, batch, None)

    def _enter(self, at: int, batch: Batch, before: Job | None) -> None:
        """A stage is given a batch; where it waits for several stages, the last to come counts."""
        stage, now = self.stages[at], int(self.env.now)
        if len(stage.after) > 1:
            # the batch is kept, so that nothing else takes its identity
            _, came, count = self.joining[at].pop(id(batch), (batch, now, 0))
            if count + 1 < len(stage.after):
                self.joining[at][id(batch)] = (batch, came, count + 1)
                return
        if all(item.dropped for item in batch):
            return
        if stage.gather == 1:
            self._begin(Job(at, batch, dict.fromkeys(batch, before), now, now))
            return
        buffer = self.gathering[at]
        for item in batch:
            if stage.drop == "latest":
                self._replace(buffer, item)
            if not buffer.before:
                buffer.came = now
                if stage.timeout is not None:
                    self._after(stage.timeout, partial(self._give_up, at, buffer.batch))
            buffer.before[item] = before
            if len(buffer.before) == stage.gather:
                self._close(at)

    def _replace(self, buffer: _Gathering, newer: Item) -> None:
        for old in [one for one in buffer.before if (one.source, one.unit) == (newer.source, newer.unit)]:
            del buffer.before[old]
            old.dropped = True
        if not buffer.before:
            # the clock of the timeout begins anew
            buffer.batch += 1

    def _give_up(self, at: int, batch: int) -> None:
        if self.gathering[at].batch == batch and self.gathering[at].before:
            self._close(at)

    def _close(self, at: int) -> None:
        buffer = self.gathering[at]
        job = Job(at, tuple(buffer.before), buffer.before, buffer.came, int(self.env.now))
        buffer.before, buffer.batch = {}, buffer.batch + 1
        self._begin(job)

    # --- jobs --------------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        stage = self.stages[job.stage]
        self.jobs.append(job)
        if stage.drop == "latest":
            newer = {(item.source, item.unit) for item in job.items}
            for old in self.replaceable[job.stage]:
                self._outdate(old, newer)
            self.replaceable[job.stage] = [*(old for old in self.replaceable[job.stage] if not old.dropped), job]
        self._after(stage.pre, partial(self._queue, job))

    def _outdate(self, old: Job, newer: set[tuple[int, int]]) -> None:
        """A job that waits, while items of these sources come: a batch that was gathered here becomes smaller, any
        other stays as it is until all of it is outdated."""
        old.stale |= newer
        kept = tuple(item for item in old.items if (item.source, item.unit) not in old.stale)
        if not kept or self.stages[old.stage].gather > 1:
            for item in old.items:
                item.dropped = item.dropped or item not in kept
            old.items, old.dropped = kept, not kept

    def _queue(self, job: Job) -> None:
        if job.dropped:
            return
        job.queued = int(self.env.now)
        stage = self.stages[job.stage]
        chip = self.chips[stage.chip]
        heappush(chip.waiting, (-stage.priority, self._order, 0, job))
        self._order += 1
        if chip.wake is not None:
            chip.wake.succeed()
            chip.wake = None

    def _start(self, job: Job) -> None:
        """Work on a job begins: from now on no item of it is thrown away."""
        stage = self.stages[job.stage]
        job.started = int(self.env.now)
        if stage.drop == "latest":
            self.replaceable[job.stage].remove(job)
        found = self.timing(job.stage, len(job.items) if stage.gather > 1 else 1)
        job.pieces, job.hand, job.joules = found.times, found.first, found.joules

    def _work(self, chip: _Chip) -> Process:
        while True:
            if not chip.waiting:
                chip.wake = self.env.event()
                yield chip.wake
            # whoever comes at this very moment is chosen among, too
            yield self._last_of_all()
            rank, order, done, job = heappop(chip.waiting)
            if job.dropped:
                continue
            if not done:
                self._start(job)
            begun, piece = int(self.env.now), job.pieces[done]
            yield self.env.timeout(piece)
            chip.busy += piece
            if job.spans and job.spans[-1][1] == begun:
                begun = job.spans.pop()[0]
            job.spans.append((begun, int(self.env.now)))
            done += 1
            job.worked += piece if done <= job.hand else 0
            if done < len(job.pieces):
                heappush(chip.waiting, (rank, order, done, job))
            else:
                job.ended = int(self.env.now)
            if done == job.hand:
                self._after(self.stages[job.stage].post, partial(self._hand_on, job))

    def _hand_on(self, job: Job) -> None:
        job.first = int(self.env.now)
        for at in self.next[job.stage]:
            self._after(self.moves[job.stage, at], partial(self._enter, at, job.items, job))
        if self.next[job.stage]:
            return
        for item in job.items:
            item.left -= 1
            if not item.left and not item.dropped:
                item.ended, item.last = int(self.env.now), job

    # --- time --------------------------------------------------------------------------------

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """Make a call so many seconds from now."""
        if delay := ticks(seconds):
            self.env.process(self._wait(delay, call))
        else:
            call()

    def _wait(self, delay: int, call: Callable[[], None]) -> Process:
        yield self.env.timeout(delay)
        call()

    def _last_of_all(self) -> simpy.Event:
        """Now, but after everything else that happens now."""
        event = simpy.Event(self.env)
        event._ok, event._value = True, None
        self.env.schedule(event, EventPriority(_LAST))
        return event


def arrivals(source: StreamSource, number: int, duration: float, seed: int) -> Iterator[list[int]]:
    """When items of each of the sources that are alike come, before `duration` [tick]."""
    seeds = np.random.SeedSequence(seed, spawn_key=(_ARRIVALS, number)).spawn(source.count)
    for unit, own in enumerate(seeds):
        generator, every = np.random.default_rng(own), source.every
        times: Floats
        if source.process == "poisson":
            times = _poisson(generator, every, duration)
        else:
            shift = {"together": 0.0, "even": unit / source.count, "random": generator.random()}[source.phases]
            times = shift * every + every * np.arange(math.ceil(duration / every - shift), dtype=np.float64)
        if source.jitter:
            times = times + source.jitter * generator.random(len(times))
        yield sorted(ticks(time) for time in times.tolist() if time < duration)


def _poisson(generator: np.random.Generator, every: float, duration: float) -> Floats:
    found, last = [], 0.0
    while last < duration:
        last += generator.exponential(every)
        found.append(last)
    return np.array(found)
