"""XML in, without what makes it dangerous.

A document type or an entity is refused where it begins, before anything could be expanded or
fetched; size and nesting are bounded.
"""

from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from scaleout.errors import SpecError

__all__ = ["LARGEST", "Element", "read_xml"]

LARGEST = 64_000_000
"""Size above which a graph's file is refused [byte]."""
_DEEPEST = 64
_MOST = 3_000_000
"""Elements of one file: 0.7 GB when read."""


@dataclass(slots=True)
class Element:
    """An element with its line, attributes and children; its text where it has none; tags without namespaces."""

    tag: str
    line: int
    attributes: dict[str, str]
    children: list["Element"] = field(default_factory=list)
    text: str = ""

    def all(self, *tags: str) -> list["Element"]:
        """Children of these tags, in order."""
        return [child for child in self.children if child.tag in tags]


def read_xml(path: Path, largest: int = LARGEST) -> Element:
    """The root of an XML file.

    Raises
    ------
    SpecError
        The file is missing, unreadable, too large, not XML, has a document type or entities, or is
        nested too deep.
    """
    try:
        if path.stat().st_size > largest:
            raise SpecError(f"{path}: larger than {largest:,} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    parser = expat.ParserCreate()
    parser.buffer_text = True
    root: list[Element] = []
    open_: list[Element] = []
    text: list[str] = []
    count = 0

    def refuse(what: str) -> None:
        raise SpecError(f"{path}, line {parser.CurrentLineNumber}: {what} are not accepted in XML")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1
        if len(open_) >= _DEEPEST:
            raise SpecError(f"{path}, line {parser.CurrentLineNumber}: nested deeper than {_DEEPEST} levels")
        if count > _MOST:
            raise SpecError(f"{path}, line {parser.CurrentLineNumber}: more than {_MOST:,} elements")
        element = Element(tag.rpartition(":")[2], parser.CurrentLineNumber, attributes)
        (open_[-1].children if open_ else root).append(element)
        open_.append(element)
        text.clear()

    def end(_: str) -> None:
        element = open_.pop()
        if not element.children:
            element.text = "".join(text)
        text.clear()

    parser.StartDoctypeDeclHandler = lambda *_: refuse("document types")
    parser.EntityDeclHandler = lambda *_: refuse("entities")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text.append
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise SpecError(f"{path}, line {error.lineno}: not readable as XML: {expat.ErrorString(error.code)}") from None
    except (LookupError, ValueError) as error:
        if isinstance(error, SpecError):
            raise
        raise SpecError(f"{path}: not readable as XML: {error}") from None
    return root[0]
