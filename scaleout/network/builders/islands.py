"""Islands of chips, of one kind or of many, joined by a network.

Any fabric may be an island, and any fabric the network: its chips are the places where islands
hang. So a machine of eight-chip nodes on a dragonfly, or of four-chip rings and six-chip
crossbars under one tree, is a line of code. Inside an island its own routing holds; between
islands a flow goes to the place where its chip leaves, through the network, and in again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import at_least
from scaleout.network.fabric import Fabric, Loads, Paths, in_rows, lay
from scaleout.network.tables import Tables
from scaleout.network.topology import Topology

__all__ = ["islands", "nearest"]


def islands(
    parts: Sequence[Fabric], network: Fabric, *, exits: Sequence[Sequence[int] | Ints] | Ints | None = None
) -> Fabric:
    """Fabrics joined by another one.

    Chips are numbered island by island. `Topology.node` tells them apart; islands that have several
    nodes keep theirs.

    Parameters
    ----------
    parts
        The islands; the same object may stand for many alike.
    network
        Joins the exits of all islands, in order, as if they were its chips.
    exits
        Vertex of its island at which each chip leaves, such as its NIC (`nearest`): for each island,
        or one list for all. Where left out and the network has a chip for each chip, chips leave by
        themselves; where it has one for each island, an island has one port, as fast as the network's
        link there, that all of its chips share.

    Raises
    ------
    TopologyError
        The network has another number of places; an exit is no vertex of its island.

    >>> from scaleout.network import crossbar, leaf_spine, ring
    >>> small, large = ring(4, bandwidth=50e9, latency=1e-6), crossbar(6, bandwidth=100e9, latency=1e-6)
    >>> tree = leaf_spine(10, chips_per_leaf=5, spines=2, bandwidth=25e9, latency=2e-6)
    >>> fabric = islands([small, large], tree)
    >>> fabric.topology.node.tolist()
    [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
    >>> [fabric.topology.link_name(link) for link in fabric.route(np.array([1]), np.array([4])).link]
    ['chip 1 -> leaf 0', 'leaf 0 -> chip 4']
    """
    if not isinstance(parts, Sequence):
        raise TopologyError(f"islands: expected a list of fabrics, not {type(parts).__name__}")
    for wrong in (part for part in (*parts, network) if not isinstance(part, Fabric)):
        raise TopologyError(f"islands: {wrong!r:.40} is no fabric")
    at_least("islands: parts", 1, len(parts))
    total, places = sum(part.topology.chips for part in parts), network.topology.chips
    by_port = False
    if exits is None:
        by_port = places == len(parts) != total
        if not by_port and places != total:
            raise TopologyError(
                f"islands: the network joins {places} places; {len(parts)} islands with {total} chips in all need "
                f"{total} or {len(parts)}, or `exits`"
            )
    kinds = _distinct(parts, network, exits, by_port)
    return _joined(kinds, network)


def nearest(fabric: Fabric, kind: str) -> Ints:
    """For each chip the nearest vertex of a kind, such as ``NIC``; chips take turns among equally near ones.

    Raises
    ------
    TopologyError
        The fabric has no such vertex, or none that a chip reaches.
    """
    topology = fabric.topology
    begins = np.cumsum([0, *(count for _, count in topology.vertices)])
    found = [
        (int(low), count) for low, (name, count) in zip(begins[:-1], topology.vertices, strict=True) if name == kind
    ]
    if not found or not found[0][1]:
        known = ", ".join(name for name, _ in topology.vertices)
        raise TopologyError(f"{topology.name}: no vertex of kind {kind!r}; there are {known}")
    low, count = found[0]
    chip = np.arange(topology.chips)
    tables = Tables(topology, (), "hops", False)
    hops = np.stack([tables.hops(chip, np.full_like(chip, low + k)) for k in range(count)])
    used, chosen = np.zeros(count, dtype=np.int64), np.zeros(topology.chips, dtype=np.int64)
    for c in chip.tolist():
        reached = np.flatnonzero(hops[:, c] >= 0)
        if not len(reached):
            raise TopologyError(f"{topology.name}: no path from {topology.vertex_name(c)} to a {kind}")
        near = reached[hops[reached, c] == hops[reached, c].min()]
        k = int(near[np.argmin(used[near])])
        used[k] += 1
        chosen[c] = low + k
    return chosen


@dataclass(frozen=True, slots=True, eq=False)
class _Kind:
    """Islands that are alike, with the places where they hang on the network.

    Parameters
    ----------
    member
        Their numbers among all islands.
    exit
        Vertex at which each vertex of such an island leaves, shape (vertices,).
    ports
        The different ones, ascending.
    """

    part: Fabric
    member: Ints
    exit: Ints
    ports: Ints


def _distinct(
    parts: Sequence[Fabric], network: Fabric, exits: Sequence[Sequence[int] | Ints] | Ints | None, by_port: bool
) -> list[_Kind]:
    """Islands by kind: the same object with the same exits."""
    one_list = exits is not None and len(exits) > 0 and np.ndim(exits[0]) == 0
    if exits is not None and not one_list and len(exits) != len(parts):
        raise TopologyError(f"islands: `exits` has {len(exits)} lists for {len(parts)} islands")
    members: dict[tuple[object, ...], list[int]] = {}
    port = network.topology
    rate = np.bincount(port.source, port.bandwidth, port.size)
    leaves: dict[int, tuple[int, ...]] = {}
    for at, part in enumerate(parts):
        key: tuple[object, ...] = (id(part), rate[at]) if by_port else (id(part),)
        if exits is not None and not one_list:
            leaves[at] = tuple(int(v) for v in exits[at])
            key = (id(part), *leaves[at])
        members.setdefault(key, []).append(at)
    kinds = []
    for alike in members.values():
        part, chips = parts[alike[0]], parts[alike[0]].topology.chips
        if by_port:
            part = _with_port(part, float(rate[alike[0]]))
            exit_ = np.full(chips, part.topology.size - 1)
        elif exits is None:
            exit_ = np.arange(chips)
        else:
            exit_ = np.array(exits if one_list else leaves[alike[0]], dtype=np.int64)
        size, name = part.topology.size, part.topology.name
        if exit_.shape != (chips,) or exit_.min() < 0 or exit_.max() >= size:
            raise TopologyError(f"islands: exits of {name} must be {chips} vertices from 0 to {size - 1}, one a chip")
        if exit_.max() >= chips and not (part.everywhere or by_port):
            raise TopologyError(f"islands: the routing of {name} joins chips only, so they must be their own exits")
        ports = np.unique(exit_)
        kinds.append(_Kind(part, np.array(alike), _exits(part, exit_, ports), ports))
    needed = sum(len(kind.ports) * len(kind.member) for kind in kinds)
    if needed != network.topology.chips:
        raise TopologyError(f"islands: the network joins {network.topology.chips} places, the islands have {needed}")
    return kinds


def _exits(part: Fabric, exit_: Ints, ports: Ints) -> Ints:
    """Exit of every vertex: that of each chip, and the nearest one of anything else."""
    topology = part.topology
    others = np.arange(topology.chips, topology.size)
    if not part.everywhere or not len(others):
        return np.concatenate((exit_, np.full(len(others), -1, dtype=np.int64)))
    tables = Tables(topology, (), "hops", True)
    hops = np.stack([tables.hops(others, np.full_like(others, port)) for port in ports])
    hops[hops < 0] = np.iinfo(np.int64).max
    return np.concatenate((exit_, ports[np.argmin(hops, axis=0)]))


def _with_port(part: Fabric, bandwidth: float) -> Fabric:
    """The same island with a port that all of its chips share, and that no one of them is held back by."""
    inner = part.topology
    chips, port, links = inner.chips, inner.size, inner.links
    chip, there = np.arange(chips), np.full(chips, port)
    topology = Topology(
        name=inner.name,
        chips=chips,
        vertices=(*inner.vertices, ("port", 1)),
        source=np.concatenate((inner.source, chip, there)),
        target=np.concatenate((inner.target, there, chip)),
        bandwidth=np.concatenate((inner.bandwidth, np.full(2 * chips, bandwidth))),
        latency=np.concatenate((inner.latency, np.zeros(2 * chips))),
        kind=np.concatenate((inner.kind, np.full(2 * chips, len(inner.kinds)))),
        kinds=(*inner.kinds, "chip-port"),
        node=inner.node,
        width=np.concatenate((inner.width, np.ones(2 * chips, dtype=np.int64))),
    )

    def paths(source: Ints, target: Ints) -> Loads:
        out, back = target == port, source == port
        rest = ~(out | back)
        pieces = [(np.flatnonzero(rest), in_rows(inner, part.paths(source[rest], target[rest]), int(rest.sum())))]
        for which, link in ((out & ~back, links + source), (back & ~out, links + chips + target)):
            link = link[which]
            rows = Loads(np.arange(len(link) + 1), link, np.ones(len(link)), np.zeros(len(link)))
            pieces.append((np.flatnonzero(which), rows))
        return lay(len(source), pieces)

    return Fabric(topology=topology, paths=paths, everywhere=part.everywhere)


def _joined(kinds: list[_Kind], network: Fabric) -> Fabric:
    """All islands, copy by copy, and the network between them."""
    outer = network.topology
    count = sum(len(kind.member) for kind in kinds)
    chips_of, ports_of, nodes_of = np.zeros((3, count), dtype=np.int64)
    kind_of, copy_of = np.zeros((2, count), dtype=np.int64)
    names: list[str] = []
    for k, kind in enumerate(kinds):
        topology, member = kind.part.topology, kind.member
        chips_of[member], ports_of[member] = topology.chips, len(kind.ports)
        nodes_of[member] = len(np.unique(topology.node))
        kind_of[member], copy_of[member] = k, np.arange(len(member))
        names += [name for name, _ in topology.vertices[1:] if name not in names]
    chip0, port0, node0 = (np.cumsum(x) - x for x in (chips_of, ports_of, nodes_of))
    chips = int(chips_of.sum())

    # vertices: chips, then those of a name in the islands' order, then the network's
    amount = np.zeros((count, len(names)), dtype=np.int64)
    for kind in kinds:
        for name, size in kind.part.topology.vertices[1:]:
            amount[kind.member, names.index(name)] += size
    begins = chips + np.concatenate(([0], np.cumsum(amount.sum(axis=0))))
    offset = np.cumsum(amount, axis=0) - amount + begins[:-1]
    size = int(begins[-1]) + outer.size - outer.chips
    home, island, local = np.full((3, size), -1, dtype=np.int64)
    of_network = np.full(outer.size, -1, dtype=np.int64)
    of_network[outer.chips :] = begins[-1] + np.arange(outer.size - outer.chips)
    local[begins[-1] :] = outer.chips + np.arange(outer.size - outer.chips)

    between = [(f"network {name}" if name in names else name, many) for name, many in outer.vertices[1:]]

    labels = _link_kinds(kinds, outer)
    columns: list[tuple[Any, ...]] = []
    first_link = np.zeros(count, dtype=np.int64)
    links = 0
    for kind in kinds:
        part, member = kind.part.topology, kind.member
        vertex = np.empty((len(member), part.size), dtype=np.int64)
        vertex[:, : part.chips] = chip0[member][:, None] + np.arange(part.chips)
        at, seen = part.chips, dict.fromkeys(names, 0)
        for name, many in part.vertices[1:]:
            vertex[:, at : at + many] = offset[member, names.index(name)][:, None] + seen[name] + np.arange(many)
            at, seen[name] = at + many, seen[name] + many
        inside = np.unique(part.node, return_inverse=True)[1]
        mine = np.full(part.size, -1 if nodes_of[member[0]] > 1 else 0, dtype=np.int64)
        mine[: part.chips] = inside
        home[vertex] = np.where(mine < 0, -1, node0[member][:, None] + mine)
        island[vertex], local[vertex] = member[:, None], np.arange(part.size)
        of_network[port0[member][:, None] + np.arange(len(kind.ports))] = vertex[:, kind.ports]
        first_link[member] = links + copy_of[member] * part.links
        links += part.links * len(member)
        again = len(member)
        kind_number = np.array([labels.index(_label(kinds, k, n)) for k, n in enumerate(part.kinds)])
        columns.append((
            vertex[:, part.source].ravel(), vertex[:, part.target].ravel(), np.tile(part.bandwidth, again),
            np.tile(part.latency, again), np.tile(kind_number[part.kind], again), np.tile(part.width, again),
        ))  # fmt: skip
    number = np.array([labels.index(_outer_label(kinds, name)) for name in outer.kinds])
    columns.append((
        of_network[outer.source], of_network[outer.target], outer.bandwidth, outer.latency, number[outer.kind],
        outer.width,
    ))  # fmt: skip
    source, target, bandwidth, latency, kind_, width = map(np.concatenate, zip(*columns, strict=True))
    topology = Topology(
        name=f"{count} islands on {outer.name}",
        chips=chips,
        vertices=(("chip", chips), *zip(names, (int(n) for n in amount.sum(axis=0)), strict=True), *between),
        source=source, target=target, bandwidth=bandwidth, latency=latency, kind=kind_, kinds=tuple(labels),
        node=home[:chips].copy(), width=width, home=home,
    )  # fmt: skip

    # where each vertex leaves, inside its island and as a place of the network
    leave, place = np.full((2, size), -1, dtype=np.int64)
    for kind in kinds:
        mine = np.flatnonzero((island >= 0) & (kind_of[island] == kinds.index(kind)))
        leave[mine] = kind.exit[local[mine]]
        place[mine] = port0[island[mine]] + np.searchsorted(kind.ports, leave[mine])
    place[begins[-1] :] = local[begins[-1] :]

    def within(where: Ints, s: Ints, t: Ints) -> list[tuple[Ints, Loads]]:
        """Ways inside the islands, of flows number `where`, between vertices of an island."""
        pieces = []
        for k, kind in enumerate(kinds):
            mine = np.flatnonzero(kind_of[island[s]] == k)
            if len(mine):
                rows = in_rows(kind.part.topology, kind.part.paths(local[s[mine]], local[t[mine]]), len(mine))
                shift = np.repeat(first_link[island[s[mine]]], np.diff(rows.start))
                pieces.append((where[mine], rows._replace(link=rows.link + shift)))
        return pieces

    exit_vertex = np.where(place >= 0, of_network[place], -1)

    def paths(source: Ints, target: Ints) -> Ints | Paths | Loads:
        for ends in (source, target):
            outside = np.flatnonzero((ends >= chips) & ~reachable[ends])
            if len(outside):
                name = topology.vertex_name(int(ends[outside[0]]))
                raise TopologyError(f"{topology.name}: the routing around {name} joins chips only")
        same = (island[source] == island[target]) & (island[source] >= 0)
        pieces = within(np.flatnonzero(same), source[same], target[same])
        away = np.flatnonzero(~same)
        s, t = source[away], target[away]
        out = (island[s] >= 0) & (exit_vertex[s] != s)
        pieces += within(away[out], s[out], exit_vertex[s[out]])
        rows = in_rows(outer, network.paths(place[s], place[t]), len(away))
        pieces.append((away, rows._replace(link=rows.link + links)))
        back = (island[t] >= 0) & (exit_vertex[t] != t)
        pieces += within(away[back], exit_vertex[t[back]], t[back])
        return lay(len(source), pieces)

    everywhere = np.array([kind.part.everywhere for kind in kinds])
    reachable = np.where(island >= 0, everywhere[kind_of[island]], network.everywhere)
    return Fabric(topology=topology, paths=paths, everywhere=True)


def _label(kinds: list[_Kind], number: int, name: str) -> str:
    """Name of a kind of link inside islands; the first one of all of them is the first one of the whole."""
    first = {kind.part.topology.kinds[0] for kind in kinds}
    inside = first.pop() if len(first) == 1 else "inside"
    return inside if number == 0 else name


def _outer_label(kinds: list[_Kind], name: str) -> str:
    """Name of a kind of link between islands; none of them is inside a node."""
    return f"network {name}" if name == _label(kinds, 0, "") else name


def _link_kinds(kinds: list[_Kind], outer: Topology) -> list[str]:
    """All kinds of link, those inside nodes first."""
    labels = [_label(kinds, k, name) for kind in kinds for k, name in enumerate(kind.part.topology.kinds)]
    return list(dict.fromkeys([_label(kinds, 0, ""), *labels, *(_outer_label(kinds, name) for name in outer.kinds)]))
