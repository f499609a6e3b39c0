"""A stack constant is fitted on half of a source's models and tested on the other half."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scaleout.calibration.training import Measured, carried, cross_fit, error, fit
from scaleout.errors import MeasurementError
from scaleout.evaluate.analytic import analyse
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
TRUTH = 0.65
MODELS = ("gpt3-1.3b", "gpt3-2.7b", "llama-2-7b", "gpt3-6.7b")


def runs(small: Make, noise: tuple[float, ...]) -> list[Measured]:
    """Runs of a machine whose elementwise passes reach `TRUTH` of HBM bandwidth, off by some noise."""
    made = []
    for index, off in enumerate(noise):
        spec = small(
            model=MODELS[index % len(MODELS)], layout={"vpp": 1, "tp": 4, "pp": 2, "dp": 8}, batch={"global": 64}
        )
        real = replace(spec, stack=replace(spec.stack, elementwise_efficiency=TRUTH))
        made.append(Measured("ours", spec, analyse(real, compiled=False).end * 1e-12 * (1 + off)))
    return made


def test_the_constant_behind_the_runs_is_found(small: Make) -> None:
    assert fit(runs(small, (0.0,) * 4), "elementwise_efficiency") == pytest.approx(TRUTH, abs=0.02)


def test_each_half_holds_other_models_and_every_row_is_tested_once(small: Make) -> None:
    measured = runs(small, (0.02, -0.02, 0.01, -0.01, -0.02, 0.02, 0.03, -0.01))
    a, b = cross_fit(measured, "elementwise_efficiency")
    assert not set(a.models) & set(b.models)
    assert a.rows + b.rows == len(measured)
    assert max(a.fitted, b.fitted) < 0.03
    # the same physics on both sides: what is fitted here holds there
    assert 1.0 <= carried((a, b)) < 2.0
    assert error(measured, "elementwise_efficiency", TRUTH) < 0.03


def test_too_few_runs_and_a_single_model_are_refused(small: Make) -> None:
    with pytest.raises(MeasurementError, match="too few"):
        cross_fit(runs(small, (0.0,) * 4), "elementwise_efficiency")
    one = [run for run in runs(small, (0.0,) * 32) if run.experiment.model.name == MODELS[0]]
    with pytest.raises(MeasurementError, match="one model"):
        cross_fit(one, "elementwise_efficiency")
