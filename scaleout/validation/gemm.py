"""Matrix multiplications: C[m, n] = A[m, k] B[k, n] of one dtype on one chip."""

from pathlib import Path

from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.validation.comparison import Compared, Comparison, Skipped
from scaleout.validation.names import known_chips, unknown
from scaleout.validation.table import Row, Watch, take_rows

__all__ = ["COLUMNS", "compare"]

COLUMNS = ("chip", "dtype", "m", "n", "k", "time_us")
_DTYPES = {"bfloat16": "bf16", "float16": "fp16"}


def compare(path: Path, watch: Watch | None = None) -> Comparison:
    """Every row, simulated alone."""
    chips = known_chips()
    vectors = {(name, dtype): gemm_vector(chip, dtype) for name, chip in chips.items() for dtype in chip.gemm}

    def take(row: Row) -> Compared | Skipped:
        chip, written = row.text("chip"), row.text("dtype")
        m, n, k = row.whole("m"), row.whole("n"), row.whole("k")
        measured = row.number("time_us") * 1e-6
        if chip not in chips:
            return Skipped(row.line, unknown("chip", chip, chips))
        vector = vectors.get((chip, _DTYPES.get(written, written)))
        if vector is None:
            return Skipped(row.line, f"chip {chip!r} has no gemm constants for {written!r}")
        simulated = gemm_seconds.compiled(float(m), float(n), float(k), 2.0, vector)
        keys = {"source": row.optional("source"), "chip": chip, "dtype": written}
        return Compared(row.line, keys, measured, simulated, label=f"{m} x {n} x {k}")

    return Comparison.of("gemm", take_rows(path, COLUMNS, take, watch), combined=[("chip", "dtype")])
