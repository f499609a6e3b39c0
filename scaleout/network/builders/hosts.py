"""What is inside a node besides chips: PCIe switches, NICs, hosts with their memory, drives."""

import math
from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, number
from scaleout.network.fabric import Fabric, Loads, in_rows, lay
from scaleout.network.routing import shortest
from scaleout.network.topology import Topology

__all__ = ["host_node"]

Wire = tuple[float, float]
"""Bandwidth [byte/s, per direction] and latency [s] of a link."""


def host_node(
    chips: int | Fabric,
    *,
    pcie: Wire,
    dram: Wire,
    sockets: int = 1,
    pcie_switches: int = 0,
    nics: int = 0,
    socket_link: Wire | None = None,
    c2c: Wire | None = None,
    chips_on_pcie: bool = True,
    nvme: Wire | None = None,
) -> Fabric:
    """One node: chips, and what they share on their way to host memory, drives and the network.

    Chips reach each other by their own fabric, and over PCIe where there is none; nothing passes
    through a chip. Flows may start and end at chips, NICs, hosts, memory and drives: offload takes
    links of PCIe (or C2C) and of DRAM, GPUDirect those between chip, PCIe switch and NIC, and what
    both need they share.

    Parameters
    ----------
    chips
        Fabric that joins the chips, such as a crossbar; a number of chips that only PCIe joins.
    pcie
        Of a link between chip, NIC or drive and PCIe switch, and between switch and host.
    dram
        Between host and its memory.
    sockets
        Hosts, each with memory of its own; chips, NICs and PCIe switches are dealt out to them in order.
    pcie_switches
        Number of PCIe switches; 0 hangs everything on hosts directly.
    nics
        Number of NICs; the network's ports hang on them (`nearest`, `islands`).
    socket_link
        Between every two hosts; left out for one socket only.
    c2c
        Between chip and host, as NVLink-C2C; left out where there is none.
    chips_on_pcie
        Whether chips have PCIe links of their own; not where C2C replaces them.
    nvme
        Between a drive and its PCIe switch (or host), one drive for each; left out for no drives.

    Raises
    ------
    TopologyError
        A number is too small, or something would hang on nothing.

    >>> from scaleout.network import crossbar
    >>> node = host_node(crossbar(8, bandwidth=450e9, latency=5e-7), pcie=(55e9, 1e-6), dram=(200e9, 1e-7),
    ...                  sockets=2, socket_link=(100e9, 2e-7), pcie_switches=4, nics=8)
    >>> node.topology.vertices
    (('chip', 8), ('switch', 1), ('PCIe switch', 4), ('NIC', 8), ('host', 2), ('DRAM', 2))
    >>> nic, dram = 8 + 1 + 4, 8 + 1 + 4 + 8 + 2
    >>> name, route = node.topology.link_name, node.route(np.array([0, 0]), np.array([nic, dram]))
    >>> [name(link) for link in route.link[:2]]
    ['chip 0 -> PCIe switch 0', 'PCIe switch 0 -> NIC 0']
    >>> [name(link) for link in route.link[2:]]
    ['chip 0 -> PCIe switch 0', 'PCIe switch 0 -> host 0', 'host 0 -> DRAM 0']
    """
    inside, count = (chips, chips.topology.chips) if isinstance(chips, Fabric) else (None, chips)
    for what, least, value in (
        ("chips", 1, count), ("sockets", 1, sockets), ("PCIe switches", 0, pcie_switches), ("NICs", 0, nics),
    ):  # fmt: skip
        at_least(f"host node: {what}", least, value)
    if sockets > 1 and socket_link is None:
        raise TopologyError(f"host node: {sockets} sockets need a socket_link")
    if not chips_on_pcie and c2c is None:
        raise TopologyError("host node: chips that are not on PCIe need c2c")

    inner = inside.topology.vertices[1:] if inside else ()
    drives = (pcie_switches or sockets) if nvme else 0
    sizes = (("PCIe switch", pcie_switches), ("NIC", nics), ("host", sockets), ("DRAM", sockets), ("NVMe", drives))
    begins = count + sum(size for _, size in inner) + np.cumsum([0] + [size for _, size in sizes])
    switch0, nic0, host0, dram0, drive0 = (int(begin) for begin in begins[:5])
    bridge0, bridges = (switch0, pcie_switches) if pcie_switches else (host0, sockets)

    def dealt(things: int, over: int) -> Ints:
        """Which of so many each thing hangs on, in order."""
        return np.arange(things) * over // max(things, 1)

    # links of kind 0 are those that join the chips
    wires = Wires(*dict.fromkeys(("pcie", "c2c", "dram", "socket", "nvme")))
    if chips_on_pcie:
        _lay(wires, np.arange(count), bridge0 + dealt(count, bridges), pcie, "pcie")
    if pcie_switches:
        _lay(wires, switch0 + np.arange(pcie_switches), host0 + dealt(pcie_switches, sockets), pcie, "pcie")
    _lay(wires, nic0 + np.arange(nics), bridge0 + dealt(nics, bridges), pcie, "pcie")
    if c2c:
        _lay(wires, np.arange(count), host0 + dealt(count, sockets), c2c, "c2c")
    _lay(wires, host0 + np.arange(sockets), dram0 + np.arange(sockets), dram, "dram")
    if socket_link:
        low, high = np.triu_indices(sockets, 1)
        _lay(wires, host0 + low, host0 + high, socket_link, "socket")
    if nvme:
        _lay(wires, drive0 + np.arange(drives), bridge0 + dealt(drives, bridges), nvme, "nvme")
    topology = wires.topology(
        f"host node of {count}",
        ("chip", count),
        *inner,
        *sizes,
    )
    if inside is None:
        # no chip passes on what is not its own
        return Fabric(topology=topology, paths=shortest(topology, forward=False), everywhere=True)
    topology = _within(inside.topology, topology)
    others, mine = shortest(topology, forward=False), inside.topology

    def paths(source: Ints, target: Ints) -> Loads:
        joined = (source < count) & (target < count)
        a, b = np.flatnonzero(joined), np.flatnonzero(~joined)
        own = in_rows(mine, inside.paths(source[a], target[a]), len(a))
        return lay(len(source), [(a, own), (b, in_rows(topology, others(source[b], target[b]), len(b)))])

    return Fabric(topology=topology, paths=paths, everywhere=True)


