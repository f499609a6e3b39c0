"""Two levels, chunk by chunk: inside the nodes, then between them on every rail, then inside again.

The chunks run through the levels as a pipeline. Where nodes hold unequal numbers of the group's
members there are no rails to align, and a flat algorithm takes their place; the note says so.
"""

from dataclasses import replace

from scaleout.collectives.algorithm import Task
from scaleout.collectives.directs import pairwise
from scaleout.collectives.emit import ring_gather, ring_scatter, switch_gather, switch_scatter, tree_all_reduce
from scaleout.collectives.rings import ring_schedule
from scaleout.collectives.schedule import Schedule
from scaleout.collectives.sends import Sends

__all__ = ["hierarchical_schedule", "one_level", "pxn"]


def one_level(task: Task) -> str:
    """What a group lacks to have two levels."""
    size = task.group.per_node
    if size == 0:
        return "its nodes hold unequal numbers of members"
    return "" if 1 < size < task.members else "its members lie in one node, or each in its own"


def hierarchical_schedule(task: Task, name: str = "hierarchical") -> Schedule:
    """A ring or the switch inside, a ring or two trees outside, by name as in `hierarchical.LEVELS`."""
    lacks = one_level(task)
    if lacks:
        return replace(ring_schedule(task), name=f"{name} (ring)", note=f"{lacks}: a flat ring instead")
    n, size = task.members, task.group.per_node
    nodes, chunks, operation = n // size, task.chunks, task.operation
    switched, trees = name == "nvls-tree", name != "hierarchical"
    sends = Sends(task.goal(chunks=chunks), virtual=nodes if switched else 0)
    for chunk in range(chunks):
        # rail i is for block i of every node
        slot = [[(node * size + i) * chunks + chunk for i in range(size)] for node in range(nodes)]
        rails = [[slot[node][i] for node in range(nodes)] for i in range(size)]
        inside = [range(node * size, (node + 1) * size) for node in range(nodes)]
        across = [range(i, n, size) for i in range(size)]
        if operation != "all_gather":
            for node, island in enumerate(inside):
                if switched:
                    switch_scatter(sends, island, n + node, rails, "scatter")
                else:
                    ring_scatter(sends, island, rails, "scatter")
        for i, rail in enumerate(across):
            blocks = [[part] for part in rails[i]]
            if trees:
                half = (nodes + 1) // 2
                tree_all_reduce(sends, rail, rails[i][:half], ("tree", 0))
                tree_all_reduce(sends, rail[::-1], rails[i][half:], ("tree", 1))
                continue
            if operation != "all_gather":
                ring_scatter(sends, rail, blocks, "outer scatter")
            if operation != "reduce_scatter":
                ring_gather(sends, rail, blocks, "outer gather")
        if operation != "reduce_scatter":
            for node, island in enumerate(inside):
                if switched:
                    switch_gather(sends, island, n + node, rails, "gather")
                else:
                    ring_gather(sends, island, rails, "gather")
    return sends.schedule(name)


def pxn(task: Task) -> Schedule:
    """An all-to-all in two levels: to the node's member on the right rail, then along the rail.

    Messages between nodes are as many times larger as a node has members, and as many times fewer.
    """
    lacks = one_level(task)
    if lacks:
        return replace(pairwise(task), name="pxn (pairwise)", note=f"{lacks}: pairs send to each other directly")
    n, size = task.members, task.group.per_node
    nodes = n // size
    sends = Sends(task.goal(out=n))
    for rank in range(n):
        sends.copy(rank, rank, n + rank)

    def shelf(i: int, node: int) -> int:
        """Where a member keeps what member i of its node has for a node on its rail."""
        return 2 * n + i * nodes + node

    for hop in range(1, size):
        for rank in range(n):
            home, i = divmod(rank, size)
            j = (i + hop) % size
            slots = [node * size + j for node in range(nodes)]
            to = [n + rank if node == home else shelf(i, node) for node in range(nodes)]
            sends.send(rank, home * size + j, slots, to)
    sends.next_round()
    for hop in range(1, nodes):
        for rank in range(n):
            home, j = divmod(rank, size)
            node = (home + hop) % nodes
            slots = [node * size + j if i == j else shelf(i, node) for i in range(size)]
            sends.send(rank, node * size + j, slots, [n + home * size + i for i in range(size)])
    return sends.schedule("pxn")
