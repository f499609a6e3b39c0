"""The peak of a program's order is the peak over time, whatever holds memory on other streams."""

import pytest

from scaleout.engine.hbm import ledger, peak
from scaleout.io.experiments import experiment
from scaleout.simulate import record

SMALL = ("batch.global=32", "model.layers=8", "batch.sequence=1024")
RUNS = {
    "fsdp": ("llama-3.1-8b-16", ("layout={zero: 3, dp: 16}", "stack=torchtitan")),
    "fsdp in a pipeline": ("llama-3.1-8b-16", ("layout={zero: 3, dp: 4, pp: 4, vpp: 2}", "stack=torchtitan")),
    "sharded gradients": ("llama-3.1-8b-16", ("layout={zero: 2, dp: 16}", "stack=llm-foundry")),
    "split backward": ("llama-3.1-8b-16", ("layout={zero: 1, dp: 4, pp: 4, schedule: zb-h1}",)),
    "dualpipe": ("llama-3.1-8b-16", ("layout={zero: 1, dp: 4, pp: 4, schedule: dualpipe}",)),
    "context": ("llama-3.1-8b-16", ()),
    "experts": ("mixtral-8x7b-64", ("layout={pp: 4, vpp: 2, dp: 16, ep: 8, zero: 1}",)),
}


@pytest.mark.parametrize("run", RUNS)
def test_the_peak_over_time_is_that_of_the_programs_order(run: str) -> None:
    name, settings = RUNS[run]
    _, recording = record(experiment(name, (*settings, *SMALL)))
    job = recording.job
    for cls, times in enumerate(recording.timeline.classes):
        at = recording.class_program(cls)
        program, static = job.programs[at], job.static[at]
        over_time = ledger(program, static, job.memory_kinds, times).at_peak()
        assert sum(over_time.values()) == pytest.approx(sum(peak(program, static, job.memory_kinds).values()))
