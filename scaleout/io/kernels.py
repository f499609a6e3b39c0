"""Tables of measured kernels that a chip file names: CSV or Parquet, read once, held against the data sheet.

Columns are those that ``scaleout validate`` takes; without a column ``chip`` all rows are of the chip that names the
table. A malformed row makes the whole table an error; a row that is faster than the data sheet allows is left out and
counted.
"""

import hashlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from scaleout.errors import MeasurementError, SpecError, near
from scaleout.hardware.attention import kernel_of
from scaleout.hardware.formats import FORMATS, SPELLINGS, format_of
from scaleout.io.table import Row, check_rows, take_rows
from scaleout.specs import Chip, KernelTable

__all__ = ["KINDS", "place_tables", "read_tables"]

KINDS = ("gemm", "attention")
_COLUMNS = {
    "gemm": ("dtype", "m", "n", "k", "time_us"),
    "attention": (
        "phase", "dtype", "kv_dtype", "batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim", "time_us", "source",
    ),
}  # fmt: skip
_SHAPE = {
    "gemm": ("m", "n", "k"),
    "attention": ("batch", "q_len", "kv_len", "heads", "kv_heads", "head_dim"),
}
_LARGEST = 256_000_000
"""Size of a file [byte]."""
_MOST = 100_000
"""Rows of one chip."""
_OTHERS = 1000
"""Names of other chips that are remembered for a message."""
_SLACK = 1e-3
"""By which a row may beat the data sheet: times are rounded [1]."""
_BATCH = 8192
"""Rows of Parquet that are held as text at a time."""


class _Taken(NamedTuple):
    line: int
    chip: str
    key: str
    row: tuple[float, ...]


def place_tables(data: dict[str, Any], beside: Path | None) -> None:
    """Paths of tables in a chip's mapping, found from the working folder or from that of the file that names them."""
    tables = data.get("tables")
    if not isinstance(tables, dict) or beside is None:
        return
    for kind, name in tables.items():
        if isinstance(name, str) and not Path(name).is_file() and (beside.parent / name).is_file():
            tables[kind] = str(beside.parent / name)


def read_tables(names: Any, chip: Chip) -> dict[str, KernelTable]:
    """The tables that a chip's file names, by kind.

    Raises
    ------
    SpecError
        No such kind or file, malformed rows (all are counted, the first are listed), no row of this chip, or most of
        its rows faster than its data sheet allows.
    """
    if not isinstance(names, Mapping):
        raise SpecError(f"tables: {names!r:.60} is not accepted; expected {{gemm: FILE, attention: FILE}}")
    found = {}
    for kind, name in names.items():
        if kind not in KINDS:
            raise SpecError(f"tables.{kind}: unknown key; {near(str(kind), KINDS)}")
        if isinstance(name, KernelTable):
            found[kind] = name
            continue
        if not isinstance(name, str):
            raise SpecError(f"tables.{kind}: {name!r:.60} is not accepted; expected the path of a CSV or Parquet file")
        try:
            found[kind] = _table(kind, Path(name), chip)
        except MeasurementError as error:
            raise SpecError("\n".join(f"tables.{kind}: {line}" for line in str(error).splitlines())) from None
    return found


def _table(kind: str, path: Path, chip: Chip) -> KernelTable:
    try:
        size, changed = path.stat().st_size, path.stat().st_mtime_ns
    except OSError as error:
        raise MeasurementError(f"{path}: cannot be read: {error.strerror}") from None
    if not path.is_file():
        raise MeasurementError(f"{path}: is no file")
    if size > _LARGEST:
        raise MeasurementError(f"{path}: larger than {_LARGEST:,} bytes")
    names = frozenset({chip.name, *chip.aliases})
    digest, mine, found, others = _rows(kind, path.absolute(), changed, size, names)
    if not mine:
        raise MeasurementError(f"{path}: has no row of chip {chip.name!r}; {near(chip.name, others)}")
    if kind == "attention" and not any(one.key.rsplit(" ", 3)[0] in chip.attention for one in mine):
        kernels = sorted({one.key.rsplit(" ", 3)[0] for one in mine})
        words = f"has no row of an attention kernel of {chip.name!r}; its sources name {', '.join(kernels)[:80]}"
        raise MeasurementError(f"{path}: {words}; {near(kernels[0], chip.attention)}")
    if found > _MOST:
        raise MeasurementError(f"{path}: {found:,} rows of one chip; expected at most {_MOST:,}")
    kept: dict[str, list[tuple[float, ...]]] = {}
    fast: list[str] = []
    for one in mine:
        least = _least_gemm(chip, one) if kind == "gemm" else _least_attention(chip, one)
        if least > one.row[-1] * (1.0 + _SLACK):
            fast.append(f"line {one.line}: {one.row[-1] * 1e6:g} us, where the data sheet gives {least * 1e6:.4g} us")
        else:
            kept.setdefault(one.key, []).append(one.row)
    if 2 * len(fast) > len(mine):
        words = f"{len(fast):,} of {len(mine):,} rows are faster than the data sheet of {chip.name!r} allows"
        raise MeasurementError("\n".join([f"{path}: {words}", *(f"{path}: {line}" for line in fast[:10])]))
    return KernelTable(
        kind="gemm" if kind == "gemm" else "attention",
        file=path.name,
        digest=digest,
        rows={key: tuple(sorted(kept[key])) for key in sorted(kept)},
        left_out=len(fast),
    )


