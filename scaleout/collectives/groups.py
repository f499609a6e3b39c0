"""How a group of ranks lies on nodes."""

import numpy as np

from scaleout.arrays import Ints
from scaleout.network.fabric import Fabric

__all__ = ["rail_size"]


def rail_size(fabric: Fabric, groups: Ints) -> int:
    """Members a group has in each node it touches; 0 where groups or nodes differ."""
    nodes = fabric.topology.node[groups]
    changes = nodes[:, 1:] != nodes[:, :-1]
    sizes = set()
    alike = (changes == changes[0]).all()
    for row in changes[:1] if alike else np.unique(changes, axis=0):
        edges = np.concatenate(([0], np.flatnonzero(row) + 1, [groups.shape[1]]))
        sizes |= set(np.diff(edges).tolist())
    return int(sizes.pop()) if len(sizes) == 1 else 0
