import json
from collections.abc import Callable
from dataclasses import replace

import pytest

import scaleout
from scaleout.errors import PlanError, SpecError
from scaleout.scaling import scaling_table
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


@pytest.mark.parametrize("weak", [False, True])
def test_every_row_is_that_experiment_simulated_on_its_own(small: Make, weak: bool) -> None:
    scaling = scaling_table(small(), [32, 64, 128], weak=weak)
    for row, dp in zip(scaling.rows, (2, 4, 8), strict=True):
        batch = {"global": 8 * dp} if weak else {}
        assert row.result == simulate(small(chips=row.chips, layout={"dp": dp}, batch=batch))
        assert (row.dp, row.global_batch) == (dp, 8 * dp if weak else 32)


def test_speed_up_and_efficiency_follow_from_the_first_row(small: Make) -> None:
    strong = scaling_table(small(), [32, 64, 128])
    first = strong.rows[0].result
    assert first is not None
    for row in strong.rows:
        assert row.result is not None
        assert row.speed_up == pytest.approx(first.step_time / row.result.step_time)
        assert row.efficiency == pytest.approx((row.speed_up or 0) * 32 / row.chips)
    assert strong.rows[0].efficiency == 1.0
    # more chips for the same work never make it faster than the chips' ratio
    assert all((row.efficiency or 0) <= 1.0 for row in strong.rows)
    weak = scaling_table(small(), [32, 64, 128], weak=True)
    assert all((w.efficiency or 0) >= (s.efficiency or 0) for w, s in zip(weak.rows, strong.rows, strict=True))


def test_rows_that_cannot_be_say_why_and_the_rest_goes_on(small: Make) -> None:
    spec = replace(small(layout={"zero": 0}), system=replace(small().system, chips_per_node=1))
    scaling = scaling_table(spec, [8, 24, 64, 48, 4096, 32])
    problems = {row.chips: row.problem for row in scaling.rows}
    assert "not a multiple of the 16 chips of one copy of the model (tp 4 x pp 4)" in problems[8]
    assert "not a multiple" in problems[24]
    assert "batch.global: 32 is not a multiple of dp 3" in problems[48]
    assert "batch.global: 32 is not a multiple of dp 256" in problems[4096]
    assert [row.chips for row in scaling.rows if row.result] == [64, 32]
    assert next(row.speed_up for row in scaling.rows if row.result) == 1.0


def test_what_does_not_fit_or_names_a_chip_that_is_gone_is_a_row(small: Make) -> None:
    tight = small(
        model="llama-3.1-8b",
        layout={"tp": 1, "pp": 2, "dp": 32, "vpp": 1},
        batch={"sequence": 4096},
        recompute=["norm"],
    )
    scaling = scaling_table(tight, [2, 64])
    assert "does not fit in HBM" in scaling.rows[0].problem
    assert scaling.rows[1].result is not None
    slow = scaling_table(small(slow={"chips": {63: 0.5}}), [32, 64])
    assert "rank 63 is not one of the 32 chips" in slow.rows[0].problem


def test_as_json_a_row_has_figures_or_a_problem(small: Make) -> None:
    data = json.loads(json.dumps(scaleout.scaling_table(small(), [40, 64]).to_dict()))
    assert data["scaling"] == "strong"
    assert set(data["rows"][0]) == {"chips", "dp", "global_batch", "problem"}
    assert data["rows"][1]["efficiency"] == 1.0


@pytest.mark.parametrize(
    ("chips", "says"),
    [
        ([], "0 numbers of chips; expected 1 to 64"),
        (list(range(65)), "65 numbers of chips"),
        ([0], "chips: 0 is not a whole number from 1 to 1,048,576"),
        ([-64], "chips: -64 is not"),
        ([1_048_577], "chips: 1048577 is not"),
        ([64.0], r"chips: 64\.0 is not"),
        ([True], "chips: True is not"),
        (["1k"], "chips: '1k' is not"),
    ],
)
def test_numbers_that_are_none_are_refused(small: Make, chips: list[int], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        scaling_table(small(), chips)


def test_a_table_without_a_single_figure_is_an_error(small: Make) -> None:
    with pytest.raises(PlanError, match=r"8 chips: not a multiple .*\n24 chips: not a multiple"):
        scaling_table(small(), [8, 24])
    with pytest.raises(SpecError, match="is no experiment"):
        scaling_table("llama-3.1-8b-1k", [64])  # type: ignore[arg-type]
