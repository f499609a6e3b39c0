"""Elementwise kernels: norms, rotations, gated activations, adds and lookups of one chip."""

from functools import partial
from pathlib import Path

from scaleout.arrays import Floats
from scaleout.errors import near
from scaleout.hardware.elementwise import PASSES, elementwise_seconds, elementwise_vector
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import Chip
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.likeness import OWN, chips_of, stated

__all__ = ["COLUMNS", "compare"]

COLUMNS = ("chip", "op", "tokens", "width", "dtype", "time_us")

Vectors = dict[tuple[str, str], Floats]


def compare(path: Path, watch: Watch | None = None, donor: str = "") -> Agreement:
    """Every row, simulated alone; with the constants of a donor, where one is named."""
    vectors: Vectors = {}
    rows = take_rows(path, COLUMNS, partial(_compare_row, chips_of(donor), donor, vectors), watch)
    return Agreement.of("elementwise", rows, combined=[("chip", "op")])


def _compare_row(chips: dict[str, Chip], donor: str, vectors: Vectors, row: Row) -> Compared | Skipped:
    name, operation, dtype = row.text("chip"), row.text("op"), row.text("dtype")
    tokens, width = float(row.whole("tokens")), float(row.whole("width"))
    measured = row.number("time_us") * 1e-6
    if name not in chips:
        return Skipped(row.line, f"unknown chip {name!r}; {near(name, chips)}")
    chip = chips[name]
    if donor and not chip.like:
        return Skipped(row.line, OWN)
    if operation not in chip.elementwise or operation not in PASSES:
        return Skipped(row.line, f"chip {chip.name!r} has no elementwise constants for {operation!r}")
    if (kept := SPELLINGS.get(dtype, dtype)) not in FORMATS:
        return Skipped(row.line, f"unknown dtype {dtype!r}; {near(dtype, FORMATS)}")
    if (name, operation) not in vectors:
        vectors[name, operation] = elementwise_vector(chip, operation)
    simulated = elementwise_seconds.compiled(tokens, width, FORMATS[kept].left, vectors[name, operation])
    keys = {"source": row.optional("source"), "chip": name, "op": operation, "model": row.optional("model")}
    band = stated(chip, chip.elementwise[operation].residual)
    return Compared(row.line, keys, measured, simulated, label=f"{tokens:.0f} x {width:.0f}", band=band)
