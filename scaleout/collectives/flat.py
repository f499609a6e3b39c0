"""Algorithms that treat all members of a group alike: ring, direct, tree, point to point.

Closed forms for S bytes on n ranks, step latency a, bandwidth B per direction:

===============  =============================================
ring             all-reduce 2(n-1)a + 2(n-1)/n S/B; all-gather and reduce-scatter half of it
direct           all-reduce 2a + 2(n-1)/n S/B; all-gather and reduce-scatter half of it
tree             all-reduce 2 d a + 3 S/B for n > 4 (d: depth): an inner rank has three neighbours
point to point   a + S/B
===============  =============================================

S is the whole buffer: what an all-gather ends with, what a reduce-scatter starts from.
"""

import numpy as np

from scaleout.network.pattern import Pattern, tally
from scaleout.network.topology import Fabric, Floats, Ints

__all__ = ["ROUNDS", "direct", "point_to_point", "ring", "ring_latency", "tree"]

ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}
"""Times that every byte goes round the group."""


def ring(fabric: Fabric, groups: Ints, operation: str) -> Pattern:
    """A ring in rank order: n - 1 steps a round, each member sends to the next.

    Parameters
    ----------
    groups
        Ranks of each group, shape (groups, members).
    operation
        ``all_reduce``, ``all_gather`` or ``reduce_scatter``.
    """
    count, members = groups.shape
    routes = fabric.route(groups.ravel(), np.roll(groups, -1, axis=1).ravel())
    group, link, weight = tally(routes.flow // members, routes.link, np.ones(len(routes.link)), fabric.topology.links)
    steps = fabric.step(routes).reshape(count, members)
    rounds = ROUNDS[operation]
    return Pattern(
        algorithm="ring",
        share=rounds * (members - 1) / members,
        group=group,
        link=link,
        weight=weight,
        latency=fabric.launch + ring_latency(steps, rounds * (members - 1)),
    )


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
    laps, rest = divmod(hops, members)
    total = laps * steps.sum(axis=1)
    if rest:
        wrapped = np.concatenate((np.zeros((len(steps), 1)), np.cumsum(np.tile(steps, 2), axis=1)), axis=1)
        windows = wrapped[:, rest : rest + members] - wrapped[:, :members]
        total = total + windows.max(axis=1)
    return np.asarray(total)


def direct(fabric: Fabric, groups: Ints, operation: str) -> Pattern:
    """Every member sends to every other at once; an all-reduce does it twice (two-shot)."""
    count, members = groups.shape
    a, b = np.nonzero(~np.eye(members, dtype=bool))
    routes = fabric.route(groups[:, a].ravel(), groups[:, b].ravel())
    group, link, weight = tally(routes.flow // len(a), routes.link, np.ones(len(routes.link)), fabric.topology.links)
    rounds = ROUNDS[operation]
    step = fabric.step(routes).reshape(count, len(a)).max(axis=1)
    return Pattern(
        algorithm="direct",
        share=rounds / members,
        group=group,
        link=link,
        weight=weight,
        latency=fabric.launch + rounds * step,
    )


def tree(fabric: Fabric, groups: Ints, operation: str) -> Pattern:
    """A binary tree in rank order, reduced upward and broadcast downward in a pipeline.

    One tree: two that complement each other, as NCCL has, would balance the load to 2 S/B.
    """
    if operation != "all_reduce":
        raise ValueError(f"a tree does all_reduce, not {operation}")
    count, members = groups.shape
    child = np.arange(1, members)
    parent = (child - 1) // 2
    edges = len(child)
    routes = fabric.route(
        np.concatenate((groups[:, child], groups[:, parent]), axis=1).ravel(),
        np.concatenate((groups[:, parent], groups[:, child]), axis=1).ravel(),
    )
    group, link, weight = tally(
        routes.flow // (2 * edges), routes.link, np.ones(len(routes.link)), fabric.topology.links
    )
    steps = fabric.step(routes).reshape(count, 2, edges)
    depth = np.zeros((count, 2, members))
    first = 1
    while first < members:
        level = np.arange(first, min(2 * first + 1, members))
        depth[:, :, level] = depth[:, :, (level - 1) // 2] + steps[:, :, level - 1]
        first = 2 * first + 1
    latency = fabric.launch + depth.max(axis=2).sum(axis=1)
    return Pattern(algorithm="tree", share=1.0, group=group, link=link, weight=weight, latency=latency)


def point_to_point(fabric: Fabric, groups: Ints, operation: str) -> Pattern:
    """From the first member to the second."""
    routes = fabric.route(groups[:, 0], groups[:, 1])
    group, link, weight = tally(routes.flow, routes.link, np.ones(len(routes.link)), fabric.topology.links)
    latency = fabric.launch + fabric.step(routes)
    return Pattern(algorithm="send", share=1.0, group=group, link=link, weight=weight, latency=latency)
