"""Energy and power of a run of serving; equations, constants and errors are in ``docs/energy.md``."""

from collections.abc import Mapping, Sequence

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.plant import BINS, energy_over
from scaleout.footprint import Energy
from scaleout.hardware.power import drawn, energy_of
from scaleout.parallel.inference_counts import Composition
from scaleout.serving.log import Log
from scaleout.serving.steps import PoolSteps
from scaleout.serving.tally import Steps, Tally
from scaleout.specs import ServingExperiment

__all__ = ["served_energy"]

_Kind = tuple[bool, int]


def served_energy(
    experiment: ServingExperiment, log: Log, timers: Sequence[PoolSteps], start: int, tokens: float
) -> Energy | None:
    """Energy of a run that began at a time [tick] and put out so many tokens; None where nothing happened."""
    span = (log.end - start) / TICKS_PER_SECOND
    if span <= 0.0:
        return None
    parts = dict.fromkeys(("idle", "compute", "vector", "hbm", "links"), 0.0)
    # caches that go from replica to replica
    parts["links"] = energy_of(experiment.system.chip).link * log.carried_bytes
    moving = np.full(BINS, parts["links"] / BINS)
    edges = start + np.linspace(0.0, log.end - start, BINS + 1)
    first, held, limits = 0, 0.0, 0.0
    for timer in timers:
        pool, chip = timer.pool, timer.pool.chip or experiment.system.chip
        constants, counts = energy_of(chip), timer.counts
        parts["idle"] += pool.chips * constants.idle * span
        limits += pool.chips * chip.power
        tallies = log.tallies[first : first + pool.replicas]
        first += pool.replicas
        each: dict[_Kind, float] = {}
        for kind, sums in _together(tallies).items():
            one = _mean(sums, pool.dp)
            # what the chips of a replica do, stage by stage, on the average of them
            work = counts.step(one) * sums.steps / pool.pp
            seconds = sums.ticks / TICKS_PER_SECOND / pool.pp
            rate = chip.hbm_bandwidth * experiment.engine.elementwise_efficiency
            passes = min(work[2] / rate, 0.9 * seconds)
            found = drawn(chip, counts.rates, work, np.array(seconds - passes), np.array(passes), np.array(seconds))
            links = constants.link * counts.sent(one) * sums.steps / pool.pp
            beside = {name: float(getattr(found, name)) for name in ("compute", "vector", "hbm")} | {"links": links}
            for name, joules in beside.items():
                parts[name] += pool.chips_each * joules
            each[kind] = pool.chips_each * sum(beside.values()) / (sums.ticks or 1)
            held += pool.chips_each * seconds * bool(found.capped)
        for tally in tallies:
            moving += _over_time(tally, each, edges)
    return energy_over(
        experiment.system,
        experiment.facility,
        experiment.chips,
        span,
        parts,
        tokens,
        capped=min(1.0, held / (span * experiment.chips)),
        over_time=tuple((moving * BINS / span).tolist()),
        power=limits,
    )


def _over_time(tally: Tally, each: Mapping[_Kind, float], edges: Floats) -> Floats:
    """Energy beside idle of a replica between these moments [J]; `each` is that of a tick of steps of a kind."""
    if not tally.bins:
        return np.zeros(BINS)
    total = np.sum([np.array(bins) * each[kind] for kind, bins in tally.bins.items()], axis=0)
    so_far = np.concatenate(([0.0], np.cumsum(total)))
    at = np.interp(edges, np.arange(len(so_far)) * float(tally.width), so_far)
    # the first and the last bin reach beyond the run, in which all of it was
    at[0], at[-1] = 0.0, so_far[-1]
    found: Floats = np.diff(at)
    return found


def _together(tallies: Sequence[Tally]) -> dict[_Kind, Steps]:
    """Steps of several replicas, by kind."""
    found: dict[_Kind, Steps] = {}
    for tally in tallies:
        for kind, sums in tally.kinds.items():
            found[kind] = found.get(kind, Steps()).plus(sums)
    return {kind: found[kind] for kind in sorted(found)}


def _mean(sums: Steps, ranks: int) -> Composition:
    """The mean step of a kind, on one attention rank."""
    count = sums.steps * ranks
    return Composition(
        sums.prompts / count, sums.prompt_tokens / count, sums.prompt_scores / count, sums.decodes / count,
        sums.decode_tokens / count, sums.context / count, sums.rows / count,
    )  # fmt: skip
