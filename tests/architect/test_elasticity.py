"""Elasticities: identities, bounds, and jobs that one knob alone bounds."""

import math
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from typing import Any

import pytest

import scaleout
from scaleout.architect import Elasticities, Knob, elasticity, on_chip
from scaleout.architect.elasticity import elasticities, priced
from scaleout.errors import SpecError
from scaleout.hardware.silicon import estimate
from scaleout.io.catalogue import load
from scaleout.specs import TrainingExperiment
from scaleout.units import Number

SMALL = {
    "kind": "training", "system": "dgx-h100", "chips": 16, "model": "llama-3.1-8b",
    "layout": {"tp": 2, "dp": 8, "sequence_parallel": True, "zero": 1}, "batch": {"global": 8, "sequence": 4096},
}  # fmt: skip
ONE_BY_ONE = {
    "kind": "serving", "system": "hgx-h200", "model": "qwen2.5-32b", "engine": "vllm-0.19", "pools": [{"tp": 1}],
    "requests": {
        "count": 2, "input": {"mean": 16384}, "output": {"mean": 40}, "arrivals": {"process": "constant", "rate": 0.05},
    },
}  # fmt: skip
KNOB = Knob("everything", "all rates and latencies", lambda system, factor: system)


def training(**more: Any) -> TrainingExperiment:
    return scaleout.experiment({**SMALL, **more})


@cache
def small() -> Elasticities:
    return elasticities(training(), evaluator="analytic")


def faster(spec: Any, c: float) -> Any:
    """Every rate in a spec times c, every time over it, by the units of its fields."""
    hints = typing.get_type_hints(type(spec), include_extras=True)
    return replace(spec, **{f.name: _faster(getattr(spec, f.name), hints[f.name], f.name, c) for f in fields(spec)})


