"""A replica: it forms batches, carries out their steps, and says what has come of its requests.

With a pipeline there are as many batches as stages, and each goes from stage to stage behind the
others. A batch whose sequences all decode goes on by many steps at once: nothing changes but what
they see, and the times of those steps are known beforehand. Whatever comes in between cuts the
stretch at the end of the step that is under way, so the times are those of single steps.
"""

from collections.abc import Sequence
from typing import Protocol

import simpy
from simpy.events import EventPriority

from scaleout.engine.clock import Alarm, Clock
from scaleout.serving.batch import Batch, steps_ahead
from scaleout.serving.batching import PLANS, Limits
from scaleout.serving.blocks import Blocks
from scaleout.serving.host import Copy, HostMemory
from scaleout.serving.lane import Lane, Rank
from scaleout.serving.live import Live
from scaleout.serving.log import Log
from scaleout.serving.prefix import PrefixBlocks
from scaleout.serving.queue import Queue
from scaleout.serving.request import Request
from scaleout.serving.speculation import lane_of
from scaleout.serving.work import IDLE, StepTimer
from scaleout.specs import Policy, ServingExperiment

__all__ = ["Replica", "Told"]

_LAST = EventPriority(2)
"""After everything else of the instant: all who come at one time are there when a batch is formed."""

_CUT: tuple[Policy, ...] = ("chunked", "whole", "prefill-first")
"""Policies under which a new request may change the next step."""


class Told(Protocol):
    """Who hears of a replica's requests."""

    def ended(self, request: Request) -> None:
        """A request is over."""

    def prefilling(self, request: Request, ticks: int) -> None:
        """The last step of a prompt begins, and takes so long [tick]."""

    def prefilled(self, request: Request) -> bool:
        """A prompt is through and its first token there; true where another replica goes on with it."""

    def fetch(self, request: Request) -> None:
        """There is room for a cache that another replica holds."""


