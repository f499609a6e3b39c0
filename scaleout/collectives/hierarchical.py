"""Two levels: inside each node, then between nodes on every rail at once.

An all-reduce reduce-scatters inside the nodes, all-reduces S/g on each of g rails, and
all-gathers inside. Cut into many chunks the three run as a pipeline, hence
max(inner, outer) + latencies: one transfer that loads inner and outer links together, in
proportion. Both inner phases share the same links, so their bytes add up.
"""

import numpy as np

from scaleout.collectives.flat import ring, tree
from scaleout.network.pattern import Pattern, tally
from scaleout.network.topology import Fabric, Ints

__all__ = ["hierarchical", "rail_size"]


def rail_size(fabric: Fabric, groups: Ints) -> int:
    """Members a group has in each node it touches; 0 where groups or nodes differ."""
    nodes = groups // fabric.chips_per_node
    changes = nodes[:, 1:] != nodes[:, :-1]
    sizes = set()
    alike = (changes == changes[0]).all()
    for row in changes[:1] if alike else np.unique(changes, axis=0):
        edges = np.concatenate(([0], np.flatnonzero(row) + 1, [groups.shape[1]]))
        sizes |= set(np.diff(edges).tolist())
    return int(sizes.pop()) if len(sizes) == 1 else 0


def hierarchical(fabric: Fabric, groups: Ints, operation: str, outer: str = "ring") -> Pattern:
    """Rings inside nodes, and a ring or a tree between nodes.

    Parameters
    ----------
    groups
        Every group has the same number of members in each node it touches (`rail_size`).
    outer
        ``ring``, or ``tree`` (all-reduce only).
    """
    count, members = groups.shape
    per_node = rail_size(fabric, groups)
    nodes = members // per_node
    inside = groups.reshape(count * nodes, per_node)
    across = groups.reshape(count, nodes, per_node).transpose(0, 2, 1).reshape(count * per_node, nodes)
    within = ring(fabric, inside, operation)
    between = (tree if outer == "tree" else ring)(fabric, across, operation)
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
        - fabric.launch
    )
    return Pattern(
        algorithm="hierarchical-tree" if outer == "tree" else "hierarchical",
        share=outer_share,
        group=group,
        link=link,
        weight=weight,
        latency=latency,
    )
