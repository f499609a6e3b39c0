"""Layouts that were simulated, and what a search found of them."""

from dataclasses import dataclass, field
from math import inf

from scaleout.planning.machines import Machine
from scaleout.result import Result
from scaleout.specs import TrainingExperiment

__all__ = ["Found", "Tried"]


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A layout that was simulated: with its figures, its value, and what no layout of its kind is below."""

    machine: Machine
    spec: TrainingExperiment
    result: Result
    figures: dict[str, float]
    value: float
    bound: float


@dataclass(slots=True)
class Found:
    """What the search of all machines found.

    Parameters
    ----------
    kept, broken
        Layouts that were simulated: those that keep all limits, and those that do not.
    covered
        Points by what became of them.
    least
        What no layout that was not simulated is below; infinite where there is none.
    problems
        In words.
    """

    kept: list[Tried] = field(default_factory=list)
    broken: list[Tried] = field(default_factory=list)
    covered: dict[str, int] = field(default_factory=dict)
    least: float = inf
    problems: list[str] = field(default_factory=list)

    @property
    def best(self) -> float:
        """Least value; infinite for none."""
        return min((one.value for one in self.kept), default=inf)

    def count(self, what: str, number: int) -> None:
        """Add points that something became of."""
        if number:
            self.covered[what] = self.covered.get(what, 0) + number
