"""A rail fat tree and the places of equally spaced ranks on it, as numbers that also run compiled."""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError
from scaleout.network import tree_shape
from scaleout.once import once
from scaleout.specs import ALGORITHMS, CollectiveLibrary, System

__all__ = [
    "APART",
    "SAME_LEAF",
    "SAME_NODE",
    "SAME_POD",
    "Rails",
    "distance",
    "places",
    "rail_size_of_all",
    "railed",
    "rails",
    "reach",
    "refuse_unrailed",
]

SAME_NODE, SAME_LEAF, SAME_POD, APART = range(4)
"""How far it is from one rank to another."""


class Rails(NamedTuple):
    """A rail fat tree and its library as numbers; see `rail_fat_tree`.

    Parameters
    ----------
    chips, per_node, share, rails, leaf_nodes, pod_nodes
        Chips; of a node; on a port; rails; nodes under a leaf switch and under a pod's spines.
    bandwidth
        Of a chip's link into the node, of a chip and of all its neighbours into a port, of the
        bundles leaf to spines and pod to cores [byte/s, per direction], shape (5,).
    latency
        One way to a chip of the same node, leaf, pod, machine [s], shape (4,).
    protocols
        Launch, step inside and outside [s], rates inside and outside [1], shape (protocols, 5).
    runs
        1 where a protocol runs an algorithm, shape (protocols, algorithms).
    idle_step
        Of the library.
    """

    chips: int
    per_node: int
    share: int
    rails: int
    leaf_nodes: int
    pod_nodes: int
    bandwidth: Floats
    latency: Floats
    protocols: Floats
    runs: Floats
    idle_step: float


_COUNTED = frozenset(
    ("ring", "direct", "tree", "hierarchical", "hierarchical-tree", "nvls", "nvls-tree", "pairwise", "send")
)
"""Algorithms whose closed forms are counted, and ``pairwise``, which no step of a dense model takes."""


def railed(system: System) -> bool:
    """Whether a system's wires have a closed form: NVSwitch nodes on a rail fat tree, algorithms that are counted."""
    kinds = system.scale_up.kind, system.network.kind
    return kinds == ("nvswitch", "rail-fat-tree") and not once(_uncounted, system.library)


def _uncounted(library: CollectiveLibrary) -> list[str]:
    return sorted({name for rules in library.protocols.values() for name in rules.algorithms} - _COUNTED)


def _tables(library: CollectiveLibrary) -> tuple[Floats, Floats]:
    """Constants of each protocol, and which algorithms it runs."""
    rules = library.protocols.values()
    steps = [[r.launch, r.scale_up_step, r.network_step, r.scale_up_rate, r.network_rate] for r in rules]
    return np.array(steps), np.array([[float(name in r.algorithms) for name in ALGORITHMS] for r in rules])


def refuse_unrailed(system: System) -> None:
    """Refuse a system of another kind.

    Raises
    ------
    SpecError
        Its nodes or its network are of another kind.
    """
    if not railed(system):
        what = f"nodes of kind {system.scale_up.kind!r} on a network of kind {system.network.kind!r}"
        if uncounted := _uncounted(system.library):
            what += f" with algorithms such as {uncounted[0]!r}"
        raise SpecError(
            f"{system.name}: {what} have no wires in closed form, which a design space needs; take 'analyse_many', "
            "or evaluator 'event'"
        )


