"""Which algorithm an operation takes: the fastest with the network to itself."""

from collections.abc import Callable

from scaleout.collectives.flat import direct, point_to_point, ring, tree
from scaleout.collectives.hierarchical import hierarchical, rail_size
from scaleout.network.pattern import Pattern
from scaleout.network.topology import Fabric, Ints

__all__ = ["candidates", "choose"]

_DIRECT_LIMIT = 16
"""Members up to which everyone may talk to everyone."""


def candidates(fabric: Fabric, groups: Ints, operation: str) -> dict[str, Callable[[Ints], Pattern]]:
    """Algorithms of the fabric's library that can do the operation on these groups, by name."""
    if operation == "send":
        return {"send": lambda g: point_to_point(fabric, g, operation)}
    members = groups.shape[1]
    menu: dict[str, Callable[[Ints], Pattern]] = {"ring": lambda g: ring(fabric, g, operation)}
    per_node = rail_size(fabric, groups)
    one_node = per_node == members
    if one_node and members <= _DIRECT_LIMIT:
        menu["direct"] = lambda g: direct(fabric, g, operation)
    if operation == "all_reduce" and not one_node:
        menu["tree"] = lambda g: tree(fabric, g, operation)
    if 1 < per_node < members:
        menu["hierarchical"] = lambda g: hierarchical(fabric, g, operation)
        if operation == "all_reduce":
            menu["hierarchical-tree"] = lambda g: hierarchical(fabric, g, operation, outer="tree")
    return {name: make for name, make in menu.items() if name in fabric.algorithms}


def choose(fabric: Fabric, groups: Ints, operation: str, nbytes: float) -> str:
    """Name of the fastest algorithm for a message, judged on the first group; ties by name.

    Parameters
    ----------
    nbytes
        Size of the message [byte].
    """
    menu = candidates(fabric, groups, operation)
    if len(menu) == 1:
        return next(iter(menu))
    times = {name: make(groups[:1]).alone(fabric, nbytes) for name, make in menu.items()}
    return min(sorted(times), key=times.__getitem__)
