"""Pipelines with made-up stage times: throughput of the slowest stage, latency of all, balanced batches."""

import made_up
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Kept, run, spec, table

from scaleout.serving.work import Work
from scaleout.specs import POLICIES, Pool


class Stages:
    """Stages of given times, whatever the work."""

    def __init__(self, *times: int) -> None:
        self.times = times

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        return self.times


uneven = st.lists(st.integers(100, 2000), min_size=2, max_size=5)


@given(times=uneven)
@settings(deadline=None, max_examples=40)
def test_alone_a_token_takes_all_stages(times):
    log, _ = run([(0, 10, 20)], spec((Pool(pp=len(times)),)), timer=Stages(*times))
    assert list(log.first) == [sum(times)] and list(log.finish) == [20 * sum(times)]
    assert log.gaps == {sum(times): 19}


@given(times=uneven, each=st.integers(1, 3))
@settings(deadline=None, max_examples=40)
def test_with_enough_sequences_the_slowest_stage_decides(times, each):
    # as many batches as stages, of `each` sequences; a batch comes back when all others have passed the slowest stage
    stages, outputs = len(times), 300
    log, _ = run([(0, 10, outputs)] * (stages * each), spec((Pool(pp=stages),)), timer=Stages(*times))
    round_ = max(sum(times), stages * max(times))
    assert log.end == pytest.approx(outputs * round_, rel=0.01)
    assert log.end >= outputs * stages * max(times)
    tokens = stages * each * outputs
    assert tokens / log.end <= each / max(times)
    if sum(times) <= stages * max(times):
        assert tokens / log.end == pytest.approx(each / max(times), rel=0.02)


@given(times=uneven)
@settings(deadline=None, max_examples=30)
def test_a_stage_does_one_step_at_a_time_in_order(times):
    """Requests of one token in steps of their own: departures follow the recurrence of queues in tandem."""
    arrivals = sorted(np.random.default_rng(sum(times)).integers(0, 10_000, 12).tolist())
    # a prompt fills a step
    experiment = spec((Pool(pp=len(times)),), scheduler={"max_batched_tokens": 10})
    log, _ = run([(at, 10, 1) for at in arrivals], experiment, timer=Stages(*times))
    free = [0] * len(times)
    for start, end in sorted(zip(log.scheduled, log.finish, strict=True), key=lambda pair: pair[1]):
        at = start
        for stage, ticks in enumerate(times):
            at = free[stage] = max(at, free[stage]) + ticks
        assert end == at


def test_batches_are_balanced():
    timer = Kept(Stages(1000, 1000, 1000, 1000))
    run([(0, 10, 100)] * 30, spec((Pool(pp=4),)), timer=timer)
    decodes = [works[0].decodes for works in timer.works if works[0].decodes]
    # none has more than a fourth, rounded up; the last has what is left
    assert max(decodes) == 8 and min(decodes) == 30 - 3 * 8


def test_sequences_of_a_pipeline_share_its_seats():
    timer = Kept(Stages(1000, 1000))
    run([(0, 10, 50)] * 30, spec((Pool(pp=2),), scheduler={"max_sequences": 8}), timer=timer)
    assert max(works[0].decodes for works in timer.works) == 4


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), pp=st.integers(2, 4), blocks=st.integers(50, 120),
    most=st.integers(1, 20),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_stages_make_no_request_faster(rows, policy, pp, blocks, most):
    """Every token takes all stages: nobody is served in less than tokens x stages."""
    experiment = spec((Pool(pp=pp),), scheduler={"policy": policy, "max_sequences": most})
    log, _ = run(rows, experiment, blocks=blocks, timer=Stages(*[500] * pp))
    for first, finish, outputs, scheduled in zip(log.first, log.finish, log.outputs, log.scheduled, strict=True):
        assert first - scheduled >= 500 * pp
        assert finish - first >= 500 * pp * (outputs - 1)
    again, _ = run(rows, experiment, blocks=blocks, timer=Stages(*[500] * pp), closed=False)
    assert table(log) == table(again)
