"""Islands on a network, and the insides of nodes."""

import numpy as np
import pytest
from walks import assert_facts_of_networkx, assert_shortest, assert_walks, some_pairs

from scaleout.errors import TopologyError
from scaleout.network import (
    crossbar,
    dragonfly,
    ecmp,
    fully_connected,
    host_node,
    islands,
    leaf_spine,
    max_min,
    mesh,
    nearest,
    ring,
    spray,
    torus,
    with_routing,
)

LINK = {"bandwidth": 50e9, "latency": 1e-6}
FAST = {"bandwidth": 400e9, "latency": 3e-7}
NET = {"bandwidth": 25e9, "latency": 2e-6}
HOST = {"pcie": (55e9, 1e-6), "dram": (200e9, 1e-7)}


def rates(fabric, source, target):
    routes = fabric.route(np.array(source), np.array(target))
    ones = np.ones(len(routes.link), dtype=np.int64)
    bandwidth, caps = fabric.topology.bandwidth, np.full(len(source), np.inf)
    return max_min(bandwidth, routes.link, routes.flow, routes.weight, ones, caps).tolist()


def uneven(**tree):
    parts = [
        torus((2, 2), **LINK),
        crossbar(6, **FAST),
        torus((2, 2), **LINK),
        mesh((2, 3), **LINK),
        crossbar(1, **FAST),
    ]
    return islands(parts, leaf_spine(21, chips_per_leaf=7, spines=2, **tree, **NET))


@pytest.mark.parametrize("bundled", [True, False])
def test_uneven_islands_route_inside_and_across(bundled):
    fabric = uneven(bundled=bundled)
    topology = fabric.topology
    assert topology.node.tolist() == [0] * 4 + [1] * 6 + [2] * 4 + [3] * 6 + [4]
    assert topology.vertices[:3] == (("chip", 21), ("switch", 2), ("leaf", 3))
    pairs = some_pairs(21, 300)
    assert_walks(fabric, *pairs)
    routes = fabric.route(*pairs)
    assert (routes.networked == (topology.node[pairs[0]] != topology.node[pairs[1]])).all()
    # links of kind 0 are exactly those inside islands
    inside = topology.home[topology.source] == topology.home[topology.target]
    inside &= topology.home[topology.source] >= 0
    assert ((topology.kind == 0) == inside).all()


def test_identical_islands_shared_or_not_are_the_same_graph():
    node = crossbar(4, **FAST)
    shared = islands([node] * 3, leaf_spine(12, chips_per_leaf=4, spines=2, **NET))
    apart = islands([crossbar(4, **FAST) for _ in range(3)], leaf_spine(12, chips_per_leaf=4, spines=2, **NET))
    assert set(shared.topology.to_networkx().edges) == set(apart.topology.to_networkx().edges)
    pairs = some_pairs(12, 200)
    names = [[f.topology.link_name(link) for link in f.route(*pairs).link] for f in (shared, apart)]
    assert names[0] == names[1]
    assert_shortest(shared, *pairs)
    assert_facts_of_networkx(shared)


def test_islands_on_a_dragonfly_and_of_islands():
    network = dragonfly(2, chips_per_router=2, long_links=1, **NET)
    fabric = islands([crossbar(2, **FAST)] * 6, network)
    assert_walks(fabric, *some_pairs(12, 200))
    twice = islands([fabric] * 2, leaf_spine(24, chips_per_leaf=12, spines=1, **NET))
    assert_walks(twice, *some_pairs(24, 200))
    assert twice.topology.node.tolist() == np.repeat(np.arange(12), 2).tolist()


def test_one_port_an_island_is_shared_by_its_chips():
    fabric = islands([ring(4, **LINK), crossbar(6, **FAST)], leaf_spine(2, chips_per_leaf=2, spines=1, **NET))
    assert_walks(fabric, *some_pairs(10, 200))
    assert fabric.topology.vertices[1:4] == (("port", 2), ("switch", 1), ("leaf", 1))
    assert rates(fabric, [0], [5]) == [25e9]
    assert rates(fabric, [0, 1, 2, 3], [4, 5, 6, 7]) == [25e9 / 4] * 4
    # the way out and the way in are two links
    assert rates(fabric, [0, 4], [5, 1]) == [25e9] * 2


def test_split_flows_stay_split_on_the_network():
    net = leaf_spine(8, chips_per_leaf=4, spines=2, bundled=False, **NET)
    for routing, entries in ((spray(net.topology), [6]), (ecmp(net.topology, paths=3), [12])):
        fabric = islands([crossbar(4, **FAST)] * 2, with_routing(net, routing))
        assert np.diff(fabric.route(np.array([0]), np.array([5])).start).tolist() == entries
        assert len(fabric.route(np.array([0]), np.array([1])).link) == 2


def dgx(**changes):
    wires = {"sockets": 2, "socket_link": (100e9, 2e-7), "pcie_switches": 4, "nics": 8, "nvme": (7e9, 1e-5)}
    return host_node(crossbar(8, **FAST), **wires | changes, **HOST)


