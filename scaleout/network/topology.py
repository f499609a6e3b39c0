"""A network as arrays: vertices, directed links, and how to find a path.

Vertices 0 to ``chips - 1`` are the chips; the rest are switches. A link goes one way; what it
carries is payload: its bandwidth is the nominal rate times the payload efficiency, applied here
and nowhere else. Parallel links between the same switches over which traffic is spread evenly
are one link with the sum of their bandwidths (a bundle): with equal shares all of them carry the
same load, so the bundle is exact.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import TopologyError
from scaleout.specs import ALGORITHMS, Protocol

if TYPE_CHECKING:
    import networkx

__all__ = ["WIRES", "Fabric", "Routes", "Topology"]


WIRES = Protocol(
    algorithms=tuple(name for name in ALGORITHMS if not name.startswith("nvls")),
    launch=0.0,
    scale_up_step=0.0,
    network_step=0.0,
)
"""A library that costs nothing: what is left are the links."""


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
        Names of the kinds of link.
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

    def __post_init__(self) -> None:
        if not (np.isfinite(self.bandwidth).all() and (self.bandwidth > 0).all()):
            raise TopologyError(f"{self.name}: every link needs a finite bandwidth above zero")
        if not (np.isfinite(self.latency).all() and (self.latency >= 0).all()):
            raise TopologyError(f"{self.name}: every link needs a finite latency of zero or more")

    @property
    def links(self) -> int:
        """Number of directed links."""
        return len(self.source)

    def vertex_name(self, vertex: int) -> str:
        """A vertex by name, such as ``leaf 3``."""
        for kind, count in self.vertices:
            if vertex < count:
                return f"{kind} {vertex}"
            vertex -= count
        raise TopologyError(f"{self.name}: no vertex {vertex}")

    def to_networkx(self) -> "networkx.DiGraph[int]":
        """The same graph for networkx, with ``bandwidth`` [byte/s] and ``latency`` [s] on each edge."""
        import networkx

        graph: networkx.DiGraph[int] = networkx.DiGraph(name=self.name)
        graph.add_nodes_from((v, {"name": self.vertex_name(v)}) for v in range(sum(n for _, n in self.vertices)))
        for row in zip(self.source, self.target, self.bandwidth, self.latency, self.kind, strict=True):
            u, v, bandwidth, latency, kind = row
            graph.add_edge(
                int(u), int(v), bandwidth=float(bandwidth), latency=float(latency), kind=self.kinds[int(kind)]
            )
        return graph


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """Paths of many flows, in compressed rows.

    Parameters
    ----------
    start
        Where each flow's links begin in `link`, shape (flows + 1,).
    link
        Links in the order of travel.
    latency
        One way, along the path [s], shape (flows,).
    networked
        Whether the path leaves the node, shape (flows,).
    """

    start: Ints
    link: Ints
    latency: Floats
    networked: Bools

    @property
    def flow(self) -> Ints:
        """Flow of each entry of `link`."""
        return np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fabric:
    """A topology with its routing and what its communication library adds.

    Parameters
    ----------
    topology
        The graph.
    chips_per_node
        Chips that share scale-up links.
    paths
        Links from many sources to many targets: a matrix (flows, longest path), padded with -1.
    protocols
        Of the communication library, by name.
    idle_step
        Time of a chunk's step that sends nothing over that of one that sends [1].
    scale_up_bandwidth, network_bandwidth
        Payload rate of a link and of a port that is not slow [byte/s, per direction]: what the
        protocols' rates are shares of. Links of kind 0 are the node's.
    """

    topology: Topology
    chips_per_node: int
    paths: Callable[[Ints, Ints], Ints]
    protocols: Mapping[str, Protocol] = field(default_factory=lambda: {"wires": WIRES})
    idle_step: float = 0.0
    scale_up_bandwidth: float = math.inf
    network_bandwidth: float = math.inf

    def route(self, source: Ints, target: Ints) -> Routes:
        """Paths of the flows source[i] -> target[i].

        Raises
        ------
        TopologyError
            A rank is not a chip of this fabric.
        """
        chips = self.topology.chips
        for ranks in (source, target):
            if len(ranks) and not (ranks.min() >= 0 and ranks.max() < chips):
                raise TopologyError(f"{self.topology.name}: ranks must be 0 to {chips - 1}")
        matrix = self.paths(source, target)
        used = matrix >= 0
        counts = used.sum(axis=1)
        start = np.concatenate(([0], np.cumsum(counts)))
        latency = np.where(used, self.topology.latency[matrix], 0.0).sum(axis=1)
        networked = source // self.chips_per_node != target // self.chips_per_node
        return Routes(start, matrix[used], latency, networked)

    def step(self, routes: Routes, protocol: Protocol) -> Floats:
        """Latency of one algorithm step along each path: library and wires [s]."""
        return routes.latency + np.where(routes.networked, protocol.network_step, protocol.scale_up_step)

    def cap(
        self, protocol: Protocol, groups: int, group: Ints, link: Ints, weight: Floats, sending: float = 1.0
    ) -> Floats:
        """Largest rate of an elementary flow of each group: its chips' kernels drive no more [byte/s].

        Parameters
        ----------
        groups
            Number of groups; `group`, `link` and `weight` are what they load, as in a pattern.
        sending
            Share of the time in which a chunk's step inside the node sends [1].
        """
        topology = self.topology
        chips = (topology.source[link] < topology.chips) | (topology.target[link] < topology.chips)
        inside = protocol.scale_up_rate * sending * self.scale_up_bandwidth
        outside = protocol.network_rate * self.network_bandwidth
        most = np.where(topology.kind[link[chips]] == 0, inside, outside) / weight[chips]
        caps = np.full(groups, np.inf)
        np.minimum.at(caps, group[chips], most)
        return caps
