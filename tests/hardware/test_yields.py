"""Yield models against their closed forms, salvage against sums of its own, dies of a wafer against counted squares."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.hardware.yields import WAFER, die_yield, dies_per_wafer, rates

DEFECTS = 1000.0  # 0.1 a cm2


def whole(area: float, model: str, clustering: float = 2.0, defects: float = DEFECTS) -> float:
    """Nothing can be spared."""
    return die_yield(1, 0, 0.0, area, defects, rates(model, clustering))


@given(st.floats(1e-9, 5e-3), st.floats(0.2, 200.0))
@settings(max_examples=25, deadline=None)
def test_negative_binomial_meets_its_closed_form(area: float, clustering: float) -> None:
    expected = (1.0 + area * DEFECTS / clustering) ** -clustering
    assert whole(area, "negative-binomial", clustering) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("area", [1e-7, 1e-5, 1e-4, 8e-4, 5e-3])
def test_poisson_and_murphy_meet_their_closed_forms(area: float) -> None:
    hits = area * DEFECTS
    assert whole(area, "poisson") == pytest.approx(math.exp(-hits), rel=1e-12)
    assert whole(area, "murphy") == pytest.approx((-math.expm1(-hits) / hits) ** 2, rel=1e-9)


@pytest.mark.parametrize("model", ["negative-binomial", "murphy", "poisson"])
def test_a_die_of_no_area_works_and_a_larger_one_works_less(model: str) -> None:
    assert whole(0.0, model) == pytest.approx(1.0, abs=1e-12)
    areas = np.geomspace(1e-6, 1e-2, 30)
    values = [whole(float(area), model) for area in areas]
    assert all(0.0 < value <= 1.0 for value in values)
    assert all(larger < smaller for smaller, larger in pairwise(values))
    # the same mean, spread unevenly over dies, leaves more of them alone
    assert all(whole(float(area), model) >= whole(float(area), "poisson") * (1 - 1e-12) for area in areas)


def test_without_clusters_it_is_poisson() -> None:
    assert whole(8e-4, "negative-binomial", 1e7) == pytest.approx(whole(8e-4, "poisson"), rel=1e-6)


def test_without_spare_cores_only_the_area_counts() -> None:
    law = rates("negative-binomial", 2.0)
    assert die_yield(64, 0, 5e-6, 3e-4, DEFECTS, law) == pytest.approx(
        whole(64 * 5e-6 + 3e-4, "negative-binomial"), rel=1e-9
    )


@pytest.mark.parametrize(("cores", "spare"), [(1, 1), (4, 2), (6, 3)])
def test_spare_cores_by_inclusion_and_exclusion(cores: int, spare: int) -> None:
    """P(exactly the cores of a set are dead) is a signed sum of yields of areas, each in closed form."""
    core, rest, clustering, total = 4e-5, 2e-4, 2.0, cores + spare

    def good(area: float) -> float:
        return float((1.0 + area * DEFECTS / clustering) ** -clustering)

    expected = sum(
        math.comb(total, dead) * math.comb(dead, more) * (-1) ** more * good((total - dead + more) * core + rest)
        for dead in range(spare + 1)
        for more in range(dead + 1)
    )
    law = rates("negative-binomial", clustering)
    assert die_yield(cores, spare, core, rest, DEFECTS, law) == pytest.approx(expected, rel=1e-9)


def test_more_spare_cores_help_until_only_the_rest_counts() -> None:
    law = rates("negative-binomial", 2.0)
    values = [die_yield(64, spare, 5e-6, 3e-4, DEFECTS, law) for spare in range(0, 40, 4)]
    assert all(more >= less * (1 - 1e-12) for less, more in pairwise(values))
    assert values[-1] == pytest.approx(whole(3e-4, "negative-binomial"), rel=1e-3)


@pytest.mark.parametrize("side", [5.0, 10.0, 17.0, 24.0, 28.5])
def test_dies_of_a_wafer_against_squares_counted_in_a_circle(side: float) -> None:
    edge, scribe, generator = 3e-3, 1e-4, np.random.default_rng(7)
    pitch, radius = side * 1e-3 + scribe, WAFER / 2 - edge
    steps = np.arange(-60, 60) * pitch
    counts = []
    for dx, dy in generator.random((200, 2)) * pitch:
        far_x = np.maximum(np.abs(steps + dx), np.abs(steps + dx + pitch))
        far_y = np.maximum(np.abs(steps + dy), np.abs(steps + dy + pitch))
        counts.append(int((np.hypot(far_x[:, None], far_y[None, :]) <= radius).sum()))
    expected = dies_per_wafer((side * 1e-3) ** 2, edge=edge, scribe=scribe)
    # the mean over where the grid lies; a fab takes the best place, some per cent above
    assert expected == pytest.approx(np.mean(counts), rel=0.06, abs=1.5)


def test_what_does_not_fit_is_no_die() -> None:
    assert dies_per_wafer(0.3**2) == 0.0
    assert dies_per_wafer(0.2**2) == 1.0
    assert dies_per_wafer(1e-6) == pytest.approx(math.pi * 0.15**2 / 1e-6, rel=0.01)
