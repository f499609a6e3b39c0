"""Which links a fault strikes, and what is left of the network from each moment on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import SpecError, near
from scaleout.network.topology import Topology
from scaleout.specs import Fault

__all__ = ["Stretch", "stretches", "struck"]

_MOST_NAMES = 20_000
"""Labels of an imported graph that are searched for near matches."""


class Stretch(NamedTuple):
    """A stretch of time in which the network stays as it is.

    Parameters
    ----------
    start
        Its beginning, from that of the step [s].
    bandwidth
        Of each link [byte/s]; 0 is dead. Shape (links,).
    avoid
        Dead links that paths lead around, ascending.
    """

    start: float
    bandwidth: Floats
    avoid: Ints


def stretches(topology: Topology, faults: Sequence[Fault]) -> list[Stretch]:
    """The network from each moment on at which a fault begins or ends, the first from 0 s on.

    Raises
    ------
    SpecError
        A fault names what the topology does not have.
    """
    hit = [struck(topology, fault, f"faults[{number}]") for number, fault in enumerate(faults)]
    times = {0.0} | {fault.at for fault in faults} | {fault.until for fault in faults if fault.until is not None}
    found = []
    for start in sorted(times):
        left, avoid = np.ones(topology.links), np.zeros(topology.links, dtype=bool)
        for fault, links in zip(faults, hit, strict=True):
            if fault.at <= start and (fault.until is None or start < fault.until):
                left[links] *= fault.share
                avoid[links] |= fault.share == 0 and fault.then == "reroute"
        found.append(Stretch(start, topology.bandwidth * left, np.flatnonzero(avoid)))
    return found


def struck(topology: Topology, fault: Fault, where: str = "fault") -> Ints:
    """Links that a fault strikes, ascending.

    Parameters
    ----------
    where
        What an error calls the fault.

    Raises
    ------
    SpecError
        The topology has no such vertex, link or port.
    """
    where = f"{where}.{fault.part}"
    if fault.vertex is not None:
        vertex = _vertex(topology, fault.vertex, where)
        return np.flatnonzero((topology.source == vertex) | (topology.target == vertex))
    if fault.link is not None:
        return _link(topology, fault.link, where)
    rank = fault.port if fault.port is not None else fault.scale_up
    if rank is None or not 0 <= rank < topology.chips:
        raise SpecError(f"{where}: rank {rank} is not one of the {topology.chips} chips of {topology.name}")
    inside = topology.kind == 0
    own = _at(topology, np.array([rank]))
    found = own & (inside if fault.port is None else ~inside)
    if fault.port is not None and "chip-port" in topology.kinds:
        # chips that share a port reach it over links of their own: the port is what lies behind it
        shared = topology.kind == topology.kinds.index("chip-port")
        ends = np.union1d(topology.source[found & shared], topology.target[found & shared])
        behind = _at(topology, ends[ends >= topology.chips]) & ~inside & ~shared
        found = (found & ~shared) | behind
    if not found.any():
        what = "network port" if fault.port is not None else "link inside a node"
        raise SpecError(f"{where}: chip {rank} of {topology.name} has no {what}; accepted: vertex or link by name")
    return np.flatnonzero(found)


def _at(topology: Topology, vertices: Ints) -> Bools:
    """Whether each link begins or ends at one of the vertices."""
    return np.isin(topology.source, vertices) | np.isin(topology.target, vertices)


def _vertex(topology: Topology, name: str, where: str) -> int:
    """Number of a vertex by its name."""
    shown = f"{where}: {topology.name} has no vertex {name!r:.60}"
    if topology.labels:
        if name in topology.labels:
            return topology.labels.index(name)
        raise SpecError(f"{shown}; {near(name, topology.labels[:_MOST_NAMES])}")
    kind, _, number = name.strip().rpartition(" ")
    first = 0
    for known, count in topology.vertices:
        if known == kind and count:
            if number.isascii() and number.isdigit() and int(number[:9]) < count and len(number) < 10:
                return first + int(number)
            raise SpecError(f"{shown}; accepted: {known} 0 to {known} {count - 1}")
        first += count
    names = [f"{known} 0" for known, count in topology.vertices if count]
    raise SpecError(f"{shown}; {near(name, names)}")


def _link(topology: Topology, name: str, where: str) -> Ints:
    """Links between two named vertices, one way or both."""
    both = "<->" in name
    ends = name.split("<->" if both else "->")
    if len(ends) != 2:
        raise SpecError(f"{where}: {name!r:.60} is no link; expected two vertices, such as 'chip 5 -> leaf 5'")
    a, b = (_vertex(topology, end.strip(), where) for end in ends)
    forth = (topology.source == a) & (topology.target == b)
    back = (topology.source == b) & (topology.target == a)
    if not forth.any() or (both and not back.any()):
        out = ", ".join(topology.vertex_name(int(v)) for v in topology.target[topology.source == a][:8])
        raise SpecError(f"{where}: {topology.name} has no link {name!r:.60}; {ends[0].strip()} leads to {out}")
    return np.flatnonzero(forth | back if both else forth)
