"""Two levels: inside each node, then between nodes on every rail at once.

An all-reduce reduce-scatters inside the nodes, all-reduces S/g on each of g rails, and
all-gathers inside. Cut into many chunks the three run as a pipeline, hence
max(inner, outer) + latencies: one transfer that loads inner and outer links together, in
proportion. Both inner phases share the same links, so their bytes add up.
"""

from collections.abc import Callable

import numpy as np

from scaleout.arrays import Ints
from scaleout.collectives.flat import nvls, ring, tree
from scaleout.collectives.groups import rail_size
from scaleout.network.fabric import Fabric
from scaleout.network.pattern import Pattern, Phase, tally

__all__ = ["LEVELS", "hierarchical"]

Level = Callable[[Fabric, Ints, str, str], Pattern]

LEVELS: dict[str, tuple[Level, Level]] = {
    "hierarchical": (ring, ring),
    "hierarchical-tree": (ring, tree),
    "nvls-tree": (nvls, tree),
}
"""Algorithm inside the nodes and between them; those with a tree or the switch do all-reduce only."""


def hierarchical(fabric: Fabric, groups: Ints, operation: str, protocol: str, name: str = "hierarchical") -> Pattern:
    """One algorithm inside nodes, and one between nodes.

    Parameters
    ----------
    groups
        Every group has the same number of members in each node it touches (`rail_size`).
    name
        One of `LEVELS`.
    """
    inner, outer = LEVELS[name]
    count, members = groups.shape
    per_node = rail_size(fabric, groups)
    nodes = members // per_node
    inside = groups.reshape(count * nodes, per_node)
    across = groups.reshape(count, nodes, per_node).transpose(0, 2, 1).reshape(count * per_node, nodes)
    (within,) = inner(fabric, inside, operation, protocol).phases
    (between,) = outer(fabric, across, operation, protocol).phases
    # bytes of an inner flow for one byte of an outer flow, which carries 1 / per_node of the message
    outer_share = between.share / per_node
    ratio = within.share / outer_share
    group, link, weight = tally(
        np.concatenate((within.group // nodes, between.group // per_node)),
        np.concatenate((within.link, between.link)),
        np.concatenate((within.weight * ratio, between.weight)),
        fabric.topology.links,
    )
    latency = (
        within.latency.reshape(count, nodes).max(axis=1)
        + between.latency.reshape(count, per_node).max(axis=1)
        - fabric.protocols[protocol].launch
    )
    cap = np.minimum(
        within.cap.reshape(count, nodes).min(axis=1) / ratio, between.cap.reshape(count, per_node).min(axis=1)
    )
    phase = Phase(
        share=outer_share,
        group=group,
        link=link,
        weight=weight,
        latency=latency,
        cap=cap,
    )
    return Pattern(f"{name}/{protocol}", (phase,))