def _lay(wires: Wires, a: Ints, b: Ints, wire: Wire, kind: str) -> None:
    if not isinstance(wire, Sequence) or len(wire) != 2:
        raise TopologyError(f"host node: a {kind} link is (bandwidth [byte/s], latency [s]), not {wire!r:.40}")
    bandwidth, latency = (
        number(f"host node: {kind} link", unit, x) for unit, x in zip(("byte/s", "s"), wire, strict=True)
    )
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise TopologyError(f"host node: a {kind} link needs a finite bandwidth above zero, got {bandwidth:g}")
    wires.both(a, b, bandwidth=bandwidth, latency=latency, kind=kind)


def _within(inner: Topology, outer: Topology) -> Topology:
    """The links of both, the inner ones first."""
    return Topology(
        name=f"{inner.name} with host",
        chips=inner.chips,
        vertices=outer.vertices,
        source=np.concatenate((inner.source, outer.source)),
        target=np.concatenate((inner.target, outer.target)),
        bandwidth=np.concatenate((inner.bandwidth, outer.bandwidth)),
        latency=np.concatenate((inner.latency, outer.latency)),
        kind=np.concatenate((inner.kind, len(inner.kinds) + outer.kind)),
        kinds=(*inner.kinds, *outer.kinds),
        node=inner.node,
        width=np.concatenate((inner.width, outer.width)),
        home=np.zeros(outer.size, dtype=np.int64),
    )
