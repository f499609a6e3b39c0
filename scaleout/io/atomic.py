"""Files are written whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from scaleout.errors import ScaleoutError

__all__ = ["atomically"]


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file beside its place, which is moved there once it is whole.

    Raises
    ------
    ScaleoutError
        It cannot be written; nothing of it is left then.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
        temporary.chmod(0o644)
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise ScaleoutError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
