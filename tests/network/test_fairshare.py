"""Max-min rates against independent oracles: linear programs, exact filling, and the definition."""

import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from scaleout.errors import TopologyError
from scaleout.network import fairshare, max_min

Network = tuple[np.ndarray, np.ndarray, np.ndarray]
Entries = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """Capacity of each link, weight of each flow on each link (0: not crossed), cap of each flow."""
    links, flows = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    capacity = np.array(draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 10.0]), min_size=links, max_size=links)))
    cells = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 0.5]), min_size=links * flows, max_size=links * flows)
    weight = np.array(draw(cells)).reshape(links, flows)
    caps = draw(st.lists(st.sampled_from([np.inf, np.inf, 0.7, 5.0]), min_size=flows, max_size=flows))
    weight[0, (weight == 0).all(axis=0)] = 1.0
    return capacity, weight, np.array(caps)


def entries(capacity: np.ndarray, weight: np.ndarray, cap: np.ndarray) -> Entries:
    link, flow = np.nonzero(weight)
    return capacity, link, flow, weight[link, flow], np.ones(len(link), dtype=np.int64), cap


def random_paths(seed: int, flows: int, links: int, *, weighted: bool = False, capped: bool = False) -> Entries:
    """Paths of 4 to 8 links drawn at random; where asked, with unequal weights, counts, capacities and caps."""
    draw = np.random.default_rng(seed)
    hops = draw.integers(4, 9, flows)
    size = int(hops.sum())
    return (
        draw.choice([1.0, 2.0, 5.0], links) if weighted else np.ones(links),
        draw.integers(0, links, size),
        np.repeat(np.arange(flows), hops),
        draw.choice([0.25, 1.0, 1 / 3], size) if weighted else np.ones(size),
        draw.integers(1, 4, size) if weighted else np.ones(size, dtype=np.int64),
        draw.choice([0.01, 0.1, 0.35, np.inf], flows) if capped else np.full(flows, np.inf),
    )


def by_rounds(*network: np.ndarray, compiled: bool = False) -> np.ndarray:
    rate = fairshare.by_rounds(fairshare.prepare(*network), compiled=compiled)
    assert rate is not None
    return rate


def by_levels(*network: np.ndarray, compiled: bool = False) -> np.ndarray:
    return fairshare.by_levels(fairshare.prepare(*network), compiled=compiled)


both = pytest.mark.parametrize("solve", [by_rounds, by_levels])
Solve = Callable[..., np.ndarray]


def by_linear_programs(capacity: np.ndarray, weight: np.ndarray, cap: np.ndarray) -> np.ndarray:
    """Raise the lowest rate as far as it goes, fix whoever cannot go higher, repeat."""
    links, flows = weight.shape
    fixed: dict[int, float] = {}
    while len(fixed) < flows:
        # variables: rates and the common level t; maximise t
        rows = [np.append(weight[link], 0.0) for link in range(links)]
        limits = list(capacity)
        for f in set(range(flows)) - set(fixed):
            row = np.zeros(flows + 1)
            row[f], row[-1] = -1.0, 1.0
            rows.append(row)
            limits.append(0.0)
        bounds = [
            (fixed[f], fixed[f]) if f in fixed else (0, cap[f] if np.isfinite(cap[f]) else None) for f in range(flows)
        ]
        objective = np.append(np.zeros(flows), -1.0)
        best = linprog(objective, A_ub=np.array(rows), b_ub=limits, bounds=[*bounds, (0, None)], method="highs")
        level = best.x[-1]
        for f in sorted(set(range(flows)) - set(fixed)):
            # can this flow exceed the level while no open flow falls below it?
            alone = [(level - 1e-9 if g not in fixed else fixed[g], bounds[g][1]) for g in range(flows)]
            aim = np.zeros(flows)
            aim[f] = -1.0
            most = linprog(aim, A_ub=weight, b_ub=capacity, bounds=alone, method="highs")
            if most.status != 0 or -most.fun <= level + 1e-6:
                fixed[f] = level
    return np.array([fixed[f] for f in range(flows)])


