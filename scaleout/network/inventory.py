"""What the network between nodes is made of: cables, and ports of switches; what is bought, and what draws power."""

from typing import NamedTuple

from scaleout.network.between import BETWEEN
from scaleout.network.parts import Part
from scaleout.specs import System

__all__ = ["Inventory", "inventory"]

_INSIDE = "chip-port"
"""Links that are no cables: from a chip to the port that it shares."""


class Inventory(NamedTuple):
    """Parts of the network of a job, without what is inside nodes.

    Parameters
    ----------
    cables
        Of nodes to switches, and between switches.
    ends
        Ends of cables: a module each, where they are optical.
    switch_ports
        Ports of switches that cables are in.
    rate
        Of a port [byte/s, per direction].
    """

    cables: int
    ends: int
    switch_ports: int
    rate: float


_NOTHING = Inventory(0, 0, 0, 0.0)


def inventory(system: System, chips: int) -> Inventory:
    """Cables and ports that the network of so many chips takes; none for one node, or where nodes stand alone.

    A job has its share of a larger machine's switches, not whole ones: ports are counted. Towards the top of a tree
    there are never more cables than below, whatever whole switches could take.

    Raises
    ------
    TopologyError
        The machine cannot be built at this size.
    """
    net = system.network
    per_node = min(chips, system.chips_per_node)
    nodes = -(-chips // per_node)
    if nodes == 1 or net.kind == "none":
        return _NOTHING
    key = (net, system.chips_per_node, nodes, per_node)
    if key not in _known:
        if len(_known) >= _MOST:
            _known.clear()
        _known[key] = _counted(BETWEEN[net.kind](system, nodes, per_node), net.bandwidth)
    return _known[key]


_MOST = 1024
_known: dict[tuple[object, ...], Inventory] = {}


def _counted(part: Part, rate: float) -> Inventory:
    levels: dict[str, int] = {}
    for rows in part.links:
        if rows.kind != _INSIDE:
            levels[rows.kind] = levels.get(rows.kind, 0) + len(rows.source) * rows.width
    # links go one way, cables both
    ports = levels.pop("port", 0) // 2
    up, below = 0, ports
    for kind in ("leaf-spine", "spine-core"):
        below = min(below, levels.pop(kind, 0) // 2)
        up += below
    return Inventory(cables=ports + up, ends=2 * (ports + up), switch_ports=ports + 2 * up, rate=rate)
