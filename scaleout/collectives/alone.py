"""Times alone of what equally spaced ranks do together, as numbers that also run compiled.

On a rail fat tree whose nodes and switches are all alike, a pattern comes down to the largest
load on each kind of link and to the latency. This module counts both for one group without
building a fabric; `flat` and `hierarchical` do the same for every group of any fabric, link by
link, and tests hold the two together. Equations: ``docs/collectives.md``.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.compiled import compilable
from scaleout.network import tree_shape
from scaleout.specs import ALGORITHMS, System

Floats = npt.NDArray[np.float64]

__all__ = ["HALF", "WHOLE", "Rails", "collective_rows", "rail_size_of_all", "rails", "send_rows"]

HALF, WHOLE = range(2)
"""All-gather or reduce-scatter, which load links alike; all-reduce."""
_RING, _DIRECT, _TREE = (ALGORITHMS.index(name) for name in ("ring", "direct", "tree"))
_HIERARCHICAL, _HIERARCHICAL_TREE = (ALGORITHMS.index(name) for name in ("hierarchical", "hierarchical-tree"))
_NVLS, _NVLS_TREE, _SEND = (ALGORITHMS.index(name) for name in ("nvls", "nvls-tree", "send"))
_LAUNCH, _INSIDE, _OUTSIDE, _INSIDE_RATE, _OUTSIDE_RATE = range(5)
_SAME_NODE, _SAME_LEAF, _SAME_POD, _APART = range(4)
_ON_CHIP, _ON_NIC, _ON_PORT, _ON_LEAF, _ON_POD = range(5)
_DIRECT_LIMIT = 16
_HAIR = 1.0 - 1e-14
"""Many equal shares added one by one may fall short of their product by so much."""


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


def rails(system: System, chips: int) -> Rails:
    """The machine of `chips` chips of a system.

    Raises
    ------
    TopologyError
        The tree cannot be built with the system's switches.
    """
    per_node = min(chips, system.chips_per_node)
    nodes = -(-chips // per_node)
    share = system.chips_per_node // system.ports_per_node
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
    rules = system.library.protocols.values()
    return Rails(
        chips=chips,
        per_node=per_node,
        share=share,
        rails=lanes,
        leaf_nodes=leaf_nodes,
        pod_nodes=pod_nodes,
        bandwidth=np.array([node_link, port, port, *bundles]),
        latency=np.array([float(np.array([path]).sum(axis=1)[0]) for path in paths]),
        protocols=np.array([[r.launch, r.scale_up_step, r.network_step, r.scale_up_rate, r.network_rate] for r in rules]),
        runs=np.array([[float(name in r.algorithms) for name in ALGORITHMS] for r in rules]),
        idle_step=float(system.library.idle_step),
    )


# --- where the members are -------------------------------------------------------------------


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
def _places(r, start, stride, members):  # type: ignore[no-untyped-def]
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
def _reach(at, a, b):  # type: ignore[no-untyped-def]
    """How far it is from one member to another."""
    if at[0, a] == at[0, b]:
        return _SAME_NODE
    if at[2, a] == at[2, b]:
        return _SAME_LEAF
    return _SAME_POD if at[3, a] == at[3, b] else _APART


# --- loads: the most flows over any link of a kind -------------------------------------------


@compilable
def _tallies(at, r):  # type: ignore[no-untyped-def]
    """Counters of flows out of and into members (inside, outside), ports, leaves and pods."""
    last = at.shape[1] - 1
    ports = at[1, last] - at[1, 0] + 1 if r.share > 1 else 1
    leaves = (at[2, last] // r.rails - at[2, 0] // r.rails + 1) * r.rails
    return (
        np.zeros((4, last + 1), dtype=np.int64),
        np.zeros((2, ports), dtype=np.int64),
        np.zeros((2, leaves), dtype=np.int64),
        np.zeros((2, at[3, last] - at[3, 0] + 1), dtype=np.int64),
    )


@compilable
def _count(at, r, a, b, tallies):  # type: ignore[no-untyped-def]
    """One flow from member a to member b."""
    members, ports, leaves, pods = tallies
    reach = _reach(at, a, b)
    if reach == _SAME_NODE:
        members[0, a] += 1
        members[1, b] += 1
        return
    members[2, a] += 1
    members[3, b] += 1
    if r.share > 1:
        ports[0, at[1, a] - at[1, 0]] += 1
        ports[1, at[1, b] - at[1, 0]] += 1
    if reach > _SAME_LEAF:
        low = at[2, 0] // r.rails * r.rails
        leaves[0, at[2, a] - low] += 1
        leaves[1, at[2, b] - low] += 1
    if reach == _APART:
        pods[0, at[3, a] - at[3, 0]] += 1
        pods[1, at[3, b] - at[3, 0]] += 1


@compilable
def _most(tallies):  # type: ignore[no-untyped-def]
    members, ports, leaves, pods = tallies
    out = np.empty(5)
    out[_ON_CHIP] = members[:2].max()
    out[_ON_NIC] = members[2:].max()
    out[_ON_PORT] = ports.max()
    out[_ON_LEAF] = leaves.max()
    out[_ON_POD] = pods.max()
    return out


@compilable
def _ring_loads(at, r, hop):  # type: ignore[no-untyped-def]
    """Every member sends to the one `hop` places on, round the group."""
    tallies = _tallies(at, r)
    members = at.shape[1]
    for a in range(members):
        b = a + hop
        _count(at, r, a, b if b < members else b - members, tallies)
    return _most(tallies)


@compilable
def _tree_loads(at, r, lanes):  # type: ignore[no-untyped-def]
    """Two trees, up and down, among every `lanes`-th member."""
    tallies = _tallies(at, r)
    nodes = at.shape[1] // lanes
    for child in range(1, nodes):
        for lane in range(lanes):
            a, b = child * lanes + lane, child // 2 * lanes + lane
            c, d = (nodes - 1 - child) * lanes + lane, (nodes - 1 - child // 2) * lanes + lane
            _count(at, r, a, b, tallies)
            _count(at, r, b, a, tallies)
            _count(at, r, c, d, tallies)
            _count(at, r, d, c, tallies)
    return _most(tallies)


@compilable
def _rate(r, loads, inner, outer):  # type: ignore[no-untyped-def]
    """What the links leave an elementary flow, whose load is `inner` and `outer` of a counted one [byte/s]."""
    rate = np.inf
    if loads[_ON_CHIP] > 0.0:
        rate = r.bandwidth[_ON_CHIP] / (loads[_ON_CHIP] * inner)
    for kind in range(_ON_NIC, 5):
        if loads[kind] > 0.0:
            load = loads[kind] * outer
            rate = min(rate, r.bandwidth[kind] / (load * _HAIR if kind > _ON_NIC and outer != 1.0 else load))
    return rate


@compilable
def _cap(r, p, loads, inner, outer, sending):  # type: ignore[no-untyped-def]
    """What a chip's kernels drive, in elementary flows [byte/s]."""
    cap = np.inf
    if loads[_ON_CHIP] > 0.0:
        most = r.protocols[p, _INSIDE_RATE] * sending * r.bandwidth[_ON_CHIP]
        cap = most / (loads[_ON_CHIP] * inner)
    if loads[_ON_NIC] > 0.0:
        cap = min(cap, r.protocols[p, _OUTSIDE_RATE] * r.bandwidth[_ON_NIC] / (loads[_ON_NIC] * outer))
    return cap


