"""Rings as lanes: every member sends piece after piece to the next, as soon as each has come.

A ring of n members is n lanes of n - 1 steps (2 (n - 1) in an all-reduce) and n edges, so that rings
of thousands are built in no time. Broadcasts and reductions to one rank go along the open chain.
"""

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.flat import ROUNDS
from scaleout.collectives.goal import Goal
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import joined, phase
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["chain_form", "ring_schedule", "rotations"]


def rotations(group: Group) -> Ints:
    """Members in the order of each ring, shape (rings, members).

    Where every node holds g members, 1 < g < n, there are g rings. Each enters a node at the like of
    the member at which it left the node before, so it stays on a rail from node to node, and no two
    rings leave a node at the same member. (It closes on its rail too, but for g = 2 and an odd
    number of nodes.)
    """
    n, g = group.members, group.per_node
    if not 1 < g < n:
        return np.arange(n)[None, :]
    nodes = n // g
    turns = np.where(np.arange(nodes) % 2, 1, -1)
    if nodes % 2 and g > 2:
        turns[:3] = (-1, -1, 2)
    out = np.empty((g, nodes, g), dtype=np.int64)
    for ring in range(g):
        enter = ring
        for node in range(nodes):
            leave = (enter + int(turns[node])) % g
            between = [(enter + i) % g for i in range(1, g) if (enter + i) % g != leave]
            out[ring, node] = node * g + np.array([enter, *between, leave])
            enter = leave
    return out.reshape(g, n)


def ring_schedule(task: Task) -> Schedule:
    """One ring, or one for each member of a node."""
    if task.operation in ("broadcast", "reduce"):
        return _chain(task)
    n, orders = task.members, rotations(task.group)
    rings = len(orders)
    goal = task.goal(chunks=rings)
    steps = ROUNDS[task.operation] * (n - 1)
    if n == 1:
        return _none(goal, "ring")
    lanes = rings * n
    lane = np.arange(lanes)
    behind = lane // n * n + (lane + 1) % n
    # in an all-gather a member begins with its own block, otherwise with the block of the one before it
    late = 0 if task.operation == "all_gather" else 1

    def blocks() -> Ints:
        place = np.arange(n)[:, None] - np.arange(steps)[None, :] - late
        return orders[:, place % n] * rings + np.arange(rings)[:, None, None]

    def moves() -> Moves:
        slot = blocks().ravel()
        adds = np.broadcast_to(np.arange(steps) < (n - 1) * late, (rings, n, steps)).ravel()
        return Moves(np.arange(len(slot)), slot, slot, np.where(adds, slot, -1))

    even = task.parts is None and task.elements is None
    return Schedule(
        name="ring",
        members=n,
        source=orders.ravel(),
        target=np.roll(orders, -1, axis=1).ravel(),
        steps=np.full(lanes, steps),
        share=np.full(lanes, 1 / (n * rings)) if even else goal.sizes[blocks().ravel()],
        edges=Edges(lane, behind, np.ones(lanes, dtype=np.int64), np.ones(lanes, dtype=bool)),
        moves=moves,
        slots=goal.slots,
        goal=goal,
        chunk_steps=steps,
    )


def _none(goal: Goal, name: str) -> Schedule:
    """What one member alone does."""
    none = np.zeros(0, dtype=np.int64)
    return Schedule(
        name=name,
        members=goal.members,
        source=none,
        target=none,
        steps=none,
        share=np.zeros(0),
        edges=Edges(none, none, none, np.zeros(0, dtype=bool)),
        moves=lambda: Moves(none, none, none, none),
        slots=goal.slots,
        goal=goal,
    )


def _chain(task: Task) -> Schedule:
    """From the root along the ring, or to it, piece after piece."""
    n, chunks, reduce = task.members, task.chunks, task.operation == "reduce"
    goal = task.goal(blocks=1, chunks=chunks)
    if n == 1:
        return _none(goal, "ring")
    order = (task.root + np.arange(n)) % n
    if reduce:
        order = np.roll(order, -1)
    lane, slot = np.arange(n - 1), np.tile(np.arange(chunks), n - 1)
    return Schedule(
        name="ring",
        members=n,
        source=order[:-1],
        target=order[1:],
        steps=np.full(n - 1, chunks),
        share=np.tile(goal.sizes, n - 1),
        edges=Edges(lane[:-1], lane[1:], np.zeros(n - 2, dtype=np.int64), np.ones(n - 2, dtype=bool)),
        moves=lambda: Moves(np.arange(len(slot)), slot, slot, slot if reduce else np.full(len(slot), -1)),
        slots=goal.slots,
        goal=goal,
    )


def chain_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """A broadcast, or a reduction to one rank, along the chain from the first member, in many small pieces.

    All links are busy at once; the latency is that of the whole chain.
    """
    n = groups.shape[1]
    source, target = np.arange(n - 1), np.arange(1, n)
    if operation == "reduce":
        source, target = (source + 1) % n, (target + 1) % n
    if n == 1:
        return joined("ring", fabric, protocol, [], len(groups))
    whole = phase(fabric, protocol, groups, source, target, np.ones(n - 1))
    routes = fabric.route(groups[:, source].ravel(), groups[:, target].ravel())
    hops = fabric.step(routes, fabric.protocols[protocol]).reshape(len(groups), n - 1)
    whole = Phase(
        share=1.0, group=whole.group, link=whole.link, weight=whole.weight, latency=hops.sum(axis=1), cap=whole.cap
    )
    return joined("ring", fabric, protocol, [whole], len(groups))
