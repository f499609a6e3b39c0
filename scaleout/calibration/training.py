"""Does a stack constant carry over? Half of a source's models fit it, the other half test it.

``python -m scaleout.calibration.training TABLE [--source NAME] [--constant NAME]``. Models are dealt to the
halves in turn, by size; one constant of the stack is fitted on each half, and the error on the other
is set against the error on its own. Nothing is written: the constants of a stack stay as its file
has them. Halves are never equally hard, so the figure is over both directions: the error of every
row under the constant that was fitted without it, against the error of every row under its own.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from scaleout.calibration.command import carry_out, parser
from scaleout.errors import MeasurementError
from scaleout.evaluate.analytic import analyse
from scaleout.io.table import Row, take_rows
from scaleout.models import parameters
from scaleout.specs import Model, Stack, TrainingExperiment
from scaleout.validation.agreement import Skipped
from scaleout.validation.runs import Known, experiment_of, iteration_seconds, source_of
from scaleout.validation.training import COLUMNS

__all__ = ["Half", "Measured", "carried", "cross_fit", "fit", "read_measured"]

_SPANS = {"elementwise_efficiency": (0.3, 1.0), "host_launch": (0.0, 80e-6), "kernel_gap": (0.0, 10e-6)}
"""Constants that may be fitted, and between which values."""
_TRIALS = 21
_FEWEST = 8
"""Runs of a source below which a half is a row or two."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A published run."""

    source: str
    experiment: TrainingExperiment
    seconds: float


@dataclass(frozen=True, slots=True)
class Half:
    """One half of a source: models it holds, the fitted value, mean absolute errors here and on the other half [1]."""

    models: tuple[str, ...]
    rows: int
    value: float
    fitted: float
    tested: float


def carried(halves: tuple[Half, Half]) -> float:
    """Error of all rows, each under the constant fitted without it, over that under its own [1]."""
    a, b = halves
    return (a.tested * b.rows + b.tested * a.rows) / (a.fitted * a.rows + b.fitted * b.rows)


def read_measured(path: Path) -> list[Measured]:
    """Every run of a training table that can be simulated."""
    known = Known()

    def take(row: Row) -> Measured | None:
        found = experiment_of(row, known)
        if isinstance(found, Skipped):
            return None
        seconds = iteration_seconds(row, found[0])
        return Measured(source_of(row), found[0], seconds) if seconds else None

    return [run for run in take_rows(path, COLUMNS, take) if run is not None]


def fit(runs: Sequence[Measured], constant: str) -> float:
    """The value of a stack constant with the least mean absolute error on some runs."""
    low, high = _SPANS[constant]
    trials = np.linspace(low, high, _TRIALS)
    errors = [error(runs, constant, float(value)) for value in trials]
    return float(trials[int(np.argmin(errors))])


def error(runs: Sequence[Measured], constant: str, value: float) -> float:
    """Mean absolute error of some runs with a stack constant at a value [1]."""
    found = []
    for run in runs:
        stack: Stack = replace(run.experiment.stack, **{constant: value})  # type: ignore[arg-type]
        simulated = analyse(replace(run.experiment, stack=stack)).end * 1e-12
        found.append(abs(simulated / run.seconds - 1.0))
    return float(np.mean(found))


def cross_fit(runs: Sequence[Measured], constant: str) -> tuple[Half, Half]:
    """Fit on each half of the models, test on the other.

    Raises
    ------
    MeasurementError
        The runs are too few, or all of one model.
    """
    if len(runs) < _FEWEST:
        raise MeasurementError(f"{len(runs)} runs are too few for two halves; at least {_FEWEST} are needed")
    by_model: dict[str, list[Measured]] = defaultdict(list)
    for run in runs:
        by_model[shape_of(run.experiment.model)].append(run)
    if len(by_model) < 2:
        raise MeasurementError("all runs are of one model; it takes two to fit on one and test on the other")
    names = sorted(by_model, key=lambda name: (parameters(by_model[name][0].experiment.model), name))
    halves = names[::2], names[1::2]
    rows = [[run for name in half for run in by_model[name]] for half in halves]
    made = []
    for own, other in ((0, 1), (1, 0)):
        value = fit(rows[own], constant)
        fitted, tested = error(rows[own], constant, value), error(rows[other], constant, value)
        made.append(Half(tuple(halves[own]), len(rows[own]), value, fitted, tested))
    return made[0], made[1]


def shape_of(model: Model) -> str:
    """A model by what makes it large: runs that differ in heads alone are of one model."""
    return f"{model.layers} x {model.hidden}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both halves of every source that has two models."""
    made = parser("training", __doc__, "CSV of measured training steps", chips=False, writes=False)
    made.add_argument("--source", default="", help="one source only")
    made.add_argument("--constant", default="elementwise_efficiency", choices=sorted(_SPANS))
    chosen = made.parse_args(arguments)
    return carry_out(lambda: _print_halves(chosen.table, chosen.source, chosen.constant))


def _print_halves(table: Path, only: str, constant: str) -> None:
    by_source: dict[str, list[Measured]] = defaultdict(list)
    for run in read_measured(table):
        if only in ("", run.source):
            by_source[run.source].append(run)
    for source, runs in sorted(by_source.items()):
        try:
            halves = cross_fit(runs, constant)
        except MeasurementError as reason:
            print(f"{source}: {reason}")
            continue
        for half in halves:
            print(
                f"{source}: {constant} {half.value:.4g} fitted on {half.rows} rows of {len(half.models)} "
                f"models: {half.fitted:.1%}; the others: {half.tested:.1%}"
            )
        print(f"{source}: tested over fitted, all rows: {carried(halves):.2f}x")


if __name__ == "__main__":
    sys.exit(main())
