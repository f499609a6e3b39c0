"""Everyone sends to everyone: at once, or one after another.

In one node, or where all pairs have links of their own, this takes the fewest steps.
"""

from dataclasses import replace

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.flat import ROUNDS, direct, point_to_point
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import joined, phase, rounds
from scaleout.collectives.schedule import Edges, Moves, Schedule
from scaleout.collectives.sends import Sends
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern

__all__ = ["direct_form", "direct_schedule", "one_shot", "one_shot_form", "pairwise", "send_form", "send_schedule"]


def direct_schedule(task: Task) -> Schedule:
    """All pairs at once; an all-reduce does it twice (two-shot)."""
    n, operation, root = task.members, task.operation, task.root
    whole = operation in ("broadcast", "reduce")
    sends = Sends(task.goal(blocks=1 if whole else n))
    others = [rank for rank in range(n) if rank != root]
    if whole:
        for rank in others:
            if operation == "broadcast":
                sends.send(root, rank, 0)
            else:
                sends.send(rank, root, 0, reduce=True)
    elif operation in ("gather", "scatter"):
        for rank in others:
            a, b = (rank, root) if operation == "gather" else (root, rank)
            sends.send(a, b, rank)
    pairs = [(rank, (rank + hop) % n) for hop in range(1, n) for rank in range(n)]
    if operation in ("reduce_scatter", "all_reduce"):
        for a, b in pairs:
            sends.send(a, b, b, reduce=True, lane=(a, b, "shares"))
    if operation in ("all_gather", "all_reduce"):
        for a, b in pairs:
            sends.send(a, b, a)
    # a member's own part is copied and sent nowhere
    return replace(sends.schedule("direct"), chunk_steps=n - 1 if operation in ROUNDS else 0)


def direct_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """`flat.direct`, or the one round of a root's operation."""
    if operation in ROUNDS:
        return direct(fabric, groups, operation, protocol)
    task = Task(operation=operation, group=Group.on(fabric, groups[0]))
    return rounds(fabric, groups, direct_schedule(task), protocol)


def one_shot(task: Task) -> Schedule:
    """An all-reduce in one step: everyone sends all it has to everyone, and adds up what comes."""
    n = task.members
    sends = Sends(task.goal(blocks=1, out=1))
    for rank in range(n):
        sends.copy(rank, 0, 1)
    for hop in range(1, n):
        for rank in range(n):
            sends.send(rank, (rank + hop) % n, 0, 1, reduce=True)
    return sends.schedule("one-shot")


def one_shot_form(fabric: Fabric, groups: Ints, _operation: str, protocol: str) -> Pattern:
    """One phase in which a member sends n - 1 messages and gets as many."""
    n = groups.shape[1]
    a, b = np.nonzero(~np.eye(n, dtype=bool))
    phases = [phase(fabric, protocol, groups, a, b, np.ones(len(a)))] if n > 1 else []
    return joined("one-shot", fabric, protocol, phases, len(groups))


def pairwise(task: Task, *, steps: bool = False) -> Schedule:
    """An all-to-all, to all others at once or, in `steps`, to the next, the one after it, and so on.

    A step begins when what was sent has left and what was to come has come.
    """
    n = task.members
    goal = task.goal(out=n)
    rank = np.arange(n)
    # first what each keeps, then all sends to the next, to the one after it, and so on
    source = np.tile(rank, n)
    target = ((np.arange(n)[:, None] + rank) % n).ravel()
    none = np.zeros(0, dtype=np.int64)
    before = [none]
    behind = [none]
    for hop in range(2, n if steps else 0):
        # the send before, and what came with it
        before += [(hop - 1) * n + rank, (hop - 1) * n + (rank - hop + 1) % n]
        behind += [hop * n + rank] * 2
    first, second = np.concatenate(before), np.concatenate(behind)
    return Schedule(
        name="pairwise-steps" if steps else "pairwise",
        members=n,
        source=source,
        target=target,
        steps=np.ones(n * n, dtype=np.int64),
        share=np.where(source == target, 0.0, goal.sizes[source * n + target]),
        edges=Edges(first, second, np.zeros(len(first), dtype=np.int64), np.arange(len(first)) // n % 2 == 1),
        moves=lambda: Moves(np.arange(n * n), target, n + source, np.full(n * n, -1)),
        slots=goal.slots,
        goal=goal,
        rounds=np.arange(n * n) // n if steps else None,
        chunk_steps=0 if steps else n - 1,
    )


def send_schedule(task: Task) -> Schedule:
    """One send from the first member to the second, or from each to the next, in `chunks` pieces one after another."""
    shift = task.operation == "shift"
    sends = Sends(task.goal(blocks=0 if shift else 1, chunks=task.chunks))
    for a in range(task.members if shift and task.members > 1 else not shift):
        for chunk in range(task.chunks):
            sends.send(a, (a + 1) % task.members, a * task.chunks + chunk)
    return sends.schedule("send")


def send_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """`flat.point_to_point`, or all members' sends to the next at once."""
    if operation == "send":
        return point_to_point(fabric, groups, operation, protocol)
    source = np.arange(groups.shape[1])
    one = phase(fabric, protocol, groups, source, np.roll(source, -1), np.ones(len(source)))
    return joined("send", fabric, protocol, [one] if len(source) > 1 else [], len(groups))
