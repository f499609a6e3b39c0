"""Networks between nodes, one function for each kind that system files name.

A chip has a port of its own, or shares one with its neighbours; then its link to the port has the
port's rate too, so that a chip alone may fill the port and together they are held by the link
behind it. Traffic upward is spread evenly over parallel switches: they are one vertex, reached
over a bundle. Paths are asked for chips of different nodes only.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders import tree_shape
from scaleout.network.parts import Links, Part, both_ways
from scaleout.specs import Network, System

__all__ = ["BETWEEN"]

_NOBODY = np.zeros(0, dtype=np.int64)


class _Ports(NamedTuple):
    """Ports of a machine.

    Parameters
    ----------
    share, lanes
        Chips on a port, and ports of a node.
    rate
        Payload rate of a port [byte/s, per direction].
    own
        Vertices that the ports are; 0 where a chip is its own.
    """

    net: Network
    nodes: int
    per_node: int
    share: int
    lanes: int
    rate: float
    own: int

    @property
    def chips(self) -> int:
        return self.nodes * self.per_node

    def links(self, switch: Ints) -> tuple[Links, ...]:
        """Ports to their switches, and chips to ports that they share."""
        ports = np.arange(self.nodes * self.lanes)
        chip = np.arange(self.chips)
        at = self.chips + ports if self.own else chip
        first = ports // self.lanes * self.per_node + ports % self.lanes * self.share
        up = both_ways(at, switch, self.rate, self.net.latency, first, "port", sharers=self.share)
        if not self.own:
            return up
        # the chips' side of a port has no latency of its own
        return (*up, *both_ways(chip, self.chips + self.port(chip), self.rate, 0.0, _NOBODY, "chip-port"))

    def port(self, chip: Ints) -> Ints:
        """Port of each chip."""
        return np.asarray(chip // self.per_node * self.lanes + chip % self.per_node // self.share)

    def ends(self, source: Ints, target: Ints, middle: Ints, links: int) -> Ints:
        """Paths with the links between chips and switches before and behind those in the middle.

        Parameters
        ----------
        links
            Number of the first link of `links`.
        """
        ports = self.nodes * self.lanes
        rest = np.column_stack((links + self.port(source), middle, links + ports + self.port(target)))
        if not self.own:
            return rest
        own = links + 2 * ports
        return np.column_stack((own + source, rest, own + self.chips + target))


def _ports(system: System, nodes: int, per_node: int) -> _Ports:
    share = min(system.chips_per_port, per_node)
    lanes = -(-per_node // share)
    return _Ports(
        system.network, nodes, per_node, share, lanes, system.network.payload, nodes * lanes if share > 1 else 0
    )


def _up_ports(net: Network) -> tuple[int, int]:
    """Ports of a leaf down and up."""
    up = int(net.radix / (1 + net.oversubscription))
    down = int(up * net.oversubscription)
    if up < 1 or down < 1:
        raise TopologyError(
            f"oversubscription {net.oversubscription:g} leaves a radix-{net.radix} leaf no port up or down"
        )
    return down, up


def _rail_tree(system: System, nodes: int, per_node: int) -> Part:
    """Port i of every node on the leaves of rail i, which meet in spines, and pods of them in cores."""
    net, p = system.network, _ports(system, nodes, per_node)
    shape = tree_shape(nodes, p.lanes, net.radix, net.oversubscription, net.tiers)
    pods, three = shape.pods, shape.tiers == 3
    spines = pods if shape.tiers > 1 else 0
    first_leaf = p.chips + p.own
    port, leaf, pod = np.arange(nodes * p.lanes), np.arange(shape.leaves if spines else 0), np.arange(pods)
    of_port = port // p.lanes // shape.ports_down * p.lanes + port % p.lanes
    pod_of_leaf = leaf // p.lanes * shape.ports_down // shape.nodes_per_pod
    first_spine = first_leaf + shape.leaves
    bundles: tuple[Links, ...] = both_ways(
        first_leaf + leaf, first_spine + pod_of_leaf, p.rate * shape.ports_up, net.hop_latency, _NOBODY,
        "leaf-spine", width=shape.ports_up,
    )  # fmt: skip
    if three:
        # every spine of a pod sends half its ports to the cores
        width = shape.ports_up * (net.radix // 2)
        bundles += both_ways(
            first_spine + pod, np.full(pods, first_spine + spines), p.rate * width, net.hop_latency, _NOBODY,
            "spine-core", width=width,
        )  # fmt: skip
    in_bundles = sum(len(rows.source) for rows in bundles)

    def paths(source: Ints, target: Ints) -> Ints:
        a, b = of_port[p.port(source)], of_port[p.port(target)]
        from_pod, to_pod = (chip // per_node // shape.nodes_per_pod for chip in (source, target))
        middle = np.full((len(source), 4), -1, dtype=np.int64)
        far, farther = a != b, from_pod != to_pod
        middle[far, 0], middle[far, 3] = a[far], len(leaf) + b[far]
        middle[farther, 1] = 2 * len(leaf) + from_pod[farther]
        middle[farther, 2] = 2 * len(leaf) + pods + to_pod[farther]
        return p.ends(source, target, middle, in_bundles)

    vertices = (("port", p.own), ("leaf", shape.leaves), ("spines of pod", spines), ("cores", int(three)))
    return Part(vertices, (*bundles, *p.links(first_leaf + of_port)), paths)


def _rail_only(system: System, nodes: int, per_node: int) -> Part:
    """Each rail a network of its own: one switch, or leaves and spines where there are more nodes than ports."""
    net, p = system.network, _ports(system, nodes, per_node)
    flat = nodes <= net.radix
    down, up = (nodes, 0) if flat else _up_ports(net)
    groups = -(-nodes // down)
    if groups > net.radix:
        raise TopologyError(f"two tiers of radix {net.radix} reach {net.radix * down:,} nodes a rail, not {nodes:,}")
    leaves, spines = groups * p.lanes, 0 if flat else p.lanes
    first_leaf = p.chips + p.own
    port = np.arange(nodes * p.lanes)
    of_port = port // p.lanes // down * p.lanes + port % p.lanes
    links = p.links(first_leaf + of_port)
    leaf = np.arange(leaves if spines else 0)
    bundles = both_ways(
        first_leaf + leaf, first_leaf + leaves + leaf % p.lanes, p.rate * max(up, 1), net.hop_latency, _NOBODY,
        "leaf-spine", width=max(up, 1),
    )  # fmt: skip

    def paths(source: Ints, target: Ints) -> Ints:
        a, b = of_port[p.port(source)], of_port[p.port(target)]
        middle = np.full((len(source), 2), -1, dtype=np.int64)
        far = a != b
        middle[far, 0], middle[far, 1] = a[far], len(leaf) + b[far]
        return p.ends(source, target, middle, 2 * len(leaf))

    return Part(
        (("port", p.own), ("leaf", leaves), ("spines of rail", spines)), (*bundles, *links), paths
    )  # fmt: skip


def _clos(system: System, nodes: int, per_node: int) -> Part:
    """All ports of a node on one leaf; leaves under the spines of their pod, pods under cores."""
    net, p = system.network, _ports(system, nodes, per_node)
    three = net.kind == "clos"
    under = net.nodes_per_leaf
    if under is None:
        under = _up_ports(net)[0] // p.lanes
        if under < 1:
            raise TopologyError(
                f"a radix-{net.radix} leaf has no room for the {p.lanes} ports of a node; "
                "set network.nodes_per_leaf where a leaf stands for several switches"
            )
    leaves = -(-nodes // under)
    per_pod = net.nodes_per_pod or under * (net.radix // 2 if three else leaves)
    pods = -(-nodes // per_pod)
    if not three and net.nodes_per_leaf is None and leaves > net.radix:
        raise TopologyError(
            f"spines of radix {net.radix} join {net.radix} leaves; {nodes:,} nodes need {leaves:,}: take kind 'clos'"
        )
    if pods > net.radix:
        raise TopologyError(
            f"three tiers of radix {net.radix} reach {net.radix * per_pod:,} nodes, {per_pod:,} a pod, not {nodes:,}"
        )
    spines, cores = pods if leaves > 1 else 0, int(pods > 1)
    first_leaf = p.chips + p.own
    port, leaf, pod = np.arange(nodes * p.lanes), np.arange(leaves), np.arange(pods)
    links = p.links(first_leaf + port // p.lanes // under)
    per_leaf = p.rate * p.lanes * under / net.oversubscription
    per_spines = per_leaf * (per_pod // under) / net.pod_oversubscription
    bundles: tuple[Links, ...] = ()
    if spines:
        bundles += both_ways(
            first_leaf + leaf, first_leaf + leaves + leaf * under // per_pod, per_leaf, net.hop_latency, _NOBODY,
            "leaf-spine", width=max(1, round(per_leaf / p.rate)),
        )  # fmt: skip
    if cores:
        core = np.full(pods, first_leaf + leaves + spines)
        bundles += both_ways(
            first_leaf + leaves + pod, core, per_spines, net.hop_latency, _NOBODY,
            "spine-core", width=max(1, round(per_spines / p.rate)),
        )  # fmt: skip
    in_bundles = sum(len(rows.source) for rows in bundles)

    def paths(source: Ints, target: Ints) -> Ints:
        a, b = source // per_node, target // per_node
        from_leaf, to_leaf, from_pod, to_pod = a // under, b // under, a // per_pod, b // per_pod
        middle = np.full((len(source), 4), -1, dtype=np.int64)
        far = from_leaf != to_leaf
        middle[far, 0], middle[far, 3] = from_leaf[far], leaves + to_leaf[far]
        farther = from_pod != to_pod
        middle[farther, 1] = 2 * leaves + from_pod[farther]
        middle[farther, 2] = 2 * leaves + pods + to_pod[farther]
        return p.ends(source, target, middle, in_bundles)

    vertices = (("port", p.own), ("leaf", leaves), ("spines of pod", spines), ("cores", cores))
    return Part(vertices, (*bundles, *links), paths)


BETWEEN = {"rail-fat-tree": _rail_tree, "rail-only": _rail_only, "leaf-spine": _clos, "clos": _clos}
"""The part for each kind of `Network` that joins nodes."""
