"""What jobs cost, a whole training, and what of it is written and read."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from made_up_energy import made_up_energy

from scaleout.errors import SpecError
from scaleout.evaluate.cost import cost_assumptions, cost_of, groups_of, run_of
from scaleout.io.experiments import experiment, serving_experiment
from scaleout.io.serving import serve
from scaleout.result import Result
from scaleout.served import Served
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
FEW = ("requests.count=20", "requests.arrivals.rate=2")


def test_the_parts_of_a_steps_cost_make_it_up(small: Make) -> None:
    spec = small()
    result = simulate(spec, evaluator="analytic")
    cost = result.cost
    assert cost is not None
    assert cost.facility == "default"
    assert cost.hour_total == pytest.approx(cost.chip_hour * 64)
    assert cost.span == pytest.approx(cost.hour_total * result.step_time / 3600)
    assert cost.per_million_tokens * spec.batch.tokens / 1e6 == pytest.approx(cost.span)
    assert set(cost.capex) <= set(cost.hour)
    assert 0 < cost.error < 1
    # both evaluators stand in the same place, whatever power they find
    other = simulate(spec).cost
    assert other is not None
    assert {**cost.hour, "electricity": 0.0} == {**other.hour, "electricity": 0.0}


def test_nothing_costs_without_a_facility(small: Make) -> None:
    spec = replace(small(), facility=None)
    assert cost_of(spec, 1.0, 1.0, None) is None
    assert cost_assumptions(spec) == ()
    assert simulate(spec, evaluator="analytic").cost is None


def test_electricity_is_what_the_machines_draw_where_that_is_known(small: Make) -> None:
    spec = small()
    place = spec.facility
    assert place is not None
    energy = made_up_energy(64, 2.0, 1e6)
    known, unknown = (cost_of(spec, 2.0, 1e6, one) for one in (energy, None))
    assert known is not None and unknown is not None
    assert known.hour["electricity"] == pytest.approx(energy.power * place.electricity * 3600)
    others = [{k: v for k, v in cost.hour.items() if k != "electricity"} for cost in (known, unknown)]
    assert others[0] == others[1]
    # the energy of the span, at its price, is the electricity of the span
    assert known.hour["electricity"] * 2.0 / 3600 == pytest.approx(energy.total * place.electricity)
    names = [[row.name for row in cost_assumptions(spec, one)] for one in (energy, None)]
    assert set(names[1]) - set(names[0]) == {"facility default: power"}


def test_what_nobody_checked_is_marked(small: Make) -> None:
    rows = {row.name: row for row in cost_assumptions(small())}
    assert not rows["facility default: interest"].verified
    assert rows["facility default: electricity"].verified
    assert all(row.source.strip() for row in rows.values())
    changed = {row.name: row for row in cost_assumptions(small(facility="hyperscaler"))}
    assert "PUE 1.1" in changed["facility hyperscaler: electricity"].value


def test_a_figure_that_is_set_has_no_source_any_more() -> None:
    spec = experiment("llama-3.1-8b-1k", ("facility.electricity=0.2 USD/kWh", "facility.rack_power=40 kW"))
    assert spec.facility is not None
    assert spec.facility.electricity == pytest.approx(0.2 / 3.6e6)
    assert not spec.facility.verified("electricity")
    assert spec.facility.verified("pue")
    with pytest.raises(SpecError, match=r"electricty.*electricity"):
        experiment("llama-3.1-8b-1k", ("facility.electricty=0.2 USD/kWh",))


def test_chips_of_other_kinds_cost_what_they_do(small: Make) -> None:
    mixed = small(others=[{"chip": "h200-sxm-141gb", "first": 32, "count": 32}])
    assert [(group.chip.name, group.count) for group in groups_of(mixed)] == [
        ("h100-sxm-80gb", 32), ("h200-sxm-141gb", 32),
    ]  # fmt: skip


@pytest.fixture(name="served", scope="module")
def _served() -> Served:
    return serve(serving_experiment("llama3-70b-poisson", FEW))


def test_serving_costs_by_the_token_that_is_put_out(served: Served) -> None:
    cost = served.cost
    assert cost is not None
    assert cost.hour_total == pytest.approx(cost.chip_hour * served.chips)
    assert cost.span == pytest.approx(cost.hour_total * served.duration / 3600)
    # $/h over tokens/h
    a_million = cost.chip_hour * served.chips / (served.output_tokens_per_second * 3600) * 1e6
    assert cost.per_million_tokens == pytest.approx(a_million)
    assert any(row["name"] == "facility default: interest" and not row["verified"] for row in served.assumptions)


def test_every_chip_of_every_replica_is_paid_once() -> None:
    spec = serving_experiment("llama3-70b-poisson", (*FEW, "pools.0.replicas=3"))
    assert sum(group.count for group in groups_of(spec)) == spec.chips


def test_replicas_that_no_network_joins_have_ports_still() -> None:
    few, many = (
        serving_experiment("llama3-70b-poisson", (*FEW, f"pools.0.replicas={count}", "system.network.tiers=2"))
        for count in (4, 4096)
    )
    for spec, all_of_it in ((few, True), (many, False)):
        cost = cost_of(spec, 1.0, 1.0, None)
        assert cost is not None and cost.capex["network"] > 0
        (row,) = [row for row in cost_assumptions(spec) if row.name.endswith(": network")]
        assert ("no such network" in row.value) is not all_of_it


def test_a_whole_training_takes_its_tokens_time() -> None:
    """Meta's model card of Llama 3.1 gives 30.84 million hours of H100 for 405B; 15.6 T tokens are in its paper."""
    result = simulate(experiment("llama-3.1-405b-16k"), evaluator="analytic")
    assert result.cost is not None
    run = run_of(result, 15.6e12, 0.9)
    assert run.time * result.tokens_per_second * run.goodput == pytest.approx(run.tokens)
    assert run.steps * result.step_time == pytest.approx(run.time * run.goodput)
    assert run.chip_hours == pytest.approx(30.84e6, rel=0.1)
    assert run.cost == pytest.approx(run.chip_hours * result.cost.chip_hour)
    assert run.cost == pytest.approx(result.cost.per_million_tokens * 15.6e6 / 0.9)
    assert run.energy is None or run.energy == pytest.approx(result.energy.power * run.time)  # type: ignore[union-attr]
    assert run.error["cost"] >= run.error["time"] == result.error_band.relative


