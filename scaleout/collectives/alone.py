"""Times alone of what equally spaced ranks do together, as numbers that also run compiled.

On a rail fat tree whose nodes and switches are all alike, a pattern comes down to the largest
load on each kind of link and to the latency. This module counts both for one group without
building a fabric; `flat` and `hierarchical` do the same for every group of any fabric, link by
link, and tests hold the two together. Equations: ``docs/collectives.md``.
"""

import numpy as np

from scaleout.arrays import Floats
from scaleout.collectives.places import APART, SAME_LEAF, SAME_NODE, Rails, distance, places
from scaleout.compiled import compilable
from scaleout.specs import ALGORITHMS

__all__ = ["HALF", "WHOLE", "collective_rows", "send_rows"]

HALF, WHOLE = range(2)
"""All-gather or reduce-scatter, which load links alike; all-reduce."""
_RING, _DIRECT, _TREE = (ALGORITHMS.index(name) for name in ("ring", "direct", "tree"))
_HIERARCHICAL, _HIERARCHICAL_TREE = (ALGORITHMS.index(name) for name in ("hierarchical", "hierarchical-tree"))
_NVLS, _NVLS_TREE, _SEND = (ALGORITHMS.index(name) for name in ("nvls", "nvls-tree", "send"))
_LAUNCH, _INSIDE, _OUTSIDE, _INSIDE_RATE, _OUTSIDE_RATE = range(5)
_ON_CHIP, _ON_NIC, _ON_PORT, _ON_LEAF, _ON_POD = range(5)
_DIRECT_LIMIT = 16


# --- loads: the most flows over any link of a kind -------------------------------------------


