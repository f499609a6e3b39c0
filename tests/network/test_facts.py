import itertools
from dataclasses import replace
from importlib import import_module

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.io.catalogue import load
from scaleout.network import crossbar, facts, fat_tree, islands, jellyfish, leaf_spine, machine, ring, slim_fly, torus
from scaleout.network.topology import Topology

LINK = {"bandwidth": 50e9, "latency": 1e-6}


def least_cut(topology: Topology) -> float:
    """The least over all halves of the chips of the least cut between them, by networkx."""
    flow, best = nx.DiGraph(), np.inf
    for u, v, bandwidth in zip(topology.source, topology.target, topology.bandwidth, strict=True):
        before = flow.get_edge_data(int(u), int(v), {"capacity": 0.0})["capacity"]
        flow.add_edge(int(u), int(v), capacity=before + float(bandwidth) / 1e9)
    chips = range(topology.chips)
    for half in itertools.combinations(chips, topology.chips // 2):
        both = flow.copy()
        both.add_edges_from(("from", c) for c in half)
        both.add_edges_from((c, "to") for c in chips if c not in half)
        best = min(best, nx.minimum_cut_value(both, "from", "to"))
    return best * 1e9


@pytest.mark.parametrize("fabric", [
    ring(6, **LINK), ring(5, **LINK), torus((2, 4), **LINK), torus((3, 2), **LINK), crossbar(6, **LINK),
    leaf_spine(8, chips_per_leaf=2, spines=2, oversubscription=2.0, bundled=False, **LINK),
    islands([ring(4, **LINK), crossbar(4, **LINK)], leaf_spine(2, chips_per_leaf=2, spines=1, **LINK)),
    jellyfish(8, 3, chips_per_switch=1, seed=2, **LINK), machine(load("system", "dgx-h100"), 8),
], ids=lambda fabric: fabric.topology.name)  # fmt: skip
def test_bisection_is_the_least_cut_of_small_graphs(fabric):
    found = facts(fabric)
    assert found.bisection == pytest.approx(least_cut(fabric.topology))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 1000))
def test_an_inexact_bisection_is_never_below_the_least_cut(seed):
    fabric = jellyfish(8, 3, chips_per_switch=1, seed=seed, **LINK)
    found = facts(fabric)
    assert not found.bisection_exact
    assert found.bisection >= least_cut(fabric.topology) * (1 - 1e-12)


def test_a_slow_link_takes_the_certainty_away():
    fabric = torus((4, 4), **LINK)
    bandwidth = fabric.topology.bandwidth.copy()
    bandwidth[0] /= 2
    slow = facts(replace(fabric, topology=replace(fabric.topology, bandwidth=bandwidth)))
    assert facts(fabric).bisection_exact
    assert not slow.bisection_exact
    assert slow.bisection <= facts(fabric).bisection


def test_known_halves_are_not_worse_than_what_is_found_without_them():
    for fabric in (torus((4, 6), **LINK), fat_tree(4, bundled=False, **LINK), crossbar(8, **LINK)):
        blind = replace(fabric, topology=replace(fabric.topology, halves=np.zeros(0, dtype=bool), transitive=False))
        assert facts(fabric).bisection <= facts(blind).bisection * (1 + 1e-12)
        assert facts(fabric).bisection == pytest.approx(facts(blind).bisection)
        assert (facts(fabric).diameter, facts(fabric).mean_distance) == (
            facts(blind).diameter,
            facts(blind).mean_distance,
        )


def test_a_sample_of_chips_says_so(monkeypatch):
    fabric = slim_fly(5, chips_per_router=2, **LINK)
    whole = facts(fabric)
    # the package has a function of the same name
    module = import_module("scaleout.network.facts")
    monkeypatch.setattr(module, "MOST_LOOKS", 0)
    monkeypatch.setattr(module, "SAMPLE", 10)
    sample = facts(fabric)
    assert whole.distances_exact
    assert not sample.distances_exact
    assert sample.diameter <= whole.diameter
    assert sample.mean_distance == pytest.approx(whole.mean_distance, rel=0.05)


def test_facts_of_machines_and_of_a_chip_alone():
    found = facts(machine(load("system", "dgx-h100"), 64))
    assert (found.chips, found.nodes, found.diameter) == (64, 8, 4)
    assert found.vertices["leaf"] == 8
    assert found.kinds["scale-up"][0] == 128
    alone = facts(crossbar(1, **LINK))
    assert (alone.diameter, alone.mean_distance, alone.bisection) == (0, 0.0, 0.0)


def test_large_machines_have_facts_within_seconds():
    found = facts(torus((16, 16, 16), **LINK))
    assert (found.diameter, found.bisection) == (24, 2 * 16 * 16 * 50e9)
    assert facts(fat_tree(16, **LINK)).diameter == 6
