"""From what the simulation of requests wrote down to a result."""

import math
from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.cost import cost_assumptions, cost_of
from scaleout.evaluate.course import course_of, level_of
from scaleout.evaluate.serving_assumptions import serving_assumptions
from scaleout.evaluate.serving_energy import served_energy
from scaleout.evaluate.serving_steps import Typical, errors_of, parts_of
from scaleout.evaluate.stability import stability_of, too_short
from scaleout.served import Floor, Links, Sensitivity, Served, Share, Spread, Stability
from scaleout.serving.log import Log
from scaleout.serving.request import STATES
from scaleout.serving.room import Room
from scaleout.serving.steps import PoolSteps
from scaleout.specs import ServingExperiment, Slo
from scaleout.specs.compress import notes
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["summarise"]

_SECOND = 1.0 / TICKS_PER_SECOND


class _Columns:
    """Requests as arrays: times of those that were served [s]."""

    def __init__(self, log: Log) -> None:
        self.state = np.frombuffer(log.state, dtype=np.int8)
        self.done = self.state == STATES.index("served")
        self.start = min(log.arrival, default=0)
        arrival, first, finish, scheduled = (
            np.asarray(getattr(log, name), dtype=np.int64)[self.done]
            for name in ("arrival", "first", "finish", "scheduled")
        )
        self.inputs, self.outputs, self.cached, self.hosted = (
            np.asarray(getattr(log, name))[self.done] for name in ("inputs", "outputs", "cached", "hosted")
        )
        self.ttft: Floats = (first - arrival) * _SECOND
        self.latency: Floats = (finish - arrival) * _SECOND
        self.queue: Floats = (scheduled - arrival) * _SECOND
        self.more = self.outputs > 1
        self.tpot: Floats = np.zeros(len(self.outputs))
        self.tpot[self.more] = (finish - first)[self.more] * _SECOND / (self.outputs[self.more] - 1)

    def stability(self, log: Log) -> tuple[Stability, bool]:
        """Whether the stream was kept up with, and whether it is too short to tell."""
        came = (np.asarray(log.arrival, dtype=np.int64) - self.start).astype(np.float64) * _SECOND
        left = np.where(self.done, np.asarray(log.scheduled), np.asarray(log.finish))
        leaves = (left - self.start).astype(np.float64) * _SECOND
        ends = (np.asarray(log.finish, dtype=np.int64) - self.start).astype(np.float64) * _SECOND
        rejected = came[self.state == STATES.index("rejected")]
        latency = float(self.latency.mean()) if len(self.latency) else 0.0
        ordered = np.sort(came)
        found = stability_of(ordered, leaves, ends, rejected, latency)
        return found, found not in ("offline", "overloaded") and too_short(ordered, latency)


def summarise(
    experiment: ServingExperiment,
    log: Log,
    timers: Sequence[PoolSteps],
    rooms: Sequence[Room],
    floor: Floor,
    links: tuple[Links, ...] = (),
    sensitivity: Sensitivity | None = None,
) -> Served:
    """The result of a simulation."""
    columns = _Columns(log)
    duration = max(0.0, (log.end - columns.start) * _SECOND)
    missed, kept = _promises(experiment, columns)
    came, weight = len(columns.state), log.weight
    counts = {"came": len(log)} | {name: log.ended[name] for at, name in enumerate(STATES) if at > 1}
    stability, short = columns.stability(log)
    rate = 1.0 / duration if duration else 0.0
    inputs, outputs, cached, hosted = (
        round(weight * int(one.sum())) for one in (columns.inputs, columns.outputs, columns.cached, columns.hosted)
    )
    parts, errors = _step(experiment, log, columns, timers)
    energy = served_energy(experiment, log, timers, columns.start, outputs)
    return Served(
        name=_name(experiment),
        experiment=_words(experiment),
        chips=experiment.chips,
        requests=counts,
        tokens={"input": inputs, "output": outputs, "cached": cached, "hosted": hosted},
        duration=duration,
        ttft=Spread.of(columns.ttft),
        tpot=Spread.of(columns.tpot[columns.more]),
        gap=Spread.counted(log.gaps, _SECOND),
        latency=Spread.of(columns.latency),
        queue=Spread.of(columns.queue),
        requests_per_second=counts["served"] * rate,
        output_tokens_per_second=outputs * rate,
        tokens_per_second=(inputs + outputs) * rate,
        attainment=None if kept is None or not came else kept / came,
        goodput=None if kept is None else weight * kept * rate,
        missed={name: count / came for name, count in missed.items()},
        floor=floor,
        preemptions=round(weight * sum(log.preempted)),
        retries=log.retries,
        host={name: log.host[name] for name in ("swaps", "loads", "out", "in")},
        hit_rate=cached / inputs if inputs else 0.0,
        stability=stability,
        sensitivity=sensitivity,
        error_band=math.hypot(*errors.values()),
        error_parts=errors,
        step=parts,
        replicas=_shares(experiment, log, rooms, duration),
        memory=tuple(
            {name: getattr(one, name) for name in ("weights", "activations", "graphs", "reserved", "cache")}
            for one in rooms
        ),
        transfers={
            "count": log.carried,
            "bytes": log.carried_bytes,
            "mean_time": log.carried_time / log.carried * _SECOND if log.carried else 0.0,
        },
        links=links,
        course=course_of(
            log, experiment.pools, [one.blocks * pool.dp for one, pool in zip(rooms, experiment.pools, strict=True)]
        ),
        warnings=(*notes(experiment.compressed), *_warnings(experiment, columns, counts, short, weight)),
        assumptions=(*serving_assumptions(experiment, rooms), *map(plain, cost_assumptions(experiment, energy))),
        energy=energy,
        cost=cost_of(experiment, duration, outputs, energy),
    )


