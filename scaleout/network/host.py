"""Links between chips and the memory of their node's processors, and what a copy loads of them.

They come behind all other links of a fabric, so paths between chips stay what they are.
"""

from dataclasses import replace

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.machine import machine
from scaleout.network.pattern import Pattern, Phase
from scaleout.specs import Host, System

__all__ = ["copies", "copy_alone", "with_host"]

_SWITCHES = {"pcie": "PCIe switch", "c2c": "C2C"}
"""Vertex where chips that share a link into the host meet, by kind of host."""


def with_host(fabric: Fabric, host: Host) -> Fabric:
    """The same fabric with a host in every node; where PCIe joins the chips, it is there already."""
    if host.kind == "scale-up":
        return fabric
    topology = fabric.topology
    chip = np.arange(topology.chips)
    above = topology.size + np.unique(topology.node, return_inverse=True)[1]
    pairs, vertices = [(chip, above)], [("host", int(above.max()) + 1 - topology.size)]
    if host.chips_per_link > 1:
        switch = int(above.max()) + 1 + chip // host.chips_per_link
        first = np.unique(switch, return_index=True)[1]
        pairs = [(chip, switch), (switch[first], above[first])]
        vertices.append((_SWITCHES[host.kind], len(first)))
    low, high = (np.concatenate(ends) for ends in zip(*pairs, strict=True))
    count = 2 * len(low)
    # once a copy: on the chip's own link
    latency = np.where(np.tile(low < topology.chips, 2), host.latency, 0.0)
    changed = replace(
        topology,
        vertices=(*topology.vertices, *vertices),
        source=np.concatenate((topology.source, low, high)),
        target=np.concatenate((topology.target, high, low)),
        bandwidth=np.concatenate((topology.bandwidth, np.full(count, host.payload))),
        latency=np.concatenate((topology.latency, latency)),
        kind=np.concatenate((topology.kind, np.full(count, len(topology.kinds)))),
        kinds=(*topology.kinds, host.kind),
        width=np.concatenate((topology.width, np.ones(count, dtype=np.int64))),
        halves=np.zeros(0, dtype=bool),
        transitive=False,
    )
    return replace(fabric, topology=changed)


def copies(fabric: Fabric, chips: Ints, *, out: bool) -> Pattern:
    """Copies between chips and their hosts, one group for each chip.

    Parameters
    ----------
    out
        From the chip to the host.

    Raises
    ------
    TopologyError
        A chip has no path to a host.
    """
    topology = fabric.topology
    names = np.repeat([name for name, _ in topology.vertices], [count for _, count in topology.vertices])
    is_host, is_switch = names == "host", np.isin(names, list(_SWITCHES.values()))
    near, far = (topology.source, topology.target) if out else (topology.target, topology.source)
    lower = np.flatnonzero((near < topology.chips) & (is_host | is_switch)[far])[::-1]
    upper = np.flatnonzero(is_switch[near] & is_host[far])[::-1]
    # of several links the first
    above = np.full(topology.size, -1, dtype=np.int64)
    above[near[lower]] = lower
    above[near[upper]] = upper
    first = above[chips]
    if (first < 0).any():
        raise TopologyError(
            f"{topology.name}: no path from {topology.vertex_name(int(chips[first.argmin()]))} to a host"
        )
    second = np.where(is_host[far[first]], -1, above[far[first]])
    path = np.column_stack((first, second))
    used = path >= 0
    return Pattern(
        "copy",
        (
            Phase(
                share=1.0,
                group=np.repeat(np.arange(len(chips)), used.sum(axis=1)),
                link=path[used],
                weight=np.ones(int(used.sum())),
                latency=np.where(used, topology.latency[path], 0.0).sum(axis=1),
                cap=np.full(len(chips), np.inf),
            ),
        ),
    )


def copy_alone(system: System) -> tuple[float, float, float]:
    """Latency [s], share [1] and rate [byte/s] of a copy with the links to itself."""
    if system.host is None:
        raise TopologyError(f"{system.name}: no host is described")
    fabric = with_host(machine(system, system.chips_per_node), system.host)
    pattern = copies(fabric, np.zeros(1, dtype=np.int64), out=True)
    return pattern.latency(), 1.0, pattern.phases[0].rate(fabric)
