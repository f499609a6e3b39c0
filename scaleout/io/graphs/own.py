"""Topologies in scaleout's own YAML: vertices and links, a builder by name, or islands joined.

name: two chips and a switch                build: torus           islands:
bandwidth: 50 GB/s                          dims: [4, 4]             - {name: old, build: ring, ...}
latency: 1 us                               bandwidth: 50 GB/s       - {name: new, vertices: ...}
vertices:                                   latency: 1 us          vertices: [{name: core}]
  - {name: chip, kind: chip, count: 2}                             links:
  - {name: leaf}                                                     - {from: old/chip *, to: core}
links:
  - {from: chip *, to: leaf}
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError, TopologyError, near
from scaleout.io.graphs.assemble import Drawing, Edge, Vertex, assemble, value_of
from scaleout.io.graphs.build import built
from scaleout.io.graphs.graph import fabric_of
from scaleout.io.yaml import as_yaml
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.units import Number, describe, parse

__all__ = ["as_own", "read_own"]

_TOP = ("name", "source", "bandwidth", "latency", "inside", "parallel", "vertices", "links")
_VERTEX = ("name", "kind", "chip", "node", "count")
_LINK = ("from", "to", "bandwidth", "latency", "kind", "width", "one_way")
_COUNT = Number(low=1, high=LARGEST_MACHINE, above=False, integer=True)
_INSIDE = "scale-up"
_MOST_LINKS = 2_000_000
"""Rows of links that patterns may stand for: about a gigabyte."""
_MOST_LOOKS = 20_000_000
"""Names that patterns are held against, over all: a few seconds."""


def read_own(data: dict[str, Any], path: Path) -> Fabric:
    """The fabric of a file of one of the three forms.

    Raises
    ------
    SpecError
        A key is unknown or missing, or a value not accepted.
    TopologyError
        The network cannot be built, or falls apart.
    """
    return _read(data, str(path), path.stem)


def _read(data: dict[str, Any], where: str, stem: str) -> Fabric:
    if "build" in data:
        fabric = built({key: value for key, value in data.items() if key not in ("name", "source")}, where)
        if "name" not in data:
            return fabric
        return replace(fabric, topology=replace(fabric.topology, name=str(data["name"])))
    known = (*_TOP, "islands") if "islands" in data else _TOP
    _keys(data, known, where)
    if "islands" not in data and "vertices" not in data:
        raise SpecError(f"{where}: has no vertices; expected the key vertices, build or islands")
    parallel = data.get("parallel", "together")
    if parallel not in ("together", "apart"):
        raise SpecError(f"{where}: parallel: {parallel!r:.60} is not accepted; expected 'together' or 'apart'")
    drawing = Drawing(
        name=str(data.get("name", stem)),
        where=where,
        bandwidth=data.get("bandwidth"),
        latency=data.get("latency"),
        inside=str(data.get("inside") or (_INSIDE if "islands" in data else "")),
        bundle=parallel == "together",
    )
    if "islands" in data:
        _islands(drawing, data["islands"], where)
    for row, place in _rows(data, "vertices", where, _VERTEX):
        _vertex(drawing, row, place)
    names = _Names([str(vertex.id) for vertex in drawing.vertices])
    for row, place in _rows(data, "links", where, _LINK):
        _link(drawing, row, place, names)
    return fabric_of(assemble(drawing))


def _keys(row: Mapping[Any, Any], known: tuple[str, ...], where: str) -> None:
    for key in row:
        if key not in known:
            raise SpecError(f"{where}: {str(key)[:60]}: unknown key; {near(str(key), known)}")


def _rows(data: Mapping[str, Any], key: str, where: str, known: tuple[str, ...]) -> Iterator[tuple[Any, str]]:
    rows = data.get(key, [])
    if not isinstance(rows, list):
        raise SpecError(f"{where}: {key}: {rows!r:.60} is not accepted; expected a list")
    for i, row in enumerate(rows):
        place = f"{key}[{i}]"
        if not isinstance(row, dict):
            raise SpecError(f"{where}: {place}: {row!r:.60} is not accepted; expected the keys {', '.join(known)}")
        _keys(row, known, f"{where}: {place}")
        yield row, place


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if value is None or value == "" or isinstance(value, bool | list | dict):
        what = "is missing" if value is None else f"{value!r:.60} is not accepted"
        raise SpecError(f"{where}: {key}: {what}; expected a name")
    return str(value)


def _vertex(drawing: Drawing, row: dict[str, Any], place: str) -> None:
    name = _text(row, "name", f"{drawing.where}: {place}")
    if "*" in name:
        raise SpecError(f"{drawing.where}: {place}: name: {name!r:.60} is not accepted; * stands for any text in links")
    data: dict[str, Any] = {key: row[key] for key in ("kind", "chip", "node") if key in row}
    data = data or {"kind": "switch"}
    if "count" not in row:
        drawing.vertices.append(Vertex(name, data, place))
        return
    count = int(value_of(row["count"], _COUNT, f"{drawing.where}: {place}: count"))
    if count + len(drawing.vertices) > 2 * LARGEST_MACHINE:
        raise TopologyError(f"{drawing.where}: {place}: more than {2 * LARGEST_MACHINE:,} vertices")
    drawing.vertices += [Vertex(f"{name} {i}", data, place) for i in range(count)]


def _link(drawing: Drawing, row: dict[str, Any], place: str, names: "_Names") -> None:
    where = f"{drawing.where}: {place}"
    one_way = row.get("one_way", False)
    if not isinstance(one_way, bool):
        raise SpecError(f"{where}: one_way: {one_way!r:.60} is not accepted; expected true or false")
    sources, targets = (names.matching(_text(row, key, where), f"{where}: {key}") for key in ("from", "to"))
    if len(sources) * len(targets) + len(drawing.edges) > _MOST_LINKS:
        raise TopologyError(f"{where}: more than {_MOST_LINKS:,} links; a builder or a .json file holds more")
    data: dict[str, Any] = {key: row[key] for key in ("bandwidth", "latency", "kind", "width") if key in row}
    for key in ("bandwidth", "latency"):
        if key in data and not isinstance(data[key], str):
            raise SpecError(f"{where}: {key}: {data[key]!r:.60} has no unit")
    many = len(sources) * len(targets) > 1
    both = set(sources) & set(targets) if many else set()
    for one in sources:
        for other in targets:
            # among themselves each pair once
            if many and (one == other or (not one_way and one in both and other in both and one > other)):
                continue
            drawing.edges.append(Edge(one, other, not one_way, data, place))


class _Names:
    """Names of vertices, among which patterns are looked up."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.found: dict[str, list[str]] = {}

    def matching(self, pattern: str, where: str) -> list[str]:
        """Vertices of a name, or of a pattern in which one * stands for any text."""
        if "*" not in pattern:
            return [pattern]
        if pattern in self.found:
            return self.found[pattern]
        start, _, end = pattern.partition("*")
        if "*" in end:
            raise SpecError(f"{where}: {pattern!r:.60} is not accepted; expected at most one *")
        if (len(self.found) + 1) * len(self.names) > _MOST_LOOKS:
            raise TopologyError(f"{where}: too many patterns for {len(self.names):,} vertices; a .json file needs none")
        least = len(start) + len(end)
        found = [name for name in self.names if len(name) >= least and name.startswith(start) and name.endswith(end)]
        if not found:
            raise SpecError(f"{where}: {pattern!r:.60} is no vertex; {near(pattern.strip('* '), self.names[:1000])}")
        self.found[pattern] = found
        return found


