"""Matrix multiplications: C[m, n] = A[m, k] B[k, n] of one dtype on one chip."""

from functools import cache, partial
from pathlib import Path

from scaleout.arrays import Floats
from scaleout.errors import SpecError, near
from scaleout.hardware.formats import FORMATS, SPELLINGS
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.io.catalogue import known_chips
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import Chip
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "compare"]


COLUMNS = ("chip", "dtype", "m", "n", "k", "time_us")


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, simulated alone."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, known_chips()), watch)
    return Agreement.of("gemm", rows, combined=[("chip", "dtype")])


def _compare_row(chips: dict[str, Chip], row: Row) -> Compared | Skipped:
    name, written = row.text("chip"), row.text("dtype")
    m, n, k = row.whole("m"), row.whole("n"), row.whole("k")
    measured = row.number("time_us") * 1e-6
    dtype = SPELLINGS.get(written, written)
    if name not in chips:
        return Skipped(row.line, f"unknown chip {name!r}; {near(name, chips)}")
    chip = chips[name]
    if dtype not in FORMATS:
        return Skipped(row.line, f"unknown dtype {written!r}; {near(dtype, FORMATS)}")
    try:
        gemm, cast = _vectors(chip, dtype)
    except SpecError as error:
        return Skipped(row.line, str(error))
    simulated = gemm_seconds(m, n, k, 2.0, gemm) + quantise_seconds(m * k, cast)
    keys = {"source": row.optional("source"), "chip": name, "dtype": written}
    return Compared(row.line, keys, measured, simulated, label=f"{m} x {n} x {k}")


@cache
def _vectors(chip: Chip, dtype: str) -> tuple[Floats, Floats]:
    """As tables are measured: in bursts, the same operands turn after turn."""
    return gemm_vector(chip, dtype, warm=True), quantise_vector(chip, dtype)
