"""A table of chips against each chip by itself."""

from dataclasses import replace

import numpy as np
import pytest

import scaleout
from scaleout.architect.variants import typical_of, variants
from scaleout.compiled import Compilable
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import SpecError
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.steady import steady
from scaleout.io.catalogue import load
from scaleout.serving.room import room
from scaleout.serving.steps import PoolSteps
from scaleout.specs import Chip

H100: Chip = load("chip", "h100-sxm-80gb")
CHIPS = [
    replace(H100, name="wider", hbm_bandwidth=1.5 * H100.hbm_bandwidth),
    H100,
    replace(H100, name="small", hbm_bytes=2e9),
    replace(H100, name="slow", peak_flops={k: v / 2 for k, v in H100.peak_flops.items()}),
    load("chip", "a100-sxm-80gb"),
]
TRAINING = {
    "kind": "training", "system": "dgx-h100", "chips": 8, "model": "llama-3.1-8b",
    "layout": {"tp": 8, "dp": 1, "sequence_parallel": True}, "batch": {"global": 4, "sequence": 2048},
}  # fmt: skip
SERVING = {
    "kind": "serving", "system": "dgx-h100", "model": "llama-3.1-8b", "engine": "vllm-0.19", "pools": [{"tp": 1}],
    "requests": {"input": {"mean": 900}, "output": {"mean": 200}, "arrivals": {"rate": 2.0}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    # plain and compiled agree to the bit, which other tests show; to compile takes a minute
    monkeypatch.setattr(Compilable, "compiled", property(lambda self: self))


def test_a_table_says_of_each_chip_what_it_would_by_itself() -> None:
    training, serving = scaleout.experiment(TRAINING), scaleout.serving_experiment(SERVING)
    found = variants(CHIPS, training=training, serving=serving)
    assert found.names == tuple(chip.name for chip in CHIPS)
    typical = typical_of(serving)
    assert (typical.rate, typical.prompt, typical.reply) == (2.0, 900.0, 200.0)
    for at, chip in enumerate(CHIPS):
        if chip.name == "small":
            continue
        assert found.problem[at] == ""
        analysis = analyse(replace(training, system=replace(training.system, chip=chip)), compiled=False)
        assert found.step_time[at] == analysis.end / TICKS_PER_SECOND
        assert found.memory[at] == pytest.approx(max(sum(k.values()) for k in analysis.peaks) / chip.hbm_bytes)
        job = replace(serving, system=replace(serving.system, chip=chip))
        timers = [PoolSteps(job, pool, at) for at, pool in enumerate(job.pools)]
        state = steady(job, timers, [room(job, pool) for pool in job.pools], typical)
        assert (found.ttft[at], found.tpot[at], found.most[at]) == (state.ttft, state.tpot, state.most)
    by = dict(zip(found.names, range(len(found)), strict=True))
    assert found.step_time[by["slow"]] > found.step_time[by[H100.name]] > found.step_time[by["wider"]]
    assert found.tpot[by["wider"]] < found.tpot[by[H100.name]]


def test_what_does_not_fit_is_a_row_with_a_problem() -> None:
    training, serving = scaleout.experiment(TRAINING), scaleout.serving_experiment(SERVING)
    small = CHIPS[2]
    found = variants([small], training=training, serving=serving)
    assert "training does not fit" in found.problem[0]
    assert "serving" in found.problem[0]
    assert np.isnan(found.step_time[0])
    assert found.memory[0] > 1.0
    assert np.isnan(found.tpot[0])
    plain = found.to_dict()
    assert plain["step_time"] == [None]
    assert plain["memory"][0] == found.memory[0]


def test_a_job_is_needed_and_its_means() -> None:
    with pytest.raises(SpecError, match="expected one of them"):
        variants(CHIPS)
    offline = scaleout.serving_experiment(SERVING, ("requests.arrivals={process: offline}", "requests.count=10"))
    with pytest.raises(SpecError, match="no mean rate"):
        typical_of(offline)
    with pytest.raises(SpecError, match="give prompt and reply"):
        typical_of(scaleout.serving_experiment("llama3-70b-poisson"))
    assert typical_of(scaleout.serving_experiment("llama3-70b-poisson"), 800.0, 200.0).prompt == 800.0
    assert len(variants([], training=scaleout.experiment(TRAINING))) == 0
