"""Columns of the page's table: in which unit each is shown, and how its values are packed."""

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import SpecError
from scaleout.units import parse

__all__ = [
    "DIGITS", "Column", "Scale", "codes", "number_words", "numbers", "scale_of", "setting_words", "whole", "words",
]  # fmt: skip

DIGITS = 4
"""Significant digits that a number of the page has."""
_LONGEST = 400
"""Characters of one text of the table."""
_STEPS: dict[str, tuple[tuple[str, float], ...]] = {
    "s": (("days", 86400.0), ("h", 3600.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9)),
    "byte": (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)),
    "W": (("GW", 1e9), ("MW", 1e6), ("kW", 1e3), ("W", 1.0)),
    "J": (("TJ", 1e12), ("GJ", 1e9), ("MJ", 1e6), ("kJ", 1e3), ("J", 1.0), ("mJ", 1e-3), ("uJ", 1e-6), ("nJ", 1e-9)),
    "USD": (("billion USD", 1e9), ("million USD", 1e6), ("USD", 1.0)),
    "flop/s": (("PFLOP/s", 1e15), ("TFLOP/s", 1e12), ("GFLOP/s", 1e9), ("FLOP/s", 1.0)),
}
"""Units in which a quantity is read, the largest first."""
_LONG = {"days": 3 * 86400.0, "h": 3 * 3600.0}
"""From where on times are read in these [s]."""
_QUANTITY = re.compile(r"^\s*[+-]?[\d.]")
_DIMENSIONS = ("byte/s", "byte", "s", "flop/s", "W", "J", "Hz", "USD", "USD/J")
"""Of texts that are numbers with units, which are sorted as such."""
_SHARES = frozenset({"attainment", "busy", "dropped", "error", "flops_share", "memory_share", "mfu", "missed"})
"""Outcomes that are a part of a whole, which are read in %."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A unit to read a quantity in.

    Parameters
    ----------
    unit
        Its sign; "" of a bare number.
    factor
        One of it, in SI.
    """

    unit: str
    factor: float = 1.0

    def words(self, value: float) -> str:
        """A value in SI, written in it."""
        number = value / self.factor
        large, word = (number / 1e6, "\u00a0million") if 1e6 <= abs(number) < 1e12 else (number, "")
        # rates are named after what there is so much of a second
        sign = "" if self.unit in ("", "1/s") else f"\u00a0{self.unit}"
        return f"{number_words(large)}{word}{sign}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column of the table.

    Parameters
    ----------
    name
        As in files and exports.
    unit
        In which its numbers are, "" where that says nothing.
    role
        "place", "setting", "status", "outcome" or "note".
    kind
        "codes": places in `values`; "whole": numbers that are not negative and whole; "numbers".
    width
        Bytes of one of them [byte].
    bits
        All of them, little-endian, in base64; of numbers IEEE 754 singles, NaN where there is none.
    values
        Texts of codes, in the order in which they are sorted.
    shown
        Before the reader chooses.
    """

    name: str
    unit: str = ""
    role: str
    kind: str
    width: int
    bits: str
    values: tuple[str, ...] = ()
    shown: bool = True

    def packed(self) -> dict[str, Any]:
        """As the page's script takes it."""
        return {name: getattr(self, name) for name in self.__slots__}


def scale_of(name: str, unit: str, values: Floats) -> Scale:
    """The unit in which a reader wants such values: by the middle one of them."""
    if name in _SHARES:
        return Scale("%", 0.01)
    known = np.abs(values[np.isfinite(values) & (values != 0)])
    steps = _STEPS.get(unit)
    if steps is None or not len(known):
        return Scale("" if unit in ("", "1") else unit)
    middle = float(np.median(known))
    chosen = next((row for row in steps if middle >= _LONG.get(row[0], row[1])), steps[-1])
    return Scale(*chosen)


def number_words(value: float) -> str:
    """A number for a reader.

    >>> number_words(1234567.0), number_words(0.012344), number_words(8.0)
    ('1,234,567', '0.01234', '8')
    """
    if not math.isfinite(value):
        return "-"
    if abs(value) >= 10**DIGITS:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.{DIGITS}g}"
    return f"{value:.{DIGITS}g}"


def words(name: str) -> str:
    """A column's name in words.

    >>> words("time.exposed_tp"), words("mfu")
    ('time: exposed tp', 'MFU')
    """
    known = {"mfu": "MFU", "ttft_p50": "median TTFT", "ttft_p99": "99th percentile of TTFT",
             "tpot_p50": "median TPOT", "tpot_p99": "99th percentile of TPOT",
             "latency_p99": "99th percentile of latency", "tokens_per_second": "tokens per second",
             "chip_tokens": "tokens per second and chip", "user_tokens": "tokens per second and user",
             "requests_per_second": "requests per second", "cost_per_mtoken": "cost of a million tokens",
             "cost_hour": "cost of an hour", "energy_per_token": "energy of a token",
             "memory_share": "share of memory"}  # fmt: skip
    return known.get(name, name.replace(".", ": ").replace("_", " "))


def setting_words(value: Any) -> str:
    """The value of a key, as a file would have it."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return ""
    if isinstance(value, float) and math.isnan(value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def numbers(name: str, values: Floats, scale: Scale, *, role: str = "outcome", shown: bool = True) -> Column:
    """A column of numbers in SI, shown in another unit."""
    with np.errstate(over="ignore", invalid="ignore"):
        singles = (values / scale.factor).astype("<f4")
    return Column(
        name=name, unit=scale.unit, role=role, kind="numbers", width=4, bits=_base64(singles.tobytes()), shown=shown
    )


def whole(name: str, values: Sequence[int] | Ints, *, role: str, shown: bool = True) -> Column:
    """A column of whole numbers that are not negative."""
    packed = np.asarray(values, dtype="<u4")
    return Column(name=name, role=role, kind="whole", width=4, bits=_base64(packed.tobytes()), shown=shown)


def codes(name: str, values: Sequence[Any], *, role: str, shown: bool = True) -> Column:
    """A column of few different values: numbers in their order first, then texts, nothing last."""
    texts: dict[tuple[type, Any], str] = {}
    unique: dict[str, Any] = {}
    written = [_written(value, texts, unique) for value in values]
    order = sorted(unique, key=lambda text: _rank(text, unique[text]))
    place = {text: at for at, text in enumerate(order)}
    width = 1 if len(order) <= 1 << 8 else 2 if len(order) <= 1 << 16 else 4
    packed = np.fromiter((place[text] for text in written), dtype=f"<u{width}", count=len(written))
    return Column(
        name=name, role=role, kind="codes", width=width, bits=_base64(packed.tobytes()), values=tuple(order),
        shown=shown,
    )  # fmt: skip


def _written(value: Any, texts: dict[tuple[type, Any], str], unique: dict[str, Any]) -> str:
    """A value in words, which are kept."""
    key = (type(value), value)
    try:
        text = texts.get(key)
    except TypeError:  # a mapping
        text = setting_words(value)
        unique.setdefault(text, value)
        return text
    if text is None:
        text = texts[key] = setting_words(value)
        unique.setdefault(text, value)
    return text


def _rank(text: str, value: Any) -> tuple[int, str, float, str]:
    if not text:
        return (3, "", 0.0, "")
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return (0, "", float(value), text)
    if isinstance(value, str) and _QUANTITY.match(value):
        for dimension in _DIMENSIONS:
            try:
                return (1, dimension, parse(value, dimension), text)
            except SpecError:
                continue
    return (2, "", 0.0, text)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
