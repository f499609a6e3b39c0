"""HTML from Python: whatever is not known to be HTML is escaped."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["Html", "element", "join", "script_data"]

_VOID = frozenset({"br", "hr", "input", "link", "meta"})


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, attributes: Mapping[str, str] | None = None, **more: str) -> Html:
    """One element; children that are no `Html` are escaped.

    Parameters
    ----------
    attributes
        By name.
    more
        The same, for names that Python accepts: ``_`` at the end is left out, elsewhere it becomes ``-``.

    >>> print(element("p", "a < b ", element("b", "!"), class_="x"))
    <p class="x">a &lt; b <b>!</b></p>
    """
    named = {**(attributes or {}), **{key.rstrip("_").replace("_", "-"): value for key, value in more.items()}}
    words = "".join(f' {key}="{html.escape(value)}"' for key, value in named.items())
    if name in _VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{join(children)}</{name}>")


def join(parts: Iterable[str]) -> Html:
    """One after the other; what is no `Html` is escaped."""
    return Html("".join(part if isinstance(part, Html) else html.escape(part, quote=False) for part in parts))


def script_data(name: str, value: Any) -> Html:
    """Data for the page's script, which nothing in it can end or leave."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # inside a script element HTML knows no escapes, JSON does; a lone surrogate has no UTF-8
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    text = text.encode("utf-8", "backslashreplace").decode()
    return Html(f'<script type="application/json" id="{html.escape(name)}">{text}</script>')
