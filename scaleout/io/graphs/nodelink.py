"""Graphs as JSON in networkx's node-link form."""

import json
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError, near
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex
from scaleout.io.graphs.xml import LARGEST
from scaleout.io.text import read_text
from scaleout.network.topology import Topology

__all__ = ["as_nodelink", "read_nodelink"]

_KEYS = ("directed", "multigraph", "graph", "nodes", "edges", "links")


def read_nodelink(path: Path) -> Drawing:
    """The graph of a JSON file; edges may be called ``edges`` or ``links``.

    Raises
    ------
    SpecError
        The file is unreadable, not JSON, or not of this form.
    """
    text = read_text(path, LARGEST, "a graph is smaller")
    try:
        data = json.loads(text, parse_constant=_constant, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise SpecError(f"{path}, line {error.lineno}: not readable as JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise SpecError(f"{path}: not readable as JSON: {reason}") from None
    where = str(path)
    if not isinstance(data, dict):
        raise SpecError(f"{where}: is a {type(data).__name__}; expected an object with the keys nodes and edges")
    for key in data:
        if key not in _KEYS:
            raise SpecError(f"{where}: {key[:60]}: unknown key; {near(key, _KEYS)}")
    edges = "links" if "links" in data else "edges"
    if "links" in data and "edges" in data:
        raise SpecError(f"{where}: has edges and links; expected one of them")
    about = data.get("graph") or {}
    # older files of networkx give the graph's attributes as pairs
    about = dict(about) if _pairs(about) else about
    if not isinstance(about, dict):
        raise SpecError(f"{where}: graph: expected an object of attributes")
    directed = data.get("directed", False)
    if not isinstance(directed, bool):
        raise SpecError(f"{where}: directed: {directed!r:.60} is not accepted; expected true or false")
    parallel = about.get("parallel", "together")
    if parallel not in ("together", "apart"):
        raise SpecError(f"{where}: graph.parallel: {parallel!r:.60} is not accepted; expected 'together' or 'apart'")
    drawing = Drawing(
        name=str(about.get("name") or path.stem),
        where=where,
        inside=str(about.get("inside") or ""),
        bundle=parallel == "together",
    )
    for i, row in enumerate(_list(data, "nodes", where)):
        place = f"nodes[{i}]"
        drawing.vertices.append(Vertex(_id(row, "id", f"{where}: {place}"), row, place))
    for i, row in enumerate(_list(data, edges, where)):
        place = f"{edges}[{i}]"
        ends = [_id(row, key, f"{where}: {place}") for key in ("source", "target")]
        drawing.edges.append(Edge(ends[0], ends[1], not directed, row, place))
    return drawing


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)!r:.60} is given twice")
    return found


def _pairs(about: object) -> bool:
    return isinstance(about, list) and all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) for row in about
    )


def _list(data: dict[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    rows = data.get(key)
    if not isinstance(rows, list):
        kind = "missing" if rows is None else f"a {type(rows).__name__}"
        raise SpecError(f"{where}: {key}: is {kind}; expected a list of objects")
    for i, row in enumerate(rows):
        if not isinstance(row, dict):
            raise SpecError(f"{where}: {key}[{i}]: {row!r:.60} is not accepted; expected an object")
    return rows


def _id(row: dict[str, Any], key: str, where: str) -> Hashable:
    if key not in row:
        raise SpecError(f"{where}: {key} is missing")
    value: Hashable = _tuple(row[key])
    try:
        hash(value)
    except TypeError:
        raise SpecError(f"{where}: {key}: {value!r:.60} is not accepted; expected text or a number") from None
    return value


def _tuple(value: Any) -> Any:
    return tuple(_tuple(part) for part in value) if isinstance(value, list) else value


def as_nodelink(topology: Topology) -> str:
    """A topology as JSON, one vertex or link a line."""
    graph: Any = topology.to_networkx()
    head = {"directed": True, "multigraph": graph.is_multigraph(), "graph": dict(graph.graph)}
    nodes = [json.dumps({"id": v, **data}) for v, data in graph.nodes(data=True)]
    edges = [json.dumps({"source": u, "target": v, **data}) for u, v, data in graph.edges(data=True)]
    if graph.is_multigraph():
        edges = [
            json.dumps({"source": u, "target": v, "key": key, **data})
            for u, v, key, data in graph.edges(keys=True, data=True)
        ]
    rows = [f'"nodes": [\n{_joined(nodes)}]', f'"edges": [\n{_joined(edges)}]']
    return f"{json.dumps(head)[:-1]},\n" + ",\n".join(rows) + "}\n"


def _joined(rows: list[str]) -> str:
    return "".join(f"{row}{',' if i + 1 < len(rows) else ''}\n" for i, row in enumerate(rows))
