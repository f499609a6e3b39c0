"""Routing on any graph: shortest paths by tables, ECMP, even splits, Valiant, ways around dead links.

Builders route by arithmetic; what is here works on every topology, drawn by hand or imported. A
table holds the distance of every vertex to one goal and is made when the first flow asks for it.
Vertices that hang on a single neighbour are left out of the tables: a chip is as far as its switch,
plus one. Same topology, same flows, same seed: same paths, in whatever order they are asked for.

A routing of one's own is one function from many sources and targets to links:

>>> from dataclasses import replace
>>> from scaleout.network import mesh
>>> square = mesh((2, 2), bandwidth=50e9, latency=1e-6)
>>> def column_first(source, target):
...     middle = target // 2 * 2 + source % 2
...     return link_between(square.topology, np.column_stack((source, middle, target)))
>>> fabric = with_routing(square, column_first)
>>> [square.topology.link_name(link) for link in fabric.route(np.array([0]), np.array([3])).link]
['chip 0 -> chip 2', 'chip 2 -> chip 3']
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric, Loads, Paths, Routing, in_rows, lay
from scaleout.network.searching import scramble
from scaleout.network.tables import By, Tables, marked
from scaleout.network.topology import Topology
from scaleout.network.trodden import trodden

__all__ = [
    "Everywhere",
    "avoiding",
    "ecmp",
    "link_between",
    "shortest",
    "spray",
    "valiant",
    "with_routing",
]


@dataclass(frozen=True, slots=True, eq=False)
class Everywhere:
    """A routing that joins any two vertices, not only chips."""

    find: Callable[[Ints, Ints], Ints | Paths | Loads]

    def __call__(self, source: Ints, target: Ints) -> Ints | Paths | Loads:
        """Links of the flows source[i] -> target[i]."""
        return self.find(source, target)


def with_routing(fabric: Fabric, routing: Routing) -> Fabric:
    """The same fabric with another routing, `shortest`, `ecmp`, ... of its topology or one's own.

    What one's own finds is held to be paths from source to target when it is asked for.

    Raises
    ------
    TopologyError
        The routing is no function; later, what it finds is no path.
    """
    if not callable(routing):
        raise TopologyError(f"a routing is a function from sources and targets to links, not {routing!r:.60}")
    if isinstance(routing, Everywhere):
        return replace(fabric, paths=routing, everywhere=True)
    return replace(
        fabric, paths=routing if routing is fabric.paths else trodden(fabric.topology, routing), everywhere=False
    )


def shortest(
    topology: Topology, *, dead: Sequence[int] | Ints = (), by: By = "hops", forward: bool = True
) -> Everywhere:
    """One shortest path a flow; the target decides among equal next hops (d-mod-k).

    Parameters
    ----------
    dead
        Links that no path may use.
    by
        What is least: hops, or latency [s] and then hops.
    forward
        Whether traffic of others may pass through chips.

    Raises
    ------
    TopologyError
        When asked for a pair that nothing joins.

    >>> from scaleout.network import leaf_spine
    >>> fabric = leaf_spine(8, chips_per_leaf=4, spines=2, bandwidth=50e9, latency=1e-6, bundled=False)
    >>> fabric = with_routing(fabric, shortest(fabric.topology))
    >>> [fabric.topology.link_name(link) for link in fabric.route(np.array([0]), np.array([5])).link]
    ['chip 0 -> leaf 0', 'leaf 0 -> spine 1', 'spine 1 -> leaf 1', 'leaf 1 -> chip 5']
    """
    tables = Tables(topology, dead, by, forward)
    return Everywhere(lambda source, target: tables.walks(source, target, target, hashed=False))


def ecmp(
    topology: Topology,
    *,
    paths: int = 1,
    seed: int = 0,
    dead: Sequence[int] | Ints = (),
    by: By = "hops",
    forward: bool = True,
) -> Everywhere:
    """Every vertex hashes a flow to one of the equal next hops.

    Parameters
    ----------
    paths
        Connections (channels x queue pairs) that a flow's bytes are divided over, each hashed for itself.
    seed
        Of the hash.
    dead, by, forward
        As in `shortest`.
    """
    if paths < 1:
        raise TopologyError(f"ECMP: a flow needs at least one path, got {paths}")
    tables = Tables(topology, dead, by, forward)

    def find(source: Ints, target: Ints) -> Loads:
        s, t, each = _several(source, target, paths)
        return _together(tables.walks(s, t, _keys(s, t, each, seed), hashed=True), paths)

    return Everywhere(find)


def spray(topology: Topology, *, dead: Sequence[int] | Ints = (), by: By = "hops", forward: bool = True) -> Everywhere:
    """Every vertex splits a flow evenly over all equal next hops: packet spraying, or adaptive routing at rest.

    Parameters
    ----------
    dead, by, forward
        As in `shortest`.

    Raises
    ------
    TopologyError
        When the flows of one call take more than 134 million links.

    >>> from scaleout.network import leaf_spine
    >>> fabric = leaf_spine(8, chips_per_leaf=4, spines=2, bandwidth=50e9, latency=1e-6, bundled=False)
    >>> with_routing(fabric, spray(fabric.topology)).route(np.array([0]), np.array([5])).weight.tolist()
    [1.0, 0.5, 0.5, 0.5, 0.5, 1.0]
    """
    tables = Tables(topology, dead, by, forward)
    return Everywhere(tables.splits)


def valiant(
    topology: Topology, routing: Routing, *, among: Sequence[int] | Ints = (), paths: int = 1, seed: int = 0
) -> Routing:
    """First to a random vertex, then to the target (Valiant 1982): no pattern is worse than a random one.

    Parameters
    ----------
    routing
        Finds both halves.
    among
        Vertices to go through, which `routing` must join; all chips where left out.
    paths
        Random vertices that a flow's bytes are divided over.
    seed
        Of the choice, which hangs on nothing else but source and target.

    >>> from scaleout.network import torus
    >>> fabric = torus((8,), bandwidth=50e9, latency=1e-6)
    >>> detour = with_routing(fabric, valiant(fabric.topology, fabric.paths, seed=1))
    >>> [fabric.topology.link_name(link) for link in detour.route(np.array([0]), np.array([1])).link]
    ['chip 0 -> chip 1', 'chip 1 -> chip 2', 'chip 2 -> chip 1']
    """
    if paths < 1:
        raise TopologyError(f"Valiant: a flow needs at least one path, got {paths}")
    middle = np.asarray(among, dtype=np.int64) if len(among) else np.arange(topology.chips)

    def find(source: Ints, target: Ints) -> Loads:
        s, t, each = _several(source, target, paths)
        via = middle[scramble.plain(_keys(s, t, each, seed)) % len(middle)]
        # a flow to itself goes nowhere
        via = np.where(s == t, s, via)
        flows = np.arange(len(s))
        halves = ((s, via), (via, t))
        return _together(lay(len(s), [(flows, in_rows(topology, routing(*half), len(s))) for half in halves]), paths)

    return Everywhere(find) if isinstance(routing, Everywhere) else find


def avoiding(topology: Topology, dead: Sequence[int] | Ints, routing: Routing | None = None) -> Routing:
    """Paths that use none of the dead links.

    Parameters
    ----------
    dead
        Numbers of the links that have failed.
    routing
        Of the sound network: what does not cross a dead link keeps its path. Of a flow split over
        several paths, the sound ones share the whole; flows with none left, and those split by
        shares, take a shortest path anew. All do where it is left out.

    Raises
    ------
    TopologyError
        When asked for a pair that nothing joins any more.

    >>> from scaleout.network import torus
    >>> fabric = torus((4,), bandwidth=50e9, latency=1e-6)
    >>> around = with_routing(fabric, avoiding(fabric.topology, [0], fabric.paths))
    >>> np.diff(around.route(np.array([0, 1]), np.array([1, 2])).start).tolist()
    [3, 1]
    """
    anew = shortest(topology, dead=dead)
    if routing is None:
        return anew
    gone = marked(topology, dead)

    def find(source: Ints, target: Ints) -> Loads:
        found = routing(source, target)
        if isinstance(found, Paths):
            sound = ~(gone[found.link] & (found.link >= 0)).any(axis=1)
            link, flow, share = found.link[sound], found.flow[sound], found.share[sound]
            left = np.bincount(flow, share, len(source))
            found = Paths(link, flow, share / left[flow])
        rows = in_rows(topology, found, len(source))
        sizes = np.diff(rows.start)
        broken = (sizes == 0) & (source != target)
        broken[np.repeat(np.arange(len(source)), sizes)[gone[rows.link]]] = True
        if not broken.any():
            return rows
        whole, again = np.flatnonzero(~broken), np.flatnonzero(broken)
        keep = np.repeat(~broken, sizes)
        start = np.concatenate(([0], np.cumsum(sizes[whole])))
        kept = Loads(start, rows.link[keep], rows.weight[keep], rows.latency[whole])
        return lay(
            len(source), [(whole, kept), (again, in_rows(topology, anew(source[again], target[again]), len(again)))]
        )

    return Everywhere(find) if isinstance(routing, Everywhere) else find


def link_between(topology: Topology, vertices: Ints) -> Ints:
    """Links along walks through neighbours, for a routing of one's own.

    Parameters
    ----------
    vertices
        Of each walk, in order of travel; a vertex that is the same as the one before it is no hop.
        Shape (walks, longest).

    Returns
    -------
    Links, padded with -1, shape (walks, longest - 1).

    Raises
    ------
    TopologyError
        Two vertices in a row are not neighbours.
    """
    order = np.lexsort((topology.target, topology.source))
    known = topology.source[order] * topology.size + topology.target[order]
    asked = vertices[:, :-1] * topology.size + vertices[:, 1:]
    at = np.minimum(np.searchsorted(known, asked), len(known) - 1)
    stays = vertices[:, :-1] == vertices[:, 1:]
    wrong = np.argwhere((known[at] != asked) & ~stays)
    if len(wrong):
        a, b = (topology.vertex_name(int(vertices[wrong[0][0], wrong[0][1] + i])) for i in (0, 1))
        raise TopologyError(f"{topology.name}: no link from {a} to {b}")
    return np.where(stays, -1, order[at])


def _several(source: Ints, target: Ints, paths: int) -> tuple[Ints, Ints, Ints]:
    """Every flow so many times, numbered."""
    return np.repeat(source, paths), np.repeat(target, paths), np.tile(np.arange(paths), len(source))


def _together(rows: Loads, paths: int) -> Loads:
    """So many rows after one another as the paths of one flow."""
    longest = rows.latency.reshape(-1, paths).max(axis=1)
    return Loads(rows.start[::paths], rows.link, rows.weight / paths, longest)


def _keys(source: Ints, target: Ints, each: Ints, seed: int) -> Ints:
    """A number of 32 bits for each connection."""
    key: Ints = scramble.plain((each + 0x9E3779B1 * (seed & 0x7FFFFFFF)) & 0xFFFFFFFF)
    for part in (source, target):
        key = scramble.plain((key + 0x9E3779B1 * (part + 1)) & 0xFFFFFFFF)
    return key
