"""Switches that add and copy: in the node (NVLS), and in a tree between nodes (SHARP).

In the chunk-level form a switch is a virtual member with a buffer of its own.
"""

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.algorithm import Task
from scaleout.collectives.emit import switch_gather, switch_scatter
from scaleout.collectives.phases import joined, phase
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.sends import Sends
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase

__all__ = ["nvls_schedule", "sharp", "sharp_form"]


def nvls_schedule(task: Task) -> Schedule:
    """Each member moves S + S/n each way: everything into the sum, its part of the sum back and out to all.

    In `chunks` pieces the four ways overlap.
    """
    n = task.members
    sends = Sends(task.goal(chunks=task.chunks), virtual=1)
    for chunk in range(task.chunks if n > 1 else 0):
        blocks = [[block * task.chunks + chunk] for block in range(n)]
        switch_scatter(sends, range(n), n, blocks, "scatter")
        switch_gather(sends, range(n), n, blocks, "gather")
    return sends.schedule("nvls")


def sharp(task: Task) -> Schedule:
    """Up a tree of switches that add and down again, in `chunks` pieces.

    One switch for each node, and one above them where there are several.
    """
    n, islands = task.members, task.group.islands
    goal = task.goal(blocks=1, chunks=task.chunks)
    above = n + len(islands)
    sends = Sends(goal, virtual=len(islands) + (len(islands) > 1))
    for chunk in range(task.chunks if n > 1 else 0):
        for i, island in enumerate(islands):
            for member in island:
                sends.send(member, n + i, chunk, reduce=True)
        for i in range(len(islands) if len(islands) > 1 else 0):
            sends.send(n + i, above, chunk, reduce=True)
        for i in range(len(islands) if len(islands) > 1 else 0):
            sends.send(above, n + i, chunk)
        for i, island in enumerate(islands):
            for member in island:
                sends.send(n + i, member, chunk)
    return sends.schedule("sharp")


def sharp_form(fabric: Fabric, groups: Ints, _operation: str, protocol: str) -> Pattern:
    """Each link of the tree of switches carries the message once each way.

    On a tree whose branches hold consecutive members, the way from each member to the next crosses
    every link between them once each way, which is how the tree's links are found. The latency is
    that of the longest way from a member to another: up to where they meet, and down.
    """
    count, n = groups.shape
    if n == 1:
        return joined("sharp", fabric, protocol, [], count)
    members = np.arange(n)
    once = phase(fabric, protocol, groups, members, np.roll(members, -1), np.ones(n))
    far = fabric.route(np.repeat(groups[:, 0], n - 1), groups[:, 1:].ravel())
    latency = fabric.step(far, fabric.protocols[protocol]).reshape(count, n - 1).max(axis=1)
    whole = Phase(
        share=1.0,
        group=once.group,
        link=once.link,
        weight=np.ones(len(once.link)),
        latency=np.maximum(latency, once.latency),
        cap=fabric.cap(fabric.protocols[protocol], count, once.group, once.link, np.ones(len(once.link))),
    )
    return joined("sharp", fabric, protocol, [whole], count)
