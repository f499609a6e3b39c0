"""Language models on Jetson: a token is a reading of the weights, and takes about as long as NVIDIA measured."""

import pytest

from scaleout.io.experiments import any_experiment
from scaleout.models import parameters
from scaleout.serve import serve
from scaleout.specs import ServingExperiment

MEASURED = {"llama3-8b-jetson-thor": 50.8, "llama3-8b-jetson-orin-nano": 19.1}
"""Tokens after the first [1/s]: TensorRT Edge-LLM 0.4.0, int4 (AWQ); MLC, int4."""


@pytest.mark.parametrize("name", MEASURED)
def test_a_token_takes_about_as_long_as_measured_and_no_less_than_the_weights(name: str) -> None:
    spec = any_experiment(name, ("requests.count=4",))
    assert isinstance(spec, ServingExperiment)
    model, chip = spec.model, spec.system.chip
    each = serve(spec).floor.tpot
    assert 1.0 / each == pytest.approx(MEASURED[name], rel=0.20)
    # layers in int4 with a scale of 16 bits for 64 of them, and the head in 16 bits; the embedding is a lookup
    table = model.vocabulary * model.hidden
    read = (parameters(model) - 2 * table) * (0.5 + 2 / 64) + 2 * table
    reached = read / chip.hbm_bandwidth / each
    assert 0.7 < reached < chip.gemm["int4_wo"].hbm_efficiency