def _least_gemm(chip: Chip, one: _Taken) -> float:
    """What the data sheet allows [s]; 0 where it has no rate for the dtype."""
    shape = format_of(one.key)
    m, n, k, _ = one.row
    nbytes = m * k * shape.left + k * n * shape.right + 2.0 * m * n
    return max(2.0 * m * n * k / chip.peak_flops.get(shape.rate, float("inf")), nbytes / chip.hbm_bandwidth)


def _least_attention(chip: Chip, one: _Taken) -> float:
    """As `_least_gemm`; of decode its keys and values, of prefill the products that a causal mask leaves."""
    batch, q_len, kv_len, heads, kv_heads, size, _ = one.row
    if one.key.rsplit(" ", 3)[1] == "decode":
        width = 1.0 if one.key.endswith("fp8") else 2.0
        return 2.0 * batch * kv_len * kv_heads * size * width / chip.hbm_bandwidth
    pairs = batch * q_len * (kv_len - (q_len - 1.0) / 2.0)
    return 4.0 * pairs * heads * size / max(chip.peak_flops.values())


@lru_cache(maxsize=4)
def _rows(
    kind: str, path: Path, changed: int, size: int, names: frozenset[str]
) -> tuple[str, tuple[_Taken, ...], int, tuple[str, ...]]:
    """SHA-256 of a file, its rows of a chip of these names, how many there are, and names of other chips.

    The date and the size are those of the file that was read. Rows of others, and those beyond the most, are not held.
    """
    mine: list[_Taken] = []
    found = 0
    others: set[str] = set()
    read = _gemm if kind == "gemm" else _attention

    def take(row: Row) -> None:
        nonlocal found
        one = read(row)
        if one.chip and one.chip not in names:
            if len(others) < _OTHERS:
                others.add(one.chip)
            return
        found += 1
        if found <= _MOST:
            mine.append(one)

    if path.suffix.lower() == ".parquet":
        check_rows(path, lambda: _parquet(path, _COLUMNS[kind]), take)
    else:
        take_rows(path, _COLUMNS[kind], take)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return digest, tuple(mine), found, tuple(sorted(others))


def _gemm(row: Row) -> _Taken:
    written = row.text("dtype")
    dtype = SPELLINGS.get(written, written)
    if dtype not in FORMATS:
        raise MeasurementError(f"line {row.line}, column 'dtype': {written!r:.40}; {near(dtype, FORMATS)}")
    return _Taken(row.line, row.optional("chip"), dtype, _numbers(row, "gemm"))


def _attention(row: Row) -> _Taken:
    phase, source = row.text("phase", ("prefill", "decode")), row.text("source")
    dtypes = [SPELLINGS.get(row.text(key), row.text(key)) for key in ("dtype", "kv_dtype")]
    numbers = _numbers(row, "attention")
    if numbers[2] < numbers[1]:
        raise MeasurementError(f"line {row.line}, column 'kv_len': {numbers[2]:g} is less than the queries")
    return _Taken(row.line, row.optional("chip"), " ".join([kernel_of(source) or source, phase, *dtypes]), numbers)


def _numbers(row: Row, kind: str) -> tuple[float, ...]:
    return (*(float(row.whole(column)) for column in _SHAPE[kind]), row.number("time_us") * 1e-6)


def _parquet(path: Path, columns: tuple[str, ...]) -> Iterator[Row | MeasurementError]:
    """Rows of a Parquet file, a batch at a time, numbered as below a header."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MeasurementError(
            "is Parquet, which needs pyarrow: pip install pyarrow, or save the table as CSV"
        ) from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if missing := [name for name in columns if name not in names]:
                raise MeasurementError(
                    "; ".join(f"column {name!r} is missing; {near(name, names)}" for name in missing)
                )
            read = [name for name in dict.fromkeys((*columns, "chip")) if name in names]
            line = 1
            for batch in file.iter_batches(batch_size=_BATCH, columns=read):
                for cells in batch.to_pylist():
                    line += 1
                    yield Row(line, {name: _text(value) for name, value in cells.items()})
    except (pyarrow.ArrowException, OSError) as error:
        raise MeasurementError(f"cannot be read as Parquet: {str(error).splitlines()[0]:.100}") from None


def _text(value: Any) -> str:
    """A cell as CSV would have it."""
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)
