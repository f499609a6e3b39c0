"""Constants into a chip file: only the blocks that were fitted change, comments and all else stay."""

import os
import re
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from scaleout.errors import SpecError
from scaleout.specs import GemmConstants
from scaleout.units import Number

__all__ = ["block", "with_gemm", "write_gemm"]

_WIDTH = 100


def write_gemm(path: Path, found: Mapping[str, GemmConstants]) -> None:
    """Put constants into the ``gemm:`` section of a chip file, all at once or not at all."""
    try:
        text = with_gemm(path.read_text(encoding="utf-8"), found)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}.", delete=False
        ) as file:
            file.write(text)
        Path(file.name).chmod(path.stat().st_mode)
        os.replace(file.name, path)
    except OSError as error:
        raise SpecError(f"{path}: cannot be written: {error.strerror}") from None


def with_gemm(text: str, found: Mapping[str, GemmConstants]) -> str:
    """The text of a chip file with these dtypes' constants in place of what was there."""
    lines = text.splitlines()
    start = next((row for row, line in enumerate(lines) if re.match(r"gemm\s*:", line)), None)
    if start is None:
        start = next(row for row, line in enumerate(lines) if re.match(r"(attention|source)\s*:", line))
        lines.insert(start, "gemm:")
    end = next((row for row in range(start + 1, len(lines)) if re.match(r"\S", lines[row])), len(lines))
    body = lines[start + 1 : end]
    for dtype, constants in found.items():
        first = next((row for row, line in enumerate(body) if re.match(rf"  {dtype}\s*:", line)), len(body))
        last = next((row for row in range(first + 1, len(body)) if re.match(r"  \S", body[row])), len(body))
        body[first:last] = [f"  {dtype}:", *(f"    {line}" for line in block(constants))]
    return "\n".join([*lines[:start], "gemm:", *body, *lines[end:]]) + "\n"


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
