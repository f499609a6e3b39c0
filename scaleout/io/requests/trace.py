"""A file of requests, read a row at a time: ten million of them need the memory of one."""

import csv
import gzip
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO, cast

from scaleout.errors import MeasurementError, near
from scaleout.io.requests.fields import Fields, json_object
from scaleout.io.requests.form import CsvForm, JsonForm
from scaleout.io.requests.forms import FORMS, check_columns, detect
from scaleout.io.table import Row
from scaleout.io.text import text_lines
from scaleout.specs.requests import TraceRow

__all__ = ["Trace"]

_LONGEST = 16_000_000
"""Bytes of a line: a prompt of a million tokens, each with its number."""


class Trace:
    """Requests of a file, in the order of their arrival; each pass reads it anew.

    Parameters
    ----------
    path
        CSV with a header, or a JSON object a line; compressed by gzip where it ends in ``.gz``.
    form
        One of `FORMS`; None: told by the columns.

    Raises
    ------
    MeasurementError
        As it is gone through: the file cannot be read, its columns are of no form, or a row is
        malformed or earlier than the one before it. The message has file, line, column and value.
    """

    def __init__(self, path: Path | str, form: str | None = None) -> None:
        if form is not None and form not in FORMS:
            raise MeasurementError(f"unknown form of requests {form!r:.60}; {near(form, FORMS)}")
        self.path, self._form = Path(path), form
        self.form = form
        """Name of the form; None as long as no row was read."""
        self.skipped = 0
        """Rows of the last pass that stand for no request: those that failed when they were recorded."""

    def __iter__(self) -> Iterator[TraceRow]:
        self.skipped = 0
        try:
            with _opened(self.path) as file:
                yield from self._rows(file)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise MeasurementError(f"{self.path}: cannot be unpacked: {error}") from None
        except OSError as error:
            raise MeasurementError(f"{self.path}: cannot be read: {error.strerror}") from None
        except MeasurementError as error:
            raise MeasurementError(f"{self.path}: {error}") from None

    def _rows(self, file: BinaryIO) -> Iterator[TraceRow]:
        lines = text_lines(file, _LONGEST, "CSV with a header, or a JSON object a line")
        first = next(lines, "")
        if not first.strip():
            raise MeasurementError("is empty; expected a header or JSON objects" if not first else "line 1: is blank")
        text = chain([first], lines)
        form, rows = self._json(text) if first.lstrip().startswith(("{", "[")) else self._csv(text)
        self.form = form.name
        before, start = None, 0.0
        for row in rows:
            if row is None:
                self.skipped += 1
                continue
            if form.wall_clock and row.arrival is not None:
                if before is None:
                    start = row.arrival
                row = row._replace(arrival=(row.arrival - start) / 1e6)
            if before is not None and row.arrival is not None and row.arrival < (before.arrival or 0.0):
                raise MeasurementError(
                    f"line {row.line}: arrives at {row.arrival:.9g} s, before the {before.arrival:.9g} s of line "
                    f"{before.line}; expected rows in the order of their arrival"
                )
            before = row
            yield row
        if before is None:
            failed = f"{self.skipped:,} requests that failed, and no other" if self.skipped else "a header, but no rows"
            raise MeasurementError(f"has {failed}")

    def _csv(self, lines: Iterator[str]) -> tuple[CsvForm, Iterator[TraceRow | None]]:
        header = [name.strip() for name in next(csv.reader([next(lines)]))]
        form = FORMS[self._form] if self._form else detect(header, CsvForm)
        if not isinstance(form, CsvForm):
            raise MeasurementError(f"line 1: is no JSON object; form {form.name!r} has one a line")
        check_columns(form, header)
        return form, (form.read(row) for row in _cells(lines, header))

    def _json(self, lines: Iterator[str]) -> tuple[JsonForm, Iterator[TraceRow | None]]:
        rows = (Fields(n, json_object(n, text)) for n, text in enumerate(lines, start=1) if text.strip())
        first = next(rows)
        form = FORMS[self._form] if self._form else detect(list(first.values), JsonForm)
        if not isinstance(form, JsonForm):
            raise MeasurementError(
                f"line 1: is JSON; form {form.name!r} is CSV with the columns {', '.join(form.columns)}"
            )
        return form, (form.read(row) for row in chain([first], rows))


def _opened(path: Path) -> BinaryIO:
    # a gzip file reads as any other, but has no type in common with them
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _cells(lines: Iterator[str], header: list[str]) -> Iterator[Row]:
    """Rows below a header; blank lines are passed over."""
    reader = csv.reader(lines, strict=True)
    before = 0
    try:
        for cells in reader:
            # a quoted cell may go over several lines; the header is line 1
            line, before = before + 2, reader.line_num
            if len(cells) == len(header):
                yield Row(line, dict(zip(header, cells, strict=True)))
            elif cells:
                raise MeasurementError(f"line {line}: {len(cells)} cells; expected {len(header)}, as the header has")
    except csv.Error as error:
        raise MeasurementError(f"line {before + 2}: {error}") from None
