import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import assert_facts_of_networkx, assert_shortest, everyone_to_everyone, some_pairs

from scaleout.errors import TopologyError
from scaleout.network import facts, fully_connected, hypercube, hyperx, mesh, ring, torus, twisted_torus

LINK = {"bandwidth": 50e9, "latency": 1e-6}
DIMS = st.lists(st.integers(1, 6), min_size=1, max_size=4).filter(lambda dims: 2 <= np.prod(dims) <= 200)


@pytest.mark.parametrize("build", [mesh, torus, hyperx])
@settings(max_examples=15)
@given(dims=DIMS)
def test_grids_route_by_shortest_walks(build, dims):
    fabric = build(dims, **LINK)
    assert_shortest(fabric, *some_pairs(fabric.topology.chips))


@settings(max_examples=8)
@given(dims=DIMS)
def test_mesh_and_torus_are_the_grid_graphs_of_networkx(dims):
    for build, periodic in ((mesh, False), (torus, True)):
        mine = build(dims, **LINK).topology.to_networkx()
        # networkx joins a dimension of one to itself when it wraps
        theirs = nx.grid_graph(tuple(reversed(dims)), periodic=periodic)
        theirs.remove_edges_from(list(nx.selfloop_edges(theirs)))
        names = {v: (v,) if isinstance(v, int) else v for v in theirs}
        edges = set()
        for a, b in theirs.edges:
            i, j = (int(np.ravel_multi_index(names[v], dims)) for v in (a, b))
            edges |= {(i, j), (j, i)}
        assert set(mine.edges) == edges


@pytest.mark.parametrize(
    "dims", [(2, 4), (4, 2), (4, 8), (3, 3, 6), (2, 2, 4), (2, 4, 4), (4, 4, 8), (4, 8, 8), (6, 3)]
)
def test_twisted_tori_route_by_shortest_walks_and_are_alike_everywhere(dims):
    fabric, plain = twisted_torus(dims, **LINK), torus(dims, **LINK)
    assert_shortest(fabric, *some_pairs(fabric.topology.chips, 200))
    graph = fabric.topology.to_networkx()
    lengths = [sorted(nx.single_source_shortest_path_length(graph, s).values()) for s in range(0, len(graph), 7)]
    assert all(other == lengths[0] for other in lengths)
    if min(dims) > 2:
        assert fabric.topology.links == plain.topology.links
    assert facts(fabric).diameter <= facts(plain).diameter
    assert facts(fabric).mean_distance <= facts(plain).mean_distance


def test_twisted_tori_are_the_cubic_lattices():
    # face-centred, k x k x 2k, and body-centred, k x 2k x 2k, have a diameter of 3k / 2 (Camarero 2015)
    assert facts(twisted_torus((4, 4, 8), **LINK)).diameter == 6
    assert facts(twisted_torus((4, 8, 8), **LINK)).diameter == 6
    assert facts(torus((4, 8, 8), **LINK)).diameter == 10


@pytest.mark.parametrize("fabric", [
    mesh((3, 4), **LINK), torus((3, 4, 2), **LINK), twisted_torus((2, 4), **LINK), hypercube(4, **LINK),
    hyperx((3, 4), **LINK), hyperx((3, 2), chips_per_switch=2, **LINK), fully_connected(5, **LINK),
], ids=lambda fabric: fabric.topology.name)  # fmt: skip
def test_facts_are_those_of_networkx(fabric):
    assert_facts_of_networkx(fabric)


@pytest.mark.parametrize("chips", [8, 12, 16])
def test_all_to_all_on_a_ring_meets_its_closed_form(chips):
    # n S / (8 B) where n / 2 is even, or near it: ties go both ways
    time = everyone_to_everyone(torus((chips,), **LINK))
    assert time == pytest.approx(chips / 8, rel=0.0 if chips % 4 == 0 else 0.1)


