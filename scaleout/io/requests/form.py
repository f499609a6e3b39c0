"""What a form of files is: columns that tell it, and how a row of it is read."""

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

from scaleout.io.requests.fields import Fields
from scaleout.io.table import Row
from scaleout.specs.requests import Form, TraceRow

__all__ = ["MOST_TOKENS", "CsvForm", "JsonForm", "session_number"]

MOST_TOKENS = 1_000_000_000
"""Of a prompt or a reply."""
R = TypeVar("R", Row, Fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form(Generic[R]):
    """One form of files.

    Parameters
    ----------
    columns
        That every file has; none of another form has all of them.
    read
        Reads a row; None for one that stands for no request. Raises `MeasurementError` where it is malformed.
    known
        Columns that may be there besides; None: any, which are passed over.
    wall_clock
        Arrivals are read as microseconds of a calendar, and counted from the first.
    """

    name: Form
    columns: tuple[str, ...]
    read: Callable[[R], TraceRow | None]
    known: tuple[str, ...] | None = None
    wall_clock: bool = False


class CsvForm(_Form[Row]):
    """A table with a header."""


class JsonForm(_Form[Fields]):
    """A JSON object a line."""


def session_number(name: str) -> int:
    """A number for a session: its own, or one made of its name; -1 for none.

    >>> session_number("17"), session_number("")
    (17, -1)
    """
    if not name:
        return -1
    if name.isascii() and name.isdigit() and len(name) <= 15:
        return int(name)
    return int.from_bytes(blake2b(name.encode(), digest_size=6).digest())
