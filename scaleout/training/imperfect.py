"""Chips that do not all run at the nominal rate."""

from collections.abc import Mapping

import numpy as np

from scaleout.specs import TrainingExperiment

__all__ = ["speeds"]

_CUT = 3.0
"""Deviations at which the distribution of rates is cut."""


def speeds(experiment: TrainingExperiment) -> Mapping[int, float]:
    """Share of the nominal rate of each rank that does not run at it: what is named, times what is drawn."""
    slow = experiment.slow
    if not slow.spread:
        return dict(slow.chips)
    draws = np.random.default_rng(slow.seed).standard_normal(experiment.chips).clip(-_CUT, _CUT)
    rates = 1.0 + slow.spread * draws
    for rank, share in slow.chips.items():
        rates[rank] *= share
    return dict(enumerate(rates.tolist()))
