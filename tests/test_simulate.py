"""Whole results: the headline, what does not fit, and what a result promises."""

import json
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace

import pytest

from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.event import evaluate
from scaleout.io.experiments import experiment
from scaleout.result import Result
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]


@pytest.fixture(scope="module")
def headline() -> Result:
    return simulate(experiment("llama-3.1-405b-16k"))


def test_llama_405b_on_16384_h100_meets_the_published_throughput(headline: Result) -> None:
    # arXiv 2407.21783, table 4: 400 TFLOP/s a chip at tp 8, pp 16, dp 128, 8,192 tokens; MFU 41 %
    assert headline.model_flops_per_chip == pytest.approx(400e12, rel=0.05)
    assert headline.mfu == pytest.approx(0.41, abs=0.02)


def test_the_headline_adds_up(headline: Result) -> None:
    assert headline.step_time == headline.step_time_ps / 1e12
    assert sum(headline.breakdown_ps.values()) == headline.step_time_ps
    assert headline.tokens_per_second == pytest.approx(2048 * 8192 / headline.step_time)
    assert headline.memory.total <= headline.memory.capacity == pytest.approx(79.11 * 2**30)
    assert headline.classes == 16
    assert headline.bound_by == "matmul"
    assert any(not row.verified for row in headline.assumptions)
    assert all(row.source for row in headline.assumptions)


def test_without_recomputing_the_product_the_headline_does_not_fit() -> None:
    spec = experiment("llama-3.1-405b-16k")
    with pytest.raises(PlanError, match="does not fit in HBM"):
        simulate(replace(spec, recompute=()))


def test_what_does_not_fit_names_stage_shortfall_and_the_nearest_that_does() -> None:
    spec = experiment("llama-3.1-405b-16k", ("recompute=[]",))
    with pytest.raises(PlanError) as caught:
        simulate(spec)
    message = str(caught.value)
    assert "stage 1 of 16 needs 90" in message
    assert "more than the 84.94 GB of h100-sxm-80gb" in message
    assert "nearest that fits: --set recompute=[norm]" in message
    simulate(replace(spec, recompute=("norm",)))


def test_a_model_far_too_large_gets_a_layout_that_fits(small: Make) -> None:
    spec = small(model="llama-3.1-70b", layout={"tp": 1, "pp": 1, "dp": 64, "vpp": 1, "zero": 0}, batch={"global": 64})
    with pytest.raises(PlanError, match=r"nearest that fits: (--set \S+ ?)+") as caught:
        simulate(spec)
    changes = str(caught.value).split("nearest that fits: ")[1].replace("'", "").split("--set ")[1:]
    document = {
        "system": "dgx-h100",
        "chips": 64,
        "model": "llama-3.1-70b",
        "layout": {"dp": 64},
        "batch": {"global": 64, "sequence": 2048},
    }
    assert simulate(experiment(document, tuple(change.strip() for change in changes))).step_time > 0


def test_a_model_that_fits_nowhere_near_says_so(small: Make) -> None:
    spec = small(chips=1, model="llama-3.1-405b", layout={"tp": 1, "pp": 1, "dp": 1, "vpp": 1})
    with pytest.raises(PlanError, match="nothing near it fits"):
        simulate(spec)


def test_folding_does_not_change_a_result(small: Make) -> None:
    folded, unfolded = simulate(small()), simulate(small(), fold=False)
    assert unfolded.classes == 64
    assert unfolded.evaluator == "event, unfolded"
    same = ("step_time_ps", "breakdown_ps", "memory", "mfu", "critical_path", "links")
    assert all(getattr(folded, name) == getattr(unfolded, name) for name in same)


def test_a_result_goes_through_json_and_back(headline: Result) -> None:
    text = headline.to_json()
    assert Result.from_json(text) == headline
    assert Result.from_json(text).to_json() == text
    beside = json.dumps({**json.loads(text), "run": {"wall_time": 1.0}})
    assert Result.from_json(beside) == headline


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"format": 1}', '{"format": 4}', "1e999"])
def test_what_is_no_result_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="result:"):
        Result.from_json(text)


def test_a_result_that_lacks_a_field_is_refused_by_its_name(headline: Result) -> None:
    data = headline.to_dict()
    del data["step_time"], data["memory"]
    with pytest.raises(SpecError, match="not a scaleout result: step_time, memory: missing"):
        Result.from_json(json.dumps(data))


