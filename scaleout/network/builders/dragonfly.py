"""Groups of routers, all joined to each other inside, and every two groups by one long link."""

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, few_links
from scaleout.network.fabric import Fabric

__all__ = ["dragonfly"]


def dragonfly(
    routers: int,
    *,
    chips_per_router: int,
    long_links: int,
    bandwidth: float,
    latency: float,
    groups: int | None = None,
    local_bandwidth: float | None = None,
    local_latency: float | None = None,
    long_bandwidth: float | None = None,
    long_latency: float | None = None,
) -> Fabric:
    """A dragonfly with minimal routing: to the router with the long link, over it, to the target's router.

    Two long links in a row may be fewer hops for some pairs; like the paper, this takes one at most.

    In the paper's letters a = `routers`, p = `chips_per_router`, h = `long_links`; a = 2 p = 2 h loads
    all links alike. Long link q of group i leads to group i + q + 1 (modulo their number).

    Parameters
    ----------
    routers
        Routers of a group.
    chips_per_router, long_links
        Chips, and links to other groups, of a router.
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port [s].
    groups
        Number of groups, at most and by default routers x long_links + 1; fewer leave ports free.
    local_bandwidth, local_latency, long_bandwidth, long_latency
        Of links inside a group, and between groups [byte/s, per direction; s]; those of a port where left out.

    References
    ----------
    J. Kim, W. Dally, S. Scott, D. Abts: Technology-driven, highly-scalable dragonfly topology, ISCA 2008.

    >>> from scaleout.network.facts import facts
    >>> found = facts(dragonfly(4, chips_per_router=2, long_links=2, bandwidth=50e9, latency=1e-6))
    >>> found.vertices, found.switch_degree, found.diameter
    ({'chip': 72, 'router': 36}, (7, 7), 5)
    """
    at_least("dragonfly: routers in a group", 1, routers)
    at_least("dragonfly: chips per router", 1, chips_per_router)
    at_least("dragonfly: long links of a router", 0, long_links)
    most = routers * long_links + 1
    groups = most if groups is None else groups
    at_least("dragonfly: groups", 1, groups)
    if groups > most:
        raise TopologyError(
            f"dragonfly: {routers} routers with {long_links} long links each join 1 to {most} groups, not {groups}"
        )
    each, far = chips_per_router, groups - 1
    chips = groups * routers * each
    at_least("dragonfly: chips", 1, chips)
    few_links("dragonfly", 2 * chips + groups * (routers * (routers - 1) + far))
    wires = Wires("scale-up", "port", "local", "long")
    chip, router = np.arange(chips), np.arange(groups * routers)
    up, down = wires.both(chip, chips + chip // each, bandwidth=bandwidth, latency=latency, kind="port")
    # local links of a router lie together, one to each other router of its group
    others, mine = np.arange(routers - 1), router % routers
    there = router[:, None] - mine[:, None] + others + (others >= mine[:, None])
    local = wires.one_way(
        chips + np.repeat(router, routers - 1),
        chips + there.ravel(),
        bandwidth=bandwidth if local_bandwidth is None else local_bandwidth,
        latency=latency if local_latency is None else local_latency,
        kind="local",
    )

    def gateway(group: Ints, other: Ints) -> tuple[Ints, Ints]:
        """Router of a group with the long link to another one, and number of that link in the group."""
        q = (other - group - 1) % groups
        return group * routers + q * routers // max(far, 1), q

    group, other = np.repeat(np.arange(groups), far), (np.repeat(np.arange(groups), far) + 1) % groups
    other = (other + np.tile(np.arange(far), groups)) % groups
    long = wires.one_way(
        chips + gateway(group, other)[0],
        chips + gateway(other, group)[0],
        bandwidth=bandwidth if long_bandwidth is None else long_bandwidth,
        latency=latency if long_latency is None else long_latency,
        kind="long",
    )
    topology = wires.topology(f"dragonfly {chips}", ("chip", chips), ("router", groups * routers), node=chip)

    def hop(a: Ints, b: Ints) -> Ints:
        """The local link between two routers of a group."""
        x, y = a % routers, b % routers
        return np.where(a == b, -1, local + a * (routers - 1) + y - (y > x))

    def paths(source: Ints, target: Ints) -> Ints:
        a, b = source // each, target // each
        from_group, to_group = a // routers, b // routers
        away, apart = from_group != to_group, source != target
        out, q = gateway(from_group, to_group)
        into, _ = gateway(to_group, from_group)
        out, into = np.where(away, out, b), np.where(away, into, b)
        return np.column_stack((
            np.where(apart, up + source, -1),
            hop(a, out),
            np.where(away, long + from_group * far + q, -1),
            hop(into, b),
            np.where(apart, down + target, -1),
        ))  # fmt: skip

    return Fabric(topology=topology, paths=paths)
