"""What a sweep is: a base experiment, keys that take several values, rules, and who evaluates the points."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from scaleout.errors import SpecError
from scaleout.units import Number, Positive

if TYPE_CHECKING:
    from scaleout.sweep.results import SweepResults

__all__ = ["MOST_POINTS", "Stage", "Sweep"]

MOST_POINTS = 10_000_000
"""Combinations of values that are enumerated, before rules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass over the points.

    Parameters
    ----------
    evaluator
        "analytic": a bound, in closed form; "event": simulated.
    within
        Takes only points whose objective, in the stage before, is at most so much worse than the best one's [1]; None
        takes all that can be simulated.
    """

    evaluator: Literal["analytic", "event"] = "event"
    within: Positive | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Points around one experiment.

    Parameters
    ----------
    base
        A file, a name, or a mapping of an experiment, of any kind.
    axes
        Dotted keys of the experiment, each with the values that it takes; points are all combinations, the last
        axis the fastest.
    zipped
        Groups of keys whose values go together: each of them one more axis, after `axes`.
    rules
        Names of rules, which are carried out in order: they derive keys, or leave points out.
    seeds
        Every point so many times, each with a seed of its own [1]; the fastest axis of all.
    seed
        From which they are spawned.
    stages
        One after the other.
    objective
        Outcome that says which point is the best; None for that of the kind of experiment.
    name
        What it is called.
    """

    base: str | Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    zipped: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    rules: tuple[str, ...] = ()
    seeds: Annotated[int, Number(low=1, high=1e6, above=False, integer=True)] = 1
    seed: Annotated[int, Number(low=0, high=2**63, above=False, integer=True)] = 0
    stages: tuple[Stage, ...] = (Stage(),)
    objective: str | None = None
    name: str = "sweep"

    def run(
        self, *, store: str | Path | None = None, ray: str | None = None, workers: int | None = None
    ) -> "SweepResults":
        """Compute what is missing of the points, and give all.

        Parameters
        ----------
        store
            Folder in which results are kept, and found again; None keeps them for this call alone.
        ray
            None: in this process; "local": on a Ray of one's own; otherwise the address of one, or "auto".
        workers
            Processes at a time; None for as many as there are cores.

        Raises
        ------
        SweepError
            The store cannot be used, or Ray cannot be reached.
        """
        from scaleout.sweep.run import run_sweep

        return run_sweep(self, store=None if store is None else Path(store), ray=ray, workers=workers)