def by_filling(capacity: np.ndarray, weight: np.ndarray, cap: np.ndarray) -> list[Fraction]:
    """All rates rise together in exact fractions; a flow stops at its cap or when a link of its is full."""
    room = [Fraction(c) for c in capacity]
    loads = [[Fraction(w) for w in row] for row in weight]
    rate: dict[int, Fraction] = {}
    while len(rate) < len(cap):
        rising = [f for f in range(len(cap)) if f not in rate]
        stops = [(Fraction(cap[f]), [f]) for f in rising if np.isfinite(cap[f])]
        for limit, load in zip(room, loads, strict=True):
            on = [f for f in rising if load[f]]
            if on:
                taken = sum(load[f] * rate[f] for f in rate)
                stops.append(((limit - taken) / sum(load[f] for f in on), on))
        level = min(stop for stop, _ in stops)
        rate |= {f: level for stop, who in stops if stop == level for f in who}
    return [rate[f] for f in range(len(cap))]


@both
@settings(max_examples=40)
@given(network=networks())
def test_rates_equal_lexicographic_linear_programs(solve: Solve, network: Network) -> None:
    assert solve(*entries(*network)) == pytest.approx(by_linear_programs(*network), rel=1e-5, abs=1e-6)


@both
@given(network=networks())
def test_rates_equal_filling_in_exact_fractions(solve: Solve, network: Network) -> None:
    expected = [float(rate) for rate in by_filling(*network)]
    assert solve(*entries(*network)) == pytest.approx(expected, rel=1e-13)


def check_fair(network: Entries, rate: np.ndarray) -> None:
    """No link is over, and every flow is at its cap or has a full link on which none is faster."""
    capacity, link, flow, weight, count, cap = network
    load = np.bincount(link, weights=weight * count * rate[flow], minlength=len(capacity))
    assert (load <= capacity * (1 + 1e-12)).all()
    assert (rate <= cap).all()
    fastest = np.zeros(len(capacity))
    np.maximum.at(fastest, link, rate[flow])
    bottleneck = (load >= capacity * (1 - 1e-12))[link] & (rate[flow] >= fastest[link] * (1 - 1e-12))
    held = rate == cap
    held[flow[bottleneck]] = True
    assert held.all()


@both
@given(network=networks())
def test_no_link_is_over_and_every_flow_has_its_bottleneck(solve: Solve, network: Network) -> None:
    check_fair(entries(*network), solve(*entries(*network)))


@settings(max_examples=30)
@given(st.integers(0, 1 << 30), st.integers(1, 400), st.integers(8, 400), st.booleans(), st.booleans())
def test_both_solvers_agree_on_random_paths(seed: int, flows: int, links: int, weighted: bool, capped: bool) -> None:
    network = random_paths(seed, flows, links, weighted=weighted, capped=capped)
    by_heap = by_levels(*network)
    check_fair(network, by_heap)
    by_round = fairshare.by_rounds(fairshare.prepare(*network), compiled=False)
    if by_round is not None:
        assert by_round == pytest.approx(by_heap, rel=1e-9)


@both
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("capped", [False, True])
def test_plain_and_compiled_give_the_same_bits(solve: Solve, weighted: bool, capped: bool) -> None:
    network = random_paths(1, 60, 200, weighted=weighted, capped=capped)
    assert (solve(*network) == solve(*network, compiled=True)).all()


def test_ten_thousand_flows_are_shared_fairly() -> None:
    network = random_paths(2, 10_000, 5_000, weighted=True, capped=True)
    assert len(network[1]) > fairshare.COMPILED_FROM
    check_fair(network, max_min(*network))