@compilable
def _most(at, source, target, lanes_of_port, rails):  # type: ignore[no-untyped-def]
    """The most flows over a link of each kind, of flows from member to member.

    `lanes_of_port` is 0 where every chip has a port of its own.
    """
    last = at.shape[1] - 1
    members = np.zeros((4, last + 1), dtype=np.int64)
    ports = np.zeros((2, at[1, last] - at[1, 0] + 1 if lanes_of_port > 0 else 1), dtype=np.int64)
    first_leaf, first_pod = at[2, 0] // rails * rails, at[3, 0]
    leaves = np.zeros((2, at[2, last] // rails * rails - first_leaf + rails), dtype=np.int64)
    pods = np.zeros((2, at[3, last] - first_pod + 1), dtype=np.int64)
    for flow in range(len(source)):
        a, b = source[flow], target[flow]
        if at[0, a] == at[0, b]:
            members[0, a] += 1
            members[1, b] += 1
            continue
        members[2, a] += 1
        members[3, b] += 1
        if lanes_of_port > 0:
            ports[0, at[1, a] - at[1, 0]] += 1
            ports[1, at[1, b] - at[1, 0]] += 1
        if at[2, a] != at[2, b]:
            leaves[0, at[2, a] - first_leaf] += 1
            leaves[1, at[2, b] - first_leaf] += 1
            if at[3, a] != at[3, b]:
                pods[0, at[3, a] - first_pod] += 1
                pods[1, at[3, b] - first_pod] += 1
    out = np.empty(5)
    out[_ON_CHIP] = members[:2].max()
    out[_ON_NIC] = members[2:].max()
    out[_ON_PORT] = ports.max()
    out[_ON_LEAF] = leaves.max()
    out[_ON_POD] = pods.max()
    return out


@compilable
def _ring_loads(at, hop, share, rails):  # type: ignore[no-untyped-def]
    """Every member sends to the one `hop` places on, round the group."""
    source = np.arange(at.shape[1])
    return _most(at, source, np.concatenate((source[hop:], source[:hop])), share - 1, rails)


@compilable
def _tree_loads(at, lanes, share, rails):  # type: ignore[no-untyped-def]
    """Two trees, up and down, among every `lanes`-th member."""
    members = at.shape[1]
    edges = members - lanes
    source, target = np.empty(4 * edges, dtype=np.int64), np.empty(4 * edges, dtype=np.int64)
    flow = 0
    for child in range(1, members // lanes):
        for lane in range(lanes):
            a, b = child * lanes + lane, child // 2 * lanes + lane
            # the other tree counts the nodes from behind
            c, d = members - (child + 1) * lanes + lane, members - (child // 2 + 1) * lanes + lane
            source[flow], source[flow + 1], source[flow + 2], source[flow + 3] = a, b, c, d
            target[flow], target[flow + 1], target[flow + 2], target[flow + 3] = b, a, d, c
            flow += 4
    return _most(at, source, target, share - 1, rails)


@compilable
def _rate(r, loads, inner):  # type: ignore[no-untyped-def]
    """What the links leave an elementary flow that loads a chip's link `inner` times as often as counted [byte/s]."""
    rate = np.inf
    if loads[_ON_CHIP] > 0.0:
        rate = r.bandwidth[_ON_CHIP] / (loads[_ON_CHIP] * inner)
    for kind in range(_ON_NIC, 5):
        if loads[kind] > 0.0:
            rate = min(rate, r.bandwidth[kind] / loads[kind])
    return rate


@compilable
def _cap(r, p, loads, inner, sending):  # type: ignore[no-untyped-def]
    """What a chip's kernels drive, in elementary flows [byte/s]."""
    cap = np.inf
    if loads[_ON_CHIP] > 0.0:
        most = r.protocols[p, _INSIDE_RATE] * sending * r.bandwidth[_ON_CHIP]
        cap = most / (loads[_ON_CHIP] * inner)
    if loads[_ON_NIC] > 0.0:
        cap = min(cap, r.protocols[p, _OUTSIDE_RATE] * r.bandwidth[_ON_NIC] / loads[_ON_NIC])
    return cap


# --- latency ---------------------------------------------------------------------------------


@compilable
def _steps(r, p):  # type: ignore[no-untyped-def]
    """Latency of one algorithm step by how far it goes [s]."""
    out = r.latency + r.protocols[p, _OUTSIDE]
    out[SAME_NODE] = r.latency[SAME_NODE] + r.protocols[p, _INSIDE]
    return out


@compilable
def _neighbours(hops):  # type: ignore[no-untyped-def]
    """Which hops follow one another round the group. Shape (4, 4)."""
    out = np.zeros((4, 4), dtype=np.int64)
    for i in range(len(hops)):
        out[hops[i - 1], hops[i]] = 1
    return out


@compilable
def _round(hops, pairs, steps, rounds):  # type: ignore[no-untyped-def]
    """`ring_latency` of hops that go so far."""
    whole = 0.0
    for i in range(len(hops)):
        whole += steps[hops[i]]
    skipped = np.inf
    for a in range(4):
        for b in range(4):
            if pairs[a, b] > 0:
                skipped = min(skipped, steps[a] + steps[b] if rounds == 2 else steps[b])
    return rounds * whole - skipped


@compilable
def _depth(at, lane, lanes, steps):  # type: ignore[no-untyped-def]
    """Time up and down the slower of the two trees among every `lanes`-th member."""
    nodes = at.shape[1] // lanes
    depth = np.zeros((2, nodes))
    worst = np.zeros(2)
    for child in range(1, nodes):
        a, b = child * lanes + lane, child // 2 * lanes + lane
        c, d = (nodes - 1 - child) * lanes + lane, (nodes - 1 - child // 2) * lanes + lane
        forth, back = steps[distance(at, a, b)], steps[distance(at, c, d)]
        depth[0, child] = depth[0, child // 2] + forth
        depth[1, child] = depth[1, child // 2] + back
        worst[0] = max(worst[0], depth[0, child])
        worst[1] = max(worst[1], depth[1, child])
    # the way up is as long as the way down
    return 2.0 * max(worst[0], worst[1])


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
    at = places(r, start, stride, members)
    whole = operation == WHOLE
    rounds = 2 if whole else 1
    chunk_steps = rounds * (members - 1)
    one_node, railed = size == members, 1 < size < members
    lanes = size if railed else 1

    hops = np.empty(members, dtype=np.int64)
    for i in range(members):
        b = i + 1 if not railed or (i + 1) % size != 0 else i + size
        hops[i] = distance(at, i, b if b < members else b - members)
    loads = _ring_loads(at, lanes, r.share, r.rails)
    inner = 1.0
    if railed:
        loads[_ON_CHIP] = 1.0
        inner = size - 1.0
    trees = loads
    lane_hops = hops[:1]
    if railed:
        # of all lanes the last, whose ring is no shorter than the others'
        lane_hops = hops[size - 1 :: size].copy()
    if whole and (railed or size < 2):
        trees = _tree_loads(at, lanes, r.share, r.rails)
    pairs, lane_pairs = _neighbours(hops), _neighbours(lane_hops)
    inside_hops = np.zeros(lanes, dtype=np.int64)
    inside_pairs = _neighbours(inside_hops)
    bare = loads.copy()
    bare[_ON_CHIP] = 0.0
    for p in range(len(r.protocols)):
        steps, launch = _steps(r, p), r.protocols[p, _LAUNCH]
        if r.runs[p, _RING] > 0.0:
            sending = chunk_steps / (chunk_steps + r.idle_step)
            rate = min(_rate(r, loads, inner), _cap(r, p, loads, inner, sending))
            count = _keep(out, count, launch + _round(hops, pairs, steps, rounds), chunk_steps / members / lanes, rate)
        if one_node and members <= _DIRECT_LIMIT and r.runs[p, _DIRECT] > 0.0:
            others = members - 1.0
            link = r.bandwidth[_ON_CHIP]
            driven = r.protocols[p, _INSIDE_RATE] * (others / (others + r.idle_step)) * link
            rate = min(link / others, driven / others)
            count = _keep(out, count, launch + rounds * steps[SAME_NODE], rounds / members, rate)
        if one_node and whole and r.runs[p, _NVLS] > 0.0:
            weight = (members + 1) / members
            link = r.bandwidth[_ON_CHIP]
            rate = min(link / weight, r.protocols[p, _INSIDE_RATE] * 1.0 * link / weight)
            count = _keep(out, count, launch + 2 * steps[SAME_NODE], 1.0, rate)
        if whole and size < 2 and r.runs[p, _TREE] > 0.0:
            rate = min(_rate(r, trees, 1.0), _cap(r, p, trees, 1.0, 1.0))
            count = _keep(out, count, launch + _depth(at, 0, 1, steps), 0.5, rate)
        if not railed:
            continue
        for algorithm in (_HIERARCHICAL, _HIERARCHICAL_TREE, _NVLS_TREE):
            if r.runs[p, algorithm] == 0.0 or (algorithm != _HIERARCHICAL and not whole):
                continue
            nodes = members // size
            inside = rounds * (size - 1)
            share, weight, sending = inside / size, 1.0, inside / (inside + r.idle_step)
            within = launch + _round(inside_hops, inside_pairs, steps, rounds)
            if algorithm == _NVLS_TREE:
                share, weight, sending = 1.0, (size + 1) / size, 1.0
                within = launch + 2 * steps[SAME_NODE]
            across = bare
            if algorithm == _HIERARCHICAL:
                outer_share = rounds * (nodes - 1) / nodes / size
                between = launch + _round(lane_hops, lane_pairs, steps, rounds)
            else:
                across = trees.copy()
                across[_ON_CHIP] = 0.0
                outer_share = 0.5 / size
                between = launch + _depth(at, size - 1, size, steps)
            ratio = share / outer_share
            link = r.bandwidth[_ON_CHIP]
            rate = min(link / (weight * ratio), _rate(r, across, 1.0))
            driven = r.protocols[p, _INSIDE_RATE] * sending * link / weight
            cap = min(driven / ratio, _cap(r, p, across, 1.0, 1.0))
            count = _keep(out, count, within + between - launch, outer_share, min(rate, cap))
    return count


@compilable
def send_rows(r: Rails) -> Floats:
    """Rows of a message by how far it goes (`reach`), one for each protocol that sends. Shape (4, rows, 3)."""
    able = np.flatnonzero(r.runs[:, _SEND] > 0.0)
    out = np.ones((4, len(able), 3))
    for i in range(len(able)):
        p = able[i]
        steps = _steps(r, p)
        for far in range(4):
            link = _ON_CHIP if far == SAME_NODE else _ON_NIC
            driven = r.protocols[p, _INSIDE_RATE if far == SAME_NODE else _OUTSIDE_RATE] * r.bandwidth[link]
            rate = min(r.bandwidth[link], driven)
            if far > SAME_LEAF:
                rate = min(rate, r.bandwidth[_ON_LEAF])
            if far == APART:
                rate = min(rate, r.bandwidth[_ON_POD])
            out[far, i, 0] = r.protocols[p, _LAUNCH] + steps[far]
            out[far, i, 2] = rate
    return out
