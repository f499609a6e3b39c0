"""A run of streams, summed up: latencies, promises, chips, energy; ``docs/streams.md``."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import PlanError
from scaleout.evaluate.cost import cost_assumptions, cost_of
from scaleout.evaluate.plant import energy_over, power_words
from scaleout.evaluate.stream_times import Kept, NetStage, ReplyStage, StageTimes
from scaleout.footprint import Energy
from scaleout.hardware.power import energy_of
from scaleout.models import parameters
from scaleout.models.nets import net_parameters
from scaleout.parallel.inference import stand_ins
from scaleout.parallel.inference_kernels import measured
from scaleout.parallel.operators import PRECISIONS
from scaleout.serving.streams import Item, Job, Streams
from scaleout.specs import StreamExperiment
from scaleout.specs.fields import plain
from scaleout.streamed import ChipUse, Latency, SourceResult, StageResult, StreamResult
from scaleout.units import describe

__all__ = ["memory_of", "path_of", "summarise_streams"]

_SECOND = 1.0 / TICKS_PER_SECOND
_BINS = 100
_CROWDED = 0.95
"""Share of a chip's time from which on queues grow for long."""


def memory_of(experiment: StreamExperiment, times: Sequence[StageTimes]) -> tuple[dict[str, float], ...]:
    """What is in the memory of each chip, and what is free [byte].

    Raises
    ------
    PlanError
        It does not fit.
    """
    found = []
    for chip in range(experiment.chips):
        rows: list[Kept] = []
        for stage, time in zip(experiment.stages, times, strict=True):
            if stage.chip == chip:
                rows.append(time.kept())
        weights = {row.what: row.weights for row in rows}
        parts = {
            **{f"weights of {what}": nbytes for what, nbytes in sorted(weights.items()) if nbytes},
            "activations": max((row.activations for row in rows), default=0.0),
            "keys and values": sum(row.cache for row in rows),
            "reserved": max((row.reserved for row in rows), default=0.0),
        }
        room = experiment.system.chip.hbm_bytes * min((row.share for row in rows), default=1.0)
        left = room - sum(parts.values())
        if left < 0.0:
            words = ", ".join(f"{name} {describe(value, 'byte')}" for name, value in parts.items() if value)
            raise PlanError(
                f"chip {chip}: its stages need {describe(room - left, 'byte')} ({words}); {describe(room, 'byte')} of "
                f"a {experiment.system.chip.name} are there: narrower weights (precision), or more chips"
            )
        found.append({**parts, "free": left})
    return tuple(found)


def path_of(item: Item, streams: Streams) -> list[tuple[int, str, int]]:
    """Where the time of an item went, from its end back: stage, what it did there, how long [tick]."""
    found: list[tuple[int, str, int]] = []
    job = item.last
    while job is not None:
        before: Job | None = job.before[item]
        entered = item.came if before is None else before.first
        stay = job.first - job.queued
        host = round(streams.stages[job.stage].post * TICKS_PER_SECOND)
        found += [
            (job.stage, "host", job.queued - job.gathered + host),
            (job.stage, "wait", stay - host - job.worked),
            (job.stage, "work", job.worked),
            (job.stage, "gather", job.gathered - entered),
        ]
        job = before
    return found


def _latency(values: Sequence[int]) -> Latency:
    if not values:
        return Latency()
    ordered, count = sorted(values), len(values)
    p50, p90, p99 = (ordered[math.ceil(count * share / 100) - 1] * _SECOND for share in (50, 90, 99))
    return Latency(mean=sum(ordered) / count * _SECOND, p50=p50, p90=p90, p99=p99, max=ordered[-1] * _SECOND)


def _source(experiment: StreamExperiment, number: int, streams: Streams, joules: dict[int, float]) -> SourceResult:
    source = experiment.sources[number]
    items = [item for item in streams.items if item.source == number]
    done = [item for item in items if item.ended >= 0]
    times = sorted(item.ended - item.came for item in done)
    parts: Counter[str] = Counter()
    for item in done:
        for stage, what, took in path_of(item, streams):
            if took:
                parts[f"{experiment.stages[stage].name}: {what}"] += took
    # the items that never end come last
    at = max(1, math.ceil(round(source.share * len(items), 9))) - 1
    late = 0 if source.deadline is None else sum(time > ticks(source.deadline) for time in times)
    dropped = sum(item.dropped for item in items)
    return SourceResult(
        name=source.name,
        came=len(items),
        done=len(done),
        dropped=dropped,
        left=len(items) - len(done) - dropped,
        latency=_latency(times),
        deadline=source.deadline,
        share=source.share,
        needed=times[at] * _SECOND if items and at < len(times) else None,
        missed=len(items) - len(done) + late,
        parts={name: took / len(done) * _SECOND for name, took in sorted(parts.items())},
        joules=joules.get(number, 0.0) / len(items) if items else 0.0,
    )


