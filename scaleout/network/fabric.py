"""A fabric: a topology, how flows find their way through it, and its communication library."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import TopologyError
from scaleout.network.topology import Topology
from scaleout.specs import ALGORITHMS, Protocol

__all__ = ["WIRES", "Fabric", "Loads", "Paths", "Routes", "Routing", "in_rows", "lay"]


WIRES = Protocol(
    algorithms=tuple(name for name in ALGORITHMS if not name.startswith(("nvls", "sharp"))),
    launch=0.0,
    scale_up_step=0.0,
    network_step=0.0,
)
"""A library that costs nothing: what is left are the links."""


class Paths(NamedTuple):
    """Paths of flows that may be split over several.

    Parameters
    ----------
    link
        Links of each path in the order of travel, padded with -1. Shape (paths, longest).
    flow
        Flow that each path belongs to, ascending. Shape (paths,).
    share
        Of the flow's bytes that take the path [1]; those of a flow sum to 1. Shape (paths,).
    """

    link: Ints
    flow: Ints
    share: Floats


class Loads(NamedTuple):
    """Links of flows in compressed rows: for flows split over too many paths to list, and for long paths.

    Parameters
    ----------
    start
        Where each flow's links begin in `link`, shape (flows + 1,).
    link
        Links of each flow, none nearer to the source than one before it.
    weight
        Share of the flow's bytes that crosses the link [1].
    latency
        One way, along the longest of the flow's paths [s], shape (flows,).
    """

    start: Ints
    link: Ints
    weight: Floats
    latency: Floats


Routing = Callable[[Ints, Ints], "Ints | Paths | Loads"]
"""What finds paths from many sources to many targets: a matrix of links (flows, longest), padded
with -1, or `Paths` where flows are split, or `Loads`. A user's routing is one such function."""


def in_rows(topology: Topology, found: "Ints | Paths | Loads", flows: int) -> Loads:
    """Whatever a routing has found for so many flows, in compressed rows."""
    if isinstance(found, Loads):
        return found
    matrix, flow, share = found if isinstance(found, Paths) else (found, np.arange(flows), None)
    used = matrix >= 0
    counts = used.sum(axis=1)
    latency = np.where(used, topology.latency[matrix], 0.0).sum(axis=1)
    if share is None:
        weight, per_flow = np.ones(int(counts.sum())), counts
    else:
        weight, per_flow = np.repeat(share, counts), np.bincount(flow, counts, flows).astype(np.int64)
        longest = np.zeros(flows)
        np.maximum.at(longest, flow, latency)
        latency = longest
    return Loads(np.concatenate(([0], np.cumsum(per_flow))), matrix[used], weight, latency)


def lay(flows: int, pieces: "Sequence[tuple[Ints, Loads]]") -> Loads:
    """Pieces of the ways of so many flows, one after another: each for the flows it names."""
    counts = np.zeros(flows, dtype=np.int64)
    latency = np.zeros(flows)
    for which, piece in pieces:
        counts[which] += np.diff(piece.start)
        latency[which] += piece.latency
    start = np.concatenate(([0], np.cumsum(counts)))
    link, weight = np.empty(start[-1], dtype=np.int64), np.empty(start[-1])
    begin = start[:-1].copy()
    for which, piece in pieces:
        sizes = np.diff(piece.start)
        at = np.arange(len(piece.link)) + np.repeat(begin[which] - piece.start[:-1], sizes)
        link[at], weight[at] = piece.link, piece.weight
        begin[which] += sizes
    return Loads(start, link, weight, latency)


@dataclass(frozen=True, slots=True, eq=False)
class Routes:
    """Links of many flows, in compressed rows.

    Parameters
    ----------
    start
        Where each flow's links begin in `link`, shape (flows + 1,).
    link
        Links, in the order of travel along each path of the flow.
    weight
        Share of the flow's bytes that crosses the link on this path [1]; 1 where there is one path.
    latency
        One way, along the longest of the flow's paths [s], shape (flows,).
    networked
        Whether the flow leaves the node, shape (flows,).
    """

    start: Ints
    link: Ints
    weight: Floats
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
    paths
        How flows find their way.
    everywhere
        Whether `paths` joins any two vertices; if not, chips only.
    protocols
        Of the communication library, by name.
    idle_step
        Time of a chunk's step that sends nothing over that of one that sends [1].
    scale_up_bandwidth, network_bandwidth
        Payload rate of a link and of a port that is not slow [byte/s, per direction]: what the
        protocols' rates are shares of. Links of kind 0 are the node's.
    """

    topology: Topology
    paths: Routing
    everywhere: bool = False
    protocols: Mapping[str, Protocol] = field(default_factory=lambda: {"wires": WIRES})
    idle_step: float = 0.0
    scale_up_bandwidth: float = math.inf
    network_bandwidth: float = math.inf

    def __repr__(self) -> str:
        return f"Fabric({self.topology!r}, protocols {', '.join(self.protocols)})"

    def route(self, source: Ints, target: Ints) -> Routes:
        """Paths of the flows source[i] -> target[i].

        Raises
        ------
        TopologyError
            A rank is not a chip of this fabric (or no vertex, where the routing joins all of them);
            a flow has no path.
        """
        topology = self.topology
        ends = topology.size if self.everywhere else topology.chips
        for ranks in (source, target):
            if len(ranks) and not (ranks.min() >= 0 and ranks.max() < ends):
                raise TopologyError(f"{topology.name}: ranks must be 0 to {ends - 1}")
        start, link, weight, latency = in_rows(topology, self.paths(source, target), len(source))
        lost = np.flatnonzero((np.diff(start) == 0) & (source != target))
        if len(lost):
            name, (a, b) = topology.vertex_name, (int(source[lost[0]]), int(target[lost[0]]))
            more = f" (and {len(lost) - 1:,} more pairs)" if len(lost) > 1 else ""
            raise TopologyError(f"{topology.name}: no path from {name(a)} to {name(b)}{more}")
        return Routes(start, link, weight, latency, topology.home[source] != topology.home[target])

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
