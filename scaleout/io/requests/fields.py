"""A JSON object on a line of its own, read key by key; `scaleout.io.table.Row` is the same for CSV."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.errors import MeasurementError, near

__all__ = ["Fields", "json_object"]


def json_object(line: int, text: str) -> Mapping[str, Any]:
    """The object on a line.

    Raises
    ------
    MeasurementError
        There is none.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        cut = "" if text.endswith("\n") else "; the file may be cut off here"
        reason = error.msg if isinstance(error, json.JSONDecodeError) else "a number too long or nested too deeply"
        raise MeasurementError(f"line {line}: is no JSON object: {reason}{cut}") from None
    if not isinstance(data, dict):
        raise MeasurementError(f"line {line}: is a JSON {type(data).__name__}; expected one object a line")
    return data


@dataclass(frozen=True, slots=True)
class Fields:
    """The object on one line; every reader of a key raises `MeasurementError` with line, key and value."""

    line: int
    values: Mapping[str, Any]

    def refuse(self, key: str, words: str) -> MeasurementError:
        """What is wrong with a key."""
        return MeasurementError(f"line {self.line}, key {key!r}: {words}")

    def number(self, key: str, low: float = 0.0, high: float = 1e18) -> float:
        """A number from `low` to `high`."""
        if key not in self.values:
            raise self.refuse(key, f"is missing; {near(key, self.values)}")
        value = self.values[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.refuse(key, f"{_short(value)} is not accepted; expected a number from {low:g} to {high:g}")
        return value

    def whole(self, key: str, low: int, high: int) -> int:
        """A whole number from `low` to `high`."""
        value = self.number(key, -math.inf, math.inf)
        if not low <= value <= high or value != int(value):
            raise self.refuse(key, f"{_short(value)} is not accepted; expected a whole number from {low:,} to {high:,}")
        return int(value)

    def numbers(self, key: str, high: int) -> list[int]:
        """A list of whole numbers from 0 to `high`; empty where the key is missing or null."""
        values = self.values.get(key)
        if values is None:
            return []
        if not isinstance(values, list):
            raise self.refuse(key, f"{_short(values)} is not accepted; expected a list of whole numbers")
        for value in self._odd(values, high):
            raise self.refuse(key, f"{_short(value)} is not accepted; expected whole numbers from 0 to {high:,}")
        return values

    @staticmethod
    def _odd(values: list[Any], high: int) -> Iterator[Any]:
        return (value for value in values if type(value) is not int or not 0 <= value <= high)

    def text(self, key: str) -> str:
        """Text or a whole number, as text; empty where the key is missing or null."""
        value = self.values.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | None):
            raise self.refuse(key, f"{_short(value)} is not accepted; expected text or a whole number")
        return "" if value is None else str(value)


def _short(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 200:
        return "a number of so many digits"
    text = repr(value)
    return text if len(text) <= 42 else f"{text[:39]}..."
