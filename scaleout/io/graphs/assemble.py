"""Vertices and edges of any source become a `Topology`: the one place where graphs are checked.

Every reader of a format hands over named vertices and edges with attributes, each with the place it
stands in, so that a message can point there. What comes out depends on the graph alone: chips keep
their order, other vertices stand by kind, links by their ends.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import SpecError, TopologyError
from scaleout.network.topology import Topology
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.units import Number

__all__ = ["CHIP_KINDS", "MOST_LINKS", "Drawing", "Edge", "Vertex", "assemble", "reached", "value_of"]

CHIP_KINDS = ("chip", "gpu", "npu", "tpu", "xpu", "accelerator")
"""Kinds of vertex that are chips without saying so."""
MOST_LINKS = 16_777_216
"""Directed links above which a graph is refused: 1 GB of arrays."""
_RATE, _TIME = Number("byte/s"), Number("s", above=False)
_WIDTH = Number(low=1, high=1e6, above=False, integer=True)


class Vertex(NamedTuple):
    """A vertex by what its source calls it, with attributes and the place it stands in."""

    id: Hashable
    attributes: Mapping[str, Any]
    place: str


class Edge(NamedTuple):
    """An edge from `source` to `target`, or `both` ways."""

    source: Hashable
    target: Hashable
    both: bool
    attributes: Mapping[str, Any]
    place: str


@dataclass(slots=True, kw_only=True)
class Drawing:
    """A graph as its source gives it, not checked yet.

    Parameters
    ----------
    where
        Where it comes from, for messages: a path.
    bandwidth, latency
        Of edges that give none [byte/s, s], as a number or with its unit; none: every edge has to.
    inside
        Kind of link that is inside nodes; empty where the ends of links tell.
    bundle
        Whether parallel links of one kind and latency are added up.
    """

    name: str
    where: str
    vertices: list[Vertex] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    bandwidth: float | str | None = None
    latency: float | str | None = None
    inside: str = ""
    bundle: bool = True


def value_of(value: object, number: Number, place: str) -> float:
    """A number as a file or graph gives it: SI, or text with its unit.

    Raises
    ------
    SpecError
        It is no such number; the message begins with the place.
    """
    try:
        return float(number.read(value) if isinstance(value, str) else number.check(value))
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None


def assemble(
    drawing: Drawing,
    chips: Collection[Hashable] | None = None,
    *,
    bandwidth: str = "bandwidth",
    latency: str = "latency",
) -> Topology:
    """The topology of a drawing.

    Parameters
    ----------
    chips
        Vertices that are chips, in the order of their ranks; None: as their attributes say.
    bandwidth, latency
        Names of the attributes of edges.

    Raises
    ------
    SpecError
        A vertex is there twice, an edge leads nowhere, or an attribute is missing or not accepted.
    TopologyError
        There is no chip, there are too many, or a chip cannot reach another.
    """
    where = drawing.where
    place: dict[Hashable, Vertex] = {}
    for vertex in drawing.vertices:
        if vertex.id in place:
            raise SpecError(f"{where}: {vertex.place}: {vertex.id!r} is there twice, first as {place[vertex.id].place}")
        place[vertex.id] = vertex
    ranked = _chips(drawing, place, chips)
    if len(ranked) > LARGEST_MACHINE:
        raise TopologyError(f"{where}: {len(ranked):,} chips; at most {LARGEST_MACHINE:,} are accepted")
    is_chip = set(ranked)
    kinds = {
        key: str(vertex.attributes.get("kind") or ("chip" if key in is_chip else "switch"))
        for key, vertex in place.items()
    }
    order = {kind: i for i, kind in enumerate(dict.fromkeys(k for key, k in kinds.items() if key not in is_chip))}
    rest = sorted((key for key in place if key not in is_chip), key=lambda key: order[kinds[key]])
    ids = [*ranked, *rest]
    index = {key: i for i, key in enumerate(ids)}
    groups = [*_runs(kinds[key] for key in ranked), *_runs(kinds[key] for key in rest)]

    rows = _rows(drawing, index, bandwidth, latency)
    home, inner = _islands(drawing, [place[key] for key in ids], len(ranked), rows)
    names, kind = _link_kinds(drawing, rows, inner)
    topology = Topology(
        name=drawing.name,
        chips=len(ranked),
        vertices=tuple(groups),
        source=rows.source,
        target=rows.target,
        bandwidth=rows.bandwidth,
        latency=rows.latency,
        kind=kind,
        kinds=names,
        node=home[: len(ranked)],
        home=home,
        labels=_labels([place[key] for key in ids], where),
        width=rows.width,
    )
    _check_reach(topology, where)
    plain = tuple(f"{kind} {i}" for kind, count in groups for i in range(count))
    if topology.labels == plain and len(set(plain)) == len(plain):
        object.__setattr__(topology, "labels", ())
    return topology


def _chips(drawing: Drawing, place: Mapping[Hashable, Vertex], chips: Collection[Hashable] | None) -> list[Hashable]:
    """Vertices that are chips, in the order of their ranks."""
    where = drawing.where
    if chips is not None:
        ranked = list(chips)
        for key in ranked:
            if key not in place:
                raise SpecError(f"{where}: chips: {key!r:.60} is no vertex of the graph")
        if len(set(ranked)) < len(ranked):
            raise SpecError(f"{where}: chips: a vertex is named twice")
    else:
        marked = [key for key, v in place.items() if "chip" in v.attributes or v.attributes.get("kind") is not None]
        ranked = [key for key, vertex in place.items() if not marked or _says_chip(vertex, where)]
    if not ranked:
        seen = ", ".join(sorted({str(v.attributes.get("kind"))[:20] for v in place.values()})[:6]) or "no vertex"
        raise TopologyError(
            f"{where}: no vertex is a chip (kinds: {seen}); expected chip: true, or one of the kinds "
            f"{', '.join(CHIP_KINDS)}"
        )
    return ranked


def _says_chip(vertex: Vertex, where: str) -> bool:
    if "chip" not in vertex.attributes:
        return str(vertex.attributes.get("kind")).lower() in CHIP_KINDS
    value = vertex.attributes["chip"]
    if not isinstance(value, bool | np.bool_):
        raise SpecError(f"{where}: {vertex.place}: chip: {value!r:.60} is not accepted; expected true or false")
    return bool(value)


def _runs(kinds: Iterable[str]) -> list[tuple[str, int]]:
    return [(kind, len(list(same))) for kind, same in groupby(kinds)]


@dataclass(slots=True, kw_only=True)
class _Rows:
    """Links, sorted by their ends; `name` is the kind that the source gives, or empty."""

    source: Ints
    target: Ints
    bandwidth: Any
    latency: Any
    width: Ints
    name: list[str]


def _rows(drawing: Drawing, index: Mapping[Hashable, int], bandwidth: str, latency: str) -> _Rows:
    found: list[tuple[int, int, float, float, int, str]] = []
    bundles: dict[tuple[int, int, float, str], int] = {}
    for edge in drawing.edges:
        where = f"{drawing.where}: {edge.place}"
        for end in (edge.source, edge.target):
            if end not in index:
                raise SpecError(f"{where}: {str(end)[:60]!r} is no vertex of the graph")
        u, v = index[edge.source], index[edge.target]
        if u == v:
            raise SpecError(f"{where}: {str(edge.source)[:60]!r} is linked to itself")
        rate = _value(edge, bandwidth, drawing.bandwidth, _RATE, where)
        delay = _value(edge, latency, drawing.latency, _TIME, where)
        width = int(value_of(edge.attributes.get("width", 1), _WIDTH, f"{where}: width"))
        name = str(edge.attributes.get("kind") or "")
        for a, b in ((u, v), (v, u)) if edge.both else ((u, v),):
            key = (a, b, delay, name)
            if drawing.bundle and key in bundles:
                row = found[bundles[key]]
                found[bundles[key]] = (a, b, row[2] + rate, delay, row[4] + width, name)
                continue
            bundles[key] = len(found)
            found.append((a, b, rate, delay, width, name))
        if len(found) > MOST_LINKS:
            raise TopologyError(f"{where}: more than {MOST_LINKS:,} links")
    found.sort(key=lambda row: row[:2])
    columns: list[Any] = [*zip(*found, strict=True)] or [()] * 6
    return _Rows(
        source=np.array(columns[0], dtype=np.int64),
        target=np.array(columns[1], dtype=np.int64),
        bandwidth=np.array(columns[2], dtype=np.float64),
        latency=np.array(columns[3], dtype=np.float64),
        width=np.array(columns[4], dtype=np.int64),
        name=list(columns[5]),
    )


def _value(edge: Edge, name: str, default: float | str | None, number: Number, where: str) -> float:
    value = edge.attributes.get(name)
    if value is None:
        value = default
    if value is None:
        raise SpecError(f"{where}: {name} is missing; expected {number.accepts()}, here or as the default of all links")
    return value_of(value, number, f"{where}: {name}")


def _islands(drawing: Drawing, vertices: list[Vertex], chips: int, rows: _Rows) -> tuple[Ints, Bools]:
    """Node of each vertex, -1 for none, and whether each link is inside a node."""
    given = [v.attributes.get("node", v.attributes.get("island")) for v in vertices]
    missing = [v for v, value in zip(vertices[:chips], given, strict=False) if value is None]
    if missing and len(missing) < chips:
        raise SpecError(f"{drawing.where}: {missing[0].place}: node is missing; other chips have one")
    numbers = all(isinstance(value, int | np.integer) and not isinstance(value, bool) for value in given[:chips])
    seen = [int(value) if numbers else str(value) for value in given[:chips]] if not missing else [0] * chips
    names = {value: i for i, value in enumerate(sorted(set(seen)) if numbers else dict.fromkeys(seen))}
    place = np.full(len(vertices), -1, dtype=np.int64)
    place[:chips] = [names[value] for value in seen]
    for v in range(chips, len(vertices)):
        if given[v] is not None and not missing:
            place[v] = names.get(int(given[v]) if numbers and isinstance(given[v], int) else str(given[v]), -1)
    # a vertex that does not say is inside a node where all of its neighbours are
    neighbours = np.unique(np.concatenate((rows.source * len(vertices) + rows.target,
                                           rows.target * len(vertices) + rows.source)))  # fmt: skip
    ends, beside = neighbours // len(vertices), neighbours % len(vertices)
    low, high = np.full(len(vertices), len(vertices)), np.full(len(vertices), -2)
    known = place.copy()
    np.minimum.at(low, ends, known[beside])
    np.maximum.at(high, ends, known[beside])
    quiet = (place < 0) & (low == high) & np.array([value is None for value in given], dtype=np.bool_)
    place[quiet] = low[quiet]
    if len(names) == 1:
        return place, np.ones(len(rows.source), dtype=np.bool_)
    return place, (place[rows.source] == place[rows.target]) & (place[rows.source] >= 0)


def _link_kinds(drawing: Drawing, rows: _Rows, inner: Bools) -> tuple[tuple[str, ...], Ints]:
    """Names of the kinds of link, that inside nodes first, and the kind of each link."""
    names = [
        name or (("link" if inner.all() else "scale-up") if inside else "network")
        for name, inside in zip(rows.name, inner.tolist(), strict=True)
    ]
    inside = drawing.inside or next((name for name, here in zip(names, inner, strict=True) if here), "inside")
    kinds = {name: i for i, name in enumerate(dict.fromkeys((inside, *names)))}
    return tuple(kinds), np.array([kinds[name] for name in names], dtype=np.int64)


def _labels(vertices: list[Vertex], where: str) -> tuple[str, ...]:
    """Names of vertices; where two have the same, what the source calls them instead."""
    names = [str(v.attributes.get("name") or v.id) for v in vertices]
    if len(set(names)) == len(names):
        return tuple(names)
    names = [str(v.id) for v in vertices]
    first: dict[str, str] = {}
    for vertex, name in zip(vertices, names, strict=True):
        if name in first:
            raise SpecError(f"{where}: {vertex.place}: {name!r} is there twice, first as {first[name]}")
        first[name] = vertex.place
    return tuple(names)


def reached(source: Ints, target: Ints, vertices: int, start: int) -> Bools:
    """Vertices that can be reached from one, along links."""
    order = np.argsort(source, kind="stable")
    heads, first = target[order], np.searchsorted(source[order], np.arange(vertices + 1))
    seen = np.zeros(vertices, dtype=np.bool_)
    seen[start] = True
    edge = np.array([start])
    while len(edge):
        counts = first[edge + 1] - first[edge]
        steps = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        found = heads[np.repeat(first[edge], counts) + steps]
        edge = np.unique(found[~seen[found]])
        seen[edge] = True
    return seen


def _check_reach(topology: Topology, where: str) -> None:
    """Every chip reaches every other: the first reaches all, and all reach it."""
    chips = topology.chips
    for a, b, back in ((topology.source, topology.target, False), (topology.target, topology.source, True)):
        lost = np.flatnonzero(~reached(a, b, topology.size, 0)[:chips])
        if len(lost):
            one, other = topology.vertex_name(0), topology.vertex_name(int(lost[0]))
            one, other = (other, one) if back else (one, other)
            more = f" ({len(lost):,} of {chips:,} chips are cut off)" if len(lost) > 1 else ""
            raise TopologyError(f"{where}: no path from {one} to {other}{more}")
