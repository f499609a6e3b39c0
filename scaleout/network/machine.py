"""The fabric of a system: nodes of any kind, joined by a network of any kind.

NVSwitch nodes on a rail fat tree are `rail_fat_tree`'s; everything else is put together from two
parts (`scaleout.network.nodes`, `scaleout.network.between`). Links of kind 0 are inside nodes.
"""

import math
from collections.abc import Mapping

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import TopologyError
from scaleout.network.between import BETWEEN
from scaleout.network.builders import rail_fat_tree
from scaleout.network.fabric import Fabric
from scaleout.network.nodes import INSIDE
from scaleout.network.parts import Links, Part, stack
from scaleout.network.topology import Topology
from scaleout.specs import Slow, System

__all__ = ["assembled", "machine"]


def machine(system: System, chips: int, slow: Slow | None = None) -> Fabric:
    """The fabric of `chips` chips of a system.

    Parameters
    ----------
    slow
        Ports and scale-up links below their nominal rate, by rank.

    Raises
    ------
    TopologyError
        The machine cannot be built at this size.
    """
    if system.scale_up.kind == "nvswitch":
        if system.network.kind == "rail-fat-tree":
            return rail_fat_tree(system, chips, slow)
    elif chips > system.chips_per_node and chips % system.chips_per_node:
        raise TopologyError(
            f"{system.name}: {chips:,} chips are no whole nodes of {system.chips_per_node:,}; nodes of kind "
            f"{system.scale_up.kind!r} are built whole"
        )
    return assembled(system, chips, slow)


def assembled(system: System, chips: int, slow: Slow | None = None) -> Fabric:
    """The fabric from two parts, whatever their kinds.

    Raises
    ------
    TopologyError
        The machine cannot be built at this size.
    """
    slow = slow or Slow()
    up, net = system.scale_up, system.network
    per_node = min(chips, system.chips_per_node)
    nodes = -(-chips // per_node)
    if nodes > 1 and net.kind == "none":
        raise TopologyError(
            f"{system.name}: {chips:,} chips are more than the {per_node:,} of a node, and its network is of kind "
            "'none'; take fewer chips, or describe a network"
        )
    try:
        inside = INSIDE[up.kind](up, nodes, per_node)
    except TopologyError as error:
        raise TopologyError(f"system.scale_up of {system.name}: {error}") from None
    parts = [inside]
    if nodes > 1:
        try:
            parts.append(BETWEEN[net.kind](system, nodes, per_node))
        except TopologyError as error:
            raise TopologyError(f"system.network of {system.name}, {nodes:,} nodes: {error}") from None

    built = nodes * per_node
    links = [_shifted(rows, built, _before(parts, index)) for index, part in enumerate(parts) for rows in part.links]
    source, target, bandwidth, latency, width = stack(tuple(links))
    inner = sum(len(rows.source) for rows in inside.links)
    for rows, first in zip(links, np.cumsum([0, *(len(rows.source) for rows in links)]).tolist(), strict=False):
        _slow_down(bandwidth, rows, first, slow.scale_up if first < inner else slow.ports)
    names = sorted({rows.kind for rows in links[len(inside.links) :]})
    kinds = ("scale-up", *names)
    kind = np.repeat(
        [0 if i < len(inside.links) else kinds.index(rows.kind) for i, rows in enumerate(links)],
        [len(rows.source) for rows in links],
    )
    node = np.arange(built) // per_node
    topology = Topology(
        name=f"{system.name} x {nodes}",
        chips=built,
        vertices=(("chip", built), *(row for part in parts for row in part.vertices)),
        source=source,
        target=target,
        bandwidth=bandwidth,
        latency=latency,
        kind=kind,
        kinds=kinds,
        node=node,
        width=width,
        halves=np.zeros(0, dtype=bool) if nodes > 1 or inside.halves is None else inside.halves,
        transitive=nodes == 1 and inside.transitive,
        coordinates=np.zeros(0, dtype=np.int64) if nodes > 1 or inside.coordinates is None else inside.coordinates,
    )

    def paths(source: Ints, target: Ints) -> Ints:
        if nodes == 1:
            return _within(inside, source, target)
        out = node[source] != node[target]
        # where rails stay apart, what changes rails does so before it leaves the node
        via = _door(source, target) if net.kind == "rail-only" else source
        near = _within(inside, source, np.where(out, via, target))
        far = parts[1].paths(via[out], target[out])
        matrix = np.full((len(source), near.shape[1] + far.shape[1]), -1, dtype=np.int64)
        matrix[:, : near.shape[1]] = near
        matrix[out, near.shape[1] :] = np.where(far >= 0, far + inner, -1)
        return matrix

    share = system.chips_per_port

    def _door(source: Ints, target: Ints) -> Ints:
        """The chip of the source's node whose port is on the target's rail."""
        same = source % per_node // share == target % per_node // share
        return np.where(same, source, source - source % per_node + target % per_node)

    library = system.library
    return Fabric(
        topology=topology,
        paths=paths,
        protocols=library.protocols,
        idle_step=library.idle_step,
        scale_up_bandwidth=up.payload,
        network_bandwidth=net.payload or math.inf,
    )


def _within(inside: Part, source: Ints, target: Ints) -> Ints:
    """Paths inside nodes; none from a chip to itself."""
    return np.where((source != target)[:, None], inside.paths(source, target), -1)


def _before(parts: list[Part], index: int) -> int:
    """Vertices of the parts before, without chips."""
    return sum(part.size for part in parts[:index])


def _shifted(rows: Links, chips: int, by: int) -> Links:
    """The same links with the part's vertices behind those of the parts before."""
    a, b = rows.source, rows.target
    return rows._replace(source=np.where(a < chips, a, a + by), target=np.where(b < chips, b, b + by))


def _slow_down(bandwidth: Floats, rows: Links, first: int, ranks: Mapping[int, float]) -> None:
    """Take what is slow from the links of each rank."""
    for rank, left in sorted(ranks.items()):
        if not len(rows.chip):
            continue
        # a link between two chips is either's
        mine = np.flatnonzero(((rows.chip <= rank) & (rank < rows.chip + rows.sharers)) | (rows.target == rank))
        bandwidth[first + mine] *= left
