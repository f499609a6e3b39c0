"""Replicas with made-up step times: conservation, closed form against single steps, queueing theory."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Linear, pools, rows, run, spec, table

from scaleout.serving.request import STATES
from scaleout.specs import POLICIES

SERVED = STATES.index("served")


@given(rows=rows, policy=st.sampled_from(POLICIES), pools=pools, blocks=st.integers(50, 200), most=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_everything_that_comes_ends_and_leaves_nothing_behind(rows, policy, pools, blocks, most):
    log, cluster = run(rows, spec(pools, scheduler={"policy": policy, "max_sequences": most}), blocks=blocks)
    assert sorted(log.number) == list(range(len(rows)))
    assert set(log.state) == {SERVED}
    for at, arrival in zip(log.number, log.arrival, strict=True):
        assert arrival == rows[at][0]
    assert all(a <= s <= f <= e for a, s, f, e in zip(log.arrival, log.scheduled, log.first, log.finish, strict=True))
    # every token but each reply's first has a gap before it
    assert sum(log.gaps.values()) == sum(log.outputs) - len(rows)
    for replica in cluster.replicas:
        assert replica.load == replica.waiting == replica.running == 0
        assert all(rank.blocks.free == blocks and rank.seats == most for rank in replica.ranks)
        lanes = chain.from_iterable(batch.lanes for batch in replica._batches)
        assert all(lane._base == 0 == lane.decodes and not any(lane._takes) for lane in lanes)


@given(rows=rows, policy=st.sampled_from(POLICIES), pools=pools, blocks=st.integers(50, 120), most=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_many_steps_at_once_are_equal_to_single_steps(rows, policy, pools, blocks, most):
    experiment = spec(pools, scheduler={"policy": policy, "max_sequences": most})
    log, _ = run(rows, experiment, blocks=blocks)
    single, _ = run(rows, experiment, blocks=blocks, closed=False)
    assert table(log) == table(single)
    assert log.gaps == single.gaps
    assert log.steps == single.steps and log.busy == single.busy and log.decoded == single.decoded


def test_a_stretch_of_decode_steps_is_one_event():
    log, _ = run([(0, 16, 500)], spec(), timer=Linear(seen=0))
    assert log.events == 2
    assert log.steps == [500]


def test_blocks_never_run_out_below_zero_and_the_last_come_is_sent_back():
    log, _ = run([(0, 160, 200), (1, 160, 200)], spec(), blocks=30)
    assert list(log.preempted) == [0, 1] or sorted(log.preempted) == [0, 1]
    assert dict(zip(log.number, log.preempted, strict=True)) == {0: 0, 1: 1}


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_at_a_time_waits_as_pollaczek_and_khinchine_say(load):
    service = 1000 + 7 * 10  # ticks of the one step of a request with one token
    draws = np.random.default_rng(7)
    count = 200_000
    arrivals = np.cumsum(draws.exponential(service / load, count)).astype(int).tolist()
    log, _ = run([(at, 10, 1) for at in arrivals], spec(scheduler={"max_sequences": 1}))
    wait = np.mean(np.array(log.scheduled) - np.array(log.arrival))
    assert wait == pytest.approx(load * service / 2 / (1 - load), rel=0.02)
