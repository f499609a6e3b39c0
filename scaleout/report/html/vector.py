"""An SVG file as a part of a page: only what draws, and no name that another figure on the page may have."""

import html
import re
from xml.etree import ElementTree

from scaleout.errors import ScaleoutError
from scaleout.report.html.markup import Html

__all__ = ["inline_svg"]

_ELEMENTS = frozenset(
    [
        "circle",
        "clipPath",
        "defs",
        "ellipse",
        "g",
        "image",
        "line",
        "linearGradient",
        "path",
        "pattern",
        "polygon",
        "polyline",
        "radialGradient",
        "rect",
        "stop",
        "svg",
        "text",
        "tspan",
        "use",
    ]
)
"""What is drawn; metadata, comments and style sheets, which would hold for all of the page, are left out."""
_REFERENCE = re.compile(r"url\(\s*['\"]?#([^)'\"]+)['\"]?\s*\)")
_FOREIGN = re.compile(r"url\(\s*['\"]?(?!#)", re.IGNORECASE)
_PICTURE = "data:image/png;base64,"


def inline_svg(data: bytes, prefix: str, label: str) -> tuple[Html, float]:
    """The figure as an element of HTML, and its natural width [pt].

    Parameters
    ----------
    prefix
        Goes before every name inside.
    label
        What it is called for those who do not see it.

    Raises
    ------
    ScaleoutError
        It is no SVG.
    """
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - our own figure; its text is escaped again below
    except ElementTree.ParseError as error:
        raise ScaleoutError(f"figure {label!r:.60}: is no SVG: {error}") from None
    width, height = (_points(root.get(name, "")) for name in ("width", "height"))
    box = root.get("viewBox") or f"0 0 {width:g} {height:g}"
    used = _references(root)
    head = f'<svg class="ink" role="img" aria-label="{html.escape(label)}" viewBox="{html.escape(box)}">'
    parts = [head]
    for child in root:
        _write(child, prefix, used, parts)
    parts.append("</svg>")
    return Html("".join(parts)), width


def _points(text: str) -> float:
    match = re.match(r"[\d.]+", text)
    return float(match.group()) if match else 0.0


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _references(root: ElementTree.Element) -> frozenset[str]:
    """Names that something inside refers to."""
    found: set[str] = set()
    for node in root.iter():
        for key, value in node.attrib.items():
            if _local(key) == "href" and value.startswith("#"):
                found.add(value[1:])
            else:
                found.update(_REFERENCE.findall(value))
    return frozenset(found)


def _write(node: ElementTree.Element, prefix: str, used: frozenset[str], parts: list[str]) -> None:
    name = _local(node.tag) if isinstance(node.tag, str) else ""
    if name not in _ELEMENTS:
        return
    words = []
    for key, value in node.attrib.items():
        plain = _attribute(_local(key), value, prefix, used)
        if plain is not None:
            words.append(f' {_local(key)}="{html.escape(plain)}"')
    parts.append(f"<{name}{''.join(words)}>")
    # between the elements of a group there is nothing but line ends
    if name in ("text", "tspan"):
        parts.append(html.escape(node.text or "", quote=False))
    for child in node:
        _write(child, prefix, used, parts)
        if name in ("text", "tspan"):
            parts.append(html.escape(child.tail or "", quote=False))
    parts.append(f"</{name}>")


def _attribute(key: str, value: str, prefix: str, used: frozenset[str]) -> str | None:
    """The value as it stands in the page; None where it does not."""
    if key == "id":
        return f"{prefix}{value}" if value in used else None
    if key == "href":
        if value.startswith("#"):
            return f"#{prefix}{value[1:]}"
        return value.replace("\n", "") if value.startswith(_PICTURE) else None
    if key.lower().startswith("on") or _FOREIGN.search(value):
        return None
    return _REFERENCE.sub(lambda match: f"url(#{prefix}{match.group(1)})", value)
