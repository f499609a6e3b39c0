"""Statistics of errors, by hand."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import MeasurementError
from scaleout.validation import Agreement, Compared, Skipped, statistics

A = {"chip": "a", "dtype": "bf16"}
B = {"chip": "b", "dtype": "bf16"}
ROWS = [
    Compared(2, A, 1.0, 1.1),
    Compared(3, A, 2.0, 1.0),
    Skipped(4, "too old"),
    Compared(5, B, 4.0, 5.0, ("guessed", "rounded")),
    Skipped(6, "too new"),
    Skipped(7, "too old"),
]
AGREEMENT = Agreement.of("x", ROWS, combined=[("chip", "dtype")])


def test_statistics_are_those_of_numpy_on_the_errors() -> None:
    errors = np.array([0.1, -0.5, 0.25])
    found = statistics(AGREEMENT.compared)
    assert found == {
        "n": 3,
        "mape": pytest.approx(0.85 / 3),
        "median": pytest.approx(0.25),
        "p90": pytest.approx(np.percentile(np.abs(errors), 90)),
        "bias": pytest.approx(-0.05),
    }
    assert found["p90"] == pytest.approx(0.25 + 0.8 * 0.25)


@given(st.lists(st.tuples(st.floats(1e-9, 1e9), st.floats(0.01, 100)), min_size=1, max_size=50))
def test_the_errors_obey_their_order_and_scale(pairs: list[tuple[float, float]]) -> None:
    found = statistics([Compared(i, {}, m, m * f) for i, (m, f) in enumerate(pairs)])
    assert found["median"] <= found["p90"] * (1 + 1e-12)
    assert abs(found["bias"]) <= found["mape"] * (1 + 1e-12)
    scaled = statistics([Compared(i, {}, 8 * m, 8 * m * f) for i, (m, f) in enumerate(pairs)])
    assert scaled == pytest.approx(found)


def test_the_summary_has_the_keys_of_the_contract_and_no_others() -> None:
    summary = AGREEMENT.summary()
    assert list(summary) == ["kind", "n", "skipped", "mape", "median", "p90", "bias", "groups"]
    assert (summary["kind"], summary["n"], summary["skipped"]) == ("x", 3, 3)
    for values in summary["groups"].values():
        assert list(values) == ["n", "mape", "median", "p90", "bias"]
    assert json.loads(json.dumps(summary)) == summary


@pytest.mark.parametrize(
    ("measured", "simulated"), [(0.0, 1.0), (1.0, 0.0), (1.0, math.nan), (math.inf, 1.0), (-1.0, 1.0)]
)
def test_what_has_no_error_is_refused(measured: float, simulated: float) -> None:
    with pytest.raises(MeasurementError, match=r"line 7: measured .*; expected finite numbers above 0"):
        Compared(7, {}, measured, simulated)


def test_groups_are_by_key_by_combined_keys_and_by_flag() -> None:
    sizes = {name: values["n"] for name, values in AGREEMENT.summary()["groups"].items()}
    assert sizes == {
        "chip=a": 2,
        "chip=b": 1,
        "dtype=bf16": 3,
        "chip=a & dtype=bf16": 2,
        "chip=b & dtype=bf16": 1,
        "flag=guessed": 1,
        "flag=rounded": 1,
    }


def test_a_row_without_a_value_is_in_no_group_of_that_key() -> None:
    agreement = Agreement.of("x", [Compared(2, {"chip": "a", "source": ""}, 1.0, 1.0)], combined=[("chip", "source")])
    assert list(agreement.groups()) == ["chip=a"]


def test_no_row_at_all_has_no_errors() -> None:
    summary = Agreement.of("x", [Skipped(2, "why")]).summary()
    assert [summary[key] for key in ("n", "skipped", "mape", "median", "p90", "bias")] == [0, 1, None, None, None, None]


def test_reasons_come_most_frequent_first_with_their_lines() -> None:
    assert AGREEMENT.reasons() == {"too old": [4, 7], "too new": [6]}
    assert list(AGREEMENT.reasons()) == ["too old", "too new"]


def test_the_worst_is_furthest_by_the_factor_either_way() -> None:
    assert [row.line for row in AGREEMENT.worst(2)] == [3, 5]
    assert math.isclose(AGREEMENT.worst(1)[0].error, -0.5)
    assert AGREEMENT.worst(0) == []
