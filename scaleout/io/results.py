"""Results from files that ``scaleout run`` wrote."""

from pathlib import Path

from scaleout.errors import SpecError
from scaleout.io.text import read_text
from scaleout.result import Result

__all__ = ["read_result"]

_LARGEST = 16_000_000
"""A result with many thousand pipeline stages is still below this [byte]."""


def read_result(path: str | Path) -> Result:
    """The result of a ``result.json``.

    Raises
    ------
    SpecError
        The file cannot be read, or holds no result.
    """
    text = read_text(Path(path), _LARGEST, "a result is smaller")
    try:
        return Result.from_json(text)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
