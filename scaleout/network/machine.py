"""The fabric of a system: one builder for each kind of network that system files name."""

from scaleout.network.builders import rail_fat_tree
from scaleout.network.fabric import Fabric
from scaleout.specs import Slow, System

__all__ = ["machine"]


def machine(system: System, chips: int, slow: Slow | None = None) -> Fabric:
    """The fabric of `chips` chips of a system.

    Parameters
    ----------
    slow
        Ports and scale-up links below their nominal rate, by rank.

    Raises
    ------
    TopologyError
        The network cannot be built at this size.
    """
    return rail_fat_tree(system, chips, slow)
