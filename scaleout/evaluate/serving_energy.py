"""Energy and power of a run of serving; equations, constants and errors are in ``docs/energy.md``."""

from collections.abc import Sequence

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.plant import energy_over
from scaleout.footprint import Energy
from scaleout.hardware.power import drawn, energy_of
from scaleout.parallel.inference_counts import Composition
from scaleout.serving.log import Log
from scaleout.serving.steps import PoolSteps
from scaleout.serving.tally import Steps
from scaleout.specs import ServingExperiment

__all__ = ["served_energy"]


def served_energy(
    experiment: ServingExperiment, log: Log, timers: Sequence[PoolSteps], span: float, tokens: float
) -> Energy | None:
    """Energy of a run that took so long [s] and put out so many tokens; None where nothing happened."""
    if not span:
        return None
    parts = dict.fromkeys(("idle", "compute", "vector", "hbm", "links"), 0.0)
    first, held, limits = 0, 0.0, 0.0
    for timer in timers:
        pool, chip = timer.pool, timer.pool.chip or experiment.system.chip
        constants, counts = energy_of(chip), timer.counts
        parts["idle"] += pool.chips * constants.idle * span
        limits += pool.chips * chip.power
        for sums in _together(log, first, pool.replicas):
            one = _mean(sums, pool.dp)
            # what the chips of a replica do, stage by stage, on the average of them
            work = counts.step(one) * sums.steps / pool.pp
            seconds = sums.ticks / TICKS_PER_SECOND / pool.pp
            rate = chip.hbm_bandwidth * experiment.engine.elementwise_efficiency
            passes = min(work[2] / rate, 0.9 * seconds)
            found = drawn(chip, counts.rates, work, np.array(seconds - passes), np.array(passes), np.array(seconds))
            for name in ("compute", "vector", "hbm"):
                parts[name] += pool.chips_each * float(getattr(found, name))
            parts["links"] += constants.link * pool.chips_each * counts.sent(one) * sums.steps / pool.pp
            held += pool.chips_each * seconds * bool(found.capped)
        first += pool.replicas
    parts["links"] += energy_of(experiment.system.chip).link * log.carried_bytes
    return energy_over(
        experiment.system,
        experiment.facility,
        experiment.chips,
        span,
        parts,
        tokens,
        capped=min(1.0, held / (span * experiment.chips)),
        power=limits,
    )


def _together(log: Log, first: int, replicas: int) -> list[Steps]:
    """Steps of the replicas of a pool, by kind."""
    found: dict[tuple[bool, int], Steps] = {}
    for tally in log.tallies[first : first + replicas]:
        for key, sums in tally.kinds.items():
            found[key] = found.get(key, Steps()).plus(sums)
    return [found[key] for key in sorted(found)]


def _mean(sums: Steps, ranks: int) -> Composition:
    """The mean step of a kind, on one attention rank."""
    count = sums.steps * ranks
    return Composition(
        sums.prompts / count, sums.prompt_tokens / count, sums.prompt_scores / count, sums.decodes / count,
        sums.decode_tokens / count, sums.context / count, sums.rows / count,
    )  # fmt: skip
