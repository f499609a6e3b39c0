"""Steps of models whose layers are of several kinds."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.engine import ledger
from scaleout.errors import PlanError
from scaleout.evaluate.event import evaluate
from scaleout.models import parameters
from scaleout.specs import TrainingExperiment
from scaleout.training import build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]
STEPS: dict[str, dict[str, Any]] = {
    "mixtral-8x7b": {"tp": 2, "pp": 2, "dp": 4, "ep": 8, "sequence_parallel": True},
    "deepseek-v2-lite": {"tp": 1, "pp": 1, "dp": 16, "ep": 16},
    "qwen3-next-80b-a3b": {"tp": 2, "pp": 2, "dp": 4, "ep": 2, "etp": 2, "sequence_parallel": True},
    "gemma2-9b": {"tp": 2, "pp": 2, "dp": 4, "sequence_parallel": True},
    "t5-3b": {"tp": 2, "pp": 1, "dp": 8, "sequence_parallel": True},
}


def step(small: Make, model: str, **changes: Any) -> TrainingExperiment:
    layout = {"vpp": 1, "zero": 1, "sequence_parallel": False, **STEPS[model]}
    batch = {"global": 16, "sequence": 1024}
    # as much HBM as it takes: what is tested is not what fits
    return small(**{"model": model, "chips": 16, "layout": layout, "batch": batch, "stack": "megatron-lm", **changes})


@pytest.mark.parametrize("model", STEPS)
def test_folded_is_unfolded_integer_for_integer(small: Make, model: str) -> None:
    spec = step(small, model)
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False)
    assert folded.timeline.end == unfolded.timeline.end > 0
    assert len(folded.timeline.classes) < len(unfolded.timeline.classes)


@pytest.mark.parametrize("model", STEPS)
@pytest.mark.parametrize("recompute", [[], ["moe_act", "norm"], ["full"]], ids=str)
def test_memory_returns_to_its_start(small: Make, model: str, recompute: list[str]) -> None:
    recording = evaluate(step(small, model, recompute=recompute))
    job = recording.job
    for cls, times in enumerate(recording.timeline.classes):
        program = recording.class_program(cls)
        book = ledger(job.programs[program], job.static[program], job.memory_kinds, times)
        assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)
        assert (book.held >= -1.0).all()
        assert (np.diff(book.time) >= 0).all()


def test_experts_are_held_once_over_the_ranks_that_share_them(small: Make) -> None:
    spec = step(small, "mixtral-8x7b", layout={**STEPS["mixtral-8x7b"], "pp": 1, "dp": 8, "ep": 8, "vpp": 1, "zero": 0})
    experts = spec.model.experts
    assert experts is not None
    total = parameters(spec.model)
    cut = spec.model.layers * experts.count * 3 * spec.model.hidden * experts.ffn
    (static,) = build(spec).static
    assert static["weights"] == pytest.approx(2 * ((total - cut) / 2 + cut / 8), rel=1e-3)


def test_layers_beyond_those_that_recompute_keep_and_repeat_nothing(small: Make) -> None:
    base = small(layout={"vpp": 1}, recompute=["full"])
    ends, peaks = [], []
    for layers in (0, 3, 8, None):
        spec = replace(base, recompute_layers=layers)
        ends.append(evaluate(spec).timeline.end)
        peaks.append(max(sum(kinds.values()) for kinds in stage_peaks(build(spec))))
    assert ends == sorted(ends)
    assert ends[0] == evaluate(replace(base, recompute=())).timeline.end
    assert ends[1] < ends[2] == ends[3]
    assert peaks[0] > peaks[1] > peaks[3]


def test_a_popular_rank_makes_the_step_longer_and_capacity_bounds_it(small: Make) -> None:
    even = step(small, "mixtral-8x7b")
    ends = [
        evaluate(replace(even, routing=replace(even.routing, skew=skew, capacity=capacity))).timeline.end
        for skew, capacity in ((0.0, None), (0.8, 1.0), (0.8, None))
    ]
    assert ends[0] < ends[2]
    assert ends[1] < ends[2]


def test_shared_experts_and_weight_gradients_beside_the_exchange_shorten_the_step(small: Make) -> None:
    apart = step(small, "deepseek-v2-lite")
    beside = replace(apart, stack=replace(apart.stack, overlap_experts=True))
    assert evaluate(beside).timeline.end < evaluate(apart).timeline.end


def test_an_encoder_in_a_pipeline_is_refused(small: Make) -> None:
    with pytest.raises(PlanError, match="encoder"):
        build(step(small, "t5-3b", layout={"tp": 2, "pp": 2, "dp": 4, "vpp": 1}))
