"""The cluster: requests come, a router sends them to replicas, and each ends in one way."""

from collections.abc import Callable, Sequence
from functools import partial

import simpy

from scaleout.engine.clock import Alarm, Clock
from scaleout.errors import WorkloadError
from scaleout.serving.arrivals import Source
from scaleout.serving.failures import Outage, outages, schedule
from scaleout.serving.host import Copy
from scaleout.serving.live import Live
from scaleout.serving.log import Log
from scaleout.serving.replica import Replica
from scaleout.serving.request import Request, State
from scaleout.serving.router import Router
from scaleout.serving.swap import HostLink, HostShare
from scaleout.serving.transfer import Carrier
from scaleout.serving.work import StepTimer
from scaleout.specs import Pool, ServingExperiment

__all__ = ["Cluster"]


class _Handover:
    """A request that one replica has prefilled and another is to go on with."""

    __slots__ = ("ahead", "request", "source", "target", "through")

    def __init__(self, request: Request, source: Replica) -> None:
        self.request, self.source = request, source
        self.target: Replica | None = None
        self.ahead: bool | None = None
        """Whether a cache that leaves while it is computed has arrived; None for one that leaves after that."""
        self.through: Callable[[], None] | None = None
        """What is to be done when it has."""


class Cluster:
    """Replicas of an experiment, and the requests on their way to and through them.

    Parameters
    ----------
    timers, blocks
        Of each pool: times of steps, and blocks of the KV cache on an attention rank.
    env
        Simulated time; None for one of its own.
    carrier
        Carries caches from replica to replica; None where none has to, or in no time.
    over
        Called when the last request has ended.
    hosts
        Of each pool: what the host holds for an attention rank.
    copies
        Carries blocks between a replica's attention rank and its host, given their numbers; None: over links that
        are used for nothing else.
    live
        Runs steps on the network while others are on a replica's links; None where nobody ever is.
    closed
        False makes an event of every step; the times are the same.
    """

    def __init__(
        self,
        spec: ServingExperiment,
        source: Source,
        timers: list[StepTimer],
        blocks: list[int],
        *,
        env: Clock | None = None,
        carrier: Carrier | None = None,
        over: Callable[[], None] | None = None,
        closed: bool = True,
        hosts: Sequence[HostShare | None] | None = None,
        copies: Callable[[int, int], Copy] | None = None,
        live: Live | None = None,
    ) -> None:
        self.spec, self.env, self.source, self.carrier = spec, env or Clock(), source, carrier
        self.log = Log(sum(pool.replicas for pool in spec.pools))
        self.replicas: list[Replica] = []
        self._longest = min(spec.max_length, min(blocks) * spec.engine.block)
        self._makes: list[Callable[[], Replica]] = []
        """Of each replica: makes it, without a request."""
        self._decodes: set[int] = set()
        """Numbers of those that go on with what others have prefilled."""
        for at, (pool, timer, room) in enumerate(zip(spec.pools, timers, blocks, strict=True)):
            share = hosts[at] if hosts else None
            for number in range(len(self._makes), len(self._makes) + pool.replicas):
                make = partial(self._make, number, pool, timer, room, share, copies, live, closed=closed)
                self._makes.append(make)
                self.replicas.append(make())
                if pool.role == "decode":
                    self._decodes.add(number)
        self.router = Router(spec.router, [one for one in self.replicas if one.number not in self._decodes])
        then = [self.replicas[number] for number in sorted(self._decodes)]
        self._onward = Router(spec.router, then, onward=True) if then else None
        self._coming = iter(source)
        self._over, self._all_came = over, False
        self._moving: dict[int, _Handover] = {}
        """Of requests that one replica holds the cache of, and another is to go on with."""
        self._early: dict[int, _Handover] = {}
        """Of those whose cache leaves already while the last of it is computed."""
        self._homeless: list[Request] = []
        """Requests that wait for a replica to be back."""
        self._back = {True: 0, False: 0}
        """Lost replicas that will be back, of those that go on (True) and the others."""
        self.seen = 0
        """Requests that have come, or will after a reply."""
        schedule(self.env, outages(spec.failures), self._lose, self._recover)

    def _make(
        self,
        number: int,
        pool: Pool,
        timer: StepTimer,
        room: int,
        share: HostShare | None,
        copies: Callable[[int, int], Copy] | None,
        live: Live | None,
        *,
        closed: bool,
    ) -> Replica:
        """A replica without a request."""
        hosted = None
        if share is not None:
            ranks = range(pool.dp)
            ways = [copies(number, rank) if copies else HostLink(self.env, share).copy for rank in ranks]
            hosted = share.blocks, ways
        return Replica(
            self.env, number, self.spec, (pool.pp, pool.dp), room, timer, self.log, self,
            closed=closed, hosted=hosted, live=live,
        )  # fmt: skip

    def run(self) -> Log:
        """Simulate until every request has ended.

        Raises
        ------
        WorkloadError
            A request is longer than what the model or the KV cache has room for.
        """
        self._next()
        self.env.run_down()
        if len(self.log) != self.seen:
            raise WorkloadError(f"{self.seen - len(self.log)} of {self.seen} requests wait for ever")
        return self.log

    # --- arrivals ------------------------------------------------------------------------------------

    def _next(self) -> None:
        """Wait for the next request of the open stream."""
        request = next(self._coming, None)
        if request is not None:
            Alarm(self.env, request.arrival - self.env.now, [lambda _: self._come(request)])
        else:
            self._all_came = True
            self._check_over()

    def _come(self, request: Request) -> None:
        self.seen += 1
        self._route(request)
        self._next()

    def _check_over(self) -> None:
        """Say so when nobody is left and nobody comes."""
        if self._over is not None and self._all_came and len(self.log) == self.seen:
            self._over()

    def _route(self, request: Request) -> None:
        """A request is here."""
        if request.inputs + request.outputs > self._longest:
            raise WorkloadError(self._too_long(request))
        if self._hopeless(False) or (self._onward is not None and self._hopeless(True)):
            self._refuse(request, "failed")
        elif self.router.empty:
            self._homeless.append(request)
        elif (replica := self.router.pick(request)) is None:
            self._refuse(request, "rejected")
        else:
            self._submit(replica, request)

    def _submit(self, replica: Replica, request: Request) -> None:
        replica.submit(request)
        self._changed(replica)

    def _changed(self, replica: Replica) -> None:
        """A replica has more or less to do."""
        self._router(replica.number in self._decodes).changed(replica)

    def _router(self, onward: bool) -> Router:
        """Of those that go on with what others have prefilled, or of the others."""
        return self._onward if onward and self._onward is not None else self.router

    def _hopeless(self, onward: bool) -> bool:
        """Whether all replicas are lost, and none will be back."""
        return self._router(onward).empty and not self._back[onward]

    def _too_long(self, request: Request) -> str:
        """Why a request cannot be served."""
        spec = self.spec
        words = f"request {request.number}: {request.inputs:,} tokens in and {request.outputs:,} out are more than the "
        if request.inputs + request.outputs > spec.max_length:
            return words + f"{spec.max_length:,} that {spec.model.name} is served with (scheduler.max_length)"
        return words + f"{self._longest:,} tokens that the KV cache of an attention rank has room for"

    # --- what replicas tell --------------------------------------------------------------------------

    def ended(self, request: Request) -> None:
        """A request was served."""
        self._changed(self.replicas[request.replica])
        self._again(request)

    def prefilling(self, request: Request, ticks: int) -> None:
        """The last step of a prompt begins; its cache may leave as it is computed."""
        pieces, number = self.spec.cache.pieces, request.number
        if pieces == 1 or self.carrier is None or self._onward is None or request.replica in self._decodes:
            return
        if request.reply + 1 == request.outputs or (target := self._onward.pick(request)) is None:
            return
        self._early[number] = move = _Handover(request, self.replicas[request.replica])
        move.target, move.ahead = target, False
        # it waits in the target's buffers for a seat there; with several attention ranks in those of the first
        here, there = (request.replica, move.source.rank_of(request)), (target.number, 0)
        done = partial(self._is_ahead, move)
        self.carrier.carry(number, here, there, request.target, done, over=ticks, pieces=pieces)

    def _is_ahead(self, move: _Handover) -> None:
        move.ahead = True
        if move.through is not None:
            move.through()

    def prefilled(self, request: Request) -> bool:
        """A prompt is through; where there are replicas that decode, one of them goes on."""
        if self._onward is None or request.replica in self._decodes:
            return False
        move = self._early.pop(request.number, None) or _Handover(request, self.replicas[request.replica])
        self._moving[request.number] = move
        # in the instant, but not before this replica has finished its step
        Alarm(self.env, 0, [lambda _: self._hand_on(move)])
        return True

    def _hand_on(self, move: _Handover) -> None:
        """Choose who goes on with a request; while all are lost it waits where it is."""
        target = move.target or self._router(True).pick(move.request)
        if target is not None:
            move.target = target
            self._submit(target, move.request)
        elif self._hopeless(True):
            self._let_go(move)
            self._refuse(move.request, "failed")

    def _let_go(self, move: _Handover) -> None:
        """The replica that has prefilled a request is rid of it."""
        del self._moving[move.request.number]
        move.source.fetched(move.request)
        self._changed(move.source)

    def fetch(self, request: Request) -> None:
        """A replica that decodes has room for a cache: it is brought there."""
        move = self._moving[request.number]
        source, target = move.source, move.target
        assert target is not None  # noqa: S101  (it asks)

        def through() -> None:
            # unless one of both was lost meanwhile
            if self._moving.get(request.number) is move:
                self._let_go(move)
                target.arrived(request)

        if move.ahead is False:
            move.through = through
            return
        if self.carrier is None or move.ahead:
            Alarm(self.env, 0, [lambda _: through()])
            return
        here, there = ((replica.number, replica.rank_of(request)) for replica in (source, target))
        self.carrier.carry(request.number, here, there, request.target, through)

    # --- losses --------------------------------------------------------------------------------------

    def _lose(self, outage: Outage) -> None:
        """A replica is lost, with everything in it and whatever it was to send or get."""
        number, onward = outage.replica, outage.replica in self._decodes
        old, self.replicas[number] = self.replicas[number], self._makes[number]()
        self._router(onward).lose(number)
        self._back[onward] += outage.until is not None
        found = {request.number: request for request in old.lose()}
        for move in list(self._early.values()):
            if move.source is old:
                del self._early[move.request.number]
            elif move.target is old:
                # what was sent is lost; all of it goes to another when it is there
                self._early[move.request.number] = _Handover(move.request, move.source)
        for move in list(self._moving.values()):
            request = move.request
            if move.source is old:
                del self._moving[request.number]
                found[request.number] = request
                if move.target is not None:
                    move.target.drop(request)
                    self._changed(move.target)
            elif move.target is old:
                del self._moving[request.number]
                move.source.drop(request)
                self._changed(move.source)
        for request in (found[at] for at in sorted(found)):
            if request.reply == request.outputs:
                # it has all its tokens, and waited for others of its batch
                request.state, request.finish = "served", self.env.now
                self.log.write(request)
                self._again(request)
            elif outage.retried:
                self.log.retries += 1
                request.restart()
                self._route(request)
            else:
                self._refuse(request, "failed")

    def _recover(self, number: int) -> None:
        """A replica is back, and empty."""
        onward = number in self._decodes
        self._back[onward] -= 1
        self._router(onward).recover(self.replicas[number])
        waiting, self._homeless = self._homeless, []
        for request in waiting:
            self._route(request)
        for move in list(self._moving.values()):
            if move.target is None:
                self._hand_on(move)

    # --- ends ----------------------------------------------------------------------------------------

    def _refuse(self, request: Request, state: State) -> None:
        """A request ends without its reply."""
        request.state, request.finish = state, self.env.now
        self.log.write(request)
        self._again(request)

    def _again(self, request: Request) -> None:
        """Whoever sent it may send another."""
        for after in self.source.after(request, self.env.now):
            self.seen += 1
            Alarm(self.env, after.arrival - self.env.now, [partial(self._sent, after)])
        self._check_over()

    def _sent(self, request: Request, _: simpy.Event) -> None:
        self._route(request)
