"""Trees: two binary ones at once in a pipeline, and binomial ones in rounds.

The two binary trees carry half of the message each. Who has children in one is a leaf of the
other, so that every member's link is busy in both directions.
"""

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.flat import tree
from scaleout.collectives.phases import joined, phase
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.collectives.sends import Sends
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["binomial", "orders", "tree_form", "tree_schedule"]


def orders(members: int, operation: str, root: int = 0) -> Ints:
    """Members in the order of each tree's heap, shape (2, members).

    Position 0 stands above a heap of the others: the parent of position i is i div 2. The second
    tree has all members in reverse; where there is a root, all but the root, which is first in both.
    """
    if operation == "all_reduce":
        return np.stack((np.arange(members), np.arange(members)[::-1]))
    others = (root + np.arange(1, members)) % members
    first = np.array([root])
    return np.stack((np.concatenate((first, others)), np.concatenate((first, others[::-1]))))


def tree_schedule(task: Task) -> Schedule:
    """Up both trees, down both, or up and then down; `chunks` pieces in each tree."""
    n, chunks = task.members, task.chunks
    goal = task.goal(blocks=2, chunks=chunks)
    order = orders(n, task.operation, task.root)
    child = np.arange(1, n)
    parent, edges = child // 2, n - 1
    ways = {"all_reduce": (True, False), "reduce": (True,), "broadcast": (False,)}[task.operation]
    # lanes: tree, way, child
    source, target, before, behind = [], [], [], []
    up: Bools = np.repeat(np.tile(np.array(ways), 2), edges)
    for index in range(2):
        base = index * len(ways) * edges
        for way, upward in enumerate(ways):
            at = base + way * edges
            ends = order[index, child], order[index, parent]
            source.append(ends[0] if upward else ends[1])
            target.append(ends[1] if upward else ends[0])
            deep = child[parent > 0]
            # the lane of position i is number i - 1: up, a child's goes before its parent's; down, behind
            above, below = at + deep // 2 - 1, at + deep - 1
            before.append(below if upward else above)
            behind.append(above if upward else below)
        if len(ways) == 2:
            # at the top what came up goes down
            top = child[parent == 0]
            before.append(np.repeat(base + top - 1, len(top)))
            behind.append(np.tile(base + edges + top - 1, len(top)))
    lanes = 2 * len(ways) * edges
    which = np.repeat(np.arange(2), len(ways) * edges)
    slot = (which[:, None] * chunks + np.arange(chunks)).ravel()
    first, second = np.concatenate(before), np.concatenate(behind)
    return Schedule(
        name="tree",
        members=n,
        source=np.concatenate(source),
        target=np.concatenate(target),
        steps=np.full(lanes, chunks),
        share=goal.sizes[slot],
        edges=Edges(first, second, np.zeros(len(first), dtype=np.int64), np.ones(len(first), dtype=bool)),
        moves=lambda: Moves(np.arange(len(slot)), slot, slot, np.where(np.repeat(up, chunks), slot, -1)),
        slots=goal.slots,
        goal=goal,
    )


def tree_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """Both trees in many small pieces: all their links at once, and the latency of the deepest way."""
    if operation == "all_reduce":
        return tree(fabric, groups, operation, protocol)
    count, n = groups.shape
    if n == 1:
        return joined("tree", fabric, protocol, [], count)
    order = orders(n, operation)
    child = np.arange(1, n)
    ends = order[:, child].ravel(), order[:, child // 2].ravel()
    source, target = ends if operation == "reduce" else ends[::-1]
    whole = phase(fabric, protocol, groups, source, target, np.full(len(source), 0.5))
    routes = fabric.route(groups[:, source].ravel(), groups[:, target].ravel())
    steps = fabric.step(routes, fabric.protocols[protocol]).reshape(count, 2, n - 1)
    latency = depths(steps).max(axis=(1, 2))
    whole = Phase(share=0.5, group=whole.group, link=whole.link, weight=whole.weight, latency=latency, cap=whole.cap)
    return joined("tree", fabric, protocol, [whole], count)


def depths(steps: Floats) -> Floats:
    """Time from the top to each position of a heap, of the step to each position from 1 on [s]."""
    members = steps.shape[-1] + 1
    depth = np.zeros((*steps.shape[:-1], members))
    first = 1
    while first < members:
        level = np.arange(first, min(2 * first, members))
        depth[..., level] = depth[..., level // 2] + steps[..., level - 1]
        first *= 2
    return depth


def binomial(task: Task) -> Schedule:
    """Halving the distance round by round: each holder passes on, to the member a distance away.

    Broadcasts and reductions pass on the whole message; scatters and gathers what lies behind.
    """
    n, root, operation = task.members, task.root, task.operation
    whole = operation in ("broadcast", "reduce")
    goal = task.goal(blocks=1 if whole else n)
    sends = Sends(goal)
    inward = operation in ("reduce", "gather")
    distances = [2**k for k in range((n - 1).bit_length())]
    for distance in distances if inward else reversed(distances):
        sends.next_round()
        for near in range(0, n - distance, 2 * distance):
            far = near + distance
            slots = [0] if whole else [(root + b) % n for b in range(far, min(far + distance, n))]
            a, b = (root + near) % n, (root + far) % n
            if inward:
                sends.send(b, a, slots, reduce=whole)
            else:
                # one after another, the one that has most to pass on first
                sends.send(a, b, slots, lane=("out", a))
    return sends.schedule("binomial")
