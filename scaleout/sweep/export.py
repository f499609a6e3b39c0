"""The table of a sweep as a file: Parquet, CSV or JSON, by its ending.

Equal tables give equal bytes: rows are in the order of the points, numbers are written so that reading them gives the
same number, and nothing tells of when or how long the simulator ran.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from scaleout.errors import SweepError
from scaleout.io.atomic import atomically
from scaleout.sweep.results import Column, SweepResults, plain_values

__all__ = ["ENDINGS", "check_export", "export", "json_pieces"]

_ROWS = 10_000
"""Rows that are text at a time."""
_GROUP = 100_000
"""Rows of a row group of Parquet."""


def export(results: SweepResults, path: str | Path) -> Path:
    """Write a table; a file that is there is replaced when the new one is whole.

    Raises
    ------
    SweepError
        The ending is none of `ENDINGS`; there is no such folder; Parquet without pyarrow.
    ScaleoutError
        The file cannot be written.
    """
    path = Path(path)
    write = ENDINGS[check_export(path)]
    with atomically(path) as file:
        write(results, file)
    return path


def check_export(path: Path) -> str:
    """The ending of a file to be written, before anything is read for it.

    Raises
    ------
    SweepError
        As in `export`.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise SweepError(f"{path}: ends in {ending[:20] or 'nothing'!r}; a table ends in {', '.join(ENDINGS)}")
    if path.is_dir():
        raise SweepError(f"{path}: is a folder")
    if not path.parent.is_dir():
        raise SweepError(f"{path}: there is no folder {path.parent}")
    if ending == ".parquet":
        _pyarrow()
    return ending


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise SweepError("Parquet needs pyarrow: pip install 'scaleout[tables]'") from None
    return pyarrow


def _write_parquet(results: SweepResults, file: BinaryIO) -> None:
    pa = _pyarrow()
    arrays = [_arrow(pa, column) for column in results.columns.values()]
    table = pa.table(arrays, names=list(results.columns))
    about = json.dumps(results.head(), separators=(",", ":"), ensure_ascii=False)
    # Arrow's own schema would tell its version, and nothing that the file does not
    with pa.parquet.ParquetWriter(file, table.schema, store_schema=False) as writer:
        writer.write_table(table, row_group_size=_GROUP)
        writer.add_key_value_metadata({"scaleout": about})


def _arrow(pa: Any, column: Column) -> Any:
    """A column of one type; of several, as text."""
    if column.dtype.kind != "O":
        return pa.array(column, from_pandas=True)
    kinds = {type(value) for value in column.tolist() if value is not None}
    if kinds == {bool}:
        return pa.array(column.tolist(), type=pa.bool_())
    return pa.array([_text(value) for value in column.tolist()], type=pa.string())


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _write_csv(results: SweepResults, file: BinaryIO) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(results.columns)
    for rows in _pieces(results, _spelled):
        writer.writerows(rows)
    text.flush()
    text.detach()


def _write_json(results: SweepResults, file: BinaryIO) -> None:
    for piece in json_pieces(results):
        file.write(piece.encode())
    file.write(b"\n")


def json_pieces(results: SweepResults) -> Iterator[str]:
    """`SweepResults.to_json` bit by bit."""
    yield json.dumps(results.head(), separators=(",", ":"), ensure_ascii=False)[:-1] + ',"rows":['
    comma = ""
    for rows in _pieces(results):
        yield comma + json.dumps(rows, separators=(",", ":"), ensure_ascii=False)[1:-1]
        comma = ","
    yield "]}"


def _pieces(
    results: SweepResults, values: Callable[[Column], list[Any]] = plain_values
) -> Iterator[list[tuple[Any, ...]]]:
    """Rows, some at a time; None where there is no value."""
    for start in range(0, len(results), _ROWS):
        columns = [values(column[start : start + _ROWS]) for column in results.columns.values()]
        yield list(zip(*columns, strict=True))


def _spelled(column: Column) -> list[Any]:
    """As `plain_values`, truths as JSON and YAML spell them."""
    values = plain_values(column)
    return (
        [_text(value) if isinstance(value, bool) else value for value in values] if column.dtype == object else values
    )


ENDINGS: dict[str, Callable[[SweepResults, BinaryIO], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".json": _write_json,
}
"""What writes a table, by the ending of the file."""
