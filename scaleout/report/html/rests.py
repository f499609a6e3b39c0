"""What the best point of a sweep rests on: it is computed once more, which gives the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.errors import ScaleoutError
from scaleout.result import Assumption
from scaleout.sweep.results import SweepResults

__all__ = ["Rests", "rests_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rests:
    """Assumptions and warnings.

    Parameters
    ----------
    assumptions
        Each with its source.
    warnings
        What is beyond what was calibrated.
    problem
        Why there are none; "" otherwise.
    """

    assumptions: tuple[Assumption, ...] = ()
    warnings: tuple[str, ...] = ()
    problem: str = ""


def rests_of(results: SweepResults) -> Rests:
    """Compute the best point again, with what is installed now, for what it rests on."""
    if results.best is None:
        return Rests(problem="No point has outcomes.")
    row = results.row(results.best)
    try:
        found = _computed(results, {name: row[name] for name in results.keys}, str(row["evaluator"]))
    except ScaleoutError as error:
        return Rests(problem=f"The best point could not be computed again: {error}")
    rows = tuple(_assumption(row) for row in found.assumptions)
    return Rests(assumptions=rows, warnings=tuple(str(line) for line in found.warnings))


def _computed(results: SweepResults, settings: dict[str, Any], evaluator: str) -> Any:
    from scaleout.io.experiments import any_experiment
    from scaleout.simulate import simulate

    spec = any_experiment(results.sweep.base, tuple(f"{k}={v}" for k, v in settings.items() if v is not None))
    return simulate(spec, evaluator=evaluator)


def _assumption(row: Assumption | Mapping[str, Any]) -> Assumption:
    if isinstance(row, Assumption):
        return row
    return Assumption(str(row["name"]), str(row["value"]), str(row["source"]), bool(row["verified"]))