@pytest.mark.parametrize(("dims", "longest"), [((4, 4), 4), ((4, 8), 8), ((2, 4, 8), 8), ((4, 4, 4), 4)])
def test_all_to_all_on_a_torus_waits_for_its_longest_dimension(dims, longest):
    assert everyone_to_everyone(torus(dims, **LINK)) == pytest.approx(longest / 8)


def test_all_to_all_on_a_mesh_takes_twice_as_long():
    assert everyone_to_everyone(mesh((8, 4), **LINK)) == pytest.approx(8 / 4)
    assert everyone_to_everyone(hypercube(5, **LINK)) == pytest.approx(1 / 2)
    assert everyone_to_everyone(fully_connected(8, **LINK)) == pytest.approx(1 / 8)


@pytest.mark.parametrize(("fabric", "links"), [
    (torus((4, 4), **LINK), 8), (torus((8, 4, 4), **LINK), 32), (torus((2, 2), **LINK), 2), (mesh((8, 4), **LINK), 4),
    (hypercube(6, **LINK), 32), (fully_connected(8, **LINK), 16), (fully_connected(5, **LINK), 6),
    (hyperx((4, 4), **LINK), 16),
])  # fmt: skip
def test_bisections_are_the_known_ones_and_no_cut_is_below_what_all_to_all_needs(fabric, links):
    found, n = facts(fabric), fabric.topology.chips
    assert found.bisection_exact
    assert found.bisection == links * 50e9
    # every pair at 1 / (n time) crosses any halves (n/2)^2 times
    assert (n // 2) * (n - n // 2) / n / everyone_to_everyone(fabric) <= found.bisection / 50e9 * (1 + 1e-9)


def test_hypercube_neighbours_differ_in_one_bit():
    topology = hypercube(5, **LINK).topology
    assert set(topology.source ^ topology.target) == {1, 2, 4, 8, 16}
    assert facts(hypercube(7, **LINK)).diameter == 7


@given(st.integers(3, 30))
@settings(max_examples=10, deadline=None)
def test_a_torus_of_one_dimension_is_a_ring(chips):
    one, other = torus((chips,), **LINK), ring(chips, **LINK)
    assert set(one.topology.to_networkx().edges) == set(other.topology.to_networkx().edges)
    assert (facts(one).diameter, facts(one).links) == (facts(other).diameter, facts(other).links)


def test_hyperx_with_switches_hangs_its_chips_on_them():
    fabric = hyperx((3, 4), chips_per_switch=2, trunk_bandwidth=25e9, hop_latency=5e-7, **LINK)
    assert_shortest(fabric, *some_pairs(24, 150))
    topology = fabric.topology
    assert topology.bandwidth[topology.kind == topology.kinds.index("trunk")].tolist() == [25e9] * (12 * (2 + 3))
    assert facts(fabric).diameter == 4
    assert len(fabric.route(np.array([3]), np.array([3])).link) == 0


def test_what_cannot_be_built_is_refused_in_words():
    for build, words in (
        (lambda: mesh((), **LINK), "chips: needs at least 2"),
        (lambda: torus((0, 4), **LINK), "dimension: needs at least 1, got 0"),
        (lambda: torus((1, 1), **LINK), "chips: needs at least 2, got 1"),
        (lambda: twisted_torus((4, 4, 4), **LINK), "k and 2k"),
        (lambda: twisted_torus((4, 8, 16), **LINK), "k and 2k"),
        (lambda: hypercube(0, **LINK), "at least 1"),
        (lambda: hyperx((4, -1), **LINK), "at least 1"),
        (lambda: torus((4,), bandwidth=0.0, latency=0.0), "bandwidth above zero; chip 0 -> chip 1 has 0"),
        (lambda: mesh((4,), bandwidth=1.0, latency=float("nan")), "latency of zero or more; chip 0 -> chip 1 has nan"),
    ):
        with pytest.raises(TopologyError, match=words):
            build()