class Replica:
    """One replica of a pool.

    Parameters
    ----------
    env
        Simulated time.
    number
        Of the replica, over all pools.
    spec
        What decides how batches are formed.
    shape
        Pipeline stages and attention ranks.
    blocks
        Of the KV cache on each attention rank.
    timer
        Times of steps.
    hosted
        Blocks that the host has room for, for each attention rank, and what carries them there and back.
    live
        Runs steps on the network while others are on the replica's links; with a pipeline steps never run there.
    closed
        False makes an event of every step; the times are the same.
    """

    def __init__(
        self,
        env: Clock,
        number: int,
        spec: ServingExperiment,
        shape: tuple[int, int],
        blocks: int,
        timer: StepTimer,
        log: Log,
        told: Told,
        *,
        closed: bool = True,
        hosted: tuple[int, Sequence[Copy]] | None = None,
        live: Live | None = None,
    ) -> None:
        stages, ranks = shape
        self.env, self.number, self.timer, self.log, self.told = env, number, timer, log, told
        self.load = 0
        """Tokens of all its requests."""
        self._plan, self._cut = PLANS[spec.policy], spec.policy in _CUT
        self._closed = closed and stages == 1 and spec.speculation is None
        self._most = spec.max_sequences
        self._tokens = spec.max_batched_tokens
        self._forced = spec.scheduler.preempt_for == "waiting" and self._cut
        hosts: Sequence[HostMemory | None] = [None] * ranks
        if hosted is not None:
            hosts = [HostMemory(hosted[0], copy, self.arrived, log.host) for copy in hosted[1]]
        kind, swap = PrefixBlocks if spec.cache.prefix else Blocks, spec.scheduler.preemption == "swap"
        self.ranks = [
            Rank(
                Queue(spec.scheduler.order), kind(blocks, spec.engine.block, host), spec.max_sequences, told.fetch,
                swap=swap,
            )
            for host in hosts
        ]  # fmt: skip
        self._leaving: list[tuple[int, Request, int]] = []
        """Those whose cache another replica has, their rank and tokens; blocks are given back between two steps."""
        together = spec.policy == "static"
        self._batches = [
            Batch([lane_of(spec.speculation, rank, log, together=together) for rank in self.ranks])
            for _ in range(stages)
        ]
        self._free_at = [0] * stages
        """When each stage has done all that was sent to it [tick]."""
        self._live = live if stages == 1 else None
        if self._live is not None:
            self._live.watch(number, self._disturbed)
        self._due = self._lost = False
        self._rank_load = [0] * ranks
        self._rank_of: dict[int, int] = {}

    # --- requests ----------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Requests without a seat."""
        return sum(len(rank.queue) for rank in self.ranks)

    @property
    def running(self) -> int:
        """Requests with one."""
        return sum(len(lane.running) for batch in self._batches for lane in batch.lanes)

    @property
    def requests(self) -> int:
        """Requests in it, those whose cache another has yet to take included."""
        return len(self._rank_of)

    def rank_of(self, request: Request) -> int:
        """The attention rank that a request is on."""
        return self._rank_of[request.number]

    def submit(self, request: Request) -> None:
        """A request comes."""
        if self._leaving and len(self._batches) > 1:
            # it may be one that was here before, and get a seat while another batch is under way
            self._give_back()
        request.replica = self.number
        tokens = request.inputs + request.outputs
        self.load += tokens
        at = min(range(len(self.ranks)), key=self._rank_load.__getitem__)
        self._rank_load[at] += tokens
        self._rank_of[request.number] = at
        self.ranks[at].queue.push(request)
        self._wake(at)

    def arrived(self, request: Request) -> None:
        """The cache of a request has come, from another replica or the host; it goes on with the next step."""
        for batch in self._batches:
            if any(lane.arrive(request) for lane in batch.lanes) and batch.ahead:
                self._cut_short(batch)
        self._begin_later()

    def fetched(self, request: Request) -> None:
        """Another replica has the cache of a request."""
        # where it is now it may be sent away, and have more to bring before the blocks are given back here
        self._leaving.append((self._rank_of[request.number], request, request.target))
        self._gone(request)
        for batch in self._batches:
            if batch.ahead:
                self._cut_short(batch)
        if not any(batch.stretch for batch in self._batches):
            self._give_back()

    def _give_back(self) -> None:
        """Blocks of those who are at another replica are free again."""
        leaving, self._leaving = self._leaving, []
        for at, request, tokens in leaving:
            self.ranks[at].blocks.release(request, tokens)
            self._wake(at)

    def drop(self, request: Request) -> None:
        """A request does not go on here: the replica is lost that had its cache, or that was to take it from here."""
        for batch in self._batches:
            if batch.ahead:
                self._catch_up(batch)
        at = self._rank_of[request.number]
        rank = self.ranks[at]
        lane = next((one for batch in self._batches if request.number in (one := batch.lanes[at]).arriving), None)
        if lane is not None:
            del lane.arriving[request.number]
            lane.give_up(request, request.target)
        elif not rank.queue.remove(request):
            rank.blocks.release(request, request.target)
        self._gone(request)
        self._wake(at)

    def lose(self) -> list[Request]:
        """Everything is lost. Those who waited here or had a seat; they have the tokens of all steps that are over."""
        self._lost = True
        found = []
        for batch in self._batches:
            if batch.ahead:
                self._catch_up(batch)
            if batch.stretch:
                # nothing comes of the step under way
                self.log.busy[self.number] += self.env.now - batch.start
                batch.stretch = []
            if batch.alarm:
                batch.alarm.cancel()
            for lane in batch.lanes:
                found += lane.lose()
        for rank in self.ranks:
            found += rank.queue.drain()
        self.log.courses[self.number].note(self.env.now, 0, 0, 0)
        return found

    def _wake(self, at: int) -> None:
        """Batches that do nothing begin; where who waits first may get a seat, stretches are cut."""
        self._begin_later()
        for batch in self._batches:
            # a rank without replies lets prompts in while others go on
            if batch.ahead and (self._cut or not batch.lanes[at].decodes):
                rank, request = self.ranks[at], self.ranks[at].queue.first()
                if request is not None and (
                    (rank.seats and rank.blocks.fits(request)) or self._yields(batch.lanes[at], request)
                ):
                    self._cut_short(batch)

    def _yields(self, lane: Lane, request: Request) -> bool:
        """Whether somebody loses a seat to one that waits."""
        victim = lane.victim() if self._forced else None
        return victim is not None and victim.priority < request.priority

    def _gone(self, request: Request) -> None:
        """It is not here any more."""
        tokens = request.inputs + request.outputs
        self.load -= tokens
        self._rank_load[self._rank_of.pop(request.number)] -= tokens

    # --- steps -------------------------------------------------------------------------------------

    def _begin_later(self) -> None:
        if not self._due and not self._lost:
            self._due = True
            Alarm(self.env, 0, [self._begin_all], _LAST)

    def _begin_all(self, _: simpy.Event) -> None:
        self._due = False
        for batch in self._batches:
            if not batch.stretch:
                self._begin(batch)

    def _begin(self, batch: Batch) -> None:
        """Form the next step, or the next stretch of steps that only decode."""
        now, lanes = self.env.now, batch.lanes
        limits = Limits(self._tokens, self._share())
        for lane in lanes:
            for request in lane.ready:
                lane.join(request, request.joined)
            lane.ready.clear()
            self._make_room(lane)
            self._make_way(lane, limits)
            self._plan(lane, limits, now)
            if lane.decoding_now:
                lane.reserve()
        works = tuple(lane.work() for lane in lanes)
        if all(work is IDLE for work in works):
            self._note(now)
            return
        self.log.events += 1
        self._note(now)
        batch.start, batch.works = now, works
        if self._live is not None and self._live.busy(self.number):
            # how long it takes is known in the end
            batch.stretch = [(1, 0)]
            self._live.carry_out(self.number, works, lambda: self._carried_out(batch, now))
            return
        if self._closed and not any(lane.chunks or lane.full or self._pressed(lane) for lane in lanes):
            batch.stretch = steps_ahead(lanes, self.timer)
            end = now + sum(count * ticks for count, ticks in batch.stretch)
        else:
            end = self._send(self.timer.stages(works))
            batch.stretch = [(1, end - now)]
            for lane in lanes:
                for request, chunk in lane.chunks:
                    if request.prefilled + chunk == request.target:
                        self.told.prefilling(request, end - now)
        batch.alarm = Alarm(self.env, end - now, [lambda _: self._ended(batch)])

    def _carried_out(self, batch: Batch, start: int) -> None:
        """A step on the network is over; unless the replica was lost meanwhile."""
        if batch.stretch and batch.start == start:
            batch.stretch = [(1, self.env.now - start)]
            self._ended(batch)

    def _disturbed(self) -> None:
        """Others have come onto the links: the times of steps to come are not known any more."""
        for batch in self._batches:
            if batch.ahead:
                self._cut_short(batch)

    def _pressed(self, lane: Lane) -> bool:
        """Whether one that waits may take somebody's seat before the next step, when room has become less."""
        first = lane.rank.queue.first() if self._forced else None
        return first is not None and self._yields(lane, first)

    def _share(self) -> int:
        """Sequences of one attention rank that a batch may hold: with a pipeline, its part of all."""
        if len(self._batches) == 1:
            return self._most
        there = max(len(rank.queue) + self._most - rank.seats for rank in self.ranks)
        return -(-min(self._most, there) // len(self._batches))

    def _make_room(self, lane: Lane) -> None:
        """Take seats away until every reply has a block for its next token."""
        lane.full = False
        while lane.decodes and lane.room() < 1:
            victim = lane.victim()
            if victim is None:
                return
            lane.rank.queue.push_back(lane.preempt(victim))
            lane.full = True
        if lane.full and lane.together:
            # they wait for nobody any more
            done = lane.ended()
            for request in done:
                self._finish(request, self.env.now)
            lane.full = not done

    def _make_way(self, lane: Lane, limits: Limits) -> None:
        """Take seats away from lower priorities for one that waits, until it has a seat and room."""
        rank = lane.rank
        while self._forced and not lane.full:
            first, victim = rank.queue.first(), lane.victim()
            if first is None or victim is None or victim.priority >= first.priority:
                return
            if rank.seats and len(lane.running) < limits.sequences and rank.blocks.fits(first, lane.growth()):
                return
            rank.queue.push_back(lane.preempt(victim))

    def _send(self, stages: tuple[int, ...]) -> int:
        """Send a step through the stages, behind all others; when it is through [tick]."""
        at, free = self.env.now, self._free_at
        for stage, ticks in enumerate(stages):
            at = max(at, free[stage]) + ticks
            free[stage] = at
        return at

    def _cut_short(self, batch: Batch) -> None:
        """End a stretch with the step that is under way."""
        self._end_at(batch, batch.start, batch.begun(self.env.now))

    def _ended(self, batch: Batch) -> None:
        """Steps are over: tokens are there, sequences come and go, and the next step begins."""
        now = self.env.now
        stretch, batch.stretch, at = batch.stretch, [], batch.start
        for count, ticks in stretch:
            at += count * ticks
            self._pass(batch, count, ticks, at)
        for lane in batch.lanes:
            for request, chunk in lane.chunks:
                request.prefilled += chunk
                if request.prefilled == request.target:
                    lane.prompts.remove(request)
                    self._first_token(lane, request, now)
            lane.chunks.clear()
            for request in lane.ended() if lane.decodes or lane.together else ():
                self._finish(request, now)
        if self._leaving:
            self._give_back()
        self._begin_later()

    def _pass(self, batch: Batch, count: int, ticks: int, end: int) -> None:
        """So many steps of so many ticks each are over; the last of them at a time [tick]."""
        log, number = self.log, self.number
        log.steps[number] += count
        log.busy[number] += count * ticks
        log.tallies[number].note(batch.works, [lane.context() for lane in batch.lanes], count, ticks, end)
        for lane in batch.lanes:
            if lane.decoding_now:
                log.decoded[number] += count * lane.decodes
                lane.advance(count, ticks, end)

    def _catch_up(self, batch: Batch) -> None:
        """Steps of a stretch that are over count now; the one under way is the last of it."""
        now, at = self.env.now, batch.start
        for count, ticks in batch.stretch:
            # none of a step whose length is not known yet
            done = min(count, (now - at) // ticks) if ticks else 0
            if done:
                at += done * ticks
                self._pass(batch, done, ticks, at)
            if done < count:
                for lane in batch.lanes if at > batch.start else ():
                    lane.reserve()
                self._end_at(batch, at, [(1, ticks)])
                return

    def _end_at(self, batch: Batch, start: int, stretch: list[tuple[int, int]]) -> None:
        """Steps began at a time [tick] and take so long."""
        if batch.alarm:
            batch.alarm.cancel()
        batch.start, batch.stretch = start, stretch
        end = start + sum(count * ticks for count, ticks in stretch)
        batch.alarm = Alarm(self.env, end - self.env.now, [lambda _: self._ended(batch)])

    def _first_token(self, lane: Lane, request: Request, now: int) -> None:
        """A prompt is through, and with it a token of its reply is there."""
        if request.first < 0:
            request.first = now
        else:
            self.log.gaps[now - request.joined] += 1
        request.reply += 1
        request.joined = now
        if request.reply == request.outputs:
            lane.give_up(request, request.target)
            self._finish(request, now)
        elif self.told.prefilled(request):
            lane.let_go(request)
        else:
            lane.join(request, now)

    def _finish(self, request: Request, now: int) -> None:
        request.state, request.finish = "served", now
        self._gone(request)
        self.log.write(request)
        self.told.ended(request)

    def _note(self, now: int) -> None:
        """Write down what the replica looks like."""
        used = sum(rank.blocks.total - rank.blocks.free for rank in self.ranks)
        self.log.courses[self.number].note(now, self.running, self.waiting, used)
