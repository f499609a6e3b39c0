"""Requests into a file of our own form."""

import csv
import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.requests.own import COLUMNS
from scaleout.specs.requests import TraceRow

__all__ = ["write_trace"]


def write_trace(path: Path, rows: Iterable[TraceRow]) -> int:
    """Write requests as they come, and say how many; the file is there whole or not at all.

    Raises
    ------
    SpecError
        A row has no time, or blocks, for which this form has no column.
    ScaleoutError
        The file cannot be written.
    """
    count, temporary = 0, ""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            for row in rows:
                if row.arrival is None or row.blocks:
                    lack = "no time of arrival" if row.arrival is None else "blocks, which have no column"
                    raise SpecError(f"{path}: request {count + 1:,} has {lack}")
                session = row.session if row.session >= 0 else ""
                table.writerow((repr(float(row.arrival)), row.inputs, row.outputs, row.priority, session))
                count += 1
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        raise ScaleoutError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if temporary:
            with suppress(OSError):
                Path(temporary).unlink()
    return count
