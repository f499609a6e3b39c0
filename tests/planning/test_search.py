"""Branch and bound against looking at everything."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import PlanError
from scaleout.planning.search import Broken, Level, Search, Stand, search


def levels_of(table: np.ndarray, batches: Sequence[int], seen: list[list[int]] | None = None) -> list[Level]:
    """Levels that read rows of a table."""

    def look(row: np.ndarray, taken: Sequence[int]) -> list[float]:
        if seen is not None:
            seen.append(list(taken))
        return [float(row[i]) for i in taken]

    return [
        Level(name=f"level {i}", values=lambda taken, row=row: look(row, taken), batch=batch)  # type: ignore[misc]
        for i, (row, batch) in enumerate(zip(table, batches, strict=True))
    ]


spaces = st.integers(1, 40).flatmap(
    lambda count: st.tuples(
        st.lists(st.sampled_from([1.0, 2.0, 2.5, 3.0, 7.0, math.inf]), min_size=count, max_size=count),
        st.lists(
            st.lists(st.sampled_from([0.2, 0.5, 0.9, 1.0]), min_size=count, max_size=count), min_size=3, max_size=3
        ),
    )
)


@settings(deadline=None)
@given(space=spaces, batch=st.integers(1, 7), gap=st.sampled_from([0.0, 0.1, 1.0]), more=st.integers(0, 3))
def test_the_best_is_the_least_of_all_within_the_gap(
    space: tuple[list[float], list[list[float]]], batch: int, gap: float, more: int
) -> None:
    values, tightness = np.array(space[0]), np.array(space[1])
    bounds = np.where(np.isinf(values), 1.0, values) * tightness
    found = search(bounds[0], levels_of(np.stack([bounds[1], values]), (batch, 1)), gap=gap, more=more)
    least = values.min()
    assert found.broken == ()
    assert list(found.exact) == sorted(found.exact, key=lambda row: (row[1], row[0]))
    if math.isinf(least):
        assert found.best is None
        assert found.gap == 0.0
        return
    assert found.best is not None
    best = values[found.best]
    assert best <= least * (1.0 + found.gap) * (1 + 1e-12)
    assert found.gap <= gap
    assert (found.bounds[np.isfinite(values)] <= values[np.isfinite(values)]).all()
    if gap == 0.0:
        assert best == least
    assert found.looks[1] == int((found.reached == 2).sum())


def test_what_bounds_rule_out_is_never_looked_at() -> None:
    seen: list[list[int]] = []
    values = np.array([5.0, 4.0, 9.0, 8.0])
    found = search([3.0, 3.5, 8.0, 7.0], levels_of(np.stack([values - 0.5, values]), (1, 1), seen))
    assert found.best == 1
    assert found.gap == 0.0
    assert all(i in (0, 1) for taken in seen for i in taken)
    assert found.reached.tolist()[2:] == [0, 0]


def test_equals_are_told_apart_by_their_number() -> None:
    found = search(np.ones(5), levels_of(np.full((1, 5), 2.0), (1,)))
    assert found.best == 0
    assert [candidate for candidate, _ in found.exact] == [0, 1, 2, 3, 4]


def test_a_search_that_is_cut_short_says_how_far_it_came() -> None:
    values = np.array([4.0, 5.0, 6.0])
    stands: list[Stand] = []
    found = search([2.0, 2.5, 3.0], levels_of(values[None], (1,)), enough=lambda: len(stands) >= 1, told=stands.append)
    assert found.best == 0
    assert found.gap == pytest.approx(4.0 / 2.5 - 1.0)
    assert stands == [Stand(4.0, 2.5, 2, (1,))]
    nothing = search([2.0], levels_of(values[None], (1,)), enough=lambda: True)
    assert nothing.best is None
    assert nothing.gap == math.inf


def test_neighbours_of_the_best_are_evaluated_when_asked_for() -> None:
    values = np.array([1.0, 2.0, 3.0, 4.0])
    table = np.stack([values, values])

    def found(more: int) -> Search:
        return search([0.9, 0.9, 0.9, 3.9], levels_of(table, (3, 1)), more=more)

    assert len(found(0).exact) == 1
    assert found(2).exact == ((0, 1.0), (1, 2.0), (2, 3.0))
    assert found(9).exact == ((0, 1.0), (1, 2.0), (2, 3.0), (3, 4.0))


def test_a_bound_that_is_none_is_recorded() -> None:
    found = search([3.0, 1.0], levels_of(np.array([[2.0, 4.0]]), (1,)))
    assert found.broken == (Broken(0, 3.0, 2.0),)


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(PlanError, match="candidate 1 is no number"):
        search([1.0, math.nan], levels_of(np.ones((1, 2)), (1,)))
    with pytest.raises(PlanError, match="level 0: of candidate 0"):
        search([1.0], levels_of(np.array([[math.nan]]), (1,)))


def test_nothing_to_search() -> None:
    found = search([], levels_of(np.ones((1, 0)), (1,)))
    assert found.best is None
    assert found.gap == 0.0
    assert found.looks == (0,)
