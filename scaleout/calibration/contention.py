"""What each mechanism of contention does to published runs: errors by source, with nothing fitted.

``python -m scaleout.calibration.contention TABLE [--source NAME] [--every N]``. Every run of a training table
that can be simulated, with kernels that transfers do not slow, that lose cores to them, that lose HBM's
rate, and both. A mechanism is worth its place where it brings sources closer that no constant was taken from.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaleout.calibration.command import carry_out, parser
from scaleout.calibration.training import Measured, read_measured
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import MeasurementError, ScaleoutError
from scaleout.evaluate.event import evaluate

__all__ = ["MECHANISMS", "ablate", "errors"]

MECHANISMS = ("none", "cores", "hbm", "all")
"""Values of an experiment's `contention`."""


def errors(run: Measured) -> tuple[float, ...] | None:
    """Simulated over measured, less one, under each of `MECHANISMS`; None for what cannot be simulated."""
    found = []
    for name in MECHANISMS:
        try:
            end = evaluate(replace(run.experiment, contention=name)).timeline.end  # type: ignore[arg-type]
        except ScaleoutError:
            return None
        found.append(end / TICKS_PER_SECOND / run.seconds - 1.0)
    return tuple(found)


def ablate(runs: Sequence[Measured]) -> Iterator[tuple[str, str, list[tuple[float, ...]]]]:
    """Source, system, and `errors` of the runs there."""
    groups: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    for run in runs:
        groups[run.source, run.experiment.system.name].append(run)
    for (source, system), mine in sorted(groups.items()):
        rows = [row for row in map(errors, mine) if row]
        if rows:
            yield source, system, rows


def _report(table: Path, source: str | None, every: int) -> None:
    runs = [run for run in read_measured(table) if source in (None, run.source)][::every]
    if not runs:
        raise MeasurementError(f"{table}: no run of {source!r} that can be simulated")
    print("mean absolute error and bias [%] with " + ", ".join(MECHANISMS))
    for name, system, rows in ablate(runs):
        each = 100.0 * np.array(rows)
        cells = "  ".join(
            f"{mean:5.1f} {bias:+5.1f}" for mean, bias in zip(abs(each).mean(0), each.mean(0), strict=True)
        )
        print(f"{name:16.16} {system:20.20} {len(rows):4}  {cells}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line."""
    given = parser("contention", __doc__, "training.csv", chips=False, writes=False)
    given.add_argument("--source", help="one source alone")
    given.add_argument("--every", type=int, default=1, help="only every N-th run")
    chosen = given.parse_args(arguments)
    return carry_out(lambda: _report(chosen.table, chosen.source, max(1, chosen.every)))


if __name__ == "__main__":
    sys.exit(main())
