import json
from collections.abc import Callable

import pytest

import scaleout
from scaleout.errors import SpecError
from scaleout.simulate import record, simulate
from scaleout.specs import TrainingExperiment
from scaleout.stragglers import straggler_table
from scaleout.training.imperfect import speeds

Make = Callable[..., TrainingExperiment]


def test_a_row_is_the_experiment_with_that_chip_slow(small: Make) -> None:
    spec = small()
    table = straggler_table(spec, 0.8)
    assert table.step_time == simulate(spec).step_time
    assert sum(row.like_it for row in table.rows) == spec.chips
    for row in table.rows:
        alone = simulate(small(slow={"chips": {row.rank: 0.8}}))
        assert row.step_time == alone.step_time
        assert row.cost == pytest.approx(alone.step_time / table.step_time - 1)
        # nobody waits longer than for all that the chip does
        assert 0 <= row.passed_on <= 1
    assert [row.cost for row in table.rows] == sorted((row.cost for row in table.rows), reverse=True)


def test_one_chip_that_nobody_waits_for_passes_all_of_its_compute_on(small: Make) -> None:
    spec = small(chips=1, layout={"tp": 1, "pp": 1, "dp": 1, "vpp": 1, "zero": 0, "sequence_parallel": False},
                 model="llama-3.2-1b", batch={"global": 2, "sequence": 1024})  # fmt: skip
    (row,) = straggler_table(spec, 0.5).rows
    assert row.passed_on == pytest.approx(1.0, abs=1e-6)


def test_what_a_slow_chip_costs_is_against_the_step_without_it(small: Make) -> None:
    spec = small(slow={"chips": {0: 0.9, 40: 0.7}})
    table = straggler_table(spec)
    assert {row.rank for row in table.rows} == {0, 40}
    both = simulate(spec).step_time
    for row in table.rows:
        other = {0: 0.9, 40: 0.7}
        del other[row.rank]
        assert row.cost == pytest.approx(both / simulate(small(slow={"chips": other})).step_time - 1)
    json.dumps(table.to_dict())


@pytest.mark.parametrize("rate", [0, 1, 1.5, -1, True, "fast", float("nan")])
def test_no_rate_is_refused(small: Make, rate: float) -> None:
    with pytest.raises(SpecError, match="above 0 and below 1"):
        straggler_table(small(), rate)


def test_without_a_slow_chip_a_rate_is_asked_for(small: Make) -> None:
    with pytest.raises(SpecError, match="no chip is slow"):
        straggler_table(small())


def test_a_spread_of_rates_is_drawn_once_and_has_the_deviation_that_is_asked_for(small: Make) -> None:
    spec = small(chips=4096, layout={"dp": 256}, batch={"global": 2048}, slow={"spread": 0.02, "chips": {5: 0.5}})
    rates = dict(speeds(spec))
    assert rates == dict(speeds(spec))
    assert rates != dict(speeds(small(chips=4096, layout={"dp": 256}, batch={"global": 2048}, slow={"spread": 0.02})))
    assert 0.45 < rates.pop(5) < 0.55
    values = list(rates.values())
    assert sum(values) / len(values) == pytest.approx(1.0, abs=2e-3)
    assert (sum((v - 1) ** 2 for v in values) / len(values)) ** 0.5 == pytest.approx(0.02, rel=0.05)
    assert min(values) >= 0.94
    assert max(values) <= 1.06


def test_unequal_chips_are_slower_than_equal_ones_and_every_rank_is_simulated(small: Make) -> None:
    even = simulate(small())
    result, recording = record(small(slow={"spread": 0.03, "seed": 7}))
    assert result.step_time > even.step_time
    assert result.classes == 64
    assert not recording.folded
    # the slowest chip, all the time, is the worst that can happen
    worst = min(recording.job.speed.values())
    assert result.step_time <= even.step_time / worst


def test_a_published_figure_stands_beside_the_step(small: Make) -> None:
    plain = simulate(small())
    for published in (
        {"step_time": f"{plain.step_time * 2!r} s"},
        {"tokens_per_second": plain.tokens_per_second / 2},
        {"model_flops_per_chip": f"{plain.model_flops_per_chip / 2!r} flop/s"},
        {"mfu": plain.mfu / 2},
    ):
        beside = simulate(small(published={**published, "source": "somebody"})).published
        assert beside is not None
        assert beside.step_time == pytest.approx(2 * plain.step_time)
        assert beside.difference == pytest.approx(-0.5)
    assert plain.published is None
    result = simulate(small(published={"mfu": 0.4, "source": "somebody"}))
    assert scaleout.Result.from_json(result.to_json()) == result


@pytest.mark.parametrize("given", [{}, {"mfu": 0.4, "step_time": "1 s"}, {"step_time": "0 s"}, {"mfu": 2}])
def test_one_figure_is_published_and_it_is_above_0(small: Make, given: dict[str, float]) -> None:
    with pytest.raises(SpecError, match="published"):
        small(published={**given, "source": "somebody"})
