"""Machines of every kind: what the files say is what is built, and flows find their way."""

import math
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from walks import assert_facts_of_networkx, assert_shortest, assert_walks, some_pairs

from scaleout.collectives import trials
from scaleout.errors import SpecError, TopologyError
from scaleout.io.catalogue import list_names, load
from scaleout.network import Fabric, facts, machine, max_min
from scaleout.network.machine import assembled
from scaleout.network.nodes import slice_shape
from scaleout.specs import Network, ScaleUp, Slow, System

H100 = load("system", "dgx-h100")
V5E, V4 = load("system", "tpu-v5e"), load("system", "tpu-v4")
META = load("system", "meta-roce-24k")
NAMES = list_names("system")
RAILS = Network(kind="rail-only", bandwidth=50e9, efficiency=0.97, latency=1e-6, radix=4, hop_latency=0.3e-6)


def sizes(system: System) -> list[int]:
    """One chip, two, a node (or a part of a large torus), a few nodes."""
    node = system.chips_per_node
    few = [] if system.network.kind == "none" else [2 * node, 5 * node]
    small, large = {1, min(2, node), min(node, 64), *few}, {1, 2, 64, min(node, 256), 2 * min(node, 256)}
    return sorted(small if node <= 72 else large)


def build(system: System, chips: int) -> Fabric:
    """A machine; of a large pod two slices where it is more than 256."""
    if system.chips_per_node > 256:
        system = replace(system, chips_per_node=256)
    return machine(system, chips)