def rails(system: System, chips: int) -> Rails:
    """The machine of `chips` chips of a system.

    Raises
    ------
    SpecError
        Its nodes or its network are of another kind.
    TopologyError
        The tree cannot be built with the system's switches.
    """
    refuse_unrailed(system)
    per_node = min(chips, system.chips_per_node)
    nodes = -(-chips // per_node)
    share = system.chips_per_port
    lanes = -(-per_node // share)
    net, up = system.network, system.scale_up
    port, node_link = net.bandwidth * net.efficiency, up.bandwidth * up.efficiency
    leaf_nodes = pod_nodes = nodes
    bundles = [port, port]
    if nodes > 1:
        shape = tree_shape(nodes, lanes, net.radix, net.oversubscription, net.tiers)
        leaf_nodes, pod_nodes = shape.ports_down, shape.nodes_per_pod
        bundles = [port * shape.ports_up, port * shape.ports_up * (net.radix // 2)]
    hop, end = net.hop_latency, net.latency
    # as a fabric adds up its paths: a link of no latency on either side where ports are shared
    own = [0.0] if share > 1 and nodes > 1 else []
    paths = [
        [up.latency, up.latency, 0.0, 0.0, 0.0, 0.0],
        [*own, end, 0.0, 0.0, 0.0, 0.0, end, *own],
        [*own, end, hop, 0.0, 0.0, hop, end, *own],
        [*own, end, hop, hop, hop, hop, end, *own],
    ]
    protocols, runs = once(_tables, system.library)
    return Rails(
        chips=chips,
        per_node=per_node,
        share=share,
        rails=lanes,
        leaf_nodes=leaf_nodes,
        pod_nodes=pod_nodes,
        bandwidth=np.array([node_link, port, port, *bundles]),
        latency=np.array([float(np.array([path]).sum(axis=1)[0]) for path in paths]),
        protocols=protocols,
        runs=runs,
        idle_step=float(system.library.idle_step),
    )


@compilable
def _rail_size(start, stride, members, per_node):  # type: ignore[no-untyped-def]
    """Members of one group in each node that it touches; 0 where they differ."""
    if stride % per_node == 0:
        return 1
    if per_node % stride == 0:
        most = per_node // stride
        head = min(members, most - start % per_node // stride)
        if head == members:
            return members
        # whole nodes follow; the last may hold fewer
        rest = members - head
        return head if rest == head or (head == most and rest % most == 0) else 0
    size, run, node = 0, 1, start // per_node
    for i in range(1, members):
        here = (start + i * stride) // per_node
        if here == node:
            run += 1
            continue
        if size > 0 and run != size:
            return 0
        size, run, node = run, 1, here
    return run if size in (0, run) else 0


@compilable
def rail_size_of_all(step: int, starts: int, width: int, stride: int, members: int, per_node: int) -> int:
    """`rail_size` of the groups that start at k step + t, for k below `starts` and t below `width`."""
    if stride % per_node == 0:
        return 1
    if per_node % stride == 0 and step % stride == 0 and width <= stride:
        # members of neighbouring groups are neighbours
        width = 1
    size = 0
    for k in range(min(starts, 1 if step % per_node == 0 else per_node)):
        for t in range(min(width, per_node)):
            mine = _rail_size((k * step + t) % per_node, stride, members, per_node)
            if mine == 0 or size not in (0, mine):
                return 0
            size = mine
    return size


@compilable
def places(r, start, stride, members):  # type: ignore[no-untyped-def]
    """Node, port, leaf and pod of every member. Shape (4, members)."""
    out = np.empty((4, members), dtype=np.int64)
    by_nodes, by_chips = stride // r.per_node, stride % r.per_node
    node, chip = start // r.per_node, start % r.per_node
    leaf, pod = node // r.leaf_nodes, node // r.pod_nodes
    next_leaf, next_pod = (leaf + 1) * r.leaf_nodes, (pod + 1) * r.pod_nodes
    for i in range(members):
        rail = chip if r.share == 1 else chip // r.share
        out[0, i] = node
        out[1, i] = node * r.rails + rail
        out[2, i] = leaf * r.rails + rail
        out[3, i] = pod
        chip += by_chips
        node += by_nodes
        if chip >= r.per_node:
            chip -= r.per_node
            node += 1
        while node >= next_leaf:
            leaf += 1
            next_leaf += r.leaf_nodes
        while node >= next_pod:
            pod += 1
            next_pod += r.pod_nodes
    return out


@compilable
def distance(at, a, b):  # type: ignore[no-untyped-def]
    """How far it is from one member to another."""
    if at[0, a] == at[0, b]:
        return SAME_NODE
    if at[2, a] == at[2, b]:
        return SAME_LEAF
    return SAME_POD if at[3, a] == at[3, b] else APART


@compilable
def reach(r: Rails, source: int, target: int) -> int:
    """How far it is from one rank to another: the same node, leaf, pod, or none of them."""
    return int(distance(places(r, min(source, target), abs(target - source), 2), 0, 1))