def _faster(value: Any, hint: Any, name: str, c: float) -> Any:
    if isinstance(value, Mapping):
        return {key: _faster(one, hint, name, c) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(_faster(one, hint, name, c) for one in value)
    if is_dataclass(value):
        return faster(value, c)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    unit = _unit(hint)
    if unit in ("byte/s", "flop/s", "1/s", "Hz") or name == "exponentials":
        return value * c
    return value / c if unit == "s" else value


def _unit(hint: Any) -> str:
    for piece in (*getattr(hint, "__metadata__", ()), *typing.get_args(hint)):
        found = piece.dimension if isinstance(piece, Number) else _unit(piece)
        if found:
            return str(found)
    return ""


def test_all_rates_and_times_together_have_an_elasticity_of_one() -> None:
    job = training()
    quick = replace(job, system=faster(job.system, 1.5), stack=faster(job.stack, 1.5))
    for evaluator in ("analytic", "event"):
        before, after = (scaleout.simulate(spec, evaluator=evaluator) for spec in (job, quick))
        turned = elasticity._effect("", KNOB, ("step time", "s"), before.step_time, after.step_time, 1.5)
        assert turned.elasticity == pytest.approx(-1.0, rel=1e-6)


def test_no_knob_alone_does_more_than_all_and_they_add_up_to_less() -> None:
    steps = [row for row in small().effects if row.outcome == "step time"]
    rates = [row.elasticity for row in steps if row.knob not in ("power-limit", "energy-per-flop")]
    assert all(-1.0 < each < 1e-9 for each in rates)
    assert -1.0 - 1e-3 < sum(rates) < -0.1


def test_rows_are_sorted_and_agree_with_themselves() -> None:
    found = small()
    assert {row.outcome for row in found.effects} == {"step time", "energy", "cost"}
    for outcome in ("step time", "energy", "cost"):
        rows = [row for row in found.effects if row.outcome == outcome]
        assert [abs(row.elasticity) for row in rows] == sorted((abs(row.elasticity) for row in rows), reverse=True)
        for row in rows:
            assert row.change == pytest.approx(row.after / row.before - 1.0)
            assert row.elasticity == pytest.approx(math.log1p(row.change) / math.log(1.1), abs=1e-12)
    plain = found.to_dict()
    assert next(iter(plain)) == "format"
    assert len(plain["effects"]) == len(found.effects)


def test_what_bounds_decode_of_one_sequence_is_memory() -> None:
    job = scaleout.serving_experiment(ONE_BY_ONE)
    calls: list[tuple[int, int]] = []
    found = elasticities(
        job, knobs=("hbm-bandwidth", "tensor", "hbm-bandwidth"), watch=lambda done, of: calls.append((done, of))
    )
    rows = {(row.outcome, row.knob): row for row in found.effects}
    assert -1.0 <= rows["TPOT p99", "hbm-bandwidth"].elasticity < -0.8
    assert abs(rows["TPOT p99", "tensor"].elasticity) < 0.02
    # a prompt of 16 Ki tokens is no matter of memory
    assert rows["TTFT p99", "hbm-bandwidth"].elasticity > -0.2
    assert calls == [(1, 3), (2, 3), (3, 3)]


def test_a_design_without_a_price_costs_what_its_silicon_does() -> None:
    silicon, chip = load("silicon", "default"), load("chip", "example-training-chip")
    one = priced(chip, silicon)
    made = estimate(chip.design, silicon)
    assert one.price == pytest.approx(made.unit_cost + made.nre_share)
    assert "without margin" in one.price_source
    assert "price" in one.unverified
    assert priced(one, silicon) == one
    assert priced(chip, silicon, 10 * made.volume).price == pytest.approx(made.unit_cost + made.nre_share / 10)
    assert priced(load("chip", "h100-sxm-80gb"), silicon).price == load("chip", "h100-sxm-80gb").price
    found = elasticities(
        on_chip(training(), chip), knobs=("l2", "hbm-capacity", "macs"), evaluator="analytic", factor=1.2
    )
    cost = {row.knob: row for row in found.effects if row.outcome == "cost"}
    step = {row.knob: row for row in found.effects if row.outcome == "step time"}
    # memory that nothing needs costs and brings nothing
    assert step["hbm-capacity"].change == pytest.approx(0.0, abs=1e-12)
    assert cost["hbm-capacity"].change > 1e-3
    # so does area; it is paid for whether it brings anything or not
    assert cost["l2"].change - step["l2"].change > 1e-3
    assert cost["macs"].change > step["macs"].change


def test_units_that_the_power_limit_does_not_feed_bring_no_joules() -> None:
    job = on_chip(training(), load("chip", "example-training-chip"))
    found = elasticities(job, knobs=("macs", "power-limit", "energy-per-flop"), evaluator="analytic")
    rows = {(row.outcome, row.knob): row for row in found.effects}
    # what is turned from is what would be simulated
    assert rows["step time", "macs"].before == scaleout.simulate(job, evaluator="analytic").step_time
    assert rows["energy", "macs"].change > rows["step time", "macs"].change - 1e-3
    both = elasticities(
        replace(job, system=replace(job.system, chip=replace(job.system.chip, power=2 * job.system.chip.power))),
        knobs=("macs",), evaluator="analytic",
    )  # fmt: skip
    fed = next(row for row in both.effects if row.outcome == "step time")
    assert fed.change <= rows["step time", "macs"].change + 1e-9


def test_a_design_that_nobody_can_price_still_has_elasticities() -> None:
    chip = load("chip", "example-training-chip")
    odd = replace(chip, design=replace(chip.design, process="N77"))
    found = elasticities(on_chip(training(), odd), knobs=("clock",), evaluator="analytic")
    assert {row.outcome for row in found.effects} >= {"step time", "energy"}
    assert len(found.problems) == 1
    assert "no price" in found.problems[0]


def test_a_turn_that_does_not_fit_is_a_problem_and_no_end() -> None:
    found = elasticities(training(), knobs=("hbm-capacity", "tensor"), factor=0.1, evaluator="analytic")
    assert {row.knob for row in found.effects} == {"tensor"}
    assert len(found.problems) == 1
    assert "hbm-capacity" in found.problems[0]


def test_the_same_job_twice_keeps_its_rows_apart() -> None:
    found = elasticities([training(), training()], knobs=("tensor",), evaluator="analytic")
    names = {row.job for row in found.effects}
    assert len(names) == 2
    assert any(name.endswith("(2)") for name in names)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"knobs": ("hbm-bandwith",)}, "did you mean 'hbm-bandwidth'"),
        ({"knobs": ("network-latency",), "system": "gb200-nvl72"}, "unknown"),
        ({"factor": 1}, "factor"),
        ({"factor": 1000.0}, "factor"),
        ({"factor": math.nan}, "factor"),
    ],
)
def test_what_is_refused(options: dict[str, Any], words: str) -> None:
    job = training()
    if options.pop("system", None):
        job = replace(job, system=replace(job.system, network=replace(job.system.network, kind="none", bandwidth=0.0)))
    with pytest.raises(SpecError, match=words):
        elasticities(job, **options)


def test_only_training_and_serving_are_taken() -> None:
    with pytest.raises(SpecError, match="at least one"):
        elasticities([])
    net = scaleout.net_experiment("resnet-50-h200")
    with pytest.raises(SpecError, match="of training or of serving"):
        on_chip(net, load("chip", "l4"))
    with pytest.raises(SpecError, match="of training or of serving"):
        elasticities([net])  # type: ignore[list-item]
    pools = [{"tp": 1, "chip": "h100-sxm-80gb"}]
    with pytest.raises(SpecError, match="chip of its own"):
        on_chip(
            scaleout.serving_experiment({**ONE_BY_ONE, "pools": pools, "model": "llama-3.1-8b"}), load("chip", "l4")
        )
