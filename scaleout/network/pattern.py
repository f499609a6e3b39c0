"""How a collective operation loads the network: what algorithms make and the engine runs."""

from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.network.fabric import Fabric

__all__ = ["Pattern", "Phase", "tally"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Phase:
    """Part of an operation, for every group of a family of communicators: one transfer, then a latency.

    Its elementary flow carries ``share`` times the message; a link is loaded by so many elementary
    flows (`weight`).

    Parameters
    ----------
    share
        Bytes of an elementary flow over bytes of the message [1].
    group, link, weight
        One entry for each link that a group loads, sorted by group and link. Shape (entries,).
    latency
        After the bytes [s], shape (groups,); the launch of the operation is part of the first phase's.
    cap
        Largest rate of an elementary flow, whatever the links leave to it [byte/s], shape (groups,).
    """

    share: float
    group: Ints
    link: Ints
    weight: Floats
    latency: Floats
    cap: Floats

    def rate(self, fabric: Fabric, group: int = 0) -> float:
        """Rate of an elementary flow with the network to itself [byte/s]."""
        mine = self.group == group
        links = fabric.topology.bandwidth[self.link[mine]] / self.weight[mine]
        return float(min(links.min(initial=np.inf), self.cap[group]))

    def per_byte(self, fabric: Fabric, group: int = 0) -> float:
        """Time of one more byte of message with the network to itself [s/byte]."""
        return self.share / self.rate(fabric, group)


@dataclass(frozen=True, slots=True, eq=False)
class Pattern:
    """One operation by one algorithm, for every group of a family of communicators: phases, one after another.

    Parameters
    ----------
    algorithm
        Algorithm and protocol, such as ``ring/LL128``.
    phases
        At least one.
    """

    algorithm: str
    phases: tuple[Phase, ...]

    def latency(self, group: int = 0) -> float:
        """Of the whole operation, launch included [s]."""
        return sum(float(phase.latency[group]) for phase in self.phases)

    def per_byte(self, fabric: Fabric, group: int = 0) -> float:
        """Time of one more byte of message with the network to itself [s/byte]."""
        return sum(phase.per_byte(fabric, group) for phase in self.phases)

    def alone(self, fabric: Fabric, nbytes: float, group: int = 0) -> float:
        """Time of one group with the network to itself [s]."""
        return self.latency(group) + (nbytes * self.per_byte(fabric, group) if nbytes else 0.0)


def tally(group: Ints, link: Ints, weight: Floats, links: int) -> tuple[Ints, Ints, Floats]:
    """Add up the flows of each group over each link; sorted by group, then link."""
    if not len(group):
        return group, link, weight
    key = group * links + link
    order = np.argsort(key, kind="stable")
    key, weight = key[order], weight[order]
    first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
    return key[first] // links, key[first] % links, np.add.reduceat(weight, first)
