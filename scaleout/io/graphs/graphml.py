"""GraphML in and out, the part of it that networks need: typed attributes, vertices, edges."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from scaleout.errors import SpecError, TopologyError, near
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex
from scaleout.io.graphs.xml import Element
from scaleout.network.topology import Topology

__all__ = ["as_graphml", "read_graphml"]

_WORDS = {"true": True, "1": True, "false": False, "0": False}
_TYPES: dict[str, Any] = {
    "boolean": lambda text: _WORDS[text.lower()],
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "string": str,
}
_NAMES = {bool: "boolean", int: "long", float: "double", str: "string"}


def read_graphml(root: Element, path: Path) -> Drawing:
    """The graph of a GraphML file.

    Raises
    ------
    SpecError
        It is not GraphML, or has hyperedges, ports or graphs within graphs.
    """
    where = str(path)
    keys: dict[str, tuple[str, Any, str]] = {}
    defaults: dict[str, dict[str, Any]] = {"node": {}, "edge": {}, "graph": {}}
    for key in root.all("key"):
        kind, name = key.attributes.get("attr.type", "string"), key.attributes.get("attr.name")
        ident = key.attributes.get("id")
        if ident is None:
            raise SpecError(f"{where}, line {key.line}: a key without an id")
        if kind not in _TYPES:
            raise SpecError(f"{where}, line {key.line}: attr.type {kind!r:.60} is unknown; {near(kind, _TYPES)}")
        if ident in keys:
            raise SpecError(f"{where}, line {key.line}: key {ident!r:.60} is there twice")
        keys[ident] = (name or ident, _TYPES[kind], kind)
        for element in key.all("default"):
            domain = key.attributes.get("for", "all")
            value = _read(element, keys[ident], where)
            for part in defaults if domain == "all" else (domain,):
                defaults.setdefault(part, {})[keys[ident][0]] = value
    graphs = root.all("graph")
    if len(graphs) != 1:
        raise SpecError(f"{where}: holds {len(graphs)} graphs; expected one")
    graph = graphs[0]
    default = graph.attributes.get("edgedefault", "directed")
    if default not in ("directed", "undirected"):
        raise SpecError(
            f"{where}, line {graph.line}: edgedefault {default!r:.60} is not accepted; expected directed or undirected"
        )
    about = _attributes(graph, keys, defaults["graph"], where)
    drawing = Drawing(
        name=str(about.get("name") or path.stem),
        where=where,
        inside=str(about.get("inside") or ""),
        bundle=about.get("parallel", "together") == "together",
    )
    for child in graph.children:
        place = f"line {child.line}"
        if child.tag == "node":
            if child.all("graph", "port"):
                raise SpecError(f"{where}, {place}: ports and graphs within graphs are not accepted")
            data = _attributes(child, keys, defaults["node"], where)
            drawing.vertices.append(Vertex(_needed(child, "id", where), data, place))
        elif child.tag == "edge":
            way = child.attributes.get("directed")
            if way is not None and way.lower() not in _WORDS:
                raise SpecError(f"{where}, {place}: directed: {way!r:.60} is not accepted; expected true or false")
            both = default == "undirected" if way is None else not _WORDS[way.lower()]
            data = _attributes(child, keys, defaults["edge"], where)
            ends = _needed(child, "source", where), _needed(child, "target", where)
            drawing.edges.append(Edge(*ends, both, data, place))
        elif child.tag == "hyperedge":
            raise SpecError(f"{where}, {place}: hyperedges are not accepted; expected edges between two vertices")
    return drawing


def _needed(element: Element, name: str, where: str) -> str:
    if name not in element.attributes:
        raise SpecError(f"{where}, line {element.line}: {element.tag} without {name}")
    return element.attributes[name]


def _attributes(
    element: Element, keys: dict[str, tuple[str, Any, str]], defaults: dict[str, Any], where: str
) -> dict[str, Any]:
    found = dict(defaults)
    for data in element.children:
        if data.tag != "data":
            continue
        key = data.attributes.get("key", "")
        if key not in keys:
            raise SpecError(f"{where}, line {data.line}: key {key!r:.60} is not declared; {near(key, keys)}")
        if data.children:
            continue  # drawings of editors
        found[keys[key][0]] = _read(data, keys[key], where)
    return found


def _read(element: Element, key: tuple[str, Any, str], where: str) -> Any:
    name, kind, type_name = key
    text = element.text if type_name == "string" else element.text.strip()
    try:
        return kind(text)
    except (ValueError, KeyError):
        raise SpecError(f"{where}, line {element.line}: {name}: {text!r:.60} is no {type_name}") from None


def as_graphml(topology: Topology) -> str:
    """A topology as the text of a GraphML file.

    Raises
    ------
    TopologyError
        A name holds a character that XML cannot.
    """
    graph: Any = topology.to_networkx()
    parts = {
        "graph": [dict(graph.graph)],
        "node": [data for _, data in graph.nodes(data=True)],
        "edge": [data for _, _, data in graph.edges(data=True)],
    }
    keys: dict[tuple[str, str], str] = {}
    head = []
    for domain, rows in parts.items():
        for name, value in {name: value for row in rows[::-1] for name, value in row.items()}.items():
            keys[domain, name] = f"d{len(keys)}"
            head.append(
                f'  <key id="{keys[domain, name]}" for="{domain}" attr.name="{name}" '
                f'attr.type="{_NAMES[type(value)]}"/>'
            )

    def data(domain: str, row: dict[str, Any]) -> str:
        return "".join(f'<data key="{keys[domain, name]}">{_text(value)}</data>' for name, value in row.items())

    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">',
        *head,
        f'  <graph edgedefault="directed">{data("graph", graph.graph)}',
        *(f'    <node id="{v}">{data("node", row)}</node>' for v, row in graph.nodes(data=True)),
        *(
            f"    <edge source={quoteattr(str(u))} target={quoteattr(str(v))}>{data('edge', row)}</edge>"
            for u, v, row in graph.edges(data=True)
        ),
        "  </graph>",
        "</graphml>",
    ]
    text = "\n".join(lines) + "\n"
    bad = next((c for c in text if (c < " " and c != "\n") or "\ud800" <= c <= "\udfff" or c in "\ufffe\uffff"), None)
    if bad is not None:
        raise TopologyError(f"{topology.name!r:.60}: a name holds {bad!r}, which XML cannot; write .json instead")
    return text


def _text(value: Any) -> str:
    return (
        str(value).lower()
        if isinstance(value, bool)
        else escape(repr(value) if isinstance(value, float) else str(value))
    )
