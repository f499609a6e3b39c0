"""Fitted constants as the lines of a chip file."""

import datetime
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, TypeVar, get_args, get_type_hints

from scaleout.units import Number, describe

__all__ = ["dated", "indented", "lines_of", "paragraph"]

T = TypeVar("T")
_WIDTH = 100


def lines_of(constants: Any) -> Iterator[str]:
    """Fields of a frozen dataclass that differ from their defaults, quantities with units.

    >>> from scaleout.specs import ElementwiseConstants
    >>> for line in lines_of(ElementwiseConstants(launch=2e-6, efficiency=0.51239, source="here")):
    ...     print(line)
    launch: 2 us
    efficiency: 0.5124
    source: >-
      here
    """
    hints = get_type_hints(type(constants), include_extras=True)
    for field in fields(constants):
        value = getattr(constants, field.name)
        if value == field.default or (field.default_factory is not MISSING and value == field.default_factory()):
            continue
        if is_dataclass(value):
            yield from (f"{field.name}:", *indented(lines_of(value)))
        elif field.name == "source":
            yield from paragraph(field.name, value)
        else:
            yield f"{field.name}: {_shown(value, _dimension(hints[field.name]))}"


def paragraph(name: str, words: str) -> list[str]:
    """A long text as a folded block."""
    return [f"{name}: >-", *indented(textwrap.wrap(words, _WIDTH))]


def indented(lines: Iterable[str]) -> list[str]:
    """One level deeper."""
    return [f"  {line}" for line in lines]


def dated(new: T, old: T | None) -> T:
    """The new constants with today as their day; with that of the old ones where they are the same in a file."""
    if old is not None:
        again: T = replace(new, fitted=old.fitted)  # type: ignore[type-var,attr-defined]
        if list(lines_of(again)) == list(lines_of(old)):
            return again
    today: T = replace(new, fitted=datetime.datetime.now(datetime.UTC).date().isoformat())  # type: ignore[type-var]
    return today


def _shown(value: Any, dimension: str) -> str:
    """One value in the notation of the chip files: four digits, and all times in one unit."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: [{low:.10g}, {high:.10g}]" for key, (low, high) in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if dimension == "s":
        return f"{value * 1e6:.4g} us"
    if dimension:
        return describe(value, dimension)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _dimension(hint: Any) -> str:
    """Unit of an annotated number, or of one that may be None."""
    rule = next((meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Number)), None)
    if rule is not None:
        return rule.dimension
    return next((unit for part in get_args(hint) if (unit := _dimension(part))), "")