def _stage(experiment: StreamExperiment, number: int, streams: Streams, span: int) -> StageResult:
    stage = experiment.stages[number]
    jobs = [job for job in streams.jobs if job.stage == number and job.ended >= 0]
    host = round(stage.post * TICKS_PER_SECOND)
    busy = sum(sum(job.pieces) for job in jobs)
    return StageResult(
        name=stage.name,
        chip=stage.chip,
        jobs=len(jobs),
        items=sum(len(job.items) for job in jobs) / len(jobs) if jobs else 0.0,
        wait=_latency([job.first - host - job.queued - job.worked for job in jobs]),
        work=_latency([job.worked for job in jobs]),
        latency=_latency([job.first - job.came for job in jobs]),
        chip_share=busy / span,
    )


def _joules(streams: Streams) -> dict[int, float]:
    """What the items of each source took on the chips, beside what those draw at rest [J]."""
    found: dict[int, float] = {}
    for job in streams.jobs:
        for item in job.items if job.ended >= 0 else ():
            found[item.source] = found.get(item.source, 0.0) + sum(job.joules) / len(job.items)
    return found


def _drawn_over(jobs: Sequence[Job], streams: Streams, chip: int, span: float) -> Floats:
    """Power of the jobs of a chip in equal parts of the span; a job draws the same as long as it is worked on [W]."""
    rows = sorted(
        (begin, end, sum(job.joules) * (end - begin) / sum(job.pieces))
        for job in jobs
        for begin, end in (job.spans if streams.stages[job.stage].chip == chip else ())
        if end > begin
    )
    if not rows:
        return np.zeros(_BINS)
    begins, ends, joules = np.array(rows, dtype=np.float64).T
    when = np.column_stack((begins, ends)).ravel() * _SECOND
    so_far = np.column_stack((np.cumsum(joules) - joules, np.cumsum(joules))).ravel()
    found: Floats = np.diff(np.interp(np.linspace(0.0, span, _BINS + 1), when, so_far)) / (span / _BINS)
    return found


def _energy(experiment: StreamExperiment, streams: Streams, span: float) -> Energy:
    constants = energy_of(experiment.system.chip)
    jobs = [job for job in streams.jobs if job.ended >= 0]
    power = sum((_drawn_over(jobs, streams, chip, span) for chip in range(experiment.chips)), np.zeros(_BINS))
    parts = {"idle": experiment.chips * constants.idle * span}
    for at, name in enumerate(("compute", "vector", "hbm")):
        parts[name] = sum(job.joules[at] for job in jobs)
    return energy_over(
        experiment.system, experiment.facility, experiment.chips, span, {**parts, "links": 0.0}, 0.0,
        over_time=tuple(power.tolist()),
    )  # fmt: skip


def _row(name: str, value: str, source: str, verified: bool) -> dict[str, Any]:
    return {"name": name, "value": value, "source": source, "verified": verified}


def _doubts(unverified: Sequence[str]) -> str:
    return f" (unverified: {', '.join(unverified)})" if unverified else ""


