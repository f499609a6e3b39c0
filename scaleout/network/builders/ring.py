"""Chips on a ring: a link to each neighbour, both ways."""

import numpy as np

from scaleout.arrays import Ints
from scaleout.network.builders.wiring import at_least, number
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology

__all__ = ["ring"]


def ring(chips: int, *, bandwidth: float, latency: float) -> Fabric:
    """A ring of `chips`, one link each way between neighbours; shortest path, ties clockwise.

    Parameters
    ----------
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    >>> fabric = ring(6, bandwidth=50e9, latency=1e-6)
    >>> fabric.topology.links
    12
    >>> fabric.route(np.array([0]), np.array([4])).link.tolist()
    [6, 11]
    """
    at_least("ring: chips", 2, chips)
    bandwidth, latency = number("ring: bandwidth", "byte/s", bandwidth), number("ring: latency", "s", latency)
    here = np.arange(chips)
    after = (here + 1) % chips
    topology = Topology(
        name=f"ring of {chips}",
        chips=chips,
        vertices=(("chip", chips),),
        source=np.concatenate((here, here)),
        target=np.concatenate((after, (here - 1) % chips)),
        bandwidth=np.full(2 * chips, bandwidth),
        latency=np.full(2 * chips, latency),
        kind=np.zeros(2 * chips, dtype=np.int64),
        kinds=("ring",),
    )

    def paths(source: Ints, target: Ints) -> Ints:
        ahead = (target - source) % chips
        clockwise = ahead <= chips - ahead
        hops = np.where(clockwise, ahead, chips - ahead)
        step = np.arange(max(1, int(hops.max(initial=1))))
        forward = (source[:, None] + step) % chips
        backward = chips + (source[:, None] - step) % chips
        return np.where(step < hops[:, None], np.where(clockwise[:, None], forward, backward), -1)

    return Fabric(topology=topology, paths=paths)
