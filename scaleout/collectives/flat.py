"""Algorithms that treat all members of a group alike: ring, direct, tree, in the switch, point to point.

Closed forms for S bytes on n ranks, step latency a, bandwidth B per direction:

===============  =============================================
ring             all-reduce 2(n-1)a + 2(n-1)/n S/B; all-gather and reduce-scatter half of it
direct           all-reduce 2a + 2(n-1)/n S/B; all-gather, reduce-scatter, all-to-all half of it
tree             all-reduce 2 d a + 2 S/B for n > 2 (d: depth)
in the switch    all-reduce 2a + (n+1)/n S/B
point to point   a + S/B
===============  =============================================

S is the whole buffer: what an all-gather ends with, what a reduce-scatter starts from.
B is the link's, or less where the protocol caps it.
"""

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.groups import rail_size
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase, tally
from scaleout.specs import Protocol

__all__ = ["ROUNDS", "direct", "nvls", "pairs", "point_to_point", "ring", "ring_latency", "tree"]

ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1, "all_to_all": 1}
"""Times that every byte goes round the group."""
_PAIRS_AT_ONCE = 1 << 18
"""Flows that are routed together where everyone sends to everyone."""


def ring(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """Rings in rank order: n - 1 steps a round, each member sends to the next.

    Where every node has g members, 1 < g < n, there are g rings, each of which leaves the nodes
    at another member, so that all their ports carry the same; otherwise one ring.

    Parameters
    ----------
    groups
        Ranks of each group, shape (groups, members).
    operation
        ``all_reduce``, ``all_gather`` or ``reduce_scatter``.
    protocol
        One of the fabric's.
    """
    count, members = groups.shape
    rules, rounds = fabric.protocols[protocol], ROUNDS[operation]
    per_node = rail_size(fabric, groups)
    if 1 < per_node < members:
        inside = groups.reshape(count, -1, per_node)
        # every member to the next in its node, and to its like in the next node
        target = np.stack((np.roll(inside, -1, axis=2), np.roll(inside, -1, axis=1)), axis=1)
        # flows over a link: of all rings but the one that leaves the node there, and of that one
        source, flows, rings = np.broadcast_to(inside[:, None], target.shape), [per_node - 1.0, 1.0], per_node
    else:
        target, source, flows, rings = np.roll(groups, -1, axis=1), groups, [1.0], 1
    routes = fabric.route(source.ravel(), target.ravel())
    flow = routes.flow
    group, link, weight = tally(
        flow // (members * len(flows)),
        routes.link,
        np.array(flows)[flow // members % len(flows)] * routes.weight,
        fabric.topology.links,
    )
    steps = fabric.step(routes, rules).reshape(count, len(flows), members)
    if len(flows) == 2:
        hops = steps.reshape(count, 2, -1, per_node)
        # the ring that leaves each node at its last member
        steps = np.concatenate((hops[:, 0, :, :-1], hops[:, 1, :, -1:]), axis=2).reshape(count, 1, members)
    chunk_steps = rounds * (members - 1)
    phase = Phase(
        share=chunk_steps / members / rings,
        group=group,
        link=link,
        weight=weight,
        latency=rules.launch + ring_latency(steps[:, 0], chunk_steps),
        cap=fabric.cap(rules, count, group, link, weight, chunk_steps / (chunk_steps + fabric.idle_step)),
    )
    return Pattern(f"ring/{protocol}", (phase,))


def ring_latency(steps: Floats, hops: int) -> Floats:
    """Latency of so many consecutive hops round a ring, from the worst start.

    Exact with unequal hops: a chunk starts at each member and travels `hops` hops, and the
    slowest of them ends the operation. It is a sum over hops, not the slowest hop times their
    number, as a barrier after each step would have it.

    Parameters
    ----------
    steps
        Latency of each hop [s], shape (groups, members).
    """
    members = steps.shape[1]
    laps = -(-hops // members)
    # round the group so often, less the quickest neighbours that are not gone over again
    skipped = sum(np.roll(steps, -j, axis=1) for j in range(laps * members - hops))
    return np.asarray(laps * np.cumsum(steps, axis=1)[:, -1] - np.min(skipped, axis=-1))


def direct(fabric: Fabric, groups: Ints, operation: str, protocol: str, name: str = "direct") -> Pattern:
    """Every member sends to every other at once; an all-reduce does it twice (two-shot)."""
    count, members = groups.shape
    rules, rounds = fabric.protocols[protocol], ROUNDS[operation]
    group, link, weight, step = pairs(fabric, groups, rules)
    phase = Phase(
        share=rounds / members,
        group=group,
        link=link,
        weight=weight,
        latency=rules.launch + rounds * step,
        # a member's own part is copied and sent nowhere
        cap=fabric.cap(rules, count, group, link, weight, (members - 1) / (members - 1 + fabric.idle_step)),
    )
    return Pattern(f"{name}/{protocol}", (phase,))


def pairs(fabric: Fabric, groups: Ints, rules: Protocol) -> tuple[Ints, Ints, Floats, Floats]:
    """Group, link and weight of all flows from every member to every other, and each group's slowest step [s].

    16,384 chips have 268 million pairs, so they are routed some at a time: several groups, or some
    senders of one. Large groups are cut alike, so that groups that lie alike get the same sums.
    """
    count, members = groups.shape
    flows = members * (members - 1)
    step = np.zeros(count)
    found: list[tuple[Ints, Ints, Floats]] = []
    if flows <= _PAIRS_AT_ONCE:
        a, b = np.nonzero(~np.eye(members, dtype=bool))
        at_once = _PAIRS_AT_ONCE // flows
        for first in range(0, count, at_once):
            some = groups[first : first + at_once]
            routes = fabric.route(some[:, a].ravel(), some[:, b].ravel())
            group, link, weight = tally(routes.flow // flows, routes.link, routes.weight, fabric.topology.links)
            step[first : first + len(some)] = fabric.step(routes, rules).reshape(len(some), flows).max(axis=1)
            found.append((group + first, link, weight))
    else:
        senders = max(1, _PAIRS_AT_ONCE // members)
        for g, ranks in enumerate(groups):
            load = np.zeros(fabric.topology.links)
            for first in range(0, members, senders):
                own = np.arange(first, min(first + senders, members))
                a, b = np.nonzero(own[:, None] != np.arange(members))
                routes = fabric.route(ranks[own[a]], ranks[b])
                load += np.bincount(routes.link, routes.weight, len(load))
                step[g] = max(step[g], fabric.step(routes, rules).max())
            used = np.flatnonzero(load)
            found.append((np.full(len(used), g), used, load[used]))
    group, link, weight = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return group, link, weight, step


def tree(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """Two binary trees, one in rank order and one in reverse, each for half of the message.

    Both reduce upward and broadcast downward in a pipeline. Who has two children in one tree is
    a leaf of the other, so no member carries more than 2 S each way.
    """
    if operation != "all_reduce":
        raise ValueError(f"a tree does all_reduce, not {operation}")
    count, members = groups.shape
    rules = fabric.protocols[protocol]
    child = np.arange(1, members)
    # rank 0 above a heap of the others
    parent = child // 2
    both = np.stack((groups, groups[:, ::-1]), axis=1)
    up = both[:, :, child], both[:, :, parent]
    routes = fabric.route(np.stack(up, axis=2).ravel(), np.stack(up[::-1], axis=2).ravel())
    edges = len(child)
    group, link, weight = tally(routes.flow // (4 * edges), routes.link, routes.weight, fabric.topology.links)
    # axes: group, tree, up or down, edge
    steps = fabric.step(routes, rules).reshape(count, 2, 2, edges)
    depth = np.zeros((count, 2, 2, members))
    first = 1
    while first < members:
        level = np.arange(first, min(2 * first, members))
        depth[..., level] = depth[..., level // 2] + steps[..., level - 1]
        first = 2 * first
    phase = Phase(
        share=0.5,
        group=group,
        link=link,
        weight=weight,
        latency=rules.launch + depth.max(axis=3).sum(axis=2).max(axis=1),
        cap=fabric.cap(rules, count, group, link, weight),
    )
    return Pattern(f"tree/{protocol}", (phase,))


def nvls(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """The node's switch adds: each member moves S + S/n each way instead of 2(n-1)/n S.

    A member reads its part of the sum from the switch, which takes every member's copy, and
    writes it back once; the switch hands it to all.
    """
    if operation != "all_reduce":
        raise ValueError(f"the switch does all_reduce, not {operation}")
    count, members = groups.shape
    rules = fabric.protocols[protocol]
    # a path to any other member goes over the own link to the switch; the way back over the link from it
    routes = fabric.route(groups.ravel(), np.roll(groups, -1, axis=1).ravel())
    moved = routes.weight * ((members + 1) / members)
    group, link, weight = tally(routes.flow // members, routes.link, moved, fabric.topology.links)
    step = fabric.step(routes, rules).reshape(count, members).max(axis=1)
    phase = Phase(
        share=1.0,
        group=group,
        link=link,
        weight=weight,
        latency=rules.launch + 2 * step,
        cap=fabric.cap(rules, count, group, link, weight),
    )
    return Pattern(f"nvls/{protocol}", (phase,))


def point_to_point(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """From the first member to the second."""
    rules = fabric.protocols[protocol]
    routes = fabric.route(groups[:, 0], groups[:, 1])
    group, link, weight = tally(routes.flow, routes.link, routes.weight, fabric.topology.links)
    phase = Phase(
        share=1.0,
        group=group,
        link=link,
        weight=weight,
        latency=rules.launch + fabric.step(routes, rules),
        cap=fabric.cap(rules, len(groups), group, link, weight),
    )
    return Pattern(f"send/{protocol}", (phase,))