def _assumptions(experiment: StreamExperiment, times: Sequence[StageTimes]) -> tuple[dict[str, Any], ...]:
    chip = experiment.system.chip
    rows = [
        _row("overridden", one, "--set, in place of what the file or its source says", False)
        for one in experiment.settings
    ]
    engines = {}
    for stage, time in zip(experiment.stages, times, strict=True):
        where = f"stage {stage.name}"
        if isinstance(time, NetStage):
            net = time.net
            own = measured(chip, PRECISIONS[stage.precision].product)
            words = f"{net.name} in {stage.precision}, {net_parameters(net):,.0f} parameters{_doubts(net.unverified)}"
            words += "" if own else f"; products as those in bf16, at the rate and bytes of {stage.precision}"
            rows.append(_row(where, words, net.source, own and not net.unverified and "gemm" not in chip.unverified))
        elif isinstance(time, ReplyStage):
            model = time.spec.model
            words = f"{model.name} in {stage.precision}, {parameters(model):,} parameters"
            rows.append(_row(where, words, model.source, "gemm" not in chip.unverified))
            rows += [_row(where, words, "docs/steps.md", False) for words in stand_ins(model, chip, stage.precision)]
        else:
            rows.append(_row(where, f"{describe(stage.time or 0.0, 's')}, as the file says", "the experiment", False))
        if stage.pre or stage.post:
            host = f"{describe(stage.pre, 's')} before and {describe(stage.post, 's')} after, as the file says"
            rows.append(_row(f"{where}: host", host, "the experiment", False))
        if stage.engine is not None:
            engines[stage.engine.name] = stage.engine
    rows += [
        _row(
            f"engine {engine.name} {engine.version}",
            f"{describe(engine.step_overhead, 's')} of the host a batch or token{_doubts(engine.unverified)}",
            engine.source,
            not engine.unverified,
        )
        for _, engine in sorted(engines.items())
    ]
    rows.append(
        _row(
            "kernels", "the chip has one job at a time, with memory to itself; each takes its mean time",
            "docs/streams.md", False,
        )
    )  # fmt: skip
    return (*rows, *(words._asdict() for words in power_words(chip, experiment.system)))


def _warnings(
    experiment: StreamExperiment, sources: Sequence[SourceResult], chips: Sequence[ChipUse], span: float
) -> tuple[str, ...]:
    found = []
    for source in sources:
        if source.kept is False:
            share, deadline = (
                f"{source.share:.4g} of the items",
                f"the deadline is {describe(source.deadline or 0.0, 's')}",
            )
            found.append(
                f"{source.name}: less than {share} are ever done; {deadline}"
                if source.needed is None
                else f"{source.name}: {share} take up to {describe(source.needed, 's')}; {deadline}"
            )
        if source.left:
            found.append(f"{source.name}: {source.left:,} items wait for a batch that never filled; set a timeout")
    if experiment.chips > experiment.system.chips_per_node:
        found.append(
            f"{experiment.chips} chips are no node of {experiment.system.name}: what one sends another is taken "
            "to go over its scale_up all the same"
        )
    if span > experiment.duration * 1.05:
        found.append(
            f"work goes on for {describe(span - experiment.duration, 's')} after the last item came: more comes than "
            "the chips do, or a last reply is long"
        )
    found += [
        f"chip {at} is busy for {chip.busy:.0%} of the time: queues grow while items come, or items are dropped"
        for at, chip in enumerate(chips)
        if chip.busy > _CROWDED
    ]
    return tuple(found)


def summarise_streams(
    experiment: StreamExperiment, streams: Streams, times: Sequence[StageTimes], memory: Sequence[dict[str, float]]
) -> StreamResult:
    """The result of a simulation."""
    span = streams.end
    joules = _joules(streams)
    sources = tuple(_source(experiment, at, streams, joules) for at in range(len(experiment.sources)))
    chips = tuple(ChipUse(busy=chip.busy / span, memory=held) for chip, held in zip(streams.chips, memory, strict=True))
    energy = _energy(experiment, streams, span * _SECOND)
    facility, battery = experiment.facility, None
    if facility is not None and facility.battery is not None:
        battery = facility.battery / energy.power
    what = ", ".join(source.name for source in experiment.sources)
    return StreamResult(
        name=f"{what} on {experiment.chips} x {experiment.system.chip.name}",
        duration=experiment.duration,
        span=span * _SECOND,
        sources=sources,
        stages=tuple(_stage(experiment, at, streams, span) for at in range(len(experiment.stages))),
        chips=chips,
        energy=energy,
        cost=cost_of(experiment, span * _SECOND, 0.0, energy),
        battery=battery,
        experiment={
            "system": experiment.system.name, "chips": experiment.chips, "duration": experiment.duration,
            "seed": experiment.seed, "facility": facility.name if facility else None,
            "settings": list(experiment.settings),
        },
        assumptions=(*_assumptions(experiment, times), *map(plain, cost_assumptions(experiment, energy))),
        warnings=_warnings(experiment, sources, chips, span * _SECOND),
    )  # fmt: skip
