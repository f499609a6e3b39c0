"""Files are written whole or not at all."""

import os
import tempfile
from pathlib import Path

from scaleout.errors import ScaleoutError

__all__ = ["prepare_folder", "write_atomically"]


def prepare_folder(folder: Path) -> Path:
    """Make a folder for output.

    Raises
    ------
    ScaleoutError
        It cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ScaleoutError(f"{folder}: cannot be written to: {error.strerror}") from None
    return folder


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file beside its place, then move it there."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise ScaleoutError(f"{path}: cannot be written: {error.strerror}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path
