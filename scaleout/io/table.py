"""Tables of measurements: CSV read a row at a time, every malformed row found before anything is said.

A row that is malformed (text where a number belongs, a negative time) makes the whole table an
error; a well-formed row that cannot be compared is a `Skipped`, which the kind returns itself.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeVar

from scaleout.errors import MeasurementError, near
from scaleout.io.text import text_lines

__all__ = ["Row", "Watch", "check_rows", "take_rows"]

T = TypeVar("T")
Watch = Callable[[int, int], None]
"""Is told how many bytes are read, of how many."""

_LONGEST = 100_000
"""Characters of a line; a table of measurements has a few hundred."""
_MOST = 20
"""Malformed rows that are listed; the others are counted."""
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class Row(NamedTuple):
    """One row: its line in the file, counted from 1, and its cells by column.

    Every reader of a cell raises `MeasurementError` with line, column, value and what is accepted.
    """

    line: int
    cells: Mapping[str, str]

    def text(self, column: str, known: Sequence[str] = ()) -> str:
        """A cell that is not empty; one of `known`, where that is given."""
        value = self.cells[column].strip()
        if not value:
            raise self._refuse(column, f"is empty; expected {' or '.join(map(repr, known)) or 'text'}")
        if known and value not in known:
            raise self._refuse(column, f"{_short(value)} is not accepted; {near(value, known)}")
        return value

    def optional(self, column: str) -> str:
        """A cell, or "" where the cell is empty or the table has no such column."""
        return self.cells.get(column, "").strip()

    def number(self, column: str, low: float = 0.0, high: float = 1e18, *, above: bool = True) -> float:
        """A number above `low` (at least `low` where not `above`), at most `high`."""
        value = self.cells[column].strip()
        number = float(value) if len(value) < 60 and _NUMBER.fullmatch(value) else math.nan
        if not ((number > low) if above else (number >= low)) or not number <= high:
            accepted = f"expected a number {'above' if above else 'at least'} {low:g}, at most {high:g}"
            raise self._refuse(column, f"{_short(value)} is not accepted; {accepted}")
        return number

    def whole(self, column: str, low: int = 1, high: int = 10**12) -> int:
        """A whole number from `low` to `high`."""
        value = self.cells[column].strip()
        if len(value) < 16 and value.isascii() and value.isdigit():
            # most are written so; what is not needs a closer look
            number: float = int(value)
        else:
            number = float(value) if len(value) < 60 and _NUMBER.fullmatch(value) else math.nan
        if not low <= number <= high or number != int(number):
            accepted = f"expected a whole number from {low:,} to {high:,}"
            raise self._refuse(column, f"{_short(value)} is not accepted; {accepted}")
        return int(number)

    def optional_number(self, column: str, low: float = 0.0, high: float = 1e18, *, above: bool = True) -> float | None:
        """As `number`; None where the cell is empty or there is no such column."""
        return self.number(column, low, high, above=above) if self.optional(column) else None

    def optional_whole(self, column: str, low: int = 1, high: int = 10**12) -> int | None:
        """As `whole`; None where the cell is empty or there is no such column."""
        return self.whole(column, low, high) if self.optional(column) else None

    def _refuse(self, column: str, words: str) -> MeasurementError:
        return MeasurementError(f"line {self.line}, column {column!r}: {words}")


def _short(value: str) -> str:
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:39]}...'"


def take_rows(path: Path, columns: Sequence[str], take: Callable[[Row], T], watch: Watch | None = None) -> list[T]:
    """What `take` makes of every row, in the order of the file.

    Parameters
    ----------
    columns
        That the table must have; others may be there too.
    take
        Reads a row; raises `MeasurementError` where it is malformed.
    watch
        Is told of the progress.

    Raises
    ------
    MeasurementError
        The file cannot be read, lacks a column, has no rows, or has malformed rows: all of them
        are found; the first are listed, the others counted.
    """

    def rows() -> Iterator[Row | MeasurementError]:
        with path.open("rb") as file:
            size = path.stat().st_size
            for row in _rows(file, columns):
                yield row
                # a pipe has neither size nor place
                if watch is not None and size:
                    watch(file.tell(), size)

    return check_rows(path, rows, take)


def check_rows(path: Path, rows: Callable[[], Iterator[Row | MeasurementError]], take: Callable[[Row], T]) -> list[T]:
    """As `take_rows`, of rows that come from elsewhere; `path` begins every message."""
    taken: list[T] = []
    mistakes: list[str] = []
    found = 0
    try:
        for row in rows():
            try:
                if isinstance(row, MeasurementError):
                    raise row
                taken.append(take(row))
            except MeasurementError as error:
                found += 1
                if found <= _MOST:
                    mistakes.append(str(error))
    except OSError as error:
        raise MeasurementError(f"{path}: cannot be read: {error.strerror}") from None
    except (MeasurementError, csv.Error) as error:
        # what was found before belongs to the message too
        mistakes.append(str(error))
        found += 1
    if found > _MOST:
        mistakes.append(f"and {found - _MOST:,} more malformed rows")
    if mistakes:
        raise MeasurementError("\n".join(f"{path}: {words}" for words in mistakes))
    if not taken:
        raise MeasurementError(f"{path}: has a header, but no rows")
    return taken


def _rows(file: BinaryIO, columns: Sequence[str]) -> Iterator[Row | MeasurementError]:
    """Rows below the header, or what is wrong with them; blank lines are passed over."""
    reader = csv.reader(text_lines(file, _LONGEST, "CSV"), strict=True)
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise MeasurementError(f"is empty; expected a header with the columns {', '.join(columns)}")
    mistakes = [f"column {name!r} is missing; {near(name, header)}" for name in columns if name not in header]
    mistakes += [f"column {name!r} is there twice" for name in sorted(set(header)) if header.count(name) > 1 and name]
    if mistakes:
        raise MeasurementError(f"line 1: {'; '.join(mistakes)}")
    before = reader.line_num
    for cells in reader:
        # a quoted cell may go over several lines
        line, before = before + 1, reader.line_num
        if not cells:
            continue
        if len(cells) != len(header):
            yield MeasurementError(f"line {line}: {len(cells)} cells; expected {len(header)}, as the header has")
        else:
            yield Row(line, dict(zip(header, cells, strict=True)))