def test_a_result_is_frozen_and_repeats(small: Make) -> None:
    result = simulate(small())
    with pytest.raises(FrozenInstanceError):
        result.step_time = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        result.breakdown["compute"] = 0.0  # type: ignore[index]
    assert simulate(small()).to_json() == result.to_json()


def test_a_step_on_one_chip() -> None:
    spec = experiment(
        {
            "system": "dgx-h100",
            "chips": 1,
            "model": "gpt3-125m",
            "layout": {},
            "batch": {"global": 8, "micro": 4, "sequence": 2048},
        }
    )
    result = simulate(spec)
    assert result.breakdown["compute"] + result.breakdown["optimizer"] == pytest.approx(result.step_time)
    assert 0.1 < result.mfu < 0.6


def test_overrides_are_on_record_and_marked_unverified() -> None:
    spec = experiment("llama-3.1-8b-1k", ("system.chip.power=900 W", "recompute=[norm]"))
    result = simulate(spec)
    assert result.experiment["settings"] == ["system.chip.power=900 W", "recompute=[norm]"]
    first = result.assumptions[0]
    assert (first.name, first.value, first.verified) == ("overridden", "system.chip.power=900 W", False)


@pytest.mark.parametrize(
    ("part", "changes", "says"),
    [
        ("layout", {"zero": 4}, "layout.zero: 4 is not accepted; expected 0 or 1 or 2 or 3"),
        ("layout", {"sequence_parallel": "no"}, "sequence_parallel: 'no' is not of type bool"),
        ("layout", {"tp": None}, "layout.tp: None is not a whole number"),
        ("model", {"norm": "foo"}, "model.norm: 'foo' is not accepted"),
        ("slow", {"chips": 3}, "slow.chips: 3 is not a mapping"),
        ("slow", {"chips": {1.5: 0.5}}, "slow.chips.1.5: the key is not of type int"),
        ("", {"precision": "fp6"}, "training.precision: 'fp6' is not accepted"),
        ("", {"layout": None}, "training.layout: None is not of type Layout"),
        ("", {"recompute": None}, "training.recompute: None is not accepted; expected a list"),
    ],
)
def test_specs_in_python_refuse_wrong_types(small: Make, part: str, changes: dict[str, object], says: str) -> None:
    spec = small()
    with pytest.raises(SpecError, match=says.replace("(", r"\(")):
        replace(getattr(spec, part) if part else spec, **changes)


def test_numbers_are_brought_to_their_type(small: Make) -> None:
    import numpy as np

    spec = replace(small(), chips=np.int64(64), layout=replace(small().layout, tp=4.0))
    assert (type(spec.chips), type(spec.layout.tp)) == (int, int)
    assert spec == small()


@pytest.mark.parametrize("what", ["llama-3.1-8b-1k", {}, None])
def test_what_is_no_experiment_is_refused(what: object) -> None:
    with pytest.raises(SpecError, match="is no experiment"):
        simulate(what)  # type: ignore[arg-type]


def test_specs_and_results_survive_pickling(headline: Result) -> None:
    import pickle

    spec = experiment("llama-3.1-405b-16k")
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert hash(pickle.loads(pickle.dumps(spec))) == hash(spec)
    assert pickle.loads(pickle.dumps(headline)) == headline
    assert evaluate(spec).timeline.end == headline.step_time_ps


def test_rates_of_a_narrow_format_are_those_of_its_units(small: Make) -> None:
    spec = small(system="dgx-b200", stack="nemo", precision="nvfp4")
    result = simulate(spec)
    assert result.mfu == pytest.approx(result.model_flops_per_chip / spec.system.chip.peak_flops["fp4"])
    said = {row.name: row for row in result.assumptions}
    assert said["b200-sxm-180gb: nvfp4 peak"].value == "9 PFLOP/s"
    assert said["b200-sxm-180gb: long runs"].value == "at most 3.84 PFLOP/s under the power cap"


def test_what_the_stack_blocks_and_how_it_deals_layers_is_said(small: Make) -> None:
    said = {row.name: row for row in simulate(small(stack="megatron-deepspeed", precision="fp16")).assumptions}
    words = said["stack megatron-deepspeed 2021-22"].value
    assert "50 us of the host for each" in words
    assert words.endswith("reductions of gradients, sends: blocking")
    assert "the fullest" in said["layers"].source
    assert said["h100-sxm-80gb: unfused"].verified  # products alone, and those were measured
    assert not {row.name: row for row in simulate(small()).assumptions}["h100-sxm-80gb: flash-attention-2"].verified
