"""A mapping that names what it changes."""

import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment

BASE = {
    "kind": "training", "chips": 8, "model": "llama-3.2-1b", "layout": {"dp": 8}, "stack": "megatron-lm",
    "batch": {"global": 8, "micro": 1, "sequence": 2048},
}  # fmt: skip


def test_other_keys_take_the_place_of_those_of_the_same_name() -> None:
    spec = experiment({**BASE, "system": {"from": "hgx-h200", "chip": {"power_limit": "500 W"}, "chips_per_node": 4}})
    named = load("system", "hgx-h200")
    assert spec.system.chip.power_limit == 500.0
    assert spec.system.chips_per_node == 4
    assert spec.system.chip.gemm == named.chip.gemm
    assert spec.system.scale_up == named.scale_up
    assert named.chip.power_limit is None


def test_a_name_that_nobody_knows_is_refused() -> None:
    with pytest.raises(SpecError, match=r"system\.from: .*hgx-h200"):
        experiment({**BASE, "system": {"from": "hgx-h201"}})
    with pytest.raises(SpecError, match="power_limits"):
        experiment({**BASE, "system": {"from": "hgx-h200", "chip": {"power_limits": "500 W"}}})
