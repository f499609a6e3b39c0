"""Units at the edge: strings such as "400 Gb/s" become SI floats, and back.

Inside scaleout every quantity is an SI float: byte, byte/s, flop, flop/s, s, W, J, USD.
Prefixes are decimal (k, M, G, T, P, E); only Ki, Mi, Gi, Ti are powers of 1,024.
``b`` is a bit and ``B`` a byte; case matters.
"""

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any

from scaleout.errors import SpecError, near

__all__ = [
    "Area",
    "Bytes",
    "BytesPerSecond",
    "Count",
    "Dollars",
    "DollarsPerByte",
    "DollarsPerJoule",
    "DollarsPerSecond",
    "DollarsPerWatt",
    "Flops",
    "Fraction",
    "Hertz",
    "Joules",
    "JoulesPerByte",
    "JoulesPerFlop",
    "Metres",
    "NotNegative",
    "Number",
    "PerArea",
    "Positive",
    "Seconds",
    "Share",
    "Watts",
    "describe",
    "parse",
]

_DECIMAL = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}


def _units() -> dict[str, tuple[str, float]]:
    """Every accepted unit: name -> (dimension, factor to SI)."""
    table = {
        "s": ("s", 1.0), "ms": ("s", 1e-3), "us": ("s", 1e-6), "µs": ("s", 1e-6),
        "ns": ("s", 1e-9), "ps": ("s", 1e-12), "min": ("s", 60.0), "h": ("s", 3600.0),
        "day": ("s", 86400.0),
    }  # fmt: skip
    for prefix, factor in {**_DECIMAL, **_BINARY}.items():
        table[f"{prefix}B"] = ("byte", factor)
        table[f"{prefix}b"] = ("byte", factor / 8)
        table[f"{prefix}B/s"] = ("byte/s", factor)
        table[f"{prefix}b/s"] = ("byte/s", factor / 8)
    for prefix, factor in _DECIMAL.items():
        for name in ("FLOP/s", "flop/s", "FLOPS", "OP/s"):
            table[f"{prefix}{name}"] = ("flop/s", factor)
        table[f"{prefix}W"] = ("W", factor)
        table[f"{prefix}J"] = ("J", factor)
        table[f"{prefix}Wh"] = ("J", 3600.0 * factor)
        table[f"{prefix}Hz"] = ("Hz", factor)
        table[f"{prefix}USD"] = ("USD", factor)
    for prefix, factor in (("m", 1e-3), ("u", 1e-6), ("n", 1e-9), ("p", 1e-12), ("f", 1e-15)):
        table[f"{prefix}J"] = ("J", factor)
        table[f"{prefix}J/flop"] = table[f"{prefix}J/op"] = ("J/flop", factor)
        table[f"{prefix}J/B"], table[f"{prefix}J/b"] = ("J/byte", factor), ("J/byte", 8.0 * factor)
    table |= {
        "USD/kWh": ("USD/J", 1.0 / 3.6e6), "USD/MWh": ("USD/J", 1.0 / 3.6e9), "USD/W": ("USD/W", 1.0),
        "USD/kW": ("USD/W", 1e-3), "USD/MW": ("USD/W", 1e-6), "mm2": ("m2", 1e-6), "cm2": ("m2", 1e-4),
        "/cm2": ("1/m2", 1e4), "/mm2": ("1/m2", 1e6), "USD/GB": ("USD/byte", 1e-9), "year": ("s", 31_557_600.0),
        "mm": ("m", 1e-3), "um": ("m", 1e-6), "USD/s": ("USD/s", 1.0), "USD/h": ("USD/s", 1.0 / 3600.0),
    }  # fmt: skip
    return table


_TABLE = _units()
_EXAMPLE = {
    "s": "1.5 us", "byte": "80 GB", "byte/s": "400 Gb/s",
    "flop/s": "989 TFLOP/s", "W": "700 W", "J": "3 kJ", "Hz": "1.83 GHz", "USD": "30 kUSD", "J/flop": "0.6 pJ/flop",
    "J/byte": "60 pJ/B", "USD/J": "0.08 USD/kWh", "USD/W": "12 USD/W", "m2": "814 mm2", "1/m2": "0.1 /cm2",
    "USD/byte": "12 USD/GB", "m": "0.1 mm", "USD/s": "2 USD/h",
}  # fmt: skip
_NUMBER = re.compile(r"^\s*([+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")


def parse(text: str, dimension: str) -> float:
    """Read a number with its unit as an SI float.

    >>> parse("400 Gb/s", "byte/s")
    50000000000.0

    Raises
    ------
    SpecError
        The text is no number, has no unit, or has a unit of another dimension.
    """
    accepted = f"expected a value such as {_EXAMPLE[dimension]!r}"
    match = _NUMBER.match(text)
    if match is None:
        raise SpecError(f"{text!r} is not a number with a unit; {accepted}")
    number, unit = match.groups()
    if not unit:
        raise SpecError(f"{text!r} has no unit; {accepted}")
    if unit not in _TABLE:
        same = [name for name, (kind, _) in _TABLE.items() if kind == dimension]
        hint = near(unit, same) if len(unit) < 20 else ""
        raise SpecError(f"unknown unit {unit!r} in {text!r}; {hint} ({accepted})")
    kind, factor = _TABLE[unit]
    if kind != dimension:
        raise SpecError(f"{text!r} is in {kind}, not in {dimension}; {accepted}")
    return float(number.replace("_", "")) * factor