def _islands(drawing: Drawing, rows: object, where: str) -> None:
    """Vertices and links of every island, under its name."""
    if not isinstance(rows, list) or not rows:
        raise SpecError(f"{where}: islands: expected a list of topologies, each with a name")
    seen: set[str] = set()
    for i, row in enumerate(rows):
        place = f"islands[{i}]"
        if not isinstance(row, dict):
            raise SpecError(f"{where}: {place}: {row!r:.60} is not accepted; expected a topology with a name")
        name = _text(row, "name", f"{where}: {place}")
        if name in seen:
            raise SpecError(f"{where}: {place}: name: {name!r:.60} is there twice")
        seen.add(name)
        island = _read(row, f"{where}: {place}", name).topology
        if len(drawing.vertices) + island.size > 2 * LARGEST_MACHINE:
            raise TopologyError(f"{where}: {place}: more than {2 * LARGEST_MACHINE:,} vertices")
        graph = island.to_networkx()
        label = [f"{name}/{island.vertex_name(v)}" for v in range(island.size)]
        for v, data in graph.nodes(data=True):
            node = f"{name}/{data['node']}" if data["node"] >= 0 else -1
            row = {"kind": data["kind"], "chip": data["chip"], "node": node}
            drawing.vertices.append(Vertex(label[v], row, place))
        for u, v, data in graph.edges(data=True):
            kind = drawing.inside if data["kind"] == island.kinds[0] else data["kind"]
            drawing.edges.append(Edge(label[u], label[v], False, {**data, "kind": kind}, place))


def as_own(topology: Topology) -> str:
    """A topology as the text of a YAML file, a vertex or a pair of links a line."""
    kinds = [kind for kind, count in topology.vertices for _ in range(count)]
    names = [topology.vertex_name(v) for v in range(topology.size)]
    if len(set(names)) < len(names):
        names = [f"{name} ({v})" for v, name in enumerate(names)]
    head = {"name": topology.name, "inside": topology.kinds[0], "parallel": "apart"}
    lines = [as_yaml(head), "vertices:\n"]
    for v, name in enumerate(names):
        vertex = {"name": name, "kind": kinds[v], "chip": v < topology.chips, "node": int(topology.home[v])}
        lines.append(f"  - {_flow(vertex)}\n")
    lines.append("links:\n")
    columns = (topology.source, topology.target, topology.bandwidth, topology.latency, topology.kind, topology.width)
    rows = list(zip(*(column.tolist() for column in columns), strict=True))
    waiting: dict[Any, int] = {}
    for row in rows:
        waiting[row] = waiting.get(row, 0) + 1
    for row in rows:
        u, v, bandwidth, latency, kind, width = row
        if not waiting[row]:
            continue
        waiting[row] -= 1
        back = (v, u, *row[2:])
        both = waiting.get(back, 0) > 0
        if both:
            waiting[back] -= 1
        link: dict[str, Any] = {
            "from": names[u],
            "to": names[v],
            "bandwidth": _exact(bandwidth, "byte/s"),
            "latency": _exact(latency, "s"),
            "kind": topology.kinds[kind],
        }
        if width > 1:
            link["width"] = width
        if not both:
            link["one_way"] = True
        lines.append(f"  - {_flow(link)}\n")
    return "".join(lines)


def _flow(row: dict[str, Any]) -> str:
    """A mapping on one line."""
    import yaml

    text = yaml.safe_dump(row, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=True)
    return str(text).strip()


def _exact(value: float, dimension: str) -> str:
    """A value as text that reads back as the very same."""
    shown = describe(value, dimension)
    unit = "B/s" if dimension == "byte/s" else dimension
    if value and parse(shown, dimension) == value:
        return shown
    return f"{value!r} {unit}"
