"""Grids: one side after another (bucket), or all directions of all sides at once (multi-ring).

A bucket all-reduce reduce-scatters along the rings of the first side, then, with what is left,
along those of the second, and so on, and gathers the other way round. On a grid of d sides that
keeps one of 2 d links busy. A multi-ring does 2 d of them at once, each on its part of the message,
starting at another side and in another direction (colours), so that no two use a link at once
where the sides are equal.
"""

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.emit import ring_gather, ring_scatter
from scaleout.collectives.flat import ring_latency
from scaleout.collectives.groups import Group
from scaleout.collectives.phases import joined, phase
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.sends import Sends
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["bucket", "bucket_form", "multi_ring", "multi_ring_form", "no_grid"]

Colour = tuple[tuple[int, ...], bool]
"""Sides in the order in which they are worked on, and whether their rings run backwards."""


def no_grid(task: Task) -> str:
    """What a group lacks."""
    return "" if task.group.grid else "its ranks do not fill a wrapped grid"


def _sides(group: Group) -> tuple[int, ...]:
    # a group on no grid is a line
    return tuple(side for side in group.grid if side > 1) or (group.members,)


def _colours(sides: tuple[int, ...], many: bool) -> list[Colour]:
    axes = tuple(range(len(sides)))
    if not many:
        return [(axes, False)]
    turned = [axes[i:] + axes[:i] for i in axes]
    # a ring of two has one link each way: backwards is the same
    return [(turn, back) for turn in turned for back in ((False, True) if max(sides) > 2 else (False,))]


def _schedule(name: str, task: Task, many: bool) -> Schedule:
    n, sides = task.members, _sides(task.group)
    colours = _colours(sides, many)
    goal = task.goal(chunks=len(colours))
    sends = Sends(goal)
    where = np.stack(np.unravel_index(np.arange(n), sides))
    for colour, (axes, back) in enumerate(colours):
        stages = []
        for stage, axis in enumerate(axes):
            done, rings = axes[:stage], []
            for start in np.flatnonzero(where[axis] == 0):
                others = [a for a in range(len(sides)) if a != axis]
                ring = np.flatnonzero((where[others] == where[others, start][:, None]).all(axis=0))
                if back:
                    ring = ring[::-1]
                blocks = []
                for member in ring.tolist():
                    same = [*done, axis]
                    block = np.flatnonzero((where[same] == where[same, member][:, None]).all(axis=0))
                    blocks.append(block * len(colours) + colour)
                rings.append((ring.tolist(), blocks))
            stages.append((axis, rings))
        if task.operation != "all_gather":
            for axis, rings in stages:
                for members, blocks in rings:
                    ring_scatter(sends, members, blocks, (colour, axis, "scatter"))
        if task.operation != "reduce_scatter":
            for axis, rings in reversed(stages):
                for members, blocks in rings:
                    ring_gather(sends, members, blocks, (colour, axis, "gather"))
    return sends.schedule(name, "" if task.group.grid or n < 3 else "no grid: one ring of all members")


def bucket(task: Task) -> Schedule:
    """One side after another."""
    return _schedule("bucket", task, False)


def multi_ring(task: Task) -> Schedule:
    """All directions at once."""
    return _schedule("multi-ring", task, True)


def _form(name: str, fabric: Fabric, groups: Ints, operation: str, protocol: str, many: bool) -> Pattern:
    """A phase a stage, in which every colour goes round the rings of one side."""
    count, n = groups.shape
    rules = fabric.protocols[protocol]
    sides = _sides(Group.on(fabric, groups[0]))
    colours = _colours(sides, many)
    where = np.stack(np.unravel_index(np.arange(n), sides))
    stages: list[Phase] = []
    for stage in range(len(sides) if n > 1 else 0):
        ends: list[tuple[Ints, Ints]] = []
        shares: list[Floats] = []
        latency = np.zeros(count)
        for axes, back in colours:
            axis, side = axes[stage], sides[axes[stage]]
            turned = where.copy()
            turned[axis] = (turned[axis] + (-1 if back else 1)) % side
            target = np.ravel_multi_index(tuple(turned), sides)
            left = float(np.prod([sides[a] for a in axes[:stage]]))
            ends.append((np.arange(n), target))
            shares.append(np.full(n, (side - 1) / side / left / len(colours)))
            steps = fabric.step(fabric.route(groups.ravel(), groups[:, target].ravel()), rules).reshape(count, *sides)
            rings = np.moveaxis(steps, axis + 1, -1).reshape(-1, side)
            rings = rings[:, ::-1] if back else rings
            latency = np.maximum(latency, ring_latency(rings, side - 1).reshape(count, -1).max(axis=1))
        source = np.concatenate([a for a, _ in ends])
        target = np.concatenate([b for _, b in ends])
        one = phase(fabric, protocol, groups, source, target, np.concatenate(shares))
        stages.append(
            Phase(share=one.share, group=one.group, link=one.link, weight=one.weight, latency=latency, cap=one.cap)
        )
    phases = stages if operation != "all_gather" else []
    if operation != "reduce_scatter":
        phases = phases + stages[::-1]
    return joined(name, fabric, protocol, phases, count)


def bucket_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """One side after another."""
    return _form("bucket", fabric, groups, operation, protocol, False)


def multi_ring_form(fabric: Fabric, groups: Ints, operation: str, protocol: str) -> Pattern:
    """All directions at once; where sides differ, a stage waits for its longest."""
    return _form("multi-ring", fabric, groups, operation, protocol, True)
