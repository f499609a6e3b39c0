"""A step in low precision: times, memory, and both evaluators."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scaleout.errors import SpecError
from scaleout.hardware import pack
from scaleout.hardware.formats import RECIPES
from scaleout.parallel import kept_of, options, shard
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment
from scaleout.training import build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]


def on_b200(small: Make, precision: str) -> TrainingExperiment:
    return small(
        system="dgx-b200", chips=8, layout={"tp": 2, "pp": 2, "dp": 2, "vpp": 2}, batch={"global": 16},
        precision=precision, stack="nemo",
    )  # fmt: skip


@pytest.mark.parametrize("precision", sorted(RECIPES))
def test_a_large_step_is_shorter_and_both_evaluators_agree(small: Make, precision: str) -> None:
    wide, narrow = on_b200(small, "bf16"), on_b200(small, precision)
    event, analytic = simulate(narrow), simulate(narrow, evaluator="analytic")
    assert analytic.step_time <= event.step_time < simulate(wide).step_time
    assert analytic.step_time == pytest.approx(event.step_time, rel=0.05)
    assert sum(analytic.memory.peak.values()) == pytest.approx(sum(event.memory.peak.values()), rel=1e-12)


@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("precision", sorted(RECIPES))
def test_weights_have_a_copy_in_low_precision_or_are_kept_in_it_alone(small: Make, precision: str, alone: bool) -> None:
    wide, narrow = on_b200(small, "bf16"), on_b200(small, precision)
    narrow = replace(narrow, stack=replace(narrow.stack, low_precision_weights=alone))
    chip, recipe, layer = narrow.system.chip, RECIPES[precision], shard(narrow)
    extra = [
        after["weights"] - before["weights"]
        for before, after in zip(stage_peaks(build(wide)), stage_peaks(build(narrow)), strict=True)
    ]
    # the layers are dealt out over two stages; embedding and head stay in 16 bits
    layers = [item / layer.layer / (recipe.held_bytes(chip) - 2.0 * alone) for item in extra]
    assert layers == pytest.approx([round(number) for number in layers])
    assert sum(layers) == pytest.approx(narrow.model.layers)
    assert pack(chip, narrow.stack, precision).kept == recipe.width


def test_caches_in_low_precision_free_what_they_say(small: Make) -> None:
    spec = small(precision="fp8", stack="nemo")
    mine, choices = shard(spec), options(spec)
    rates, thin = (
        pack(spec.system.chip, replace(spec.stack, gate_cache=gate, attention_cache=attention), "fp8")
        for gate, attention in ((None, None), (1.0, 1.5))
    )
    # of 2 bytes for each gate, and of 2 + 1 for attention's output
    freed = mine.tokens * (mine.gates * mine.ffn * 1.0 + mine.attended * 1.5)
    assert kept_of(mine, choices, rates).layer - kept_of(mine, choices, thin).layer == pytest.approx(freed)
    # gradients that wait for the weights have the width of the products
    plain = pack(spec.system.chip, spec.stack, "bf16")
    assert kept_of(mine, choices, rates).waiting < kept_of(mine, choices, plain).waiting


@pytest.mark.parametrize("precision", ["mxfp8", "nvfp4"])
def test_recipes_that_a_chip_cannot_run_are_refused(small: Make, precision: str) -> None:
    with pytest.raises(SpecError, match=r"h100-sxm-80gb cannot .*accepted: bf16, fp8, fp8_block"):
        simulate(small(precision=precision))
