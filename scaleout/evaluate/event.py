"""The event evaluator: build the step, fold it, run it in SimPy; or unfolded and large, in a compiled loop."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scaleout.collectives import candidates, fastest, trials
from scaleout.engine import (
    COMPILED_FROM,
    Job,
    Message,
    Partition,
    Quotient,
    Timeline,
    Unfolded,
    discrete,
    equitable,
    quotient,
    run,
    run_unfolded,
    unfold,
)  # fmt: skip
from scaleout.errors import WorkloadError
from scaleout.network import Fabric, machine
from scaleout.network.pattern import Pattern
from scaleout.specs import Slow, System, TrainingExperiment
from scaleout.training.step import build

__all__ = ["Recording", "evaluate"]


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """A simulated step with everything that happened in it.

    Parameters
    ----------
    experiment
        What was simulated.
    job, wiring, timeline
        Programs; classes, orbits and transfers; times of every operation of every class.
    folded
        Whether ranks that behave alike are one class.
    """

    experiment: TrainingExperiment
    job: Job
    wiring: Quotient | Unfolded
    timeline: Timeline
    folded: bool

    def class_program(self, cls: int) -> int:
        """Index of the program of a class; for training, its pipeline stage."""
        return int(self.job.program_of[int(self.wiring.representatives[cls])])

    def class_words(self, cls: int) -> str:
        """A class in words: its representative, and how many ranks are like it."""
        others = int(self.wiring.sizes[cls]) - 1
        return f"rank {self.wiring.representatives[cls]}" + (f" and {others:,} like it" if others else "")


def evaluate(
    experiment: TrainingExperiment,
    *,
    fold: bool = True,
    runs: bool = True,
    job: Job | None = None,
    compiled: bool | None = None,
) -> Recording:
    """Simulate one step.

    Parameters
    ----------
    fold
        False simulates every rank; the times are the same.
    runs
        False makes an event of every operation; the times are the same.
    job
        The experiment's programs, where they are built already.
    compiled
        Of an unfolded run: in the compiled loop, or in SimPy; None for whatever is faster. The times are the same.

    Raises
    ------
    TopologyError
        The system cannot be built at this size.
    WorkloadError
        The step is longer than the engine can count.
    """
    try:
        return _evaluate(experiment, job or build(experiment), fold=fold, runs=runs, compiled=compiled)
    except OverflowError:
        raise WorkloadError("a step longer than 106 days, in picoseconds, is beyond 64-bit integers") from None


def _evaluate(experiment: TrainingExperiment, job: Job, *, fold: bool, runs: bool, compiled: bool | None) -> Recording:
    place = site(experiment)
    patterns = place.patterns(job)
    if not fold and (_pays(job) if compiled is None else compiled):
        unfolded = unfold(job, place.fabric, patterns)
        return Recording(experiment, job, unfolded, run_unfolded(unfolded), fold)
    partition = place.partition(job, patterns) if fold else discrete(job, place.fabric)
    wiring = quotient(job, place.fabric, patterns, partition)
    return Recording(experiment, job, wiring, run(job, wiring, runs=runs), fold)


def _pays(job: Job) -> bool:
    """Whether a job has so many operations that loading compiled code pays."""
    sizes = np.array([len(program) for program in job.programs])
    return int(sizes[job.program_of].sum()) >= COMPILED_FROM


class Site:
    """One machine under one layout: its fabric, and what was found out about it so far.

    Patterns and partitions do not depend on the model, so they are made once for many experiments.
    """

    def __init__(self, system: System, chips: int, slow: Slow) -> None:
        self.fabric: Fabric = machine(system, chips, slow)
        self._patterns: dict[tuple[str, str, str], Pattern] = {}
        self._trials: dict[tuple[str, str], dict[str, Pattern]] = {}
        self._choices: dict[tuple[str, str, float], str] = {}
        self._partitions: dict[tuple[object, ...], Partition] = {}

    def patterns(self, job: Job) -> dict[int, Pattern]:
        """Pattern of every message, by the fastest algorithm."""
        return {index: self._pattern(job, message) for index, message in enumerate(job.messages)}

    def _pattern(self, job: Job, message: Message) -> Pattern:
        groups = job.families[message.family].groups
        choice = (message.family, message.operation, message.nbytes)
        if choice not in self._choices:
            if choice[:2] not in self._trials:
                self._trials[choice[:2]] = trials(self.fabric, groups, message.operation)
            self._choices[choice] = fastest(self.fabric, self._trials[choice[:2]], message.nbytes)
        key = (message.family, message.operation, self._choices[choice])
        if key not in self._patterns:
            self._patterns[key] = candidates(self.fabric, groups, message.operation)[key[2]](groups)
        return self._patterns[key]

    def partition(self, job: Job, patterns: dict[int, Pattern]) -> Partition:
        """The coarsest equitable partition of a job on this machine."""
        key = tuple((m.family, m.operation, patterns[i].algorithm, m.nbytes > 0) for i, m in enumerate(job.messages))
        if key not in self._partitions:
            self._partitions[key] = equitable(job, self.fabric, patterns)
        return self._partitions[key]


def site(experiment: TrainingExperiment) -> Site:
    """The site of an experiment; ranks and groups depend on its degrees (tp, pp, dp) alone."""
    layout = experiment.layout
    return _site(experiment.system, experiment.chips, experiment.slow, (layout.tp, layout.pp, layout.dp))


@lru_cache(maxsize=8)
def _site(system: System, chips: int, slow: Slow, degrees: tuple[int, int, int]) -> Site:
    return Site(system, chips, slow)
