"""Algorithms against closed forms and against step-by-step recurrences written here."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.collectives import candidates, choose
from scaleout.collectives.flat import ROUNDS, direct, point_to_point, ring_latency, tree
from scaleout.collectives.flat import ring as ring_algorithm
from scaleout.collectives.hierarchical import hierarchical, rail_size
from scaleout.io.catalogue import load
from scaleout.network import Fabric, nvswitch_node, rail_fat_tree, ring

SYSTEM = load("system", "dgx-h100")
COUNTS = [2, 3, 5, 6, 7, 8, 12, 16]
BANDWIDTH, LATENCY = 50e9, 1e-6


def everyone(chips: int) -> np.ndarray:
    return np.arange(chips)[None, :]


def ring_fabric(chips: int) -> Fabric:
    return ring(chips, bandwidth=BANDWIDTH, latency=LATENCY)


@pytest.mark.parametrize("operation", sorted(ROUNDS))
@pytest.mark.parametrize("n", COUNTS)
def test_ring_meets_its_closed_form(n: int, operation: str) -> None:
    nbytes, rounds = 1e9, ROUNDS[operation]
    expected = rounds * ((n - 1) * LATENCY + (n - 1) / n * nbytes / BANDWIDTH)
    pattern = ring_algorithm(ring_fabric(n), everyone(n), operation)
    assert pattern.alone(ring_fabric(n), nbytes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [n for n in COUNTS if n <= 8])
def test_direct_meets_its_closed_form_on_a_switch(n: int) -> None:
    fabric, nbytes = nvswitch_node(SYSTEM, n), 1e9
    port = SYSTEM.scale_up.bandwidth * SYSTEM.scale_up.efficiency
    step = SYSTEM.library.scale_up_step + 2 * SYSTEM.scale_up.latency
    pattern = direct(fabric, everyone(n), "all_reduce")
    expected = SYSTEM.library.launch + 2 * step + 2 * (n - 1) / n * nbytes / port
    assert pattern.alone(fabric, nbytes) == pytest.approx(expected, rel=1e-12)


@given(st.integers(2, 16), st.data())
def test_ring_latency_is_the_end_of_a_chunk_by_chunk_recurrence(n: int, data: st.DataObject) -> None:
    hop = np.array(data.draw(st.lists(st.integers(1, 100), min_size=n, max_size=n)), dtype=float)
    rounds = data.draw(st.sampled_from([1, 2]))
    # each rank sends a chunk in step k when it has the one that came in step k - 1
    ready = np.zeros(n)
    for _ in range(rounds * (n - 1)):
        ready = np.array([ready[(rank - 1) % n] + hop[(rank - 1) % n] for rank in range(n)])
    assert ring_latency(hop[None, :], rounds * (n - 1))[0] == pytest.approx(ready.max())


@pytest.mark.parametrize("n", COUNTS)
def test_tree_latency_is_twice_its_depth_of_equal_steps(n: int) -> None:
    fabric = rail_fat_tree(SYSTEM, 8 * n)
    members = everyone(8 * n)[:, ::8]
    pattern = tree(fabric, members, "all_reduce")
    # all hops leave the node; within one group of leaves they have the same length
    step = fabric.step(fabric.route(members[0, :1], members[0, 1:2]))[0]
    depth = int(np.floor(np.log2(n)))
    assert pattern.latency[0] == pytest.approx(SYSTEM.library.launch + 2 * depth * step)
    assert pattern.share == 1.0


@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_hierarchical_is_the_slower_level_plus_latencies(nodes: int) -> None:
    fabric, nbytes, g = rail_fat_tree(SYSTEM, 8 * nodes), 4e9, 8
    pattern = hierarchical(fabric, everyone(8 * nodes), "all_reduce")
    inner = 2 * (g - 1) / g * nbytes / (SYSTEM.scale_up.bandwidth * SYSTEM.scale_up.efficiency)
    outer = 2 * (nodes - 1) / nodes * nbytes / g / (SYSTEM.network.bandwidth * SYSTEM.network.efficiency)
    transfer = pattern.alone(fabric, nbytes) - pattern.latency[0]
    assert transfer == pytest.approx(max(inner, outer), rel=1e-12)


def test_point_to_point_is_latency_and_the_narrowest_link() -> None:
    fabric = rail_fat_tree(SYSTEM, 64)
    pattern = point_to_point(fabric, np.array([[0, 8]]), "send")
    assert pattern.alone(fabric, 1e9) - pattern.alone(fabric, 0) == pytest.approx(1e9 / 48.5e9)


@pytest.mark.parametrize("operation", sorted(ROUNDS))
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_every_candidate_sends_as_much_as_it_receives_and_at_least_the_bound(nodes: int, operation: str) -> None:
    fabric, groups = rail_fat_tree(SYSTEM, 8 * nodes), everyone(8 * nodes)
    topology, n, nbytes = fabric.topology, 8 * nodes, 1e9
    for name, make in candidates(fabric, groups, operation).items():
        pattern = make(groups)
        flows = pattern.weight * pattern.share * nbytes
        out = np.bincount(topology.source[pattern.link], flows, minlength=topology.links)[:n]
        into = np.bincount(topology.target[pattern.link], flows, minlength=topology.links)[:n]
        assert out.sum() == pytest.approx(into.sum()), name
        # to end with everyone's data a rank must take in (n-1)/n of it, once or twice
        assert into.mean() >= ROUNDS[operation] * (n - 1) / n * nbytes * (1 - 1e-9), name


def test_small_messages_take_a_tree_and_large_ones_two_levels() -> None:
    fabric, groups = rail_fat_tree(SYSTEM, 1024), everyone(1024)
    assert choose(fabric, groups, "all_reduce", 0.0).endswith("tree")
    assert choose(fabric, groups, "all_reduce", 8e9).startswith("hierarchical")
    assert choose(fabric, groups[:, :8], "all_gather", 1e9) == "ring"


def test_rail_size_counts_members_a_node() -> None:
    fabric = rail_fat_tree(SYSTEM, 32)
    assert rail_size(fabric, everyone(32)) == 8
    assert rail_size(fabric, everyone(32)[:, ::8]) == 1
    assert rail_size(fabric, everyone(32)[:, ::2]) == 4
    assert rail_size(fabric, np.array([[0, 1, 8]])) == 0
