"""The facade of serving: an experiment in, a frozen result out."""

from collections.abc import Iterable

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine import Repeated, SharedNetwork
from scaleout.engine.clock import Clock
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import SpecError
from scaleout.evaluate.beside import first_chip, links_among, shared_machine, training_beside
from scaleout.served import Sensitivity, Served, Share, Spread, stability_of
from scaleout.serving.arrivals import requests
from scaleout.serving.cluster import Cluster
from scaleout.serving.log import Log
from scaleout.serving.places import Place
from scaleout.serving.request import STATES
from scaleout.serving.room import Room, room
from scaleout.serving.steps import PoolSteps
from scaleout.serving.swap import host_share
from scaleout.serving.transfer import Carrier
from scaleout.serving.work import StepTimer, Work
from scaleout.specs import ServingExperiment
from scaleout.specs.requests import TraceRow

__all__ = ["serve", "serve_log"]

_SECOND = 1.0 / TICKS_PER_SECOND
_SLOWER = 0.05
"""By how much steps are made longer to see what it does."""


def serve(experiment: ServingExperiment, rows: Iterable[TraceRow] | None = None) -> Served:
    """Simulate requests until all have ended.

    Parameters
    ----------
    rows
        Of the trace that the experiment names: `scaleout.io.requests.Trace`.

    Raises
    ------
    PlanError
        The model does not fit: the message says what does.
    SpecError
        The chip lacks constants, or the stream of requests is malformed.
    WorkloadError
        A request is longer than the model or the KV cache has room for.
    """
    return serve_log(experiment, rows)[0]


def serve_log(
    experiment: ServingExperiment, rows: Iterable[TraceRow] | None = None, *, closed: bool = True
) -> tuple[Served, Log]:
    """As `serve`, with what figures are drawn from.

    Parameters
    ----------
    closed
        False makes an event of every step; the times are the same.
    """
    if not isinstance(experiment, ServingExperiment):
        raise SpecError(f"{experiment!r:.80} is no serving experiment; make one with scaleout.serving_experiment()")
    rooms = [room(experiment, pool) for pool in experiment.pools]
    timers = _timers(experiment)
    log = _simulate(experiment, rows, timers, rooms, closed)
    served = _summarise(experiment, log, rooms, None)
    if served.stability != "stable":
        slower: list[StepTimer] = [_Slower(timer) for timer in timers]
        other = _summarise(experiment, _simulate(experiment, rows, slower, rooms, closed), rooms, None)
        sensitivity = Sensitivity(
            slower=_SLOWER, ttft_p99=other.ttft.p99, tpot_p99=other.tpot.p99, stability=other.stability
        )
        served = _summarise(experiment, log, rooms, sensitivity)
    return served, log


class _Slower:
    """Steps that take a little longer."""

    def __init__(self, timer: StepTimer) -> None:
        self._timer = timer

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return tuple(round(ticks * (1.0 + _SLOWER)) for ticks in self._timer.stages(works))


def _timers(experiment: ServingExperiment) -> list[StepTimer]:
    """Of each pool, for its first replica."""
    timers: list[StepTimer] = []
    start = 0
    for pool in experiment.pools:
        timers.append(PoolSteps(experiment, pool, start))
        start += pool.chips
    return timers


def _simulate(
    experiment: ServingExperiment,
    rows: Iterable[TraceRow] | None,
    timers: list[StepTimer],
    rooms: list[Room],
    closed: bool,
) -> Log:
    longest = min(experiment.max_length, *(one.tokens for one in rooms))
    source = requests(experiment.requests, rows, block=experiment.engine.block, longest=longest)
    env = Clock()
    carrier, job = _network(experiment, env)
    hosts = [host_share(experiment, pool, one) for pool, one in zip(experiment.pools, rooms, strict=True)]
    cluster = Cluster(
        experiment, source, timers, [one.blocks for one in rooms], env=env, carrier=carrier,
        over=job.stop if job else None, closed=closed, hosts=hosts,
    )  # fmt: skip
    if carrier is not None:
        carrier.note = lambda *row: cluster.log.transfers.append(row)
    if job is not None:
        job.start()
    return cluster.run()


def _network(experiment: ServingExperiment, env: Clock) -> tuple[Carrier | None, Repeated | None]:
    """What carries caches, and the training job beside, on one network; None where nothing is carried."""
    training = experiment.training
    if training is None and all(pool.role == "both" for pool in experiment.pools):
        return None, None
    chips = experiment.chips
    fabric = shared_machine(experiment.system, chips, training)
    network = SharedNetwork(env, fabric)
    job = None
    if training is not None:
        first = first_chip(experiment.system, chips)
        job = training_beside(env, network, training, first, links_among(fabric, chips))
    return Carrier(network, experiment.model, experiment.cache.dtype, _places(experiment)), job


def _places(experiment: ServingExperiment) -> list[Place]:
    """Where each replica stands: one after the other."""
    found, first = [], 0
    for pool in experiment.pools:
        for _ in range(pool.replicas):
            found.append(Place(first, pool.tp, pool.pp, pool.dp, pool.ep))
            first += pool.chips_each
    return found