@pytest.mark.parametrize("name", NAMES)
def test_every_system_builds_and_routes_at_every_size(name: str) -> None:
    system = load("system", name)
    for chips in sizes(system):
        fabric = build(system, chips)
        topology = fabric.topology
        assert topology.chips == chips
        assert len(np.unique(topology.node)) == -(-chips // min(system.chips_per_node, 256))
        assert fabric.protocols is system.library.protocols
        assert fabric.scale_up_bandwidth == system.scale_up.payload
        assert fabric.network_bandwidth == (system.network.payload or math.inf)
        if chips > 1:
            source, target = some_pairs(chips, 40)
            assert_walks(fabric, source, target)
            routes = fabric.route(source, target)
            assert (routes.networked == (topology.node[source] != topology.node[target])).all()
            inside = topology.kind[routes.link] == 0
            # what stays in a node uses no link of the network, what leaves it does
            assert (np.bincount(routes.flow, ~inside, len(source)).astype(bool) == routes.networked).all()
            assert nx.is_strongly_connected(topology.to_networkx())


@pytest.mark.parametrize("name", NAMES)
def test_paths_are_shortest(name: str) -> None:
    system = load("system", name)
    # networkx would go through the chips of direct links, and turn round in ports that chips share
    direct = system.scale_up.kind != "nvswitch"
    alone = direct or system.chips_per_port > 1
    chips = min(system.chips_per_node, 64) if alone else 2 * system.chips_per_node
    assert_shortest(build(system, chips), *some_pairs(chips, 30))


@pytest.mark.parametrize(("name", "chips"), [("dgx-h100", 512), ("dgx-1", 64), ("dgx-2", 160), ("dgx-h100", 8192)])
def test_two_parts_make_the_rail_fat_tree(name: str, chips: int) -> None:
    system, slow = load("system", name), Slow(ports={3: 0.5, 17: 0.25}, scale_up={1: 0.5})
    whole, parts = machine(system, chips, slow), assembled(system, chips, slow)
    source, target = some_pairs(chips, 500)
    a, b = whole.route(source, target), parts.route(source, target)
    assert (a.start == b.start).all()
    assert (whole.topology.bandwidth[a.link] == parts.topology.bandwidth[b.link]).all()
    assert a.latency == pytest.approx(b.latency)
    assert sorted(whole.topology.bandwidth) == sorted(parts.topology.bandwidth)


# --- inside nodes ----------------------------------------------------------------------------


def test_mi300x_has_a_link_for_every_pair() -> None:
    fabric = machine(load("system", "mi300x-8"), 8)
    assert fabric.topology.links == 56
    assert set(fabric.topology.bandwidth) == {48e9}
    assert_facts_of_networkx(fabric)


@pytest.mark.parametrize(("chips", "measured"), [(2, 47.671e9), (8, 312.912e9)])
def test_mi300x_all_reduces_at_the_measured_rate(chips: int, measured: float) -> None:
    # RCCL, 4 GiB: stas00/ml-engineering 744d01e, network/README.md
    fabric = machine(load("system", "mi300x-8"), 8)
    nbytes = 2.0**32
    tried = trials(fabric, np.arange(chips)[None], "all_reduce")
    best = min(pattern.alone(fabric, nbytes) for pattern in tried.values())
    assert 2 * (chips - 1) / chips * nbytes / best == pytest.approx(measured, rel=0.1)


def test_pairs_have_a_bridge_and_meet_in_the_host() -> None:
    system = load("system", "a100-pcie-pairs")
    fabric = machine(system, 4)
    routes = fabric.route(np.array([0, 1, 2]), np.array([1, 2, 3]))
    assert np.diff(routes.start).tolist() == [1, 3, 1]
    rates = [fabric.topology.bandwidth[routes.link[a:b]].min() for a, b in zip(routes.start, routes.start[1:])]  # noqa: B905
    assert rates[0] == rates[2] == system.scale_up.payload
    assert rates[1] == system.scale_up.pcie_bandwidth


def test_everything_from_switch_to_switch_shares_the_host() -> None:
    up = ScaleUp(
        kind="pcie", bandwidth=32e9, efficiency=0.75, latency=0.5e-6, chips_per_switch=2, host_bandwidth=12e9
    )  # fmt: skip
    fabric = machine(replace(load("system", "l40s-8"), scale_up=up), 8)
    # two flows inside a switch at the rate of a link, three across at a third of the host
    source, target = np.array([0, 3, 0, 5, 7]), np.array([1, 2, 6, 1, 3])
    routes = fabric.route(source, target)
    ones = np.ones(len(routes.link), dtype=np.int64)
    rates = max_min(
        fabric.topology.bandwidth, routes.link, routes.flow, routes.weight, ones, np.full(len(source), np.inf)
    )
    assert rates[2:] == pytest.approx([4e9] * 3)
    assert rates[:2] == pytest.approx([20e9, 24e9])


# --- tori ------------------------------------------------------------------------------------

CUBES, ROWS = ((16, 16, 16), 4), ((16, 16), 16)


@pytest.mark.parametrize(
    ("chips", "pod", "shape"),
    [
        # docs.cloud.google.com/tpu/docs/v5p and v5e, tables of supported slices
        (4, CUBES, (1, 2, 2)), (8, CUBES, (2, 2, 2)), (16, CUBES, (2, 2, 4)), (32, CUBES, (2, 4, 4)),
        (64, CUBES, (4, 4, 4)), (128, CUBES, (4, 4, 8)), (256, CUBES, (4, 8, 8)), (512, CUBES, (8, 8, 8)),
        (1024, CUBES, (8, 8, 16)), (2048, CUBES, (8, 16, 16)), (4096, CUBES, (16, 16, 16)),
        (192, CUBES, (4, 4, 12)), (6144, ((16, 16, 24), 4), (16, 16, 24)), (9216, ((16, 24, 24), 4), (16, 24, 24)),
        (4, ROWS, (2, 2)), (8, ROWS, (2, 4)), (16, ROWS, (4, 4)), (32, ROWS, (4, 8)), (64, ROWS, (8, 8)),
        (128, ROWS, (8, 16)), (256, ROWS, (16, 16)), (16, ((4, 4), 4), (4, 4)), (1, ROWS, (1, 1)),
    ],
)  # fmt: skip
def test_slices_have_the_shapes_that_are_offered(
    chips: int, pod: tuple[tuple[int, ...], int], shape: tuple[int, ...]
) -> None:
    assert slice_shape(chips, *pod) == shape


@pytest.mark.parametrize(("name", "bisection"), [("tpu-v5e", 1.6e12), ("tpu-v6e", 3.2e12)])
def test_a_pod_has_the_bisection_of_its_data_sheet(name: str, bisection: float) -> None:
    system = load("system", name)
    found = facts(machine(system, 256))
    assert found.degree == (4, 4)
    assert found.diameter == 16
    assert found.bisection_exact
    assert found.bisection == pytest.approx(bisection * system.scale_up.efficiency)


def test_only_whole_lengths_close_to_rings() -> None:
    assert facts(machine(V5E, 128)).degree == (3, 4)
    assert facts(machine(V5E, 64)).degree == (2, 4)
    assert facts(machine(V4, 64)).degree == (6, 6)
    assert facts(machine(V4, 32)).degree == (3, 5)
    for fabric in (machine(V5E, 32), machine(V4, 64)):
        assert_facts_of_networkx(fabric)


def test_a_torus_carries_both_ways_alike() -> None:
    # all-to-all on a torus: k S / (8 B) for the longest dimension k
    fabric = machine(replace(V4, scale_up=replace(V4.scale_up, shape=(4, 4), wrap=4), chips_per_node=16), 16)
    source, target = some_pairs(16, 1000)
    loads = np.bincount(fabric.route(source, target).link, minlength=fabric.topology.links)
    assert loads.max() == loads.min() == 4 * 16 / 8


def test_chips_that_are_no_grid_are_refused_with_the_nearest() -> None:
    with pytest.raises(TopologyError, match=r"scale_up of tpu-v5e: no grid of 31 chips fits a torus of 16 x 16.*32"):
        machine(V5E, 31)


# --- between nodes ---------------------------------------------------------------------------


def share_of(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> np.ndarray:
    routes = fabric.route(source, target)
    ones = np.ones(len(routes.link), dtype=np.int64)
    return np.asarray(
        max_min(fabric.topology.bandwidth, routes.link, routes.flow, routes.weight, ones, np.full(len(source), np.inf))
    )


def test_pods_of_meta_are_non_blocking_and_seven_to_one_above() -> None:
    fabric, port = machine(META, 6144), META.network.payload
    chip = np.arange(3072)
    # everybody to somebody of another rack of the pod, then everybody to the other pod
    assert share_of(fabric, chip, (chip + 1536) % 3072) == pytest.approx(np.full(3072, port))
    assert share_of(fabric, chip, chip + 3072) == pytest.approx(np.full(3072, port / 7))
    # a few find the uplinks free
    assert share_of(fabric, chip[:400], chip[:400] + 3072) == pytest.approx(np.full(400, port))
    assert dict(machine(META, 24576).topology.vertices)["leaf"] == 1536


def test_leaves_are_oversubscribed() -> None:
    network = replace(META.network, kind="leaf-spine", nodes_per_pod=None, pod_oversubscription=1.0, oversubscription=3)
    fabric, chip = machine(replace(META, network=network), 64), np.arange(16)
    assert share_of(fabric, chip, chip + 16) == pytest.approx(np.full(16, META.network.payload / 3))


@pytest.mark.parametrize("nodes", [3, 8])
def test_what_changes_rails_does_so_in_its_own_node(nodes: int) -> None:
    fabric = machine(replace(H100, network=RAILS), nodes * 8)
    chips = nodes * 8
    source, target = some_pairs(chips, 60)
    assert_walks(fabric, source, target)
    topology, routes = fabric.topology, fabric.route(source, target)
    for flow in range(len(source)):
        links = routes.link[routes.start[flow] : routes.start[flow + 1]]
        ports = links[topology.kind[links] == topology.kinds.index("port")]
        if topology.node[source[flow]] == topology.node[target[flow]]:
            assert not len(ports)
            continue
        # out by the target's rail, at whose port the way ends
        assert topology.source[ports[0]] % 8 == target[flow] % 8
        assert topology.target[ports[-1]] == target[flow]
    graph = topology.to_networkx()
    graph.remove_nodes_from([v for v in graph if topology.vertex_name(v).startswith("switch")])
    assert nx.number_connected_components(graph.to_undirected()) == 8


@pytest.mark.parametrize("name", ["mi300x-8", "tpu-v5e", "a100-pcie-pairs", "meta-roce-24k", "dgx-1", "l40s-8"])
def test_slow_ranks_have_slow_links(name: str) -> None:
    system = load("system", name)
    system = replace(system, chips_per_node=min(system.chips_per_node, 16))
    chips = system.chips_per_node * (1 if system.network.kind == "none" else 2)
    fabric, slow = machine(system, chips), machine(system, chips, Slow(scale_up={5: 0.5}, ports={3: 0.25}))
    plain, ratio = fabric.topology, slow.topology.bandwidth / fabric.topology.bandwidth
    touched, inside = (plain.source == 5) | (plain.target == 5), plain.kind == 0
    assert set(ratio[inside & touched]) == {0.5}
    assert set(ratio[inside & ~touched]) == {1.0}
    # the port of chip 3, which its neighbours may share: both ways
    links = fabric.route(np.array([3]), np.array([chips - 1])).link if inside.all() else np.flatnonzero(~inside)
    assert np.count_nonzero(ratio[links] == 0.25) == (0 if inside.all() else 2)
    assert set(ratio[~inside]) <= {0.25, 1.0}


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "pairs"}, "scale_up.pcie_bandwidth: missing"),
        ({"kind": "torus"}, r"scale_up.shape: \[\] is not accepted; a torus needs 1 to 6 lengths"),
        ({"kind": "torus", "shape": (4, 0)}, r"scale_up.shape: \[4, 0\] is not accepted"),
        ({"kind": "mesh", "shape": (4, 4)}, "scale_up.shape: a node of kind 'mesh' has none; torus only"),
        ({"kind": "torus", "shape": (4,), "host_bandwidth": 1e9}, "scale_up.host_bandwidth: .*pairs and pcie only"),
        ({"kind": "ring"}, "'ring' is not accepted; expected 'nvswitch' or 'mesh'"),
    ],
)
def test_nodes_that_make_no_sense_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        replace(H100.scale_up, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bandwidth": 0.0}, "network.bandwidth: missing; a network of kind 'rail-fat-tree' needs a rate above 0"),
        ({"ports_per_node": 4, "chips_per_port": 2}, "network.chips_per_port: ports_per_node is given too"),
        ({"kind": "leaf-spine", "tiers": 2}, "network.tiers: a network of kind 'leaf-spine' has none"),
        ({"nodes_per_leaf": 2}, "network.nodes_per_leaf: .*leaf-spine and clos only"),
        (
            {"kind": "clos", "nodes_per_leaf": 4, "nodes_per_pod": 10},
            "10 is not a multiple of the 4 nodes under a leaf",
        ),
    ],
)
def test_networks_that_make_no_sense_are_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        replace(H100.network, **change)  # type: ignore[arg-type]


def test_chips_that_do_not_fit_are_refused() -> None:
    for system, chips, says in (
        (load("system", "l40s-8"), 16, "16 chips are more than the 8 of a node, and its network is of kind 'none'"),
        (load("system", "mi300x-8"), 12, "12 chips are no whole nodes of 8"),
        (replace(H100, network=replace(RAILS, radix=4)), 8 * 9, "two tiers of radix 4 reach 8 nodes a rail, not 9"),
        (replace(META, network=replace(META.network, radix=1)), 6144, "three tiers of radix 1 reach 384 nodes"),
        (replace(META, network=replace(META.network, nodes_per_leaf=None, radix=8)), 32, "radix-8 leaf has no room"),
    ):
        with pytest.raises(TopologyError, match=says):
            machine(system, chips)
    for change, says in (
        ({"chips_per_node": 512}, "512 chips of a tpu-v5e do not fit its torus of 16 x 16"),
        ({"chips_per_node": 250}, "network.chips_per_port: 8 chips each do not divide the 250 chips"),
    ):
        with pytest.raises(SpecError, match=says):
            replace(V5E, **change)
