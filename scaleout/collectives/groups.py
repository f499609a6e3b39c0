"""How a group of ranks lies on nodes, and on a grid."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import WorkloadError
from scaleout.network.fabric import Fabric

__all__ = ["Group", "grid_of", "rail_size", "rail_size_of"]

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Group:
    """One group of ranks as an algorithm sees it: how many they are and where they lie.

    Parameters
    ----------
    members
        Number of ranks; algorithms number them from 0.
    node
        Node of each member, shape (members,); empty is one node for all.
    grid
        Sides of the wrapped grid that the members fill, last side fastest; empty for none.
    switched
        Whether links inside nodes lead to switches, which may add.

    >>> Group(members=8, node=np.arange(8) // 4).per_node
    4
    """

    members: int
    node: Ints = field(default_factory=_NONE.copy)
    grid: tuple[int, ...] = ()
    switched: bool = True

    def __post_init__(self) -> None:
        if self.members < 1:
            raise WorkloadError(f"a group has at least one member, not {self.members}")
        if not len(self.node):
            object.__setattr__(self, "node", np.zeros(self.members, dtype=np.int64))
        if len(self.node) != self.members:
            raise WorkloadError(f"{len(self.node)} nodes given for {self.members} members")
        if self.grid and (min(self.grid) < 1 or int(np.prod(self.grid)) != self.members):
            raise WorkloadError(f"a grid of {' x '.join(map(str, self.grid))} does not hold {self.members} members")

    @classmethod
    def on(cls, fabric: Fabric, ranks: Ints) -> "Group":
        """A group of a fabric's ranks."""
        topology = fabric.topology
        mine = np.zeros(topology.size, dtype=bool)
        mine[ranks] = True
        inside = mine[topology.source] & (topology.kind == 0)
        return cls(
            members=len(ranks),
            node=topology.node[ranks],
            grid=grid_of(fabric, ranks),
            switched=bool((topology.target[inside] >= topology.chips).all()),
        )

    @property
    def islands(self) -> tuple[range, ...]:
        """Runs of members in one node."""
        edges = [0, *(np.flatnonzero(np.diff(self.node)) + 1).tolist(), self.members]
        return tuple(range(a, b) for a, b in pairwise(edges))

    @property
    def per_node(self) -> int:
        """Members in each node; 0 where nodes differ."""
        islands = self.islands
        sizes = {len(island) for island in islands}
        return sizes.pop() if len(sizes) == 1 and len(set(self.node.tolist())) == len(islands) else 0


def rail_size(fabric: Fabric, groups: Ints) -> int:
    """Members a group has in each node it touches; 0 where groups or nodes differ."""
    return rail_size_of(fabric.topology.node[groups])


def rail_size_of(nodes: Ints) -> int:
    """`rail_size` of groups on these nodes, shape (groups, members)."""
    changes = nodes[:, 1:] != nodes[:, :-1]
    sizes = set()
    alike = (changes == changes[0]).all()
    for row in changes[:1] if alike else np.unique(changes, axis=0):
        edges = np.concatenate(([0], np.flatnonzero(row) + 1, [nodes.shape[1]]))
        sizes |= set(np.diff(edges).tolist())
    return int(sizes.pop()) if len(sizes) == 1 else 0


def grid_of(fabric: Fabric, ranks: Ints) -> tuple[int, ...]:
    """Sides of the torus that the links between these ranks form, last side fastest; empty for none.

    Found from the links alone, so that any graph will do, imported ones included. A ring of more than
    two is a grid of one side.
    """
    topology, n = fabric.topology, len(ranks)
    place = np.full(topology.size, -1, dtype=np.int64)
    place[ranks] = np.arange(n)
    a, b = place[topology.source], place[topology.target]
    inside = (a >= 0) & (b >= 0)
    links = np.unique(a[inside] * n + b[inside])
    if n < 3 or not len(links):
        return ()
    beside = links[links < n].tolist()
    return _grid(n, links, beside, (1,))


def _grid(n: int, links: Ints, beside: list[int], strides: tuple[int, ...]) -> tuple[int, ...]:
    """Try strides, each a multiple of the one before, from the neighbours of the first member."""
    if strides[-1] not in beside:
        return ()
    ends = (*strides, n)
    sides = tuple(high // low for low, high in pairwise(ends))
    if n % strides[-1] == 0 and sides[-1] > 1:
        index = np.arange(n)
        wanted: list[Ints] = []
        for stride, side in zip(strides, sides, strict=True):
            at = index // stride % side
            wanted.extend(index * n + index + ((at + turn) % side - at) * stride for turn in (1, -1))
        if np.array_equal(np.unique(np.concatenate(wanted)), links):
            return sides[::-1]
    for stride in beside:
        if stride > strides[-1] and stride % strides[-1] == 0 and n % stride == 0 and len(strides) < 6:
            found = _grid(n, links, beside, (*strides, stride))
            if found:
                return found
    return ()
