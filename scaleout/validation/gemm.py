"""Matrix multiplications: C[m, n] = A[m, k] B[k, n] of one dtype on one chip."""

from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from scaleout.arrays import Floats
from scaleout.errors import SpecError, near
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.hardware.gemm import gemm_constants, gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import Chip, GemmConstants
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.likeness import OWN, chips_of, stated

__all__ = ["COLUMNS", "compare"]


COLUMNS = ("chip", "dtype", "m", "n", "k", "time_us")

_LOOP = 5.0
"""Copies of the weights that a loop of the published tables goes round (ai-dynamo/aiconfigurator,
collector/trtllm/collect_gemm.py: as many as exceed L2, five at most)."""
_KEPT = 0.5
"""Share of L2 up to which all that was used is still there (`scaleout.hardware.elementwise.kept_in_l2`)."""


def compare(path: Path, watch: Watch | None = None, donor: str = "") -> Agreement:
    """Every row, simulated alone; with the constants of a donor, where one is named."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, chips_of(donor), donor), watch)
    return Agreement.of("gemm", rows, combined=[("chip", "dtype")])


def _compare_row(chips: dict[str, Chip], donor: str, row: Row) -> Compared | Skipped:
    name, written = row.text("chip"), row.text("dtype")
    m, n, k = row.whole("m"), row.whole("n"), row.whole("k")
    measured = row.number("time_us") * 1e-6
    dtype = SPELLINGS.get(written, written)
    if name not in chips:
        return Skipped(row.line, f"unknown chip {name!r}; {near(name, chips)}")
    chip = chips[name]
    if donor and not chip.like:
        return Skipped(row.line, OWN)
    if dtype not in FORMATS:
        return Skipped(row.line, f"unknown dtype {written!r}; {near(dtype, FORMATS)}")
    try:
        gemm, cast, band = _vectors(chip, dtype)
    except SpecError as error:
        return Skipped(row.line, str(error))
    simulated = gemm_seconds(m, n, k, 2.0, gemm) + quantise_seconds(m * k, cast)
    keys = {"source": row.optional("source"), "chip": name, "dtype": written}
    return Compared(row.line, keys, measured, simulated, label=f"{m} x {n} x {k}", band=band)


@cache
def _vectors(chip: Chip, dtype: str) -> tuple[Floats, Floats, float | None]:
    """As tables are measured: in bursts, the same operands turn after turn; and the band of the constants."""
    constants, measured = gemm_constants(chip, dtype), chip
    band = stated(chip, constants.residual)
    if chip.like and isinstance(constants, GemmConstants):
        # what a loop leaves in L2 belongs to loop and L2, not to the donor
        kept = _KEPT * (chip.l2_bytes or 0.0) / _LOOP
        measured = replace(chip, gemm={dtype: replace(constants, l2_resident=kept)})
    return gemm_vector(measured, dtype, warm=True), quantise_vector(chip, dtype), band
