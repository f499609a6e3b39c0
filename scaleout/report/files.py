"""Files are written whole or not at all."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.atomic import atomically
from scaleout.report.style import FORMATS, render_as

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure_file", "output_folder", "write_all", "write_atomically", "write_figure"]


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A folder for output; what was made of it goes again where no output comes of it.

    Raises
    ------
    ScaleoutError
        It cannot be made, or not be written to.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ScaleoutError(f"{folder}: cannot be written to: {error.strerror}") from None
    try:
        yield folder
    except BaseException:
        for path in made:
            with suppress(OSError):
                path.rmdir()
        raise


def write_all(folder: Path, contents: Mapping[str, bytes]) -> list[Path]:
    """Write files into a folder, each whole; where one fails, none of the new ones stays."""
    written: list[Path] = []
    try:
        for name, data in contents.items():
            written.append(write_atomically(folder / name, data))
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    return written


def write_atomically(path: Path, data: bytes) -> Path:
    """Write a file beside its place, then move it there."""
    with atomically(path) as file:
        file.write(data)
    return path


def figure_file(path: Path) -> str:
    """The kind of figure that a file name asks for, before anything is simulated for it.

    Raises
    ------
    SpecError
        Another kind than those of `FORMATS`, or no folder to write into.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise SpecError(f"{path}: a figure ends in {' or '.join(f'.{name}' for name in FORMATS)}")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise SpecError(f"{path}: is a folder")
    return kind


def write_figure(path: Path, kind: str, draw: "Callable[[], Figure]") -> None:
    """Draw a figure and write it as a file of this kind."""
    os.environ["MPLBACKEND"] = "agg"
    write_atomically(path, render_as(draw(), kind))
