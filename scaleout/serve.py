"""The facade of serving: an experiment in, a frozen result out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from scaleout.engine.clock import Clock
from scaleout.errors import SpecError
from scaleout.evaluate.promise import check_floor, floor_of
from scaleout.evaluate.serving import summarise
from scaleout.evaluate.serving_network import links_of, network_of
from scaleout.served import Links, Sensitivity, Served
from scaleout.serving.arrivals import Source, requests
from scaleout.serving.cluster import Cluster
from scaleout.serving.log import Log
from scaleout.serving.request import Request
from scaleout.serving.room import Room, room
from scaleout.serving.steps import PoolSteps
from scaleout.serving.swap import host_share
from scaleout.serving.work import StepTimer, Work
from scaleout.specs import ServingExperiment
from scaleout.specs.requests import TraceRow

__all__ = ["Prepared", "prepare", "serve", "serve_log"]

_SLOWER = 0.05
"""By how much steps are made longer to see what it does."""
_CROWDED = 3.0
"""Times that a token takes of what it takes alone, from which on replicas are near saturation."""
_OFTEN = 256
"""Requests between two signs of life."""

Told = Callable[[int], None]
"""Hears how many requests have ended."""
Heard = Callable[[Request], None]
"""Hears of each request that has ended; what it raises ends the simulation."""


class Prepared(NamedTuple):
    """What an experiment's runs have in common, whatever the rate: times of steps and room for the KV cache."""

    timers: list[PoolSteps]
    rooms: list[Room]


def prepare(experiment: ServingExperiment) -> Prepared:
    """Times of steps of each pool, and its room; `serve` with them knows the steps that it has seen before.

    Raises
    ------
    PlanError, SpecError
        As `serve`; or a promise that an empty system breaks, whatever the prompts.
    """
    if not isinstance(experiment, ServingExperiment):
        raise SpecError(f"{experiment!r:.80} is no serving experiment; make one with scaleout.serving_experiment()")
    rooms = [room(experiment, pool) for pool in experiment.pools]
    timers: list[PoolSteps] = []
    start = 0
    for pool in experiment.pools:
        # for its first replica
        timers.append(PoolSteps(experiment, pool, start))
        start += pool.chips
    check_floor(experiment, floor_of(experiment, timers, rooms, 1))
    return Prepared(timers, rooms)


def serve(experiment: ServingExperiment, rows: Iterable[TraceRow] | None = None) -> Served:
    """Simulate requests until all have ended.

    Parameters
    ----------
    rows
        Of the trace that the experiment names: `scaleout.io.requests.Trace`.

    Raises
    ------
    PlanError
        The model does not fit: the message says what does. Or nobody can keep what is promised.
    SpecError
        The chip lacks constants, or the stream of requests is malformed.
    WorkloadError
        A request is longer than the model or the KV cache has room for.
    """
    return serve_log(experiment, rows)[0]


def serve_log(
    experiment: ServingExperiment,
    rows: Iterable[TraceRow] | None = None,
    *,
    closed: bool = True,
    sensitivity: bool = True,
    told: Told | None = None,
    prepared: Prepared | None = None,
    heard: Heard | None = None,
) -> tuple[Served, Log]:
    """As `serve`, with what figures are drawn from.

    Parameters
    ----------
    closed
        False makes an event of every step; the times are the same.
    sensitivity
        Near saturation, simulate once more with slower steps.
    told
        Hears now and then how many requests have ended.
    prepared
        By `prepare`, of an experiment that differs in its requests alone.
    heard
        Hears of each request that has ended, and may end it all by an exception.
    """
    timers, rooms = prepared or prepare(experiment)
    log, links = _simulate(experiment, rows, timers, rooms, closed, told, heard)
    shortest = min(log.inputs, default=1)
    floor = floor_of(experiment, timers, rooms, shortest)
    served = summarise(experiment, log, timers, rooms, floor, links)
    if served.attainment == 0.0 and not served.hit_rate:
        check_floor(experiment, floor)
    if sensitivity and _saturated(served):
        slower = [_Slower(timer) for timer in timers]
        other, _ = _simulate(experiment, rows, slower, rooms, closed, told)
        moved = _moved(summarise(experiment, other, timers, rooms, floor))
        served = summarise(experiment, log, timers, rooms, floor, links, moved)
    return served, log


def _saturated(served: Served) -> bool:
    """Whether a small error of a step's time may have large effects."""
    if served.stability in ("stable", "offline"):
        return served.stability == "stable" and served.tpot.mean > _CROWDED * served.floor.tpot
    return True


def _moved(other: Served) -> Sensitivity:
    return Sensitivity(
        slower=_SLOWER, ttft_p99=other.ttft.p99, tpot_p99=other.tpot.p99, stability=other.stability
    )  # fmt: skip


class _Slower:
    """Steps that take a little longer."""

    def __init__(self, timer: StepTimer) -> None:
        self._timer = timer

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return tuple(round(ticks * (1.0 + _SLOWER)) for ticks in self._timer.stages(works))


class _Watched:
    """A source that says now and then how many of its requests have ended, and of each that it has."""

    def __init__(self, source: Source, told: Told | None, heard: Heard | None) -> None:
        self._source, self._told, self._heard, self._ended = source, told, heard, 0

    def __iter__(self) -> Iterator[Request]:
        return iter(self._source)

    def after(self, request: Request, now: int) -> Sequence[Request]:
        self._ended += 1
        if self._told is not None and self._ended % _OFTEN == 0:
            self._told(self._ended)
        if self._heard is not None:
            self._heard(request)
        return self._source.after(request, now)


def _simulate(
    experiment: ServingExperiment,
    rows: Iterable[TraceRow] | None,
    timers: Sequence[StepTimer],
    rooms: list[Room],
    closed: bool,
    told: Told | None,
    heard: Heard | None = None,
) -> tuple[Log, tuple[Links, ...]]:
    longest = min(experiment.max_length, *(one.tokens for one in rooms))
    source = requests(experiment.requests, rows, block=experiment.engine.block, longest=longest)
    watched = source if told is None and heard is None else _Watched(source, told, heard)
    env = Clock()
    carrier, live, job = network_of(experiment, env)
    hosts = [host_share(experiment, pool, one) for pool, one in zip(experiment.pools, rooms, strict=True)]
    cluster = Cluster(
        experiment, watched, list(timers), [one.blocks for one in rooms], env=env, carrier=carrier,
        over=job.stop if job else None, closed=closed, hosts=hosts, live=live,
    )  # fmt: skip
    if carrier is not None:
        carrier.note = cluster.log.carry
    if job is not None:
        job.start()
    log = cluster.run()
    span = log.end - min(log.arrival, default=0)
    return log, links_of(carrier.network, span) if carrier is not None else ()