def test_all_to_all_through_full_bisection_has_its_closed_form() -> None:
    # every chip sends to all others over its own link out and theirs in: B / (n - 1)
    chips, bandwidth = 40, 50e9
    source, target = np.nonzero(~np.eye(chips, dtype=bool))
    flows = len(source)
    link, flow = np.concatenate((source, chips + target)), np.tile(np.arange(flows), 2)
    ones = np.ones(2 * flows)
    rate = max_min(np.full(2 * chips, bandwidth), link, flow, ones, ones.astype(np.int64), np.full(flows, np.inf))
    assert (rate == bandwidth / (chips - 1)).all()


@both
@given(network=networks(), copies=st.integers(2, 9))
def test_equal_flows_give_the_same_bits_folded_or_not(solve: Solve, network: Network, copies: int) -> None:
    capacity, weight, cap = network
    link, flow = np.nonzero(weight)
    many = np.full(len(link), copies, dtype=np.int64)
    folded = solve(capacity, link, flow, weight[link, flow], many, cap)
    unfolded = solve(*entries(capacity, np.tile(weight, copies), np.tile(cap, copies)))
    assert (unfolded == np.tile(folded, copies)).all()


@given(st.integers(0, 1 << 30), st.integers(2, 40), st.integers(2, 30), st.integers(2, 7), st.booleans())
def test_copies_around_common_links_give_the_same_bits_folded_or_not(
    seed: int, flows: int, links: int, copies: int, weighted: bool
) -> None:
    # half of the links exist once and carry all copies, the others come with each copy; both
    # solvers are taken by turns, and always the same one for both networks
    capacity, link, flow, weight, count, cap = random_paths(seed, flows, links, weighted=weighted, capped=True)
    common = link < links // 2
    folded = max_min(capacity, link, flow, weight, np.where(common, copies, 1) * count, cap)
    unfolded = max_min(
        np.concatenate([capacity] * copies),
        np.concatenate([np.where(common, link, link + copy * links) for copy in range(copies)]),
        np.concatenate([flow + copy * flows for copy in range(copies)]),
        np.tile(weight, copies),
        np.tile(count, copies),
        np.tile(cap, copies),
    )
    assert (unfolded == np.tile(folded, copies)).all()


def test_rounds_give_up_where_a_link_carries_many_rates() -> None:
    # one link, every flow with a cap of its own, the last with none
    flows = 2 * fairshare.MOST
    cap = np.append(np.arange(1.0, flows), np.inf)
    network = (np.array([2.0 * cap[:-1].sum()]), np.zeros(flows, dtype=np.int64), np.arange(flows))
    ones = np.ones(flows, dtype=np.int64)
    assert fairshare.by_rounds(fairshare.prepare(*network, ones * 1.0, ones, cap), compiled=False) is None
    assert max_min(*network, ones * 1.0, ones, cap).tolist() == [*cap[:-1], cap[:-1].sum()]


@both
def test_what_nothing_holds_is_infinite(solve: Solve) -> None:
    free = np.array([[1.0, 0.0, 0.0]])
    assert solve(*entries(np.array([3.0]), free, np.array([np.inf, np.inf, 2.0]))).tolist() == [3.0, np.inf, 2.0]


def test_a_flow_without_link_and_cap_is_refused() -> None:
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(TopologyError, match="no link"):
        max_min(np.ones(1), none, none, np.zeros(0), none, np.array([np.inf]))


@both
def test_two_long_flows_and_a_short_one(solve: Solve) -> None:
    # the textbook line: one flow over both links, one over each
    weight = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert solve(*entries(np.array([10.0, 4.0]), weight, np.full(3, np.inf))).tolist() == [2.0, 8.0, 2.0]


def test_numba_is_loaded_for_large_problems_only() -> None:
    code = f"""
import sys, numpy as np
from scaleout.network import max_min
def loads(n):
    same = np.zeros(n, dtype=np.int64)
    max_min(np.ones(1), same, np.arange(n), np.ones(n), same + 1, np.full(n, np.inf))
    return "numba" in sys.modules
print(loads({fairshare.COMPILED_FROM - 1}), loads({fairshare.COMPILED_FROM}))
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "True"]
