"""Networks of switches: trees, dragonflies, HammingMesh, Slim Fly, Jellyfish, rails."""

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import assert_facts_of_networkx, assert_shortest, assert_walks, everyone_to_everyone, some_pairs

from scaleout.errors import TopologyError
from scaleout.network import (
    clos,
    crossbar,
    dragonfly,
    facts,
    fat_tree,
    hamming_mesh,
    jellyfish,
    leaf_spine,
    max_min,
    rail_only,
    rail_optimised,
    slim_fly,
)

LINK = {"bandwidth": 50e9, "latency": 1e-6}
INSIDE = {"scale_up_bandwidth": 450e9, "scale_up_latency": 5e-7}

NETWORKS = [
    crossbar(6, **LINK),
    leaf_spine(16, chips_per_leaf=4, spines=3, **LINK),
    leaf_spine(14, chips_per_leaf=4, spines=3, bundled=False, **LINK),
    leaf_spine(12, chips_per_leaf=4, spines=2, leaf=[i % 3 for i in range(12)], bundled=False, **LINK),
    clos(40, chips_per_leaf=4, leaves_per_pod=4, spines=2, cores=2, bundled=False, **LINK),
    clos(32, chips_per_leaf=4, leaves_per_pod=2, spines=2, cores=3, **LINK),
    fat_tree(4, bundled=False, **LINK),
    dragonfly(4, chips_per_router=2, long_links=2, **LINK),
    dragonfly(3, chips_per_router=1, long_links=2, groups=5, **LINK),
    dragonfly(2, chips_per_router=2, long_links=0, **LINK),
    hamming_mesh((2, 2), (3, 3), **LINK),
    hamming_mesh((4, 4), (2, 2), **LINK),
    hamming_mesh((1, 5), (3, 2), **LINK),
    hamming_mesh((2, 3), (1, 3), **LINK),
    slim_fly(3, chips_per_router=1, **LINK),
    slim_fly(5, chips_per_router=1, **LINK),
    jellyfish(15, 4, chips_per_switch=2, seed=3, **LINK),
    rail_optimised(6, 4, nodes_per_leaf=3, spines=2, bundled=False, **LINK, **INSIDE),
]


@pytest.mark.parametrize("fabric", NETWORKS, ids=lambda fabric: fabric.topology.name)
def test_paths_are_shortest_walks_and_facts_those_of_networkx(fabric):
    chips = fabric.topology.chips
    pairs = some_pairs(chips, 150)
    if "dragonfly" in fabric.topology.name:
        assert_walks(fabric, *pairs)
        kinds = fabric.topology.kind[fabric.route(*pairs).link]
        assert (np.bincount(fabric.route(*pairs).flow, kinds == fabric.topology.kinds.index("long")) <= 1).all()
    else:
        assert_shortest(fabric, *pairs)
    assert_facts_of_networkx(fabric)
    itself = fabric.route(np.arange(chips), np.arange(chips))
    assert len(itself.link) == 0


def test_bundles_and_single_switches_carry_the_same():
    shape = {"chips_per_leaf": 4, "leaves_per_pod": 2, "spines": 4, "cores": 2, "oversubscription": (2, 1.5)}
    bundled, single = (clos(32, bundled=b, **shape, **LINK).topology for b in (True, False))
    for kind in ("port", "leaf-spine", "spine-core"):
        sums = [t.bandwidth[t.kind == t.kinds.index(kind)].sum() for t in (bundled, single)]
        widths = [t.width[t.kind == t.kinds.index(kind)].sum() for t in (bundled, single)]
        assert sums[0] == pytest.approx(sums[1])
        assert widths[0] == widths[1]
    up = single.bandwidth[single.kind == single.kinds.index("leaf-spine")]
    assert up.sum() / 2 == pytest.approx(32 * 50e9 / 2)
    assert [facts(clos(32, bundled=b, **shape, **LINK)).bisection for b in (True, False)] == pytest.approx(
        [16 * 50e9 / 3] * 2
    )


