"""Several kinds of chips in one job: which program each rank runs, and on what."""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.parallel import stage_of
from scaleout.specs import Chip, TrainingExperiment

__all__ = ["Seat", "mean_peak", "seats"]


class Seat(NamedTuple):
    """What a program is for: a pipeline stage, on one kind of chip."""

    stage: int
    chip: Chip


def seats(experiment: TrainingExperiment) -> tuple[Ints, list[Seat]]:
    """Program of each rank, and the seat of each program: stages in order, the system's own chip first."""
    if not experiment.others:
        own = experiment.system.chip
        return stage_of(experiment.layout), [Seat(stage, own) for stage in range(experiment.layout.pp)]
    kinds = list(dict.fromkeys((experiment.system.chip, *(other.chip for other in experiment.others))))
    which = np.zeros(experiment.chips, dtype=np.int64)
    for other in experiment.others:
        which[other.first : other.first + other.count] = kinds.index(other.chip)
    found, program_of = np.unique(stage_of(experiment.layout) * len(kinds) + which, return_inverse=True)
    return program_of.reshape(-1), [Seat(at // len(kinds), kinds[at % len(kinds)]) for at in found.tolist()]


def mean_peak(experiment: TrainingExperiment, dtype: str) -> float:
    """Dense peak of a chip, the mean over all ranks [flop/s]."""
    own = experiment.system.chip.flops(dtype)
    more = sum(other.count * (other.chip.flops(dtype) - own) for other in experiment.others)
    return own + more / experiment.chips