def _promises(experiment: ServingExperiment, columns: _Columns) -> tuple[dict[str, int], int | None]:
    """Requests that missed each promise, and those that kept all; None without a promise."""
    slo, lost = experiment.slo, int((~columns.done).sum())
    limits = {"ttft": slo.ttft, "tpot": slo.tpot, "latency": slo.latency}
    broken = {name: getattr(columns, name) > limit for name, limit in limits.items() if limit is not None}
    if not broken:
        return {}, None
    kept = int((~np.logical_or.reduce(list(broken.values()))).sum())
    return {name: int(one.sum()) + lost for name, one in broken.items()}, kept


def _warnings(
    experiment: ServingExperiment, columns: _Columns, counts: dict[str, int], short: bool, weight: float
) -> tuple[str, ...]:
    found = []
    if weight > 1.0:
        found.append(
            f"times are those of {len(columns.state):,} requests drawn from all {counts['came']:,}; counts are of all"
        )
    if short:
        found.append(
            f"all requests come within three times the mean latency, {describe(float(columns.latency.mean()), 's')}: "
            "replicas are never as full as under a lasting stream of this rate; take more (requests.count)"
        )
    tail = 1.0 - experiment.slo.share
    if tail and experiment.slo != Slo(share=experiment.slo.share) and 0 < counts["came"] * tail < 5.0:
        found.append(
            f"{tail:.2%} of {counts['came']:,} requests are fewer than 5: whether the promise is kept is chance"
        )
    return tuple(found)


def _step(
    experiment: ServingExperiment, log: Log, columns: _Columns, timers: Sequence[PoolSteps]
) -> tuple[dict[str, float], dict[str, float]]:
    """What the time of steps is made of, and how far it may be off, over all pools by the time they work [1]."""
    if not len(columns.inputs):
        return {}, {}
    parts: dict[str, float] = {}
    errors: dict[str, float] = {}
    context, prompt = int((columns.inputs + columns.outputs / 2).mean()), int(columns.inputs.mean())
    whole = float(sum(log.busy)) or 1.0
    first = 0
    for timer in timers:
        mine = slice(first, first + timer.pool.replicas)
        first = mine.stop
        steps, weight = sum(log.steps[mine]), sum(log.busy[mine]) / whole
        if not steps:
            continue
        decodes = round(sum(log.decoded[mine]) / steps / timer.pool.dp)
        share = 0.0
        if timer.pool.role != "decode":
            share = log.ended["served"] * math.ceil(prompt / experiment.max_batched_tokens) / timer.pool.dp / steps
        found = parts_of(timer, Typical(max(decodes, int(share == 0.0)), max(1, context), max(1, prompt), share))
        total = sum(found.values()) or 1.0
        for kind, seconds in found.items():
            parts[kind] = parts.get(kind, 0.0) + weight * seconds / total
        for kind, error in errors_of(experiment, timer.layers.chip, found).items():
            errors[kind] = errors.get(kind, 0.0) + weight * error
    return {kind: share for kind, share in parts.items() if share}, errors


def _shares(experiment: ServingExperiment, log: Log, rooms: Sequence[Room], duration: float) -> tuple[Share, ...]:
    replicas = np.asarray(log.replica)
    ended = np.bincount(replicas[replicas >= 0], minlength=len(log.courses))
    found, number = [], 0
    for at, pool in enumerate(experiment.pools):
        for _ in range(pool.replicas):
            course, blocks = log.courses[number], rooms[at].blocks * pool.dp
            found.append(
                Share(
                    pool=at,
                    role=pool.role,
                    requests=round(log.weight * int(ended[number])),
                    steps=log.steps[number],
                    busy=log.busy[number] * _SECOND / duration / pool.pp if duration else 0.0,
                    batch=log.decoded[number] / log.steps[number] if log.steps[number] else 0.0,
                    running=level_of(course, "running", log.end),
                    waiting=level_of(course, "waiting", log.end),
                    blocks=blocks,
                    cache=level_of(course, "blocks", log.end, blocks),
                )
            )
            number += 1
    return tuple(found)


def _name(spec: ServingExperiment) -> str:
    return f"{spec.model.name} on {spec.chips:,} {spec.system.chip.name} ({spec.system.name})"


def _words(spec: ServingExperiment) -> dict[str, object]:
    return {
        "kind": spec.kind,
        "system": spec.system.name,
        "model": spec.model.name,
        "engine": f"{spec.engine.name} {spec.engine.version}",
        "pools": [
            {
                **{name: getattr(pool, name) for name in ("role", "replicas", "tp", "pp", "dp", "ep")},
                "chip": (pool.chip or spec.system.chip).name,
            }
            for pool in spec.pools
        ],
        "hbm": [(pool.chip or spec.system.chip).hbm_bytes for pool in spec.pools],
        "precision": spec.precision,
        "cache": spec.cache.dtype,
        "prefix": spec.cache.prefix,
        "policy": spec.policy,
        "max_sequences": spec.max_sequences,
        "max_batched_tokens": spec.max_batched_tokens,
        "arrivals": spec.requests.arrivals.process,
        "rate": spec.requests.arrivals.rate,
        "trace": spec.requests.trace.rsplit("/", 1)[-1] if spec.requests.trace else None,
        "router": spec.router.policy,
        "slo": {"ttft": spec.slo.ttft, "tpot": spec.slo.tpot, "latency": spec.slo.latency, "share": spec.slo.share},
        "compressed": list(spec.compressed),
        "settings": list(spec.settings),
    }  # fmt: skip
