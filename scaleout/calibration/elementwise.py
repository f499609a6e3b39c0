"""Fit elementwise kernels: ``python -m scaleout.calibration.elementwise TABLE [--chip NAME] [--write]``.

Every operation of a chip on its own; 30 % of the combinations of tokens and width are held out.
"""

import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np

from scaleout.arrays import Floats
from scaleout.calibration.chipfile import dated, indented, lines_of
from scaleout.calibration.command import carry_out, chosen_chips, parser
from scaleout.calibration.files import write_section
from scaleout.calibration.fit import Fit, best_fit, held_out, summary
from scaleout.compiled import compilable
from scaleout.hardware.elementwise import PASSES, elementwise_seconds, kept_in_l2, operation_vector
from scaleout.io.catalogue import find
from scaleout.io.table import Row, take_rows
from scaleout.specs import Chip, ElementwiseConstants

__all__ = ["fit_operation", "main", "measurements"]


_US = 1e-6
_ELEMENT = 2.0
"""Bytes of an element; the tables are in half precision."""
_KERNELS = ", kernels of eager PyTorch and vLLM"
"""What is in tables that do not say it."""
_FREE = {"launch": (0.3 * _US, 20 * _US), "efficiency": (0.05, 0.99), "l2_ratio": (0.05, 8.0)}
_FREE_ROWS = {"row_overhead": (1e-3 * _US, 20 * _US), "element_overhead": (1e-7 * _US, 1e-2 * _US)}
_START = ElementwiseConstants(launch=2 * _US, efficiency=0.5, l2_ratio=1.0, source="a first guess")


def measurements(path: Path) -> dict[tuple[str, str], tuple[Floats, str]]:
    """Tokens, width and seconds, a row each, and their source, by chip as the table names it and operation."""
    rows: dict[tuple[str, str], list[tuple[float, ...]]] = defaultdict(list)
    sources = {}

    def take(row: Row) -> None:
        key = (row.text("chip"), row.text("op"))
        rows[key].append((row.number("tokens"), row.number("width"), row.number("time_us") * _US))
        sources[key] = row.text("source")

    take_rows(path, ("chip", "op", "tokens", "width", "time_us", "source"), take)
    return {key: (np.array(part), sources[key]) for key, part in sorted(rows.items())}


@compilable
def _all(shapes: Floats, element: float, c: Floats) -> Floats:
    times = np.empty(len(shapes))
    for i in range(len(shapes)):
        times[i] = elementwise_seconds(shapes[i, 0], shapes[i, 1], element, c)
    return times


def fit_operation(chip: Chip, operation: str, rows: Floats) -> Fit:
    """Constants of an operation, with and without rows that take time of their own."""
    held = held_out((tokens, width) for tokens, width, _ in rows.tolist())
    fits = []
    largest = PASSES[operation] * _ELEMENT * float((rows[:, 0] * rows[:, 1]).max())
    # what never left L2 says nothing of memory
    inside = ("efficiency",) if kept_in_l2(largest, chip.l2_bytes or 0.0) == 1.0 else ()
    for start, every, choices in (
        (_START, _FREE, {"rows_per_core": (0.0,)}),
        (
            replace(_START, row_overhead=1 * _US, element_overhead=1e-4 * _US),
            {**_FREE, **_FREE_ROWS},
            {"rows_per_core": (1.0, 2.0, 3.0, 4.0, 8.0)},
        ),
    ):
        free = {name: bounds for name, bounds in every.items() if name not in inside}

        def predict(constants: ElementwiseConstants) -> Floats:
            return _all.compiled(rows, _ELEMENT, operation_vector(chip, constants, PASSES[operation]))

        fits.append(best_fit(start, free, choices, predict, rows[:, 2], held))
    # rows have to earn their three constants
    plain, by_row = fits
    fit = by_row if _fitted(by_row) < _fitted(plain) - 0.01 else plain
    spans = {"tokens": rows[:, 0], "width": rows[:, 1]}
    constants = replace(
        fit.constants,
        residual=round(fit.residual, 4),
        calibrated={name: (float(column.min()), float(column.max())) for name, column in spans.items()},
    )
    return replace(fit, constants=constants)


def _fitted(fit: Fit) -> float:
    return float(np.abs(fit.errors[~fit.held]).mean())


def main(arguments: list[str] | None = None) -> int:
    """Fit, print the errors, and write the constants where asked to."""
    options = parser("elementwise", __doc__, "CSV of measured elementwise times").parse_args(arguments)
    return carry_out(lambda: _calibrate(options.table, options.chip, options.write))


def _calibrate(table: Path, names: list[str] | None, write: bool) -> None:
    rows = measurements(table)
    for chip in chosen_chips(names):
        section: list[str] = []
        for (known, operation), (part, source) in rows.items():
            if known not in (chip.name, *chip.aliases) or operation not in PASSES:
                continue
            fit = fit_operation(chip, operation, part)
            print(f"{chip.name} {operation}")
            print(f"    fitted    {summary(fit.errors[~fit.held])}")
            print(f"    held out  {summary(fit.errors[fit.held])}")
            for low, high in ((0, 64), (64, 512), (512, np.inf)):
                inside = (part[:, 0] > low) & (part[:, 0] <= high)
                print(f"      tokens {low} to {high}: {summary(fit.errors[inside])}")
            found = replace(fit.constants, source=f"fit to {source}{'' if 'vLLM' in source else _KERNELS}")
            section += [f"{operation}:", *indented(lines_of(dated(found, chip.elementwise.get(operation))))]
        if section:
            print("\n".join(section))
        if section and write:
            write_section(find("chip", chip.name), ("elementwise",), "\n".join(section))


if __name__ == "__main__":
    sys.exit(main())
