"""What the best point of a sweep rests on: it is computed once more, which gives the same."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.errors import ScaleoutError
from scaleout.result import Assumption
from scaleout.specs import ServingExperiment, StreamExperiment, TrainingExperiment
from scaleout.sweep.build import forms_of
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


def rests_of(results: SweepResults, settings: Mapping[str, Any]) -> Rests:
    """Compute the best point again, with what is installed now, for what it rests on.

    Parameters
    ----------
    settings
        Of the best point.
    """
    if results.best is None:
        return Rests(problem="There is no best point.")
    try:
        spec = forms_of(results.sweep).experiment(settings)
        found = _computed(spec, str(results.row(results.best)["evaluator"]))
    except ScaleoutError as error:
        return Rests(problem=f"The best point could not be computed again: {error}")
    rows = tuple(_assumption(row) for row in found.assumptions)
    return Rests(assumptions=rows, warnings=tuple(str(line) for line in found.warnings))


def _computed(spec: Any, evaluator: str) -> Any:
    """A result of any kind, with `assumptions` and `warnings`."""
    if isinstance(spec, TrainingExperiment):
        from scaleout.simulate import simulate

        return simulate(spec, evaluator=evaluator)
    if isinstance(spec, ServingExperiment):
        return _served(spec, evaluator)
    if isinstance(spec, StreamExperiment):
        from scaleout.stream import run_stream

        return run_stream(spec)
    from scaleout.infer import run_net

    return run_net(spec)


def _served(spec: ServingExperiment, evaluator: str) -> Any:
    from scaleout.evaluate.serving_assumptions import serving_assumptions
    from scaleout.io.serving import trace_of
    from scaleout.serve import prepare, serve_log

    if evaluator == "analytic":
        # no request was simulated, and one that has too many of them need not end
        return Rests(assumptions=tuple(map(_assumption, serving_assumptions(spec, prepare(spec).rooms))))
    return serve_log(spec, trace_of(spec), sensitivity=False)[0]


def _assumption(row: Assumption | Mapping[str, Any]) -> Assumption:
    if isinstance(row, Assumption):
        return row
    return Assumption(str(row["name"]), str(row["value"]), str(row["source"]), bool(row["verified"]))
