"""Requests into a file of our own form."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from scaleout.errors import SpecError
from scaleout.io.atomic import atomically
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
    count = 0
    with atomically(path) as raw:
        file = io.TextIOWrapper(raw, encoding="utf-8", newline="")
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in rows:
            if row.arrival is None or row.blocks:
                lack = "no time of arrival" if row.arrival is None else "blocks, which have no column"
                raise SpecError(f"{path}: request {count + 1:,} has {lack}")
            session = row.session if row.session >= 0 else ""
            table.writerow((repr(float(row.arrival)), row.inputs, row.outputs, row.priority, session))
            count += 1
        file.detach()
    return count
