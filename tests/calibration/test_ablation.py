"""Ablation of contention: errors of a run under each mechanism, from the step alone."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from scaleout.calibration.contention import MECHANISMS, ablate, errors
from scaleout.calibration.training import Measured
from scaleout.evaluate.event import evaluate
from scaleout.specs import TrainingExperiment


def test_a_run_is_off_by_its_step_over_what_was_measured(small: Callable[..., TrainingExperiment]) -> None:
    spec = small(stack="megatron-lm")
    alone = evaluate(spec).timeline.end * 1e-12
    run = Measured("made up", spec, 2.0 * alone)
    found = errors(run)
    assert found is not None and len(found) == len(MECHANISMS)
    assert found[0] == pytest.approx(-0.5)
    # every mechanism slows, and both slow no less than either
    assert found[0] < min(found[1:3]) and max(found[1:3]) <= found[3]
    other = replace(run, source="another")
    assert [(source, rows) for source, _, rows in ablate([run, other])] == [("another", [found]), ("made up", [found])]