def _summarise(experiment: ServingExperiment, log: Log, rooms: list[Room], sensitivity: Sensitivity | None) -> Served:
    state = np.frombuffer(log.state, dtype=np.int8)
    done = state == STATES.index("served")

    def column(name: str) -> Floats:
        found: Floats = np.asarray(getattr(log, name), dtype=np.int64)[done] * _SECOND
        return found

    arrival, first, finish, scheduled = (column(name) for name in ("arrival", "first", "finish", "scheduled"))
    inputs, outputs, cached = (np.asarray(getattr(log, name))[done] for name in ("inputs", "outputs", "cached"))
    ttft, latency, queue = first - arrival, finish - arrival, scheduled - arrival
    more = outputs > 1
    tpot = np.zeros(len(outputs))
    tpot[more] = (finish - first)[more] / (outputs[more] - 1)
    came: Floats = np.asarray(log.arrival, dtype=np.float64) * _SECOND
    ends: Floats = np.asarray(log.finish, dtype=np.float64) * _SECOND
    duration = log.end * _SECOND - float(came.min()) if len(came) else 0.0
    kept = _kept(experiment, ttft, tpot, latency)
    counts = {"came": len(state)}
    counts |= {name: int((state == at).sum()) for at, name in enumerate(STATES) if at > 1}
    stability = stability_of(came, ends, queue, Spread.of(latency).mean)
    rate = 1.0 / duration if duration else 0.0
    system = experiment.system
    carried = [end - start for start, end, _, _ in log.transfers]
    return Served(
        name=f"{experiment.model.name} on {experiment.chips:,} {system.chip.name} ({system.name})",
        experiment=_words(experiment),
        chips=experiment.chips,
        requests=counts,
        tokens={"input": int(inputs.sum()), "output": int(outputs.sum()), "cached": int(cached.sum())},
        duration=duration,
        ttft=Spread.of(ttft),
        tpot=Spread.of(tpot[more]),
        gap=Spread.counted(log.gaps, _SECOND),
        latency=Spread.of(latency),
        queue=Spread.of(queue),
        requests_per_second=int(done.sum()) * rate,
        output_tokens_per_second=int(outputs.sum()) * rate,
        tokens_per_second=int(inputs.sum() + outputs.sum()) * rate,
        attainment=None if kept is None or not len(state) else kept / len(state),
        goodput=None if kept is None else kept * rate,
        preemptions=sum(log.preempted),
        hit_rate=float(cached.sum() / inputs.sum()) if inputs.sum() else 0.0,
        stability=stability,
        sensitivity=sensitivity,
        error_band=0.1,
        replicas=_shares(experiment, log, rooms, duration),
        memory=tuple(
            {
                "weights": one.weights,
                "activations": one.activations,
                "graphs": one.graphs,
                "reserved": one.reserved,
                "cache": one.cache,
            }
            for one in rooms
        ),
        transfers={
            "count": len(carried),
            "bytes": float(sum(row[3] for row in log.transfers)),
            "mean_time": float(np.mean(carried)) * _SECOND if carried else 0.0,
        },
    )


def _kept(experiment: ServingExperiment, ttft: Floats, tpot: Floats, latency: Floats) -> int | None:
    """Requests that kept everything that is promised; None without a promise."""
    slo = experiment.slo
    given = [(limit, values) for limit, values in ((slo.ttft, ttft), (slo.tpot, tpot), (slo.latency, latency)) if limit]
    if not given:
        return None
    return int(np.logical_and.reduce([values <= limit for limit, values in given]).sum())


def _shares(experiment: ServingExperiment, log: Log, rooms: list[Room], duration: float) -> tuple[Share, ...]:
    ended = np.bincount(np.maximum(np.asarray(log.replica), 0), minlength=len(log.courses))
    found, number = [], 0
    for at, pool in enumerate(experiment.pools):
        for _ in range(pool.replicas):
            course, blocks = log.courses[number], rooms[at].blocks * pool.dp
            time = np.append(np.asarray(course.time, dtype=np.int64), max(log.end, *course.time[-1:], 0)) * _SECOND
            spans = np.diff(time)
            used, waiting = np.asarray(course.blocks, dtype=np.int64), np.asarray(course.waiting, dtype=np.int64)
            whole = float(spans.sum()) or 1.0
            found.append(
                Share(
                    pool=at,
                    role=pool.role,
                    requests=int(ended[number]),
                    steps=log.steps[number],
                    busy=log.busy[number] * _SECOND / duration if duration else 0.0,
                    batch=log.decoded[number] / log.steps[number] if log.steps[number] else 0.0,
                    blocks=blocks,
                    cache_mean=float((used * spans).sum()) / whole / blocks,
                    cache_peak=int(used.max(initial=0)) / blocks,
                    waiting_mean=float((waiting * spans).sum()) / whole,
                    waiting_peak=int(waiting.max(initial=0)),
                )
            )
            number += 1
    return tuple(found)


def _words(spec: ServingExperiment) -> dict[str, object]:
    return {
        "kind": spec.kind,
        "system": spec.system.name,
        "model": spec.model.name,
        "engine": spec.engine.name,
        "pools": [
            {
                **{name: getattr(pool, name) for name in ("role", "replicas", "tp", "pp", "dp", "ep")},
                "chip": (pool.chip or spec.system.chip).name,
            }
            for pool in spec.pools
        ],
        "precision": spec.precision,
        "cache": spec.cache.dtype,
        "policy": spec.policy,
        "max_sequences": spec.max_sequences,
        "max_batched_tokens": spec.max_batched_tokens,
        "arrivals": spec.requests.arrivals.process,
        "rate": spec.requests.arrivals.rate,
        "trace": spec.requests.trace,
        "settings": list(spec.settings),
    }
