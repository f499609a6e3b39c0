"""A sign of life while something is simulated."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["counting", "progress"]


@contextmanager
def progress(words: str) -> Iterator[None]:
    """A sign of life on the error stream, where that is a terminal."""
    with counting(words):
        yield


@contextmanager
def counting(words: str, total: int | None = None) -> Iterator[Callable[[int], None] | None]:
    """The same, with a function that takes how many of them are done; None where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console

    of = f" of {total:,}" if total else ""
    with Console(stderr=True).status(words) as status:
        yield lambda count: status.update(f"{count:,}{of} {words}")