# --- latency ---------------------------------------------------------------------------------


@compilable
def _steps(r, p):  # type: ignore[no-untyped-def]
    """Latency of one algorithm step by how far it goes [s]."""
    out = r.latency + r.protocols[p, _OUTSIDE]
    out[_SAME_NODE] = r.latency[_SAME_NODE] + r.protocols[p, _INSIDE]
    return out


@compilable
def _round(hops, steps, rounds):  # type: ignore[no-untyped-def]
    """`ring_latency` of hops that go so far."""
    members = len(hops)
    whole = 0.0
    for i in range(members):
        whole += steps[hops[i]]
    skipped = np.inf
    for i in range(members):
        here = 0.0
        for j in range(rounds):
            here += steps[hops[(i + j) % members]]
        skipped = min(skipped, here)
    return rounds * whole - skipped


@compilable
def _depth(at, lane, lanes, steps):  # type: ignore[no-untyped-def]
    """Time up and down the slower of the two trees among every `lanes`-th member."""
    nodes = at.shape[1] // lanes
    depth = np.zeros((4, nodes))
    worst = np.zeros(4)
    for child in range(1, nodes):
        a, b = child * lanes + lane, child // 2 * lanes + lane
        c, d = (nodes - 1 - child) * lanes + lane, (nodes - 1 - child // 2) * lanes + lane
        forth, back = steps[_reach(at, a, b)], steps[_reach(at, c, d)]
        depth[0, child] = depth[0, child // 2] + forth
        depth[2, child] = depth[2, child // 2] + back
        worst[0] = max(worst[0], depth[0, child])
        worst[2] = max(worst[2], depth[2, child])
    # the way up is as long as the way down
    return max(worst[0] + worst[0], worst[2] + worst[2])


# --- rows ------------------------------------------------------------------------------------


@compilable
def _keep(out, count, latency, share, rate):  # type: ignore[no-untyped-def]
    """Add a row unless another is never slower."""
    for i in range(count):
        if out[i, 0] <= latency and out[i, 1] <= share and out[i, 2] >= rate:
            return count
    out[count, 0] = latency
    out[count, 1] = share
    out[count, 2] = rate
    return count + 1


@compilable
def collective_rows(
    r: Rails, operation: int, start: int, stride: int, members: int, size: int, out: Floats, count: int
) -> int:
    """Add what can do a collective of the ranks start, start + stride, ...; returns the number of rows.

    Parameters
    ----------
    size
        `rail_size` of its whole family.
    out
        Rows of latency [s], share of the message that is moved [1] and rate alone [byte/s].
    count
        Rows that are there already; those that are never faster than another are left out.
    """
    at = _places(r, start, stride, members)
    whole = operation == WHOLE
    rounds = 2 if whole else 1
    chunk_steps = rounds * (members - 1)
    one_node, railed = size == members, 1 < size < members
    lanes = size if railed else 1

    hops = np.empty(members, dtype=np.int64)
    for i in range(members):
        b = i + 1 if not railed or (i + 1) % size != 0 else i + size
        hops[i] = _reach(at, i, b if b < members else b - members)
    loads = _ring_loads(at, r, lanes)
    inner, outer = 1.0, 1.0
    if railed:
        loads[_ON_CHIP] = 1.0
        inner, outer = (size - 1) / size, 1.0 / size
    trees = loads
    lane_hops = hops[:1]
    if railed:
        # of all lanes the last, whose ring is no shorter than the others'
        lane_hops = hops[size - 1 :: size].copy()
    if whole and (railed or size < 2):
        trees = _tree_loads(at, r, lanes)
    bare = loads.copy()
    bare[_ON_CHIP] = 0.0
    for p in range(len(r.protocols)):
        steps, launch = _steps(r, p), r.protocols[p, _LAUNCH]
        if r.runs[p, _RING] > 0.0:
            sending = chunk_steps / (chunk_steps + r.idle_step)
            rate = min(_rate(r, loads, inner, outer), _cap(r, p, loads, inner, outer, sending))
            count = _keep(out, count, launch + _round(hops, steps, rounds), chunk_steps / members, rate)
        if one_node and members <= _DIRECT_LIMIT and r.runs[p, _DIRECT] > 0.0:
            others = members - 1.0
            link = r.bandwidth[_ON_CHIP]
            driven = r.protocols[p, _INSIDE_RATE] * (others / (others + r.idle_step)) * link
            rate = min(link / others, driven / others)
            count = _keep(out, count, launch + rounds * steps[_SAME_NODE], rounds / members, rate)
        if one_node and whole and r.runs[p, _NVLS] > 0.0:
            weight = (members + 1) / members
            link = r.bandwidth[_ON_CHIP]
            rate = min(link / weight, r.protocols[p, _INSIDE_RATE] * 1.0 * link / weight)
            count = _keep(out, count, launch + 2 * steps[_SAME_NODE], 1.0, rate)
        if whole and size < 2 and r.runs[p, _TREE] > 0.0:
            rate = min(_rate(r, trees, 1.0, 1.0), _cap(r, p, trees, 1.0, 1.0, 1.0))
            count = _keep(out, count, launch + _depth(at, 0, 1, steps), 0.5, rate)
        if not railed:
            continue
        for algorithm in (_HIERARCHICAL, _HIERARCHICAL_TREE, _NVLS_TREE):
            if r.runs[p, algorithm] == 0.0 or (algorithm != _HIERARCHICAL and not whole):
                continue
            nodes = members // size
            inside = rounds * (size - 1)
            share, weight, sending = inside / size, 1.0, inside / (inside + r.idle_step)
            within = launch + _round(np.zeros(size, dtype=np.int64), steps, rounds)
            if algorithm == _NVLS_TREE:
                share, weight, sending = 1.0, (size + 1) / size, 1.0
                within = launch + 2 * steps[_SAME_NODE]
            across = bare
            if algorithm == _HIERARCHICAL:
                outer_share = rounds * (nodes - 1) / nodes / size
                between = launch + _round(lane_hops, steps, rounds)
            else:
                across = trees.copy()
                across[_ON_CHIP] = 0.0
                outer_share = 0.5 / size
                between = launch + _depth(at, size - 1, size, steps)
            ratio = share / outer_share
            link = r.bandwidth[_ON_CHIP]
            rate = min(link / (weight * ratio), _rate(r, across, 1.0, 1.0))
            driven = r.protocols[p, _INSIDE_RATE] * sending * link / weight
            cap = min(driven / ratio, _cap(r, p, across, 1.0, 1.0, 1.0))
            count = _keep(out, count, within + between - launch, outer_share, min(rate, cap))
    return count


@compilable
def send_rows(r: Rails, source: int, target: int, out: Floats) -> None:
    """A message from one rank to another: a row for each protocol that sends."""
    at = _places(r, min(source, target), abs(target - source), 2)
    reach = _reach(at, 0, 1)
    link = _ON_CHIP if reach == _SAME_NODE else _ON_NIC
    rate = r.bandwidth[link]
    if reach > _SAME_LEAF:
        rate = min(rate, r.bandwidth[_ON_LEAF])
    if reach == _APART:
        rate = min(rate, r.bandwidth[_ON_POD])
    row = 0
    for p in range(len(r.protocols)):
        if r.runs[p, _SEND] > 0.0:
            driven = r.protocols[p, _INSIDE_RATE if reach == _SAME_NODE else _OUTSIDE_RATE] * r.bandwidth[link]
            out[row, 0] = r.protocols[p, _LAUNCH] + _steps(r, p)[reach]
            out[row, 1] = 1.0
            out[row, 2] = min(rate, driven)
            row += 1
