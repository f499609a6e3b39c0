"""Algorithms against closed forms and against step-by-step recurrences written here."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.collectives import candidates, choose, fastest, trials
from scaleout.collectives.flat import ROUNDS, direct, nvls, point_to_point, ring_latency, tree
from scaleout.collectives.flat import ring as ring_algorithm
from scaleout.collectives.groups import rail_size
from scaleout.collectives.hierarchical import hierarchical
from scaleout.io.catalogue import load
from scaleout.network import Fabric, nvswitch_node, rail_fat_tree, ring
from scaleout.network.fairshare import max_min
from scaleout.specs import Protocol

SYSTEM = load("system", "dgx-h100")
COUNTS = [2, 3, 5, 6, 7, 8, 12, 16]
BANDWIDTH, LATENCY = 50e9, 1e-6
RINGS = [name for name, rules in SYSTEM.library.protocols.items() if "ring" in rules.algorithms]
LINK = SYSTEM.scale_up.bandwidth * SYSTEM.scale_up.efficiency
PORT = SYSTEM.network.bandwidth * SYSTEM.network.efficiency


def everyone(chips: int) -> np.ndarray:
    return np.arange(chips)[None, :]


def ring_fabric(chips: int) -> Fabric:
    return ring(chips, bandwidth=BANDWIDTH, latency=LATENCY)


def with_protocol(algorithm: str, **changes: float) -> Fabric:
    """Four nodes of the system whose one protocol is free of limits, but for some changes."""
    rules = {"launch": 0.0, "scale_up_step": 0.0, "network_step": 0.0, **changes}
    fabric = rail_fat_tree(SYSTEM, 32)
    return replace(fabric, protocols={"p": Protocol(algorithms=(algorithm,), **rules)}, idle_step=0.0)


@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("n", COUNTS)
def test_ring_meets_its_closed_form(n: int, operation: str) -> None:
    nbytes, rounds = 1e9, ROUNDS[operation]
    expected = rounds * ((n - 1) * LATENCY + (n - 1) / n * nbytes / BANDWIDTH)
    pattern = ring_algorithm(ring_fabric(n), everyone(n), operation, "wires")
    assert pattern.alone(ring_fabric(n), nbytes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("operation", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("protocol", RINGS)
@pytest.mark.parametrize("n", [2, 3, 4, 8])
def test_a_ring_in_a_node_pays_the_protocol_and_a_step_that_sends_nothing(
    n: int, protocol: str, operation: str
) -> None:
    fabric, rules, nbytes = nvswitch_node(SYSTEM, n), SYSTEM.library.protocols[protocol], 3e7
    steps = ROUNDS[operation] * (n - 1)
    fixed = rules.launch + steps * (rules.scale_up_step + 2 * SYSTEM.scale_up.latency)
    carried = (steps + SYSTEM.library.idle_step) / n * nbytes / (rules.scale_up_rate * LINK)
    pattern = ring_algorithm(fabric, everyone(n), operation, protocol)
    assert pattern.alone(fabric, nbytes) == pytest.approx(fixed + carried, rel=1e-12)
    assert (pattern.latency(), pattern.per_byte(fabric) * nbytes) == pytest.approx((fixed, carried), rel=1e-12)


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_rings_over_all_ports_share_what_leaves_the_node(nodes: int) -> None:
    fabric, nbytes, n = rail_fat_tree(SYSTEM, 8 * nodes), 4e9, 8 * nodes
    pattern = ring_algorithm(fabric, everyone(n), "all_gather", "Simple")
    # a node sends (n - 1) / n of the message, an eighth over each of its eight ports
    transfer = (n - 1) / n * nbytes / 8 / PORT
    assert pattern.alone(fabric, nbytes) - pattern.latency() == pytest.approx(transfer, rel=1e-12)
    rules, link = SYSTEM.library.protocols["Simple"], SYSTEM.scale_up.latency
    inside = rules.scale_up_step + 2 * link
    outside = rules.network_step + 2 * SYSTEM.network.latency
    # the ring is one hop longer than the way of a chunk: at best it spares a hop inside a node
    assert pattern.latency() == pytest.approx(rules.launch + (7 * nodes - 1) * inside + nodes * outside)


@pytest.mark.parametrize("n", [n for n in COUNTS if n <= 8])
def test_direct_meets_its_closed_form_on_a_switch(n: int) -> None:
    fabric, nbytes = with_protocol("direct", launch=5e-6, scale_up_step=2e-6, scale_up_rate=0.5), 1e9
    step = 2e-6 + 2 * SYSTEM.scale_up.latency
    pattern = direct(fabric, everyone(n), "all_reduce", "p")
    expected = 5e-6 + 2 * step + 2 * (n - 1) / n * nbytes / (0.5 * LINK)
    assert pattern.alone(fabric, nbytes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_the_switch_adds_and_each_member_moves_the_message_once(n: int) -> None:
    fabric, rules, nbytes = nvswitch_node(SYSTEM, n), SYSTEM.library.protocols["NVLS"], 1e9
    pattern = nvls(fabric, everyone(n), "all_reduce", "NVLS")
    fixed = rules.launch + 2 * (rules.scale_up_step + 2 * SYSTEM.scale_up.latency)
    assert pattern.alone(fabric, nbytes) == pytest.approx(
        fixed + (n + 1) / n * nbytes / (rules.scale_up_rate * LINK), rel=1e-12
    )
    busbw = 2 * (n - 1) / n * nbytes / (pattern.alone(fabric, nbytes) - fixed)
    assert busbw == pytest.approx(rules.scale_up_rate * LINK * 2 * (n - 1) / (n + 1))
    with pytest.raises(ValueError, match="all_reduce"):
        nvls(fabric, everyone(n), "all_gather", "NVLS")


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
    rules = SYSTEM.library.protocols["LL"]
    pattern = tree(fabric, members, "all_reduce", "LL")
    # all hops leave the node; within one group of leaves they have the same length
    step = fabric.step(fabric.route(members[0, :1], members[0, 1:2]), rules)[0]
    depth = int(np.ceil(np.log2(n)))
    assert pattern.latency() == pytest.approx(rules.launch + 2 * depth * step)


@pytest.mark.parametrize("n", COUNTS)
def test_two_trees_carry_at_most_twice_the_message(n: int) -> None:
    fabric, nbytes = rail_fat_tree(SYSTEM, 8 * n), 1e9
    pattern = tree(fabric, everyone(8 * n)[:, ::8], "all_reduce", "Simple")
    times = 1 if n == 2 else 2
    assert pattern.per_byte(fabric) * nbytes == pytest.approx(times * nbytes / PORT, rel=1e-12)


@pytest.mark.parametrize("nodes", [2, 3, 4, 8])
def test_hierarchical_is_the_slower_level_plus_latencies(nodes: int) -> None:
    fabric, nbytes, g = rail_fat_tree(SYSTEM, 8 * nodes), 4e9, 8
    rules = SYSTEM.library.protocols["Simple"]
    pattern = hierarchical(fabric, everyone(8 * nodes), "all_reduce", "Simple")
    inner = (2 * (g - 1) + SYSTEM.library.idle_step) / g * nbytes / (LINK * rules.scale_up_rate)
    outer = 2 * (nodes - 1) / nodes * nbytes / g / PORT
    transfer = pattern.alone(fabric, nbytes) - pattern.latency()
    assert transfer == pytest.approx(max(inner, outer), rel=1e-12)


def test_point_to_point_is_latency_and_the_narrowest_link() -> None:
    fabric = rail_fat_tree(SYSTEM, 64)
    pattern = point_to_point(fabric, np.array([[0, 8]]), "send", "P2P")
    rate = 48.5e9 * SYSTEM.library.protocols["P2P"].network_rate
    assert pattern.alone(fabric, 1e9) - pattern.alone(fabric, 0) == pytest.approx(1e9 / rate)


@pytest.mark.parametrize("operation", sorted(ROUNDS))
@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_every_candidate_sends_as_much_as_it_receives_and_at_least_the_bound(nodes: int, operation: str) -> None:
    fabric, groups = rail_fat_tree(SYSTEM, 8 * nodes), everyone(8 * nodes)
    topology, n, nbytes = fabric.topology, 8 * nodes, 1e9
    for name, make in candidates(fabric, groups, operation).items():
        pattern = make(groups)
        (phase,) = pattern.phases
        flows = phase.weight * phase.share * nbytes
        out = np.bincount(topology.source[phase.link], flows, minlength=topology.links)[:n]
        into = np.bincount(topology.target[phase.link], flows, minlength=topology.links)[:n]
        assert out.sum() == pytest.approx(into.sum()), name
        if "nvls" in name:
            continue
        # to end with everyone's data a rank must take in (n-1)/n of it, once or twice
        assert into.mean() >= ROUNDS[operation] * (n - 1) / n * nbytes * (1 - 1e-9), name


@pytest.mark.parametrize("system", ["dgx-a100", "dgx-h100", "dgx-2", "jean-zay-a100"])
@pytest.mark.parametrize("operation", sorted(ROUNDS))
@pytest.mark.parametrize("chips", [2, 4, 8, 16, 32])
def test_time_grows_with_size_and_bus_bandwidth_stays_below_the_link(chips: int, operation: str, system: str) -> None:
    spec = load("system", system)
    per_node = spec.chips_per_node
    if chips > per_node and chips % per_node:
        pytest.skip(f"not whole nodes of {system}")
    fabric, groups = rail_fat_tree(spec, chips), everyone(chips)
    tried = trials(fabric, groups, operation)
    before = 0.0
    for nbytes in 2.0 ** np.arange(8, 34):
        name = fastest(fabric, tried, nbytes)
        assert name == choose(fabric, groups, operation, nbytes)
        time = tried[name].alone(fabric, nbytes)
        assert time > before
        before = time
        if "nvls" not in name:
            busbw = ROUNDS[operation] * (chips - 1) / chips * nbytes / time
            assert busbw <= spec.scale_up.bandwidth


def test_small_messages_take_fewer_steps_and_large_ones_all_ports() -> None:
    fabric, groups = rail_fat_tree(SYSTEM, 1024), everyone(1024)
    assert choose(fabric, groups, "all_reduce", 0.0) == "hierarchical-tree/LL"
    assert choose(fabric, groups[:, ::8], "all_reduce", 0.0) == "tree/LL"
    assert choose(fabric, groups[:, :16], "all_reduce", 8e9) == "nvls-tree/NVLSTree"
    assert choose(fabric, groups, "all_gather", 8e9) == "ring/Simple"
    assert choose(fabric, groups[:, :8], "all_gather", 1e9) == "ring/Simple"
    assert choose(fabric, groups[:, :8], "all_gather", 1e4) == "ring/LL"
    assert choose(fabric, groups[:, :8], "all_reduce", 1e9) == "nvls/NVLS"


@pytest.mark.parametrize("chips", [2, 8, 16, 64])
def test_all_to_all_sends_each_peer_its_part(chips: int) -> None:
    fabric, nbytes = rail_fat_tree(SYSTEM, chips), 1e9
    rules, idle = SYSTEM.library.protocols["P2P"], SYSTEM.library.idle_step
    pattern = candidates(fabric, everyone(chips), "all_to_all")["pairwise/P2P"](everyone(chips))
    inside = min(chips, 8)
    times = [(chips - 1 + idle) / chips * nbytes / LINK / rules.scale_up_rate] if chips <= 8 else []
    if chips > 8:
        times = [(chips - inside) / chips * nbytes / PORT / rules.network_rate]
    assert pattern.per_byte(fabric) * nbytes == pytest.approx(max(times), rel=1e-12)


@pytest.mark.parametrize("at_once", [3, 64, 300])
def test_pairs_routed_some_at_a_time_load_the_same_links(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = rail_fat_tree(SYSTEM, 32)
    groups = np.arange(32).reshape(2, 16)[:, ::-1]
    (whole,) = direct(fabric, groups, "all_to_all", "P2P", "pairwise").phases
    monkeypatch.setattr("scaleout.collectives.flat._PAIRS_AT_ONCE", at_once)
    (cut,) = direct(fabric, groups, "all_to_all", "P2P", "pairwise").phases
    for name in ("group", "link", "weight", "latency", "cap"):
        assert np.array_equal(getattr(cut, name), getattr(whole, name)), name


def test_a_cap_is_no_capacity() -> None:
    """Two operations below half of a link run beside each other as if alone."""
    fabric = with_protocol("send", scale_up_rate=0.4)
    (pair,) = point_to_point(fabric, np.array([[0, 1], [0, 2]]), "send", "p").phases
    rates = max_min(
        fabric.topology.bandwidth, pair.link, pair.group, pair.weight, np.ones(len(pair.link), dtype=int), pair.cap
    )
    assert rates == pytest.approx([0.4 * LINK, 0.4 * LINK])


def test_rail_size_counts_members_a_node() -> None:
    fabric = rail_fat_tree(SYSTEM, 32)
    assert rail_size(fabric, everyone(32)) == 8
    assert rail_size(fabric, everyone(32)[:, ::8]) == 1
    assert rail_size(fabric, everyone(32)[:, ::2]) == 4
    assert rail_size(fabric, np.array([[0, 1, 8]])) == 0
