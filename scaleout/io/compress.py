"""The key `compress` of an experiment: transforms of its model and its precision, carried out in order."""

from typing import Any

from scaleout.errors import SpecError

__all__ = ["compress"]


def compress(data: dict[str, Any], where: str) -> None:
    """Carry out the transforms of a mapping whose references are resolved, and note them in `compressed`."""
    names = data.pop("compress", None)
    if not names:
        return
    raise SpecError(f"{where}: compress: {names!r:.60} is unknown")