def test_the_inside_of_a_node():
    node = dgx()
    assert_facts_of_networkx(node)
    chips, everything = some_pairs(8, 200), some_pairs(node.topology.size, 400)
    # what passes through no chip does not leave the chips' own switch
    everything = tuple(ends[(everything[0] != 8) & (everything[1] != 8)] for ends in everything)
    assert_walks(node, *everything)
    # chips keep to their own fabric, and nothing else passes through them
    topology, routes = node.topology, node.route(*chips)
    assert (topology.kind[routes.link] == 0).all()
    routes = node.route(*everything)
    first = routes.start[:-1][np.diff(routes.start) > 0]
    later = np.setdiff1d(np.arange(len(routes.link)), first)
    starts_at_chip = topology.source[routes.link[later]] < 8
    assert not starts_at_chip.any()
    assert nearest(node, "NIC").tolist() == [13 + i for i in range(8)]
    assert not routes.networked.any()


def test_offload_and_gpudirect_share_pcie():
    node = dgx()
    names = {node.topology.vertex_name(v): v for v in range(node.topology.size)}
    pcie = 55e9
    assert rates(node, [0], [names["DRAM 0"]]) == [pcie]
    # two chips of a switch share its link up, and a third one has its own
    assert rates(node, [0, 1, 2], [names["DRAM 0"]] * 3) == [pcie / 2, pcie / 2, pcie]
    # to the NIC of the same switch there is nothing to share with the host's traffic but the chip's own link
    assert rates(node, [0, 0], [names["NIC 0"], names["DRAM 0"]]) == [pcie / 2] * 2
    assert rates(node, [0, 1], [names["NIC 0"], names["DRAM 0"]]) == [pcie] * 2
    assert rates(node, [names["NVMe 0"]], [0]) == [7e9]
    far = node.route(np.array([0]), np.array([names["DRAM 1"]]))
    assert "host 0 -> host 1" in [node.topology.link_name(link) for link in far.link]


def test_chips_on_c2c_reach_host_memory_past_pcie():
    node = host_node(crossbar(4, **FAST), c2c=(450e9, 5e-7), chips_on_pcie=False, sockets=2, nics=4,
                     socket_link=(100e9, 1e-7), **HOST)  # fmt: skip
    names = {node.topology.vertex_name(v): v for v in range(node.topology.size)}
    assert rates(node, [0], [names["DRAM 0"]]) == [200e9]
    assert rates(node, [0], [names["NIC 0"]]) == [55e9]
    assert nearest(node, "NIC").tolist() == [names[f"NIC {i}"] for i in (0, 1, 2, 3)]


def test_nodes_with_hosts_leave_by_their_nics():
    node = dgx(nics=4)
    fabric = islands([node] * 2, leaf_spine(8, chips_per_leaf=4, spines=2, **NET), exits=nearest(node, "NIC"))
    assert_walks(fabric, *some_pairs(fabric.topology.chips, 300))
    assert rates(fabric, [0, 1], [8, 9]) == [25e9 / 2] * 2
    names = {fabric.topology.vertex_name(v): v for v in range(fabric.topology.size)}
    # from host memory to another node's, by the nearest NICs
    route = fabric.route(np.array([names["DRAM 0"]]), np.array([names["DRAM 2"]]))
    hops = [fabric.topology.link_name(link) for link in route.link]
    assert hops[0] == "DRAM 0 -> host 0"
    assert hops[-1] == "host 2 -> DRAM 2"
    assert route.networked.all()
    with pytest.raises(TopologyError, match="leaf 0 joins chips only"):
        fabric.route(np.array([0]), np.array([names["leaf 0"]]))


def test_pcie_alone_joins_chips_and_a_mesh_of_links_may_be_inside():
    node = host_node(4, pcie_switches=2, **HOST)
    assert node.topology.kinds[0] == "pcie"
    assert_walks(node, *some_pairs(node.topology.size, 200))
    assert len(node.route(np.array([0]), np.array([1])).link) == 2
    assert len(node.route(np.array([0]), np.array([3])).link) == 4
    mi300x = host_node(fully_connected(8, **LINK), pcie_switches=8, nics=8, sockets=2, socket_link=(64e9, 1e-7), **HOST)
    assert_walks(mi300x, *some_pairs(mi300x.topology.size, 300))


def test_what_cannot_be_built_is_refused_in_words():
    tree, node = leaf_spine(8, chips_per_leaf=4, spines=2, **NET), crossbar(4, **FAST)
    for build, words in (
        (lambda: islands([], tree), "at least 1, got 0"),
        (lambda: islands([node] * 3, tree), "joins 8 places; 3 islands with 12 chips in all need 12 or 3"),
        (lambda: islands([node] * 2, tree, exits=[[0, 1, 2, 3]]), "1 lists for 2 islands"),
        (lambda: islands([node] * 2, tree, exits=[0, 1, 2]), "must be 4 vertices from 0 to 4"),
        (lambda: islands([node] * 2, tree, exits=[4] * 4), "joins chips only"),
        (lambda: islands([node] * 2, tree, exits=[0, 0, 1, 1]), "joins 8 places, the islands have 4"),
        (lambda: nearest(node, "NIC"), "no vertex of kind 'NIC'; there are chip, switch"),
        (lambda: host_node(0, **HOST), "chips: needs at least 1"),
        (lambda: host_node(4, sockets=2, **HOST), "socket_link"),
        (lambda: host_node(4, chips_on_pcie=False, **HOST), "need c2c"),
        (lambda: host_node(4, pcie=(0.0, 0.0), dram=(1.0, 0.0)), "pcie link needs a finite bandwidth above zero"),
    ):
        with pytest.raises(TopologyError, match=words):
            build()
