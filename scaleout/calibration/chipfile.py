"""Fitted constants as lines of a chip file."""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

from scaleout.units import Number

__all__ = ["block"]

_WIDTH = 100


def block(constants: Any) -> Iterator[str]:
    """Lines of YAML for every field that is not at its default."""
    hints = get_type_hints(type(constants), include_extras=True)
    for field in fields(constants):
        value = getattr(constants, field.name)
        if value == field.default or (field.default_factory is not MISSING and value == field.default_factory()):
            continue
        if is_dataclass(value):
            yield f"{field.name}:"
            yield from (f"  {line}" for line in block(value))
        elif field.name == "source":
            yield "source: >-"
            yield from (f"  {line}" for line in textwrap.wrap(value, _WIDTH))
        else:
            yield f"{field.name}: {_shown(value, hints[field.name])}"


def _shown(value: Any, hint: Any) -> str:
    """One value in the notation of the chip files."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_shown(item, None)}" for key, item in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    if isinstance(value, str):
        return f'"{value}"'
    number = next((meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, Number)), Number())
    if number.dimension == "s":
        return f"{value * 1e6:.5g} us"
    if number.dimension == "byte":
        return f"{value / 1e6:.5g} MB"
    return f"{value:.5g}"
