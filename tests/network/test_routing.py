"""Routing by tables: shortest, ECMP, spray, Valiant, around dead links."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from walks import assert_conserved, assert_shortest, assert_walks, everyone_to_everyone, some_pairs

import scaleout.network.tables as tables
from scaleout.errors import TopologyError
from scaleout.network import (
    Fabric,
    Paths,
    Topology,
    avoiding,
    clos,
    crossbar,
    dragonfly,
    ecmp,
    fat_tree,
    jellyfish,
    leaf_spine,
    link_between,
    mesh,
    rail_optimised,
    ring,
    shortest,
    spray,
    torus,
    valiant,
    with_routing,
)

LINK = {"bandwidth": 50e9, "latency": 1e-6}
RAILS = rail_optimised(6, 4, nodes_per_leaf=3, spines=2, bundled=False, scale_up_bandwidth=4e11, scale_up_latency=1e-7,
                       **LINK)  # fmt: skip
GRAPHS = [
    torus((3, 4), **LINK), mesh((5, 2), **LINK), crossbar(4, **LINK), fat_tree(4, bundled=False, **LINK), RAILS,
    clos(32, chips_per_leaf=4, leaves_per_pod=2, spines=3, cores=2, bundled=False, **LINK),
    jellyfish(12, 3, chips_per_switch=2, seed=1, **LINK), dragonfly(4, chips_per_router=2, long_links=2, **LINK),
]  # fmt: skip


def name(fabric):
    return fabric.topology.name


@pytest.fixture(params=[False, True], ids=["plain", "compiled"])
def compiled(request, monkeypatch):
    monkeypatch.setattr(tables, "COMPILED_FROM", 0 if request.param else 1 << 60)


def graph(edges, chips, size, bandwidth=1e9, latency=None):
    """Any graph, links both ways."""
    a, b = np.array(edges).T
    source, target = np.concatenate((a, b)), np.concatenate((b, a))
    lags = np.full(len(a), 1e-6) if latency is None else np.array(latency)
    return Topology(
        name="drawn", chips=chips, vertices=(("chip", chips), ("switch", size - chips)), source=source, target=target,
        bandwidth=np.full(len(source), bandwidth), latency=np.concatenate((lags, lags)),
        kind=np.zeros(len(source), dtype=np.int64), kinds=("wire",),
    )  # fmt: skip


@pytest.mark.parametrize("fabric", GRAPHS, ids=name)
def test_shortest_and_hashed_paths_are_shortest_walks_between_any_two_vertices(fabric, compiled):
    for routing in (shortest(fabric.topology), ecmp(fabric.topology, seed=5)):
        found = with_routing(fabric, routing)
        assert found.everywhere
        assert_shortest(found, *some_pairs(fabric.topology.size, 120))


@pytest.mark.parametrize("fabric", GRAPHS, ids=name)
def test_split_flows_take_all_shortest_paths_and_lose_nothing(fabric, compiled):
    found = with_routing(fabric, spray(fabric.topology))
    source, target = some_pairs(fabric.topology.size, 30)
    assert_conserved(found, source, target)
    routes, drawn = found.route(source, target), fabric.topology.to_networkx()
    for flow, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        mine = slice(routes.start[flow], routes.start[flow + 1])
        edges = {(int(fabric.topology.source[e]), int(fabric.topology.target[e])) for e in routes.link[mine]}
        expected = {edge for path in nx.all_shortest_paths(drawn, s, t) for edge in nx.utils.pairwise(path)}
        assert edges == expected
        assert len(edges) == routes.start[flow + 1] - routes.start[flow]


def test_plain_and_compiled_tables_give_the_same_bits(monkeypatch):
    fabric = GRAPHS[5]
    pairs = some_pairs(32, 200)
    found = []
    for least in (0, 1 << 60):
        monkeypatch.setattr(tables, "COMPILED_FROM", least)
        makers = (shortest, ecmp, spray)
        found.append([with_routing(fabric, make(fabric.topology, by="latency")).route(*pairs) for make in makers])
    for one, other in zip(*found, strict=True):
        for column in ("start", "link", "weight", "latency"):
            assert (getattr(one, column) == getattr(other, column)).all()


def test_paths_do_not_hang_on_what_else_is_asked_nor_on_the_room_for_tables(monkeypatch):
    fabric = GRAPHS[3]
    source, target = some_pairs(16, 250)
    whole = with_routing(fabric, ecmp(fabric.topology, seed=2)).route(source, target)
    monkeypatch.setattr(tables, "TABLES", 8 * fabric.topology.size * 3)
    small = ecmp(fabric.topology, seed=2)
    again = with_routing(fabric, small).route(source, target)
    assert (whole.link == again.link).all()
    order = np.random.default_rng(0).permutation(len(source))
    mixed = with_routing(fabric, small).route(source[order], target[order])
    for flow in range(0, len(source), 11):
        at = int(np.flatnonzero(order == flow)[0])
        one, other = (r.link[r.start[i] : r.start[i + 1]] for r, i in ((whole, flow), (mixed, at)))
        assert (one == other).all()


def test_by_latency_takes_the_quicker_way_round():
    # a square: two quick links one way round, one slow one the other
    topology = graph([(0, 1), (1, 2), (0, 2)], 3, 3, latency=[1e-6, 1e-6, 5e-6])
    ends = np.array([0]), np.array([2])
    for by, hops, lag in (("hops", 1, 5e-6), ("latency", 2, 2e-6)):
        for make in (shortest, spray):
            routes = Fabric(topology=topology, paths=make(topology, by=by)).route(*ends)
            assert len(routes.link) == hops
            assert routes.latency[0] == pytest.approx(lag)
    with pytest.raises(TopologyError, match="known are 'hops' and 'latency'"):
        shortest(topology, by="price")


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000))
def test_least_latency_is_that_of_dijkstra(seed):
    rng = np.random.default_rng(seed)
    drawn = nx.gnm_random_graph(14, 30, seed=seed)
    drawn = drawn.subgraph(max(nx.connected_components(drawn), key=len))
    drawn = nx.convert_node_labels_to_integers(drawn)
    lags = rng.integers(1, 9, drawn.number_of_edges()) * 1e-6
    topology = graph(list(drawn.edges), len(drawn), len(drawn), latency=lags)
    fabric = Fabric(topology=topology, paths=shortest(topology, by="latency"))
    pairs = some_pairs(len(drawn), 40)
    assert_walks(fabric, *pairs)
    lengths = dict(nx.all_pairs_dijkstra_path_length(topology.to_networkx(), weight="latency"))
    expected = [lengths[int(s)][int(t)] for s, t in zip(*pairs, strict=True)]
    assert fabric.route(*pairs).latency == pytest.approx(expected)


def test_hashing_is_of_its_seed_and_spreads():
    fabric = leaf_spine(64, chips_per_leaf=32, spines=8, bundled=False, **LINK)
    topology = fabric.topology
    source, target = np.arange(32).repeat(32), np.tile(np.arange(32, 64), 32)

    def up(routing):
        link = with_routing(fabric, routing).route(source, target).link
        spine = topology.target[link[np.isin(topology.source[link], [64])]] - 66
        return np.bincount(spine, minlength=8)

    counts = [up(ecmp(topology, seed=s)) for s in (0, 0, 1)]
    assert (counts[0] == counts[1]).all()
    assert (counts[0] != counts[2]).any()
    # 1,024 flows into 8 bins: 128 each, a standard deviation of 10.6
    assert all(abs(count - 128).max() < 5 * 10.6 for count in counts)
    assert sum(((count - 128) ** 2).sum() / 128 for count in counts) / 3 < 20
    assert (up(shortest(topology)) == 128).all()


@pytest.mark.parametrize("paths", [1, 2, 5])
def test_several_connections_share_a_flow(paths):
    fabric = GRAPHS[5]
    found = with_routing(fabric, ecmp(fabric.topology, paths=paths, seed=3))
    source, target = some_pairs(32, 60)
    assert_conserved(found, source, target)
    routes = found.route(source, target)
    assert set(np.round(routes.weight * paths, 12)) == {1.0}
    leaving = fabric.topology.source[routes.link] == source[routes.flow]
    assert np.bincount(routes.flow, routes.weight * leaving) == pytest.approx(1.0)
    if paths == 5:
        assert any(len(set(routes.link[routes.start[f] : routes.start[f + 1]])) > 6 for f in range(60))


def test_the_digits_of_the_target_use_every_core():
    fabric = fat_tree(8, bundled=False, **LINK)
    by_table = with_routing(fabric, shortest(fabric.topology))
    chips = np.arange(128)
    routes = by_table.route(chips, (chips + 16) % 128)
    assert np.bincount(routes.link).max() == 1
    # tables and arithmetic agree on the choice
    assert (routes.link == fabric.route(chips, (chips + 16) % 128).link).all()


def test_spray_on_a_torus_beats_dimension_order_nowhere_by_more_than_its_bound():
    fabric = torus((4, 4), **LINK)
    assert everyone_to_everyone(with_routing(fabric, spray(fabric.topology))) == pytest.approx(4 / 8)
    tree = fat_tree(4, bundled=False, **LINK)
    even = everyone_to_everyone(with_routing(tree, spray(tree.topology)))
    assert even == pytest.approx(everyone_to_everyone(fat_tree(4, **LINK))) == pytest.approx(15 / 16)


def test_spray_refuses_more_than_it_can_hold(monkeypatch):
    monkeypatch.setattr(tables, "MOST_ENTRIES", 100)
    fabric = torus((4, 4), **LINK)
    with pytest.raises(TopologyError, match="more than 100"):
        with_routing(fabric, spray(fabric.topology)).route(*some_pairs(16, 60))


@pytest.mark.parametrize("fabric", [torus((4, 4), **LINK), GRAPHS[5], GRAPHS[7]], ids=name)
def test_valiant_goes_through_a_vertex_of_its_choice(fabric):
    source, target = some_pairs(fabric.topology.chips, 100)
    detour = with_routing(fabric, valiant(fabric.topology, fabric.paths, among=[3], seed=1))
    assert_walks(detour, source, target)
    routes, topology = detour.route(source, target), fabric.topology
    for flow, (s, t) in enumerate(zip(source, target, strict=True)):
        links = routes.link[routes.start[flow] : routes.start[flow + 1]]
        assert 3 in {int(s), int(t), *topology.source[links].tolist()}
    several = with_routing(fabric, valiant(fabric.topology, fabric.paths, paths=4, seed=1))
    assert_conserved(several, source, target)
    first, second = (several.route(source, target).link for _ in range(2))
    assert (first == second).all()
    itself = several.route(np.array([5]), np.array([5]))
    assert len(itself.link) == 0


def test_valiant_makes_the_worst_pattern_of_a_dragonfly_better():
    fabric = dragonfly(4, chips_per_router=2, long_links=2, **LINK)
    chips = np.arange(72)
    shift = (chips + 8) % 72  # everyone to the next group: one long link for eight chips

    def most(found):
        routes = found.route(chips, shift)
        return np.bincount(routes.link, routes.weight).max()

    assert most(fabric) == 8
    assert most(with_routing(fabric, valiant(fabric.topology, fabric.paths, paths=16, seed=0))) < 4


@pytest.mark.parametrize("fabric", GRAPHS, ids=name)
def test_ways_around_dead_links_are_shortest_in_what_is_left(fabric):
    topology = fabric.topology
    drawn = topology.to_networkx()
    rng = np.random.default_rng(0)
    dead = []
    for link in rng.permutation(topology.links).tolist():
        a, b = int(topology.source[link]), int(topology.target[link])
        drawn.remove_edge(a, b)
        if nx.is_strongly_connected(drawn) and len(dead) < 5:
            dead.append(link)
        else:
            drawn.add_edge(a, b)
    pairs = some_pairs(topology.chips, 150)
    for routing in (avoiding(topology, dead), shortest(topology, dead=dead)):
        found = with_routing(fabric, routing)
        assert_walks(found, *pairs)
        routes = found.route(*pairs)
        assert not np.isin(routes.link, dead).any()
        for flow in range(0, len(pairs[0]), 5):
            expected = nx.shortest_path_length(drawn, int(pairs[0][flow]), int(pairs[1][flow]))
            assert routes.start[flow + 1] - routes.start[flow] == expected
    kept = with_routing(fabric, avoiding(topology, dead, fabric.paths))
    assert_walks(kept, *pairs)
    before, after = fabric.route(*pairs), kept.route(*pairs)
    for flow in range(len(pairs[0])):
        old, new = (r.link[r.start[flow] : r.start[flow + 1]] for r in (before, after))
        assert not np.isin(new, dead).any()
        if not np.isin(old, dead).any():
            assert (old == new).all()


def test_sound_paths_of_a_split_flow_take_over():
    fabric = leaf_spine(8, chips_per_leaf=4, spines=2, bundled=False, **LINK)
    topology = fabric.topology

    def over_both(source, target):
        ways = [link_between(topology, np.column_stack((source, source // 4 + 8, np.full(len(source), spine),
                                                        target // 4 + 8, target))) for spine in (10, 11)]  # fmt: skip
        return Paths(
            np.stack(ways, axis=1).reshape(-1, 4), np.repeat(np.arange(len(source)), 2), np.full(2 * len(source), 0.5)
        )

    dead = link_between(topology, np.array([[8, 10]]))[0]
    found = with_routing(fabric, avoiding(topology, dead, over_both))
    routes = found.route(np.array([0, 4]), np.array([5, 1]))
    assert routes.weight[: routes.start[1]].tolist() == [1.0] * 4
    assert routes.weight[routes.start[1] :].tolist() == [0.5] * 8
    assert 10 not in topology.target[routes.link[: routes.start[1]]]
    around = with_routing(fabric, avoiding(topology, dead, spray(topology)))
    assert_conserved(around, np.array([0, 4]), np.array([5, 1]))
    assert not np.isin(around.route(np.array([0]), np.array([5])).link, dead).any()


def test_what_nothing_joins_is_named():
    fabric = ring(4, **LINK)
    topology = fabric.topology
    cut = np.flatnonzero((topology.source == 2) | (topology.target == 2))
    for routing in (avoiding(topology, cut), avoiding(topology, cut, fabric.paths), ecmp(topology, dead=cut),
                    spray(topology, dead=cut)):  # fmt: skip
        with pytest.raises(TopologyError, match=r"no path from chip 0 to chip 2 without chip 1 -> chip 2.*and 1 more"):
            with_routing(fabric, routing).route(np.array([1, 0]), np.array([0, 2]))
    apart = graph([(0, 4), (1, 4), (2, 5), (3, 5)], 4, 6)
    with pytest.raises(TopologyError, match=r"drawn: no path from chip 0 to chip 3$"):
        Fabric(topology=apart, paths=shortest(apart)).route(np.array([0]), np.array([3]))
    with pytest.raises(TopologyError, match="dead links must be 0 to 7"):
        avoiding(topology, [8])
    lone = replace(fabric, paths=lambda source, target: np.full((len(source), 1), -1))
    with pytest.raises(TopologyError, match=r"no path from chip 0 to chip 1 \(and 1 more pairs\)"):
        lone.route(np.array([0, 1]), np.array([1, 2]))
    with pytest.raises(TopologyError, match="no link from chip 0 to chip 2"):
        link_between(topology, np.array([[0, 2]]))
    with pytest.raises(TopologyError, match="at least one path"):
        ecmp(topology, paths=0)
    with pytest.raises(TopologyError, match="at least one path"):
        valiant(topology, fabric.paths, paths=0)


def test_chips_that_do_not_forward_are_gone_around():
    # 0 - 1 - 2 over chips, or 0 - 3 - 4 - 2 over switches
    topology = graph([(0, 1), (1, 2), (0, 3), (3, 4), (4, 2)], 3, 5)
    for forward, hops in ((True, 2), (False, 3)):
        for make in (shortest, ecmp, spray):
            fabric = Fabric(topology=topology, paths=make(topology, forward=forward), everywhere=True)
            assert len(fabric.route(np.array([0]), np.array([2])).link) == hops
            # a chip may still be where a flow starts, or ends
            assert len(fabric.route(np.array([0, 3]), np.array([1, 0])).link) == 2


def test_parallel_links_are_choices_of_their_own():
    topology = graph([(0, 1), (0, 1), (0, 1)], 2, 2)
    fabric = Fabric(topology=topology, paths=spray(topology))
    assert fabric.route(np.array([0]), np.array([1])).weight == pytest.approx([1 / 3] * 3)
    hashed = Fabric(topology=topology, paths=ecmp(topology, paths=64))
    assert len(set(hashed.route(np.array([0]), np.array([1])).link.tolist())) == 3


def test_one_vertex_that_all_hang_on_and_two_that_hang_on_each_other():
    for topology in (graph([(0, 1)], 2, 2), graph([(0, 2), (1, 2)], 2, 3)):
        fabric = Fabric(topology=topology, paths=shortest(topology), everywhere=True)
        assert_shortest(fabric, *some_pairs(topology.size))
        assert len(fabric.route(np.array([1]), np.array([1])).link) == 0
    none = np.zeros(0, dtype=np.int64)
    for make in (shortest, ecmp, spray):
        assert len(Fabric(topology=topology, paths=make(topology)).route(none, none).link) == 0
