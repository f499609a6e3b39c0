"""Whether what a routing of one's own finds are paths from source to target."""

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.fabric import Loads, Paths, Routing
from scaleout.network.topology import Topology

__all__ = ["trodden"]


def trodden(topology: Topology, routing: Routing) -> Routing:
    """The same routing, whose every answer is looked at: a wrong link would be a wrong time and no error.

    Raises
    ------
    TopologyError
        When asked: the answer has another form, other flows, unknown links, gaps, or shares that do not add up to 1.
    """

    def find(source: Ints, target: Ints) -> Ints | Paths | Loads:
        found = routing(source, target)
        if isinstance(found, Loads):
            _known(topology, found.link)
            return found
        if isinstance(found, Paths):
            link, flow = _whole(topology, "link", found.link), _whole(topology, "flow", found.flow)
            share = np.asarray(found.share, dtype=np.float64)
            if link.ndim != 2 or flow.shape != (len(link),) or share.shape != flow.shape:
                raise TopologyError(
                    f"{topology.name}: routing: a row of links, a flow and a share are needed of each path"
                )
            if len(flow) and not (flow.min() >= 0 and flow.max() < len(source)):
                raise TopologyError(f"{topology.name}: routing: flows must be 0 to {len(source) - 1}")
            split = np.bincount(flow, share, len(source))
            wrong = np.flatnonzero((np.abs(split - 1) > 1e-9) & (source != target))
            if len(wrong) or not (share >= 0).all():
                raise TopologyError(
                    f"{topology.name}: routing: shares of a flow's paths are 0 or more and add up to 1"
                    + (f", not {split[wrong[0]]:g}" if len(wrong) else "")
                )
            _walked(topology, link, source[flow], target[flow])
            # paths of one flow lie together
            order = np.argsort(flow, kind="stable")
            return Paths(link[order], flow[order], share[order])
        link = _whole(topology, "link", found)
        if link.ndim != 2 or len(link) != len(source):
            raise TopologyError(
                f"{topology.name}: routing: expected {len(source):,} rows of links, one a flow, got {link.shape}"
            )
        _walked(topology, link, source, target)
        return link

    return find


def _whole(topology: Topology, what: str, values: object) -> Ints:
    found = np.asarray(values)
    if found.dtype.kind not in "iu" and found.size:
        raise TopologyError(
            f"{topology.name}: routing: {what}: expected a matrix of link numbers, or Paths, "
            f"got {type(values).__name__} of {found.dtype}"
        )
    return found.astype(np.int64, copy=False)


def _known(topology: Topology, link: Ints) -> None:
    if link.size and not (link.min() >= -1 and link.max() < topology.links):
        raise TopologyError(f"{topology.name}: routing: links must be 0 to {topology.links - 1}, or -1 for none")


def _walked(topology: Topology, link: Ints, source: Ints, target: Ints) -> None:
    """Each row leads from its source to its target; one without links is none, which others tell."""
    _known(topology, link)
    used = link >= 0
    hops = used.sum(axis=1)
    rows = np.flatnonzero(hops)
    if not len(rows):
        return
    hop, ends = link[used], np.cumsum(hops[rows])
    starts = ends - hops[rows]
    came = np.concatenate(([0], topology.target[hop[:-1]]))
    came[starts] = source[rows]
    wrong = topology.source[hop] != came
    broken = np.logical_or.reduceat(wrong, starts) | (topology.target[hop[ends - 1]] != target[rows])
    if broken.any():
        first = int(np.flatnonzero(broken)[0])
        a, b = (topology.vertex_name(int(ends_[rows[first]])) for ends_ in (source, target))
        names = ", ".join(topology.link_name(int(each)) for each in hop[starts[first] : ends[first]][:4])
        raise TopologyError(f"{topology.name}: routing: no path from {a} to {b} is {names}")