def test_the_target_chooses_the_spine_and_a_permutation_between_pods_does_not_collide():
    fabric = fat_tree(8, bundled=False, **LINK)
    chips = np.arange(128)
    # a shift by a pod: every flow passes a core, and d-mod-k gives each a way of its own
    routes = fabric.route(chips, (chips + 16) % 128)
    load = np.bincount(routes.link, minlength=fabric.topology.links)
    assert load.max() == 1


@pytest.mark.parametrize(("fabric", "ports"), [
    (crossbar(8, **LINK), 4), (leaf_spine(32, chips_per_leaf=4, spines=4, **LINK), 16),
    (leaf_spine(32, chips_per_leaf=8, spines=2, oversubscription=4.0, bundled=False, **LINK), 4),
    (fat_tree(4, bundled=False, **LINK), 8),
], ids=str)  # fmt: skip
def test_trees_have_their_known_bisection(fabric, ports):
    found = facts(fabric)
    assert found.bisection_exact
    assert found.bisection == ports * 50e9
    n, t = fabric.topology.chips, fabric.topology
    # no cut can be below what a shift by half carries at once
    routes = fabric.route(np.arange(n), (np.arange(n) + n // 2) % n)
    ones = np.ones(len(routes.link))
    rate = max_min(t.bandwidth, routes.link, routes.flow, ones, ones.astype(np.int64), np.full(n, np.inf))
    assert rate.min() * n / 2 <= found.bisection * (1 + 1e-9)


@pytest.mark.parametrize(("q", "degree"), [(3, 5), (5, 7), (7, 11), (11, 17), (13, 19)])
def test_slim_fly_has_its_known_size_degree_and_diameter(q, degree):
    topology = slim_fly(q, chips_per_router=1, **LINK).topology
    routers = topology.to_networkx().subgraph(range(2 * q * q, 4 * q * q)).to_undirected()
    assert routers.number_of_nodes() == 2 * q * q
    assert {d for _, d in routers.degree} == {degree}
    assert nx.diameter(routers) == 2
    if q == 5:  # the Hoffman-Singleton graph: nothing of this degree and diameter is larger
        assert nx.is_isomorphic(routers, nx.hoffman_singleton_graph())


def test_dragonfly_sizes_and_loads():
    # a = 2p = 2h: a h + 1 groups, every two joined by one link
    for h in (1, 2, 3):
        fabric = dragonfly(2 * h, chips_per_router=h, long_links=h, **LINK)
        topology = fabric.topology
        groups = 2 * h * h + 1
        assert topology.chips == 2 * h * h * groups
        long = topology.kind == topology.kinds.index("long")
        router = topology.source[long] - topology.chips, topology.target[long] - topology.chips
        pairs = {(int(a) // (2 * h), int(b) // (2 * h)) for a, b in zip(*router, strict=True)}
        assert len(pairs) == groups * (groups - 1) == long.sum()
        assert facts(fabric).switch_degree == (4 * h - 1, 4 * h - 1)


def test_hamming_mesh_ports_and_edges():
    # a board of one chip: every chip has both ends of both lines; the network is a HyperX of switches
    fabric = hamming_mesh((1, 1), (4, 4), **LINK)
    found = facts(fabric)
    assert found.degree == (4, 4)
    assert found.diameter == 4
    assert fabric.topology.width.max() == 2
    board = facts(hamming_mesh((3, 3), (1, 1), **LINK))
    assert (board.vertices, board.diameter) == ({"chip": 9}, 4)


@settings(max_examples=10, deadline=None)
@given(st.integers(4, 24), st.integers(2, 5), st.integers(0, 99))
def test_jellyfish_is_regular_connected_and_of_its_seed(switches, degree, seed):
    if degree >= switches or switches * degree % 2:
        with pytest.raises(TopologyError, match="degree"):
            jellyfish(switches, degree, chips_per_switch=1, seed=seed, **LINK)
        return
    one, same, other = (
        jellyfish(switches, degree, chips_per_switch=1, seed=s, **LINK).topology for s in (seed, seed, seed + 1)
    )
    graph = one.to_networkx().subgraph(range(switches, 2 * switches)).to_undirected()
    assert {d for _, d in graph.degree} == {degree}
    assert nx.is_connected(graph)
    assert (one.source == same.source).all()
    assert (one.target == same.target).all()
    if switches > 12:
        assert (one.target != other.target).any()


def test_rails_meet_inside_nodes_only():
    fabric = rail_only(4, 4, **LINK, **INSIDE)
    pairs = some_pairs(16, 300)
    assert_walks(fabric, *pairs)
    routes, topology = fabric.route(*pairs), fabric.topology
    for flow, (s, t) in enumerate(zip(*pairs, strict=True)):
        names = [topology.link_name(link) for link in routes.link[routes.start[flow] : routes.start[flow + 1]]]
        assert len(names) == (2 if s // 4 == t // 4 or s % 4 == t % 4 else 4)
        assert routes.networked[flow] == (s // 4 != t // 4)
    through = rail_optimised(4, 4, nodes_per_leaf=2, spines=2, forward=True, **LINK, **INSIDE)
    assert_walks(through, *pairs)
    over = through.route(np.array([0]), np.array([13]))
    names = [through.topology.link_name(link) for link in over.link]
    assert names[:2] == ["chip 0 -> switch 0", "switch 0 -> chip 1"]


def test_all_to_all_on_switches_fills_the_ports():
    for fabric in (crossbar(8, **LINK), leaf_spine(16, chips_per_leaf=4, spines=4, **LINK), fat_tree(4, **LINK)):
        n = fabric.topology.chips
        assert everyone_to_everyone(fabric) == pytest.approx((n - 1) / n)


def test_what_cannot_be_built_is_refused_in_words():
    shape = {"chips_per_leaf": 4, "leaves_per_pod": 2, "spines": 2, "cores": 2}
    for build, words in (
        (lambda: crossbar(0, **LINK), "at least 1, got 0"),
        (lambda: leaf_spine(8, chips_per_leaf=0, spines=2, **LINK), "chips on a leaf"),
        (lambda: leaf_spine(8, chips_per_leaf=2, spines=2, leaf=[0] * 8, **LINK), "a leaf has 8 chips"),
        (lambda: leaf_spine(8, chips_per_leaf=8, spines=2, leaf=[0] * 7, **LINK), "for each of the 8 chips"),
        (lambda: leaf_spine(8, chips_per_leaf=4, spines=2, oversubscription=0.0, **LINK), "above zero"),
        (lambda: clos(8, **{**shape, "cores": 0}, **LINK), "cores in a plane"),
        (lambda: clos(8, oversubscription=(1.0,), **shape, **LINK), "leaves and that of spines"),
        (lambda: fat_tree(5, **LINK), "even number"),
        (lambda: dragonfly(2, chips_per_router=1, long_links=1, groups=4, **LINK), "join 1 to 3 groups, not 4"),
        (lambda: hamming_mesh((2,), (2, 2), **LINK), "rows and columns"),
        (lambda: slim_fly(9, chips_per_router=1, **LINK), "odd prime"),
        (lambda: slim_fly(2, chips_per_router=1, **LINK), "needs at least 3"),
        (lambda: jellyfish(5, 3, chips_per_switch=1, **LINK), "one of both even"),
        (lambda: rail_only(0, 4, **LINK, **INSIDE), "nodes"),
    ):
        with pytest.raises(TopologyError, match=words):
            build()
    apart = leaf_spine(8, chips_per_leaf=4, spines=0, **LINK)
    with pytest.raises(TopologyError, match="no path from chip 0 to chip 5"):
        apart.route(np.array([0]), np.array([5]))
    with pytest.raises(TopologyError, match="not connected"):
        facts(apart)
