"""Folded equals unfolded, integer for integer, and the closed-form stretches equal their operations."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from machines import same

from scaleout.evaluate.event import evaluate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]

CASES: dict[str, dict[str, Any]] = {
    "64 ranks": {},
    "64 ranks, one slow chip": {"slow": {"chips": {5: 0.8}}},
    "64 ranks, one slow port": {"slow": {"ports": {5: 0.5}}},
    "64 ranks, one slow scale-up link": {"slow": {"scale_up": {9: 0.5}}},
    "64 ranks, plain 1F1B, no sequence parallel, ZeRO-0": {"layout": {"vpp": 1, "sequence_parallel": False, "zero": 0}},
    "64 ranks, tied embeddings": {"model": "gpt3-1.3b", "layout": {"vpp": 1}},
    "64 ranks, dp only": {"layout": {"tp": 1, "pp": 1, "dp": 64, "vpp": 1}, "batch": {"global": 64}},
    "64 ranks, overlapping stack": {"stack": "megatron-lm"},
    "64 ranks, two chips a port": {"system": "vtrain-a100-4xhdr200"},
    "64 ranks, two chips a port, one slow": {"system": "vtrain-a100-4xhdr200", "slow": {"ports": {5: 0.5}}},
    "64 ranks, tensor groups over two nodes with shared ports": {
        "system": "jean-zay-a100", "model": "gpt3-1.3b", "layout": {"tp": 16, "pp": 2, "dp": 2, "vpp": 1},
    },
    "128 ranks, tp 2": {"chips": 128, "layout": {"tp": 2, "dp": 16}, "batch": {"global": 64}},
    "128 ranks, one slow chip": {
        "chips": 128, "layout": {"tp": 8, "dp": 4}, "batch": {"global": 16}, "slow": {"chips": {77: 0.9}},
    },
    "128 ranks, one slow port": {
        "chips": 128, "layout": {"tp": 8, "dp": 4}, "batch": {"global": 16}, "slow": {"ports": {127: 0.3}},
    },
    "256 ranks": {"chips": 256, "layout": {"tp": 8, "dp": 8}},
    "256 ranks, one slow chip": {"chips": 256, "layout": {"tp": 8, "dp": 8}, "slow": {"chips": {100: 0.9}}},
    "256 ranks, one slow port": {"chips": 256, "layout": {"tp": 8, "dp": 8}, "slow": {"ports": {37: 0.3}}},
    "256 ranks, both, two pods": {
        "chips": 256, "layout": {"tp": 8, "dp": 8}, "slow": {"chips": {100: 0.9}, "ports": {37: 0.3}},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_folded_equals_unfolded_integer_for_integer(small: Make, name: str) -> None:
    spec = small(**CASES[name])
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False, compiled=False)
    assert unfolded.wiring.classes == spec.chips
    assert folded.wiring.classes < spec.chips / 2
    assert same(folded, unfolded)


@pytest.mark.parametrize("name", CASES)
def test_runs_equal_one_event_for_every_operation(small: Make, name: str) -> None:
    spec = small(**CASES[name])
    assert same(evaluate(spec), evaluate(spec, runs=False))


def test_a_class_a_stage_where_all_is_alike(small: Make) -> None:
    recording = evaluate(small(chips=256, layout={"tp": 8, "dp": 8}))
    assert recording.wiring.classes == 4
    assert recording.wiring.sizes.tolist() == [64] * 4


def test_a_slow_chip_splits_its_tensor_group_and_data_groups_off(small: Make) -> None:
    # rank 5 of stage 0: itself, its fellows in the node, its dp group, all the others; its
    # neighbours up and down the pipeline likewise
    recording = evaluate(small(chips=256, layout={"tp": 8, "dp": 8}, slow={"chips": {5: 0.9}}))
    assert recording.wiring.classes == 16
    assert sorted(recording.wiring.sizes.tolist()) == [1] * 4 + [7] * 8 + [49] * 4


def test_one_slow_chip_slows_everyone(small: Make) -> None:
    ends = [evaluate(small(slow={"chips": {5: share}} if share < 1 else {})).timeline.end for share in (1.0, 0.9, 0.5)]
    assert ends == sorted(ends)
    assert ends[0] < ends[2]


def test_the_partition_is_the_coarsest_on_16384_chips(small: Make) -> None:
    from scaleout.io.experiments import experiment

    recording = evaluate(experiment("llama-3.1-405b-16k"))
    assert recording.wiring.classes == 16
    assert recording.wiring.sizes.tolist() == [1024] * 16
    assert np.bincount(recording.wiring.class_of).tolist() == [1024] * 16
