"""The cluster: requests come, a router sends them to replicas, and each ends in one way."""

from collections.abc import Callable, Sequence
from functools import partial

import simpy

from scaleout.engine.clock import Alarm, Clock
from scaleout.errors import WorkloadError
from scaleout.serving.arrivals import Source
from scaleout.serving.host import Copy
from scaleout.serving.live import Live
from scaleout.serving.log import Log
from scaleout.serving.replica import Replica
from scaleout.serving.request import Request
from scaleout.serving.router import Router
from scaleout.serving.swap import HostLink, HostShare
from scaleout.serving.transfer import Carrier
from scaleout.serving.work import StepTimer
from scaleout.specs import ServingExperiment

__all__ = ["Cluster"]


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
        self._first: list[Replica] = []
        self._then: list[Replica] = []
        self._longest = min(spec.max_length, min(blocks) * spec.engine.block)
        for at, (pool, timer, room) in enumerate(zip(spec.pools, timers, blocks, strict=True)):
            share = hosts[at] if hosts else None
            for number in range(len(self.replicas), len(self.replicas) + pool.replicas):
                hosted = None
                if share is not None:
                    own = [HostLink(self.env, share).copy for _ in range(pool.dp)]
                    hosted = share.blocks, [copies(number, rank) for rank in range(pool.dp)] if copies else own
                replica = Replica(
                    self.env, number, spec, (pool.pp, pool.dp), room, timer, self.log, self,
                    closed=closed, hosted=hosted, live=live,
                )  # fmt: skip
                self.replicas.append(replica)
                (self._then if pool.role == "decode" else self._first).append(replica)
        self.router = Router(spec.router, self._first)
        self._onward = Router(spec.router, self._then) if self._then else None
        self._coming = iter(source)
        self._over, self._all_came = over, False
        self._handed: dict[int, int] = {}
        """Requests that wait for another replica to take their cache -> the replica that holds it."""
        self.seen = 0
        """Requests that have come, or will after a reply."""

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
        replica = self.router.pick(request)
        if replica is None:
            request.state, request.finish = "rejected", self.env.now
            self._refuse(request)
        else:
            replica.submit(request)

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
        self._again(request)

    def prefilled(self, request: Request) -> bool:
        """A prompt is through; where there are replicas that decode, one of them goes on."""
        if self._onward is None or self.replicas[request.replica] in self._then:
            return False
        replica = self._onward.pick(request)
        if replica is None:
            return False
        self._handed[request.number] = request.replica
        # in the instant, but not before this replica has finished its step
        Alarm(self.env, 0, [lambda _: replica.submit(request)])
        return True

    def fetch(self, request: Request) -> None:
        """A replica that decodes has room for a cache."""
        source = self.replicas[self._handed.pop(request.number)]
        self._carry(source, self.replicas[request.replica], request)

    def _carry(self, source: Replica, target: Replica, request: Request) -> None:
        """Bring a cache from one replica to another."""

        def through() -> None:
            source.fetched(request)
            target.arrived(request)

        if self.carrier is None:
            Alarm(self.env, 0, [lambda _: through()])
            return
        here, there = ((replica.number, replica.rank_of(request)) for replica in (source, target))
        self.carrier.carry(request.number, here, there, request.target, through)

    def _refuse(self, request: Request) -> None:
        """A request ended without a reply."""
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
