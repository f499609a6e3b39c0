"""A network as arrays: vertices and directed links.

Vertices 0 to ``chips - 1`` are the chips; the rest are switches. A link goes one way; what it
carries is payload: its bandwidth is the nominal rate times the payload efficiency, applied here
and nowhere else. Parallel links between the same switches over which traffic is spread evenly
are one link with the sum of their bandwidths (a bundle): with equal shares all of them carry the
same load, so the bundle is exact.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import TopologyError

if TYPE_CHECKING:
    import networkx

__all__ = ["Topology"]

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Topology:
    """Vertices and directed links.

    Parameters
    ----------
    chips
        Number of chips; they are the first vertices.
    vertices
        Name of every kind of vertex and how many there are, chips first, in vertex order.
    source, target
        Vertices of each link, shape (links,).
    bandwidth
        Payload rate of each link [byte/s, per direction, over all parallel links of a bundle].
    latency
        Of each link, one way [s].
    kind
        Index of each link into `kinds`.
    kinds
        Names of the kinds of link. Links of kind 0 are inside nodes.
    node
        Node (island) that each chip stands in, shape (chips,); empty is one node for all.
    labels
        Name of each vertex where it has one of its own, as in imported graphs; empty for none.
    width
        Parallel links that each link stands for, shape (links,); empty is one each.
    coordinates
        Of each chip on a grid, shape (chips, dimensions); empty where there is none.
    home
        Node that each vertex stands in, -1 for none, shape (vertices,); empty where only chips do.
    halves
        Side of each vertex in a bisection of the chips that its builder knows to be the least where
        links of one kind are alike, shape (vertices,); empty where it knows none.
    transitive
        Whether every chip sees the same graph, links of one kind being alike.
    """

    name: str
    chips: int
    vertices: tuple[tuple[str, int], ...]
    source: Ints
    target: Ints
    bandwidth: Floats
    latency: Floats
    kind: Ints
    kinds: tuple[str, ...]
    node: Ints = field(default_factory=_NONE.copy)
    labels: tuple[str, ...] = ()
    width: Ints = field(default_factory=_NONE.copy)
    coordinates: Ints = field(default_factory=_NONE.copy)
    home: Ints = field(default_factory=_NONE.copy)
    halves: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))
    transitive: bool = False

    def __post_init__(self) -> None:
        if self.chips < 1 or sum(count for _, count in self.vertices) < self.chips:
            raise TopologyError(f"{self.name}: needs at least one chip, and all of them among its vertices")
        for values, good, needs in (
            (self.bandwidth, self.bandwidth > 0, "bandwidth above zero"),
            (self.latency, self.latency >= 0, "latency of zero or more"),
        ):
            bad = np.flatnonzero(~(np.isfinite(values) & good))
            if len(bad):
                got = f"{self.link_name(int(bad[0]))} has {values[bad[0]]:g}"
                raise TopologyError(f"{self.name}: every link needs a finite {needs}; {got}")
        if not len(self.node):
            object.__setattr__(self, "node", np.zeros(self.chips, dtype=np.int64))
        if not len(self.width):
            object.__setattr__(self, "width", np.ones(self.links, dtype=np.int64))
        if len(self.home) != self.size or (self.home[: self.chips] != self.node).any():
            none = np.full(self.size - self.chips, -1, dtype=np.int64)
            object.__setattr__(self, "home", np.concatenate((self.node, none)))

    def __repr__(self) -> str:
        return f"Topology({self.name!r}: {self.chips:,} chips, {self.links:,} links)"

    @property
    def links(self) -> int:
        """Number of directed links."""
        return len(self.source)

    @property
    def size(self) -> int:
        """Number of vertices."""
        return sum(count for _, count in self.vertices)

    def vertex_name(self, vertex: int) -> str:
        """A vertex by name, such as ``leaf 3``."""
        if self.labels:
            return self.labels[vertex]
        for kind, count in self.vertices:
            if vertex < count:
                return f"{kind} {vertex}"
            vertex -= count
        raise TopologyError(f"{self.name}: no vertex {vertex}")

    def link_name(self, link: int) -> str:
        """A link by name, such as ``chip 3 -> leaf 0``."""
        return f"{self.vertex_name(int(self.source[link]))} -> {self.vertex_name(int(self.target[link]))}"

    def to_networkx(self) -> "networkx.DiGraph[int]":
        """The same graph for networkx.

        Vertices have ``name``, ``kind``, ``chip`` and ``node`` (-1 for none); edges ``bandwidth`` [byte/s],
        ``latency`` [s], ``kind`` and ``width``; the graph says which kind is ``inside`` nodes. It is a
        `networkx.MultiDiGraph` where two links join the same vertices.
        """
        import networkx

        ends = np.column_stack((self.source, self.target))
        form = networkx.MultiDiGraph if len(np.unique(ends, axis=0)) < self.links else networkx.DiGraph
        graph: networkx.DiGraph[int] = form(name=self.name, inside=self.kinds[0], parallel="apart")
        kinds = [kind for kind, count in self.vertices for _ in range(count)]
        for v, kind in enumerate(kinds):
            graph.add_node(v, name=self.vertex_name(v), kind=kind, chip=v < self.chips, node=int(self.home[v]))
        for u, v, bandwidth, latency, link, width in zip(
            *ends.T.tolist(), self.bandwidth, self.latency, self.kind, self.width, strict=True
        ):
            graph.add_edge(
                u, v, bandwidth=float(bandwidth), latency=float(latency), kind=self.kinds[link], width=int(width)
            )
        return graph
