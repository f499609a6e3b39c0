"""Matrix multiplications: C[m, n] = A[m, k] B[k, n] of one dtype on one chip."""

from functools import partial
from pathlib import Path

from scaleout.hardware.gemm import gemm_seconds
from scaleout.hardware.kernels import WIDTH
from scaleout.specs import Chip
from scaleout.validation.comparison import Compared, Comparison, Skipped
from scaleout.validation.names import known_chips, unknown
from scaleout.validation.table import Row, Watch, take_rows

__all__ = ["COLUMNS", "compare"]

COLUMNS = ("chip", "dtype", "m", "n", "k", "time_us")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16"}


def compare(path: Path, watch: Watch | None = None) -> Comparison:
    """Every row, simulated alone."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, known_chips()), watch)
    return Comparison.of("gemm", rows, combined=[("chip", "dtype")])


def _compare_row(chips: dict[str, Chip], row: Row) -> Compared | Skipped:
    name, written = row.text("chip"), row.text("dtype")
    m, n, k = row.whole("m"), row.whole("n"), row.whole("k")
    measured = row.number("time_us") * 1e-6
    dtype = _DTYPES.get(written, written)
    if name not in chips:
        return Skipped(row.line, unknown("chip", name, chips))
    chip = chips[name]
    if dtype not in chip.gemm or dtype not in WIDTH:
        return Skipped(row.line, f"chip {chip.name!r} has no gemm constants for {written!r}")
    width = WIDTH[dtype]
    simulated = gemm_seconds(chip, chip.gemm[dtype], chip.flops(dtype), m, n, k, width, width)
    keys = {"source": row.optional("source"), "chip": name, "dtype": written}
    return Compared(row.line, keys, measured, simulated)
