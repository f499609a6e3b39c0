"""Nodes of chips on a switch, port i of every node on switches of rail i, from plain numbers."""

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.islands import islands
from scaleout.network.builders.switched import crossbar, leaf_spine
from scaleout.network.builders.wiring import at_least
from scaleout.network.fabric import Fabric, Loads, Routing, in_rows, lay
from scaleout.network.topology import Topology

__all__ = ["rail_only", "rail_optimised"]


def rail_optimised(
    nodes: int,
    chips_per_node: int = 8,
    *,
    scale_up_bandwidth: float,
    scale_up_latency: float,
    bandwidth: float,
    latency: float,
    nodes_per_leaf: int,
    spines: int,
    oversubscription: float = 1.0,
    hop_latency: float | None = None,
    bundled: bool = True,
    forward: bool = False,
) -> Fabric:
    """Nodes under leaves of one rail each, and spines above all of them.

    Parameters
    ----------
    scale_up_bandwidth, scale_up_latency
        Of a chip's link to its node's switch [byte/s, per direction; s].
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port [s].
    nodes_per_leaf
        Nodes whose port i hangs on one leaf.
    spines, oversubscription, hop_latency, bundled
        As in `leaf_spine`.
    forward
        Whether traffic between rails first goes through the node to the chip on the right rail (PXN),
        instead of over a spine.

    >>> fabric = rail_optimised(4, 8, scale_up_bandwidth=450e9, scale_up_latency=5e-7, bandwidth=50e9, latency=1e-6,
    ...                         nodes_per_leaf=4, spines=2)
    >>> dict(fabric.topology.vertices)
    {'chip': 32, 'switch': 4, 'leaf': 8, 'spines of pod': 1}
    >>> np.diff(fabric.route(np.array([0, 0, 0]), np.array([7, 8, 9])).start).tolist()
    [2, 2, 4]
    """
    at_least("rail-optimised: nodes", 1, nodes)
    at_least("rail-optimised: chips per node", 1, chips_per_node)
    at_least("rail-optimised: nodes per leaf", 1, nodes_per_leaf)
    at_least("rail-optimised: spines", 0 if forward and nodes <= nodes_per_leaf else 1, spines)
    chip = np.arange(nodes * chips_per_node)
    node, rail = chip // chips_per_node, chip % chips_per_node
    fabric = islands(
        [crossbar(chips_per_node, bandwidth=scale_up_bandwidth, latency=scale_up_latency)] * nodes,
        leaf_spine(
            len(chip), chips_per_leaf=nodes_per_leaf, spines=spines, oversubscription=oversubscription,
            bandwidth=bandwidth, latency=latency, hop_latency=hop_latency, bundled=bundled,
            leaf=node // nodes_per_leaf * chips_per_node + rail,
        ),
    )  # fmt: skip
    if not forward:
        return fabric
    return Fabric(topology=fabric.topology, paths=_forwarded(fabric.topology, fabric.paths, chips_per_node))


def rail_only(
    nodes: int,
    chips_per_node: int = 8,
    *,
    scale_up_bandwidth: float,
    scale_up_latency: float,
    bandwidth: float,
    latency: float,
) -> Fabric:
    """Nodes under one switch a rail, and nothing above: rails meet inside nodes only.

    What goes to another rail of another node first crosses its own node to the chip on that rail.

    Parameters
    ----------
    scale_up_bandwidth, scale_up_latency
        Of a chip's link to its node's switch [byte/s, per direction; s].
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port [s].

    References
    ----------
    W. Wang et al.: Rail-only, arXiv 2307.12169.

    >>> fabric = rail_only(4, 8, scale_up_bandwidth=450e9, scale_up_latency=5e-7, bandwidth=50e9, latency=1e-6)
    >>> dict(fabric.topology.vertices)
    {'chip': 32, 'switch': 4, 'leaf': 8}
    >>> [fabric.topology.link_name(link) for link in fabric.route(np.array([0]), np.array([9])).link]
    ['chip 0 -> switch 0', 'switch 0 -> chip 1', 'chip 1 -> leaf 1', 'leaf 1 -> chip 9']
    """
    if nodes < 1:
        raise TopologyError(f"rail-only: nodes: needs at least 1, got {nodes}")
    return rail_optimised(
        nodes, chips_per_node, scale_up_bandwidth=scale_up_bandwidth, scale_up_latency=scale_up_latency,
        bandwidth=bandwidth, latency=latency, nodes_per_leaf=nodes, spines=0, forward=True,
    )  # fmt: skip


def _forwarded(topology: Topology, direct: Routing, rails: int) -> Routing:
    """Through the own node to the chip on the target's rail, then along the rail."""

    def paths(source: Ints, target: Ints) -> Loads:
        away = source // rails != target // rails
        via = np.where(away, source // rails * rails + target % rails, target)
        flows = np.arange(len(source))
        legs = ((source, via), (via, target))
        return lay(len(source), [(flows, in_rows(topology, direct(*leg), len(source))) for leg in legs])

    return paths
