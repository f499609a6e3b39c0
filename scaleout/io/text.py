"""Text files in, never more of one than a page of text could be."""

from pathlib import Path

from scaleout.errors import SpecError

__all__ = ["read_text"]


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