def test_energy_of_a_whole_training(small: Make) -> None:
    result = simulate(small(), evaluator="analytic")
    tokens = result.tokens_per_second * result.step_time
    result = replace(result, energy=made_up_energy(64, result.step_time, tokens))
    assert result.energy is not None
    run = run_of(result, 1e9)
    assert run.energy == pytest.approx(1e9 * result.energy.per_token)
    assert run_of(result, 1e9, 0.5).energy == pytest.approx(2 * run.energy)  # type: ignore[operator]


@pytest.mark.parametrize(("tokens", "goodput"), [(0, 1), (-1.0, 1), (1e19, 1), (True, 1), (1e9, 0), (1e9, 1.1)])
def test_a_training_out_of_range_is_refused(small: Make, tokens: float, goodput: float) -> None:
    result = simulate(small(), evaluator="analytic")
    with pytest.raises(SpecError, match="is not a number above 0"):
        run_of(result, tokens, goodput)


def test_energy_and_cost_are_read_back(small: Make, served: Served) -> None:
    result = simulate(small(), evaluator="analytic")
    result = replace(result, energy=made_up_energy(64, result.step_time, 1e6))
    assert Result.from_json(result.to_json()) == result
    whole = replace(served, energy=made_up_energy(served.chips, served.duration, 1e4, course=False))
    assert Served.from_json(whole.to_json()) == whole
    data = json.loads(result.to_json())
    data["cost"]["hour"]["chips"] = "much"
    with pytest.raises(SpecError, match=r"cost\.hour\.chips: 'much' is not a number"):
        Result.from_json(json.dumps(data))
    del data["cost"]["hour"]
    with pytest.raises(SpecError, match="not a scaleout result"):
        Result.from_json(json.dumps(data))
