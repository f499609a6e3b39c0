"""Nodes of chips behind one switch, joined by a fat tree of rails.

Inside a node every chip has one link into the node's switch and one out of it. Outside, port i
of every node hangs on the leaf switches of rail i; a chip has a port of its own or shares one
with its neighbours. Leaves hang on spines, and above one pod's worth of spines on cores. Upward
traffic is spread evenly over the parallel switches (adaptive routing), so the spines of a pod,
and all cores, are one vertex each, reached over a bundle.
"""

from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology
from scaleout.specs import Slow, System

__all__ = ["TreeShape", "nvswitch_node", "rail_fat_tree", "tree_shape"]

_KINDS = ("scale-up", "port", "leaf-spine", "spine-core", "chip-port")


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeShape:
    """How many switches a rail fat tree takes.

    Parameters
    ----------
    tiers
        Tiers of switches.
    ports_down, ports_up
        Ports of a leaf that face chips, and spines.
    leaves, pods, spines, cores
        Switches of each tier (spines over all pods), and pods.
    nodes_per_pod
        Nodes under one pod's spines.
    """

    tiers: int
    ports_down: int
    ports_up: int
    leaves: int
    pods: int
    spines: int
    cores: int
    nodes_per_pod: int


def tree_shape(
    nodes: int, rails: int, radix: int, oversubscription: float = 1.0, tiers: int | None = None
) -> TreeShape:
    """Size of the tree for so many nodes with so many rails.

    Raises
    ------
    TopologyError
        The machine is too large for three tiers of this radix, or for the tiers asked for.

    >>> tree_shape(2048, 8, 64)
    TreeShape(tiers=3, ports_down=32, ports_up=32, leaves=512, pods=16, spines=512, cores=256, nodes_per_pod=128)
    """
    up = int(radix / (1 + oversubscription))
    down = int(up * oversubscription)
    if down < 1 or up < 1:
        raise TopologyError(f"oversubscription {oversubscription:g} leaves a radix-{radix} leaf no port up or down")
    groups = -(-nodes // down)
    leaves = groups * rails
    if tiers == 1 or (tiers is None and groups == 1 and rails == 1):
        if groups > 1:
            raise TopologyError(f"one tier of radix-{radix} leaves reaches {down} nodes, not {nodes}")
        if rails > 1:
            raise TopologyError(f"one tier of switches does not join the {rails} rails of a node; take two")
        return TreeShape(
            tiers=1, ports_down=down, ports_up=up, leaves=leaves, pods=1, spines=0, cores=0, nodes_per_pod=nodes
        )
    if tiers == 2 or (tiers is None and leaves <= radix):
        if leaves > radix:
            raise TopologyError(
                f"two tiers of radix {radix} join {radix} leaves; {nodes} nodes with {rails} rails need {leaves}"
            )
        return TreeShape(
            tiers=2,
            ports_down=down,
            ports_up=up,
            leaves=leaves,
            pods=1,
            spines=-(-leaves * up // radix),
            cores=0,
            nodes_per_pod=nodes,
        )
    groups_per_pod = (radix // 2) // rails
    if groups_per_pod < 1:
        raise TopologyError(f"a pod of radix {radix} has no room for a leaf of each of {rails} rails")
    pods = -(-groups // groups_per_pod)
    if pods > radix:
        raise TopologyError(
            f"three tiers of radix {radix} reach {radix * groups_per_pod * down} nodes with {rails} rails, not {nodes}"
        )
    spines = pods * up
    return TreeShape(
        tiers=3,
        ports_down=down,
        ports_up=up,
        leaves=leaves,
        pods=pods,
        spines=spines,
        cores=-(-spines * (radix // 2) // radix),
        nodes_per_pod=groups_per_pod * down,
    )


def nvswitch_node(system: System, chips: int, slow: Slow | None = None) -> Fabric:
    """One node: `chips` chips on one switch.

    Raises
    ------
    TopologyError
        More chips than the system's node has.
    """
    if chips > system.chips_per_node:
        raise TopologyError(f"a {system.name} node has {system.chips_per_node} chips, not {chips}")
    return rail_fat_tree(system, chips, slow)


def rail_fat_tree(system: System, chips: int, slow: Slow | None = None) -> Fabric:
    """The fabric of `chips` chips of a system.

    Parameters
    ----------
    slow
        Ports and scale-up links below their nominal rate, by rank.

    Raises
    ------
    TopologyError
        The tree cannot be built with the system's switches.
    """
    slow = slow or Slow()
    per_node = min(chips, system.chips_per_node)
    nodes = -(-chips // per_node)
    share = system.chips_per_port
    rails = -(-per_node // share)
    up, net = system.scale_up, system.network
    shape = None
    if nodes > 1:
        try:
            shape = tree_shape(nodes, rails, net.radix, net.oversubscription, net.tiers)
        except TopologyError as error:
            raise TopologyError(f"system.network of {system.name}, {nodes} nodes: {error}") from None
    groups = -(-nodes // shape.ports_down) if shape else 0
    leaves, pods = groups * rails, shape.pods if shape else 0
    cores = 1 if shape and shape.tiers == 3 else 0
    spines = pods if shape and shape.tiers > 1 else 0

    chip, ports = np.arange(chips), np.arange(-(-chips // share))
    node = chip // per_node
    first_switch = chips
    first_leaf = first_switch + nodes
    first_spine = first_leaf + leaves
    core = first_spine + spines
    shared = ports if shape and share > 1 else ports[:0]
    first_port = core + cores

    rows: list[tuple[Ints, Ints, float, float, int]] = []

    def both(a: Ints, b: Ints, bandwidth: float, latency: float, kind: int) -> None:
        rows.append((a, b, bandwidth, latency, kind))
        rows.append((b, a, bandwidth, latency, kind))

    both(chip, first_switch + node, up.bandwidth * up.efficiency, up.latency, 0)
    if shape:
        port = net.bandwidth * net.efficiency
        leaf_of_port = first_leaf + ports // rails // shape.ports_down * rails + ports % rails
        both(first_port + ports if share > 1 else chip, leaf_of_port, port, net.latency, 1)
        if spines:
            leaf = np.arange(leaves)
            pod_of_group = (np.arange(groups) * shape.ports_down) // shape.nodes_per_pod
            uplinks = shape.ports_up
            both(first_leaf + leaf, first_spine + pod_of_group[leaf // rails], port * uplinks, net.hop_latency, 2)
        if cores:
            pod = np.arange(spines)
            # every spine of a pod sends half its ports to the cores
            bundle = port * shape.ports_up * (net.radix // 2)
            both(first_spine + pod, np.full(spines, core), bundle, net.hop_latency, 3)
        if share > 1:
            # a chip alone may fill the port; together they are held by the link behind it
            both(chip, first_port + chip // share, port, 0.0, 4)

    offsets = np.concatenate(([0], np.cumsum([len(row[0]) for row in rows])))
    bandwidth = np.concatenate([np.full(len(a), bw) for a, _, bw, _, _ in rows])
    for first, chips_of_link, ranks in ((0, 1, slow.scale_up), (2, share, slow.ports)):
        for rank, left in sorted(ranks.items()):
            if first < len(rows):
                bandwidth[[offsets[first] + rank // chips_of_link, offsets[first + 1] + rank // chips_of_link]] *= left
    topology = Topology(
        name=f"{system.name} x {nodes}",
        chips=chips,
        vertices=(
            ("chip", chips),
            ("switch", nodes),
            ("leaf", leaves),
            ("spines of pod", spines),
            ("cores", cores),
            ("port", len(shared)),
        ),
        source=np.concatenate([a for a, _, _, _, _ in rows]),
        target=np.concatenate([b for _, b, _, _, _ in rows]),
        bandwidth=bandwidth,
        latency=np.concatenate([np.full(len(a), lat) for a, _, _, lat, _ in rows]),
        kind=np.concatenate([np.full(len(a), kind) for a, _, _, _, kind in rows]),
        kinds=_KINDS,
        node=node,
    )
    ports_down = shape.ports_down if shape else 1
    nodes_per_pod = shape.nodes_per_pod if shape else 1

    def paths(source: Ints, target: Ints) -> Ints:
        from_node, to_node = source // per_node, target // per_node
        inside = from_node == to_node
        matrix = np.full((len(source), 8 if len(shared) else 6), -1, dtype=np.int64)
        matrix[inside, 0] = source[inside]
        matrix[inside, 1] = offsets[1] + target[inside]
        out = ~inside
        if not out.any():
            return matrix
        s, t = source[out], target[out]
        from_group, to_group = from_node[out] // ports_down, to_node[out] // ports_down
        from_leaf = from_group * rails + s % per_node // share
        to_leaf = to_group * rails + t % per_node // share
        from_pod, to_pod = from_node[out] // nodes_per_pod, to_node[out] // nodes_per_pod
        rest = np.full((len(s), 6), -1, dtype=np.int64)
        rest[:, 0] = offsets[2] + s // share
        rest[:, 5] = offsets[3] + t // share
        far = from_leaf != to_leaf
        if far.any():
            rest[far, 1] = offsets[4] + from_leaf[far]
            rest[far, 4] = offsets[5] + to_leaf[far]
        farther = from_pod != to_pod
        if farther.any():
            rest[farther, 2] = offsets[6] + from_pod[farther]
            rest[farther, 3] = offsets[7] + to_pod[farther]
        if len(shared):
            own = len(offsets) - 3
            rest = np.column_stack((offsets[own] + s, rest, offsets[own + 1] + t))
        matrix[out] = rest
        return matrix

    library = system.library
    return Fabric(
        topology=topology,
        paths=paths,
        protocols=library.protocols,
        idle_step=library.idle_step,
        scale_up_bandwidth=up.bandwidth * up.efficiency,
        network_bandwidth=net.bandwidth * net.efficiency,
    )
