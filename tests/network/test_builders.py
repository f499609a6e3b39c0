from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError, TopologyError
from scaleout.io.catalogue import load
from scaleout.network import Fabric, nvswitch_node, rail_fat_tree, ring, tree_shape
from scaleout.network.fairshare import max_min
from scaleout.specs import Slow

H100 = load("system", "dgx-h100")


def walk(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> None:
    """Every path is a walk from its source to its target."""
    routes, topology = fabric.route(source, target), fabric.topology
    for flow, (s, t) in enumerate(zip(source, target, strict=True)):
        links = routes.link[routes.start[flow] : routes.start[flow + 1]]
        assert topology.source[links[0]] == s
        assert topology.target[links[-1]] == t
        assert (topology.target[links[:-1]] == topology.source[links[1:]]).all()
        assert routes.latency[flow] == pytest.approx(topology.latency[links].sum())


@pytest.mark.parametrize("chips", [2, 8, 16, 64, 512, 4096])
def test_paths_of_the_rail_tree_join_source_and_target_by_the_shortest_way(chips: int) -> None:
    fabric = rail_fat_tree(H100, chips)
    rng = np.random.default_rng(0)
    source = rng.integers(0, chips, 50)
    target = (source + rng.integers(1, chips, 50)) % chips
    walk(fabric, source, target)
    graph = fabric.topology.to_networkx()
    routes = fabric.route(source, target)
    for flow in range(0, 50, 7):
        shortest = nx.shortest_path_length(graph, int(source[flow]), int(target[flow]))
        assert routes.start[flow + 1] - routes.start[flow] == shortest


@given(st.integers(2, 20), st.data())
def test_ring_paths_are_shortest(chips: int, data: st.DataObject) -> None:
    fabric = ring(chips, bandwidth=1e9, latency=1e-6)
    source = data.draw(st.integers(0, chips - 1))
    target = data.draw(st.integers(0, chips - 1).filter(lambda t: t != source))
    walk(fabric, np.array([source]), np.array([target]))
    around = (target - source) % chips
    assert len(fabric.route(np.array([source]), np.array([target])).link) == min(around, chips - around)


def test_the_tree_of_16384_chips() -> None:
    # 64-port switches, half up: 2,048 nodes need 64 groups of 8 leaves, 16 pods of 32 leaves
    shape = tree_shape(2048, 8, 64)
    assert (shape.tiers, shape.leaves, shape.pods, shape.spines, shape.cores) == (3, 512, 16, 512, 256)
    topology = rail_fat_tree(H100, 16384).topology
    port = 50e9 * 0.97
    for kind, factor in (("port", 1), ("leaf-spine", 1), ("spine-core", 1)):
        mine = topology.kind == topology.kinds.index(kind)
        # non-blocking: every tier carries all chips at full rate, each way
        assert topology.bandwidth[mine].sum() == pytest.approx(2 * 16384 * port * factor)


@pytest.mark.parametrize(("nodes", "tiers"), [(2, 2), (32, 2), (256, 2), (257, 3), (2048, 3), (8192, 3)])
def test_tiers_grow_with_the_machine(nodes: int, tiers: int) -> None:
    assert tree_shape(nodes, 8, 64).tiers == tiers


@given(st.integers(1, 8192), st.sampled_from([32, 40, 64, 128]), st.sampled_from([1.0, 2.0, 3.0, 7.0]))
def test_no_switch_has_more_links_than_ports(nodes: int, radix: int, oversubscription: float) -> None:
    try:
        shape = tree_shape(nodes, 8, radix, oversubscription)
    except TopologyError:
        return
    up = shape.ports_up
    assert up + shape.ports_down <= radix
    assert shape.leaves * shape.ports_down >= nodes * 8
    if shape.tiers == 2:
        assert shape.spines * radix >= shape.leaves * up
        assert shape.leaves <= radix
    if shape.tiers == 3:
        assert shape.pods <= radix
        assert shape.nodes_per_pod // shape.ports_down * 8 <= radix // 2
        assert shape.cores * radix >= shape.spines * (radix // 2)


def test_oversubscription_narrows_what_leaves_a_leaf() -> None:
    def out_of_leaf(share: float) -> float:
        document = H100.network.__class__
        network = document(
            **{name: getattr(H100.network, name) for name in document.__slots__} | {"oversubscription": share}
        )
        system = H100.__class__(**{name: getattr(H100, name) for name in H100.__slots__} | {"network": network})
        topology = rail_fat_tree(system, 1024).topology
        up = topology.bandwidth[topology.kind == topology.kinds.index("leaf-spine")]
        down = topology.bandwidth[topology.kind == topology.kinds.index("port")]
        return float(down.max() * tree_shape(128, 8, 64, share).ports_down / up.max())

    assert out_of_leaf(1.0) == 1.0
    assert out_of_leaf(3.0) == 3.0
    assert out_of_leaf(7.0) == 7.0


def test_slow_links_are_slow_both_ways_and_alone() -> None:
    plain, slow = (rail_fat_tree(H100, 16, s).topology for s in (None, Slow(ports={5: 0.5}, scale_up={9: 0.25})))
    changed = np.flatnonzero(plain.bandwidth != slow.bandwidth)
    ends = {(int(slow.source[at]), int(slow.target[at])) for at in changed}
    assert len(changed) == 4
    assert {min(pair) for pair in ends} == {5, 9}
    ratios = sorted((slow.bandwidth / plain.bandwidth)[changed].tolist())
    assert ratios == [0.25, 0.25, 0.5, 0.5]


def test_impossible_machines_are_refused_in_words() -> None:
    with pytest.raises(TopologyError, match="three tiers of radix 4"):
        tree_shape(5000, 1, 4)
    with pytest.raises(TopologyError, match="one tier"):
        tree_shape(100, 8, 64, tiers=1)
    with pytest.raises(TopologyError, match="two tiers"):
        tree_shape(1000, 8, 64, tiers=2)
    with pytest.raises(TopologyError, match="needs at least 2, got 1"):
        ring(1, bandwidth=1.0, latency=0.0)
    with pytest.raises(TopologyError, match="has 8 chips, not 9"):
        nvswitch_node(H100, 9)
    with pytest.raises(TopologyError, match="bandwidth above zero"):
        ring(3, bandwidth=0.0, latency=0.0)
    with pytest.raises(TopologyError, match="ranks must be 0 to 2"):
        ring(3, bandwidth=1.0, latency=0.0).route(np.array([0]), np.array([3]))


@pytest.mark.parametrize("system", ["vtrain-a100-4xhdr200", "jean-zay-a100", "dgx-1", "dgx-2"])
@pytest.mark.parametrize("nodes", [1, 2, 5, 64])
def test_paths_over_shared_ports_are_walks_by_the_shortest_way(system: str, nodes: int) -> None:
    spec = load("system", system)
    chips = nodes * spec.chips_per_node
    fabric = rail_fat_tree(spec, chips)
    rng = np.random.default_rng(0)
    source = rng.integers(0, chips, 50)
    target = (source + rng.integers(1, chips, 50)) % chips
    walk(fabric, source, target)
    graph, routes = fabric.topology.to_networkx(), fabric.route(source, target)
    for flow in range(0, 50, 7):
        shortest = nx.shortest_path_length(graph, int(source[flow]), int(target[flow]))
        assert routes.start[flow + 1] - routes.start[flow] == shortest
    names = [fabric.topology.vertex_name(v) for v in range(graph.number_of_nodes())]
    assert sum(name.startswith("port ") for name in names) == (nodes * spec.ports_per_node if nodes > 1 else 0)


def test_two_chips_on_a_port_get_half_each() -> None:
    spec = load("system", "vtrain-a100-4xhdr200")
    fabric, port = rail_fat_tree(spec, 32), 25e9 * spec.network.efficiency

    def rates(source: list[int], target: list[int]) -> list[float]:
        routes = fabric.route(np.array(source), np.array(target))
        ones = np.ones(len(routes.link))
        caps = np.full(len(source), np.inf)
        found = max_min(fabric.topology.bandwidth, routes.link, routes.flow, ones, ones.astype(int), caps)
        return [rate / port for rate in found.tolist()]

    assert rates([0], [8]) == [1.0]
    assert rates([0, 1], [8, 9]) == [0.5, 0.5]
    assert rates([0, 1], [16, 26]) == [0.5, 0.5]
    assert rates([1, 2], [9, 10]) == [1.0, 1.0]
    # the way in and the way out are two links
    assert rates([0, 9], [8, 1]) == [1.0, 1.0]


def test_a_slow_shared_port_slows_all_its_chips() -> None:
    spec = load("system", "vtrain-a100-4xhdr200")
    plain, slow = (rail_fat_tree(spec, 16, s).topology for s in (None, Slow(ports={5: 0.5})))
    changed = np.flatnonzero(plain.bandwidth != slow.bandwidth)
    ends = {slow.vertex_name(int(v)) for at in changed for v in (slow.source[at], slow.target[at])}
    assert len(changed) == 2
    assert "port 2" in ends


def test_ports_must_divide_the_chips() -> None:
    spec = load("system", "dgx-h100")
    with pytest.raises(SpecError, match="3 ports do not divide the 8 chips of a dgx-h100 node"):
        replace(spec, network=replace(spec.network, ports_per_node=3))
