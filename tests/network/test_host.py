"""Links into hosts: where they are, what a copy loads, and rates of chips that share one."""

from dataclasses import replace

import numpy as np
import pytest

from scaleout.errors import SpecError, TopologyError
from scaleout.io.catalogue import list_names, load
from scaleout.network import copies, copy_alone, machine, with_host
from scaleout.specs import Host, System

HOSTS = [name for name in list_names("system") if load("system", name).host is not None]


def of(name: str) -> System:
    """A system of the catalogue."""
    system: System = load("system", name)
    return system


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("out", [True, False])
def test_every_chip_reaches_the_host_of_its_node(name: str, out: bool) -> None:
    system = of(name)
    assert system.host is not None
    chips = np.arange(system.chips_per_node * (1 if system.network.kind == "none" else 2))
    fabric = with_host(machine(system, len(chips)), system.host)
    topology = fabric.topology
    (phase,) = copies(fabric, chips, out=out).phases
    near, far = (topology.source, topology.target) if out else (topology.target, topology.source)
    for chip in chips.tolist():
        links = phase.link[phase.group == chip]
        assert near[links[0]] == chip
        assert topology.vertex_name(int(far[links[-1]])).startswith("host ")
        if len(links) > 1:
            assert far[links[0]] == near[links[1]]
        assert phase.rate(fabric, chip) == copy_alone(system)[2]


@pytest.mark.parametrize("name", ["dgx-a100", "gb200-nvl72"])
def test_neighbours_share_a_link_of_the_rate_of_one(name: str) -> None:
    system = of(name)
    assert system.host is not None
    fabric = with_host(machine(system, system.chips_per_node), system.host)
    (phase,) = copies(fabric, np.arange(system.chips_per_node), out=True).phases
    users = np.bincount(phase.link)
    assert users.max() == 2
    assert (fabric.topology.bandwidth[phase.link] == system.host.payload).all()
    assert np.count_nonzero(users == 2) == system.chips_per_node // 2
    assert phase.latency == pytest.approx(system.host.latency)


def test_paths_between_chips_stay_what_they_are() -> None:
    system = of("dgx-h100")
    assert system.host is not None
    plain, hosted = (machine(system, 32), with_host(machine(system, 32), system.host))
    source, target = (grid.ravel() for grid in np.meshgrid(np.arange(32), np.arange(32)))
    assert (plain.route(source, target).link == hosted.route(source, target).link).all()
    links = plain.topology.links
    assert (hosted.topology.bandwidth[:links] == plain.topology.bandwidth).all()
    # each chip and its host, both ways; hosts stand behind all other vertices
    assert hosted.topology.links == links + 2 * 32
    assert hosted.topology.size == plain.topology.size + 4


def test_what_a_host_cannot_be() -> None:
    with pytest.raises(SpecError, match=r"host\.bandwidth: kind 'pcie' has one"):
        Host(kind="pcie", latency=0.0, memory=1e12, source="a test")
    with pytest.raises(SpecError, match=r"host\.bandwidth: kind 'scale-up' has none"):
        Host(kind="scale-up", bandwidth=1e9, latency=0.0, memory=1e12, source="a test")
    system = of("dgx-h100")
    shared = Host(kind="scale-up", latency=0.0, memory=1e12, source="a test")
    with pytest.raises(SpecError, match=r"system\.host\.kind: links of a node of kind 'nvswitch' lead to no host"):
        replace(system, host=shared)
    assert system.host is not None
    with pytest.raises(SpecError, match=r"system\.host\.chips_per_link: 3 chips each do not divide the 8"):
        replace(system, host=replace(system.host, chips_per_link=3))
    with pytest.raises(TopologyError, match="no path from chip 0 to a host"):
        copies(machine(system, 8), np.arange(8), out=True)
