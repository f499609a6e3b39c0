"""What 10 % more of each knob does to a job: its time, its tail, its energy, its cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaleout.architect.knobs import Knob, knob_of, knobs_of
from scaleout.errors import PlanError, SpecError
from scaleout.io.serving import serve
from scaleout.simulate import simulate
from scaleout.specs import ServingExperiment, System, TrainingExperiment
from scaleout.specs.fields import plain

__all__ = ["ELASTICITY_FORMAT", "Effect", "Elasticities", "elasticities"]

ELASTICITY_FORMAT = 1
"""Version of the JSON form."""
Experiment = TrainingExperiment | ServingExperiment
_LEAST, _MOST = 0.1, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a turn of a knob does to one outcome of one job.

    Parameters
    ----------
    job, outcome, unit
        Which.
    knob, words
        Turned.
    before, after
        The outcome without and with the turn, in `unit`.
    change
        After over before, less 1 [1].
    elasticity
        Relative change of the outcome over that of the knob, by logarithms [1]: -1 halves it where the knob doubles.
    """

    job: str
    outcome: str
    unit: str
    knob: str
    words: str
    before: float
    after: float
    change: float
    elasticity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elasticities:
    """A row for each knob and outcome.

    Parameters
    ----------
    chip
        Whose knobs were turned.
    factor
        By which they were.
    effects
        By job and outcome, the strongest first.
    problems
        Knobs without an effect to tell of, and why.
    """

    chip: str
    factor: float
    effects: tuple[Effect, ...]
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ``format`` first."""
        return {"format": ELASTICITY_FORMAT, **plain(self)}


def elasticities(
    experiments: Experiment | Sequence[Experiment],
    *,
    factor: float = 1.1,
    knobs: Sequence[str] | None = None,
    evaluator: str = "event",
    watch: Callable[[int, int], None] | None = None,
) -> Elasticities:
    """Turn each knob of a machine and simulate its jobs anew.

    Parameters
    ----------
    experiments
        Of training or of serving, on chips alike.
    factor
        So many times as much of each knob [1].
    knobs
        Names; None for all.
    evaluator
        Of training: "event" or "analytic".
    watch
        Called after each simulation with how many are done, of how many.

    Raises
    ------
    SpecError
        No experiment, an unknown knob, or a factor that changes nothing.
    PlanError
        A job does not fit as it is.
    """
    jobs = [experiments] if isinstance(experiments, TrainingExperiment | ServingExperiment) else list(experiments)
    if not jobs:
        raise SpecError("elasticities: no experiment; expected at least one of training or of serving")
    if not isinstance(factor, int | float) or not _LEAST <= factor <= _MOST or factor == 1:
        raise SpecError(f"factor: {factor!r:.40} is not accepted; expected a number from 0.1 to 10 that is not 1")
    effects: list[Effect] = []
    problems: list[str] = []
    turned = [(job, _wanted(job.system, knobs)) for job in jobs]
    done, whole = 0, sum(1 + len(names) for _, names in turned)

    def said() -> None:
        nonlocal done
        done += 1
        if watch is not None:
            watch(done, whole)

    for job, names in turned:
        name, before = _outcomes(job, evaluator)
        said()
        rows = []
        for knob in names:
            try:
                _, after = _outcomes(replace(job, system=knob.turn(job.system, factor)), evaluator)
                rows += [_effect(name, knob, key, before[key], after[key], factor) for key in before if key in after]
            except (PlanError, SpecError) as error:
                problems.append(f"{name}: {knob.name}: {str(error).splitlines()[0]}")
            said()
        order = {key: at for at, (key, _) in enumerate(before)}
        effects += sorted(rows, key=lambda row: (order[row.outcome], -abs(row.elasticity), row.knob))
    return Elasticities(
        chip=jobs[0].system.chip.name, factor=float(factor), effects=tuple(effects), problems=tuple(problems)
    )


def _wanted(system: System, names: Sequence[str] | None) -> tuple[Knob, ...]:
    return knobs_of(system) if names is None else tuple(knob_of(system, name) for name in names)


def _outcomes(job: Experiment, evaluator: str) -> tuple[str, dict[tuple[str, str], float]]:
    """The job in words, and what comes out, by name and unit."""
    found: dict[tuple[str, str], float]
    if isinstance(job, TrainingExperiment):
        result = simulate(job, evaluator=evaluator)
        name, energy, cost = result.name, result.energy, result.cost
        found = {("step time", "s"): result.step_time}
    else:
        served = serve(job)
        name, energy, cost = served.name, served.energy, served.cost
        found = {("TTFT p99", "s"): served.ttft.p99, ("TPOT p99", "s"): served.tpot.p99}
    if energy is not None:
        found["energy", "J/token"] = energy.per_token
    if cost is not None:
        found["cost", "USD/Mtoken"] = cost.per_million_tokens
    return name, found


def _effect(
    job: str, knob: Knob, outcome: tuple[str, str], before: float, after: float, factor: float
) -> Effect:  # fmt: skip
    change = after / before - 1.0 if before else 0.0
    slope = math.log(after / before) / math.log(factor) if before > 0.0 and after > 0.0 else 0.0
    return Effect(
        job=job, outcome=outcome[0], unit=outcome[1], knob=knob.name, words=knob.words, before=before, after=after,
        change=change, elasticity=slope,
    )  # fmt: skip
