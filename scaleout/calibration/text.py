"""Fitted constants as the lines of a chip file."""

from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from scaleout.units import Number, describe

__all__ = ["indented", "lines_of"]


def lines_of(constants: Any) -> Iterator[str]:
    """Fields of a frozen dataclass that differ from their defaults, one a line, quantities with units.

    >>> from scaleout.specs import ElementwiseConstants
    >>> list(lines_of(ElementwiseConstants(launch=2e-6, efficiency=0.51239, source="here")))
    ['launch: 2 us', 'efficiency: 0.5124', 'source: here']
    """
    hints = get_type_hints(type(constants), include_extras=True)
    for field in fields(constants):
        value = getattr(constants, field.name)
        if field.default is not MISSING and value == field.default:
            continue
        dimension = _dimension(hints[field.name])
        if dimension and value is not None:
            yield f"{field.name}: {describe(value, dimension)}"
        elif isinstance(value, int | float):
            yield f"{field.name}: {value if isinstance(value, int) else f'{value:.4g}'}"
        elif isinstance(value, str):
            yield f"{field.name}: {_quoted(value)}"
        elif value:
            spans = ", ".join(f"{name}: [{low:.10g}, {high:.10g}]" for name, (low, high) in value.items())
            yield f"{field.name}: {{{spans}}}"


def _dimension(hint: Any) -> str:
    """Unit of an annotated number, or of one that may be None."""
    if get_origin(hint) is Annotated:
        return next((meta.dimension for meta in get_args(hint)[1:] if isinstance(meta, Number)), "")
    return next((unit for part in get_args(hint) if (unit := _dimension(part))), "")


def _quoted(text: str) -> str:
    """Plain where YAML reads it back as the same text."""
    return text if text.replace(" ", "").isalpha() else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def indented(lines: Iterable[str]) -> list[str]:
    """One level deeper."""
    return [f"  {line}" for line in lines]
