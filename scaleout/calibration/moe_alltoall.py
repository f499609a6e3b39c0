"""Constants of kernels of expert exchanges: ``python -m scaleout.calibration.moe_alltoall TABLE [--write]``.

The table has the form of ``scaleout validate moe_alltoall``. Each kernel of a library is fitted on
its own; rows with one number of ranks are held out.
"""

import sys
from argparse import Namespace
from collections import defaultdict
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.arrays import Floats
from scaleout.calibration.chipfile import indented, lines_of
from scaleout.calibration.command import carry_out, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import Fit, best_fit, summary
from scaleout.collectives.moe import Exchange, exchange_seconds
from scaleout.errors import MeasurementError
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.io.catalogue import find, load
from scaleout.io.table import Row, take_rows
from scaleout.specs import MoeKernel, MoeLibrary, System

__all__ = ["fit_kernel", "main", "measurements"]

Measured = tuple[Exchange, float, float]
"""An exchange, bytes of an element, and its time [s]."""

_US = 1e-6
_FREE = {
    "launch": (1 * _US, 100 * _US),
    "step": (0.01 * _US, 10 * _US),
    "token": (1e-3 * _US, 0.3 * _US),
    "local": (5e10, 1e13),
    "overhead": (1e-4 * _US, 0.3 * _US),
    "scale_up_rate": (0.1, 1.0),
}
_FORMS: dict[str, tuple[float | None, tuple[str, ...]]] = {
    # what is exchanged is smaller than one packet: numbers of tokens
    "prepare": (0.0, ("launch", "step", "token")),
    "dispatch": (None, ("launch", "step", "token", "local", "overhead", "scale_up_rate")),
    # sums travel in 16 bits whatever the experts compute in
    "combine": (2.0, ("launch", "step", "token", "overhead", "scale_up_rate")),
    "combine_low_precision": (0.5625, ("launch", "step", "overhead", "scale_up_rate")),
}
"""Bytes of an element that moves, and what is fitted; None is as the row says."""
_START = {"launch": 10 * _US, "step": _US, "token": 0.04 * _US, "local": 8e11, "overhead": 0.02 * _US}


def measurements(path: Path, system: str) -> dict[tuple[str, str], list[Measured]]:
    """Rows by library and kernel.

    Raises
    ------
    MeasurementError
        The file cannot be read, lacks a column, or has no rows of this system.
    """
    rows: dict[tuple[str, str], list[Measured]] = defaultdict(list)

    def take(row: Row) -> None:
        operation, dtype = row.text("op").removeprefix("alltoall_"), row.text("dtype")
        dtype = SPELLINGS.get(dtype, dtype)
        if row.text("system") != system or operation not in _FORMS or row.text("routing") != "balanced":
            return
        tokens, hidden, topk, experts, ranks = (row.whole(c) for c in ("tokens", "hidden", "topk", "experts", "ep"))
        exchange = Exchange(tokens=tokens, hidden=hidden, topk=topk, experts=experts, ranks=ranks)
        rows[row.text("kernel"), operation].append((exchange, FORMATS[dtype].left, row.number("time_us") * _US))

    columns = ("op", "kernel", "dtype", "tokens", "hidden", "topk", "experts", "ep", "routing", "time_us", "system")
    take_rows(path, columns, take)
    if not rows:
        raise MeasurementError(f"{path}: no expert exchanges of {system}")
    return dict(sorted(rows.items()))


def fit_kernel(system: System, operation: str, rows: list[Measured], held_out: int) -> Fit:
    """Constants of one kernel."""
    element, free = _FORMS[operation]

    def predict(kernel: MoeKernel) -> Floats:
        return np.array([exchange_seconds(kernel, exchange, width, system) for exchange, width, _ in rows])

    held = np.array([exchange.ranks == held_out for exchange, _, _ in rows])
    start = replace(MoeKernel(launch=_START["launch"], element=element), **_starts(free))
    bounds = {name: _FREE[name] for name in free}
    return best_fit(start, bounds, {}, predict, np.array([seconds for _, _, seconds in rows]), held)


def _starts(free: tuple[str, ...]) -> dict[str, Any]:
    return {name: _START[name] for name in free if name in _START}


def main(arguments: list[str] | None = None) -> int:
    """Fit, print residuals, and write where that is asked for."""
    made = parser("moe_alltoall", __doc__, "CSV of measured expert exchanges", chips=False)
    made.add_argument("--system", default="gb200-nvl72", help="name of the system whose rows are taken")
    made.add_argument("--held-out", type=int, default=8, metavar="RANKS", help="rows that are not fitted")
    made.add_argument("--source", default="", help="words for the file; those that are there stay otherwise")
    options = made.parse_args(arguments)
    return carry_out(lambda: _calibrate(options))


def _calibrate(options: Namespace) -> None:
    system: System = load("system", options.system)
    fits: dict[str, dict[str, Fit]] = defaultdict(dict)
    for (name, operation), rows in measurements(options.table, options.system).items():
        fits[name][operation] = made = fit_kernel(system, operation, rows, options.held_out)
        print(f"{name} {operation}: fitted   {summary(made.errors[~made.held])}")
        print(f"{name} {operation}: held out {summary(made.errors[made.held])}")
    for name, kernels in fits.items():
        if missing := {"dispatch", "combine"} - kernels.keys():
            print(f"{name}: no rows of {', '.join(sorted(missing))}; nothing to write")
            continue
        held = np.concatenate([fit.errors[fit.held] for fit in kernels.values()])
        old = system.moe_kernels.get(name)
        made_of: dict[str, Any] = {
            field.name: kernels[field.name].constants for field in fields(MoeLibrary) if field.name in kernels
        }
        library = MoeLibrary(
            **made_of,
            residual=round(float(np.abs(held).mean()), 4) if len(held) else None,
            source=options.source or (old.source if old else "measured"),
        )
        lines = list(lines_of(library))
        print("\n".join([f"{name}:", *indented(lines)]))
        if options.write:
            write_section(find("system", options.system), ("moe_kernels", name), "\n".join(lines))


if __name__ == "__main__":
    sys.exit(main())