_READABLE = {
    "byte": ("B", _DECIMAL), "byte/s": ("B/s", _DECIMAL), "flop/s": ("FLOP/s", _DECIMAL),
    "W": ("W", _DECIMAL), "J": ("J", _DECIMAL), "Hz": ("Hz", _DECIMAL),
}  # fmt: skip
_SUMS = (("billion ", 1e9), ("million ", 1e6))
_TIMES = (("s", 1.0), ("ms", 1e-3), ("us", 1e-6), ("ns", 1e-9))


def describe(value: float, dimension: str) -> str:
    """Write an SI float for a person.

    >>> describe(5e10, "byte/s")
    '50 GB/s'
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {dimension}"
    if dimension == "s":
        unit, factor = next((row for row in _TIMES if abs(value) >= row[1]), _TIMES[-1])
        return f"{value / factor:.4g} {unit}"
    if dimension == "USD":
        word, factor = next((row for row in _SUMS if abs(value) >= row[1]), ("", 1.0))
        return f"{value / factor:.4g} {word}USD" if word or abs(value) < 1e3 else f"{value:,.0f} USD"
    base, prefixes = _READABLE[dimension]
    prefix, factor = max(
        ((name, size) for name, size in prefixes.items() if size <= max(abs(value), 1.0)),
        key=lambda row: row[1],
    )
    return f"{value / factor:.4g} {prefix}{base}"


@dataclass(frozen=True, slots=True)
class Number:
    """What a numeric field of a spec accepts; the one rule for files and for Python.

    Parameters
    ----------
    dimension
        SI unit; files then give a string with a unit. "" for a bare number.
    low, high
        Bounds; `low` itself is refused when `above` is true.
    """

    dimension: str = ""
    low: float = 0.0
    high: float = math.inf
    above: bool = True
    integer: bool = False

    def accepts(self) -> str:
        """The accepted range in words."""
        kind = "a whole number" if self.integer else "a number"
        if self.dimension:
            kind = f"a value such as {_EXAMPLE[self.dimension]!r}"
        low = f"{'above' if self.above else 'at least'} {self.low:g}"
        high = "" if self.high == math.inf else f", at most {self.high:,.10g}"
        return f"{kind} {low}{high}"

    def check(self, value: Any) -> float:
        """The value itself, or a `SpecError` that says what is accepted."""
        if isinstance(value, bool) or not issubclass(type(value), Real):
            raise SpecError(f"{value!r} is not {self.accepts()}")
        number = float(value) if -1e300 < value < 1e300 else math.inf
        below = number <= self.low if self.above else number < self.low
        if not math.isfinite(number) or below or number > self.high or (self.integer and number != int(number)):
            raise SpecError(f"{str(value)[:40]} is not {self.accepts()}")
        return int(value) if self.integer else value if isinstance(value, int) else number

    def read(self, value: object) -> float:
        """A value as a file gives it: a string with a unit, or a bare number."""
        if not self.dimension:
            return self.check(_plain(value))
        if not isinstance(value, str):
            raise SpecError(f"{value!r} has no unit; expected {self.accepts()}")
        number = parse(value, self.dimension)
        try:
            return self.check(number)
        except SpecError:
            raise SpecError(f"{value!r} is not {self.accepts()}") from None

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        if self.dimension:
            return {"type": "string", "description": f"[{self.dimension}]", "examples": [_EXAMPLE[self.dimension]]}
        bound = "exclusiveMinimum" if self.above else "minimum"
        top = {} if self.high == math.inf else {"maximum": self.high}
        return {"type": "integer" if self.integer else "number", bound: self.low, **top}


def _plain(value: object) -> object:
    """YAML reads 1e9 as text: a string that is a number counts as one."""
    if isinstance(value, str):
        try:
            return float(value.replace("_", ""))
        except ValueError:
            return value
    return value


Bytes = Annotated[float, Number("byte", above=False)]
BytesPerSecond = Annotated[float, Number("byte/s")]
Flops = Annotated[float, Number("flop/s")]
Seconds = Annotated[float, Number("s", above=False)]
Watts = Annotated[float, Number("W")]
Count = Annotated[int, Number(low=1, high=1e12, above=False, integer=True)]
Positive = Annotated[float, Number()]
NotNegative = Annotated[float, Number(above=False)]
Fraction = Annotated[float, Number(high=1.0)]
Share = Annotated[float, Number(high=1.0, above=False)]
Joules = Annotated[float, Number("J", above=False)]
JoulesPerFlop = Annotated[float, Number("J/flop", above=False)]
JoulesPerByte = Annotated[float, Number("J/byte", above=False)]
Hertz = Annotated[float, Number("Hz")]
Dollars = Annotated[float, Number("USD", above=False)]
DollarsPerJoule = Annotated[float, Number("USD/J", above=False)]
DollarsPerSecond = Annotated[float, Number("USD/s", above=False)]
DollarsPerWatt = Annotated[float, Number("USD/W", above=False)]
DollarsPerByte = Annotated[float, Number("USD/byte", above=False)]
Metres = Annotated[float, Number("m", above=False)]
Area = Annotated[float, Number("m2")]
PerArea = Annotated[float, Number("1/m2", above=False)]
