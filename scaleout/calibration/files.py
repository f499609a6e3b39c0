"""Constants go back into a spec file as text: one section is replaced, every other line stays as it is."""

import re
from pathlib import Path

from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.atomic import atomically

__all__ = ["replace_section", "write_section", "write_whole"]

_INDENT = "  "


def replace_section(text: str, path: tuple[str, ...], section: str) -> str:
    """A YAML document with one block under a key replaced, or added where it is missing.

    Parameters
    ----------
    text
        Block-style YAML, two spaces a level.
    path
        Keys from the top, such as ``("gemm", "bf16")``.
    section
        The new block without its key, indented as if it stood at the top.

    >>> print(replace_section("name: a\\ngemm:  # fitted\\n  bf16:\\n    t: 1\\n", ("gemm", "bf16"), "t: 2"), end="")
    name: a
    gemm:  # fitted
      bf16:
        t: 2
    """
    lines = text.splitlines()
    start, stop = 0, len(lines)
    for depth, key in enumerate(path):
        margin = _INDENT * depth
        head = re.compile(rf"{margin}{re.escape(key)}:\s*(#.*)?$")
        at = next((i for i in range(start, stop) if head.match(lines[i])), None)
        if at is None:
            if any(line.startswith(f"{margin}{key}:") for line in lines[start:stop]):
                raise SpecError(f"{'.'.join(path[: depth + 1])}: is not written as an indented block")
            missing = [f"{_INDENT * (depth + i)}{name}:" for i, name in enumerate(path[depth:])]
            return _joined(lines[:stop], missing, _indented(section, len(path)), lines[stop:])
        start, stop = at + 1, _end(lines, at + 1, stop, len(margin))
    return _joined(lines[:start], _indented(section, len(path)), lines[stop:])


def _end(lines: list[str], start: int, stop: int, margin: int) -> int:
    """First line after a block; comments and blanks right before the next key belong to that key."""
    at = start
    while at < stop and (not lines[at].strip() or len(lines[at]) - len(lines[at].lstrip()) > margin):
        at += 1
    while at > start and not lines[at - 1].strip():
        at -= 1
    return at


def _indented(section: str, depth: int) -> list[str]:
    return [f"{_INDENT * depth}{line}" if line.strip() else "" for line in section.rstrip("\n").splitlines()]


def _joined(*parts: list[str]) -> str:
    return "\n".join(line for part in parts for line in part) + "\n"


def write_section(file: Path, path: tuple[str, ...], section: str) -> None:
    """Replace one section of a YAML file; the file is written whole or not at all.

    Raises
    ------
    SpecError
        The file cannot be read or written, or the section is not a block.
    """
    try:
        write_whole(file, replace_section(file.read_text(encoding="utf-8"), path, section))
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror}") from None
    except SpecError as error:
        raise SpecError(f"{file}: {error}") from None


def write_whole(file: Path, text: str) -> None:
    """Write a text file, whole or not at all; the folder is made where it is missing.

    Raises
    ------
    ScaleoutError
        The file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ScaleoutError(f"{file}: cannot be written: {error.strerror}") from None
    with atomically(file) as stream:
        stream.write(text.encode())
