"""Max-min rates against two oracles: linear programs, one level after another, and the definition."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from scaleout.errors import TopologyError
from scaleout.network import max_min


@st.composite
def networks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Capacity of each link, weight of each flow on each link (0: not crossed), cap of each flow."""
    links, flows = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    capacity = np.array(draw(st.lists(st.sampled_from([1.0, 2.0, 3.0, 10.0]), min_size=links, max_size=links)))
    cells = st.lists(st.sampled_from([0.0, 0.0, 1.0, 2.0, 0.5]), min_size=links * flows, max_size=links * flows)
    weight = np.array(draw(cells)).reshape(links, flows)
    caps = draw(st.lists(st.sampled_from([np.inf, np.inf, 0.7, 5.0]), min_size=flows, max_size=flows))
    weight[0, (weight == 0).all(axis=0)] = 1.0
    return capacity, weight, np.array(caps)


def solve(capacity: np.ndarray, weight: np.ndarray, cap: np.ndarray) -> np.ndarray:
    link, flow = np.nonzero(weight)
    return max_min(capacity, link, flow, weight[link, flow], np.ones(len(link), dtype=np.int64), cap)


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


@settings(deadline=None, max_examples=60)
@given(networks())
def test_rates_equal_lexicographic_linear_programs(network: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    assert solve(*network) == pytest.approx(by_linear_programs(*network), rel=1e-5, abs=1e-6)


@given(networks())
def test_no_link_is_over_and_every_flow_has_its_bottleneck(network: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    capacity, weight, cap = network
    rate = solve(*network)
    load = weight @ rate
    assert (load <= capacity * (1 + 1e-12)).all()
    for f in range(len(rate)):
        full = (weight[:, f] > 0) & (load >= capacity * (1 - 1e-12))
        highest_there = any((rate[weight[link] > 0] <= rate[f] * (1 + 1e-12)).all() for link in np.flatnonzero(full))
        assert highest_there or rate[f] == cap[f]


@given(networks(), st.integers(2, 9))
def test_equal_flows_give_the_same_bits_folded_or_not(
    network: tuple[np.ndarray, np.ndarray, np.ndarray], copies: int
) -> None:
    capacity, weight, cap = network
    link, flow = np.nonzero(weight)
    many = np.full(len(link), copies, dtype=np.int64)
    folded = max_min(capacity, link, flow, weight[link, flow], many, cap)
    unfolded = solve(capacity, np.tile(weight, copies), np.tile(cap, copies))
    assert (unfolded == np.tile(folded, copies)).all()


def test_a_flow_without_link_and_cap_is_refused() -> None:
    none = np.zeros(0, dtype=np.int64)
    with pytest.raises(TopologyError, match="no link"):
        max_min(np.ones(1), none, none, np.zeros(0), none, np.array([np.inf]))


def test_two_long_flows_and_a_short_one() -> None:
    # the textbook line: one flow over both links, one over each
    weight = np.array([[1.0, 1.0, 0.0], [1.0, 0.0, 1.0]])
    assert solve(np.array([10.0, 4.0]), weight, np.full(3, np.inf)).tolist() == [2.0, 8.0, 2.0]
