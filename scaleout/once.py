"""What is worked out from specs once, as long as the same objects come again."""

from collections.abc import Callable
from typing import Any

__all__ = ["once"]

_MOST = 4096
_known: dict[tuple[int, ...], tuple[tuple[Any, ...], Any]] = {}


def once(make: Callable[..., Any], *specs: Any) -> Any:
    """What a pure function makes of specs.

    It is called once for the same objects; for equal but distinct ones again, which is quicker than to compare them.
    """
    key = (id(make), *map(id, specs))
    if key not in _known:
        if len(_known) >= _MOST:
            _known.clear()
        # what is kept here cannot give its id away to something else
        _known[key] = (specs, make(*specs))
    return _known[key][1]
