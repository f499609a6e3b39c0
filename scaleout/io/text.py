"""Text files in, never more of one than a page of text could be."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from scaleout.errors import MeasurementError, SpecError

__all__ = ["read_text", "text_lines"]


def read_text(path: Path, largest: int, what: str) -> str:
    """The text of a file.

    Parameters
    ----------
    largest
        Size above which the file is refused [byte].
    what
        What the file should be, in words, for the message.

    Raises
    ------
    SpecError
        The file is missing, unreadable, too large, or no text.
    """
    try:
        if path.stat().st_size > largest:
            raise SpecError(f"{path}: larger than {largest:,} bytes; {what}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        reason = getattr(error, "strerror", None) or "not a text file in UTF-8"
        raise SpecError(f"{path}: cannot be read: {reason}") from None


def text_lines(file: BinaryIO, longest: int, expected: str) -> Iterator[str]:
    """Lines of UTF-8 text, of fewer than `longest` bytes; a byte order mark is dropped.

    Raises
    ------
    MeasurementError
        A line is longer, or no text; the message says that `expected` belongs here.
    """
    line = 0
    while data := file.readline(longest):
        line += 1
        if len(data) >= longest:
            raise MeasurementError(f"line {line}: longer than {longest:,} characters; expected {expected}")
        try:
            text = data.decode("utf-8-sig" if line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise MeasurementError(f"line {line}: not UTF-8 text at byte {error.start}; expected {expected}") from None
        if "\0" in text:
            raise MeasurementError(f"line {line}: holds a zero byte; expected {expected}")
        yield text
