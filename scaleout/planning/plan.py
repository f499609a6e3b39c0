"""A plan: the best of a space of ways to do a job, how surely it is the best, and what else was close. Frozen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scaleout.result import Assumption
from scaleout.specs.fields import FrozenDict, plain

__all__ = ["OBJECTIVES", "PLAN_FORMAT", "Candidate", "Input", "Plan"]

PLAN_FORMAT = 1
"""Version of the JSON form."""
Objective = Literal["time", "cost", "energy", "chips"]
OBJECTIVES: dict[str, str] = {
    "time": "time",
    "cost": "cost",
    "energy": "energy",
    "chips": "number of chips",
}
"""What a plan may minimise, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to do the job, simulated.

    Parameters
    ----------
    name
        In words: system, layout.
    settings
        Overrides ``key=value`` of the plan's experiment that make it: ``scaleout run EXPERIMENT --set ...`` gives
        the same figures.
    layout
        Main settings, by name.
    system, chips
        Of which, and how many.
    value
        Of the objective, in its unit.
    error
        How far `value` may be off, about as far as on the average [1].
    bound
        What no layout of its kind is below, found before it was simulated; in the unit of the objective.
    figures
        What came out, by name, SI units: of training "step_time", "time", "tokens_per_second", "mfu", "memory",
        "energy", "power", "cost"; of serving "rate", "ttft_p99", "tpot_p99", "tokens_per_second", "power",
        "cost_hour", "cost_per_mtoken", "energy_per_token". What is not known is left out.
    parts
        Where the time goes, by part of a step [s]; empty where that is not known.
    """

    name: str
    settings: tuple[str, ...]
    layout: Mapping[str, Any]
    system: str
    chips: int
    value: float
    error: float
    bound: float
    figures: Mapping[str, float]
    parts: Mapping[str, float]

    def __post_init__(self) -> None:
        for name in ("layout", "figures", "parts"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """What a tenth more of something that was assumed does to the plan.

    Parameters
    ----------
    name, words
        Which: a key, and what there is a tenth more of.
    change
        Of the best candidate's objective, over it [1].
    moves
        Whether another of the candidates is the best then.
    """

    name: str
    words: str
    change: float
    moves: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The best of a space, and its neighbourhood.

    Parameters
    ----------
    kind
        What was planned.
    name
        In words.
    question
        Every input of the search, by name: what was asked, and what was assumed where nothing was said.
    experiment
        The form of a file of an experiment, which each candidate's settings change: a mapping for
        `scaleout.experiment` or `scaleout.serving_experiment`.
    objective, unit
        What is minimised.
    best
        None where nothing in the space does the job.
    gap
        By how much `best` may be above the optimum of the space, over it, proven by bounds [1]; 0: it is the optimum.
    covered
        Points of the space by what became of them, which sum to all of it: such as "does not divide", "does not fit in
        HBM", "beyond a limit", "bounded", "simulated". In the order of the search.
    runners
        The next best that were simulated, in order.
    ties
        Those of them that the error bands cannot tell from the best: names.
    pareto
        Of all simulated: those that no other is at least as good as in time, cost, energy and chips.
    why
        Sentences: why the best wins over its neighbours, and what bounds it.
    inputs
        What moves the answer, the strongest first.
    launch
        How to start it, by kind: such as "torchrun", "vllm"; text to be pasted.
    problems
        Why nothing was found, or what was left out.
    assumed
        What nobody said, and the planner took: inputs of the question.
    assumptions, warnings
        What the best rests on.
    """

    kind: Literal["training", "serving"]
    name: str
    question: Mapping[str, Any]
    experiment: Mapping[str, Any]
    objective: Objective
    unit: str
    best: Candidate | None
    gap: float
    covered: Mapping[str, int]
    runners: tuple[Candidate, ...] = ()
    ties: tuple[str, ...] = ()
    pareto: tuple[Candidate, ...] = ()
    why: tuple[str, ...] = ()
    inputs: tuple[Input, ...] = ()
    launch: Mapping[str, str]
    problems: tuple[str, ...] = ()
    assumed: tuple[Assumption, ...] = ()
    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("question", "experiment", "covered", "launch"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        return {"format": PLAN_FORMAT, **plain(self)}

    def to_json(self) -> str:
        """The same as text; equal plans give equal text."""
        return json.dumps(self.to_dict(), indent=2)
