"""Replicas with made-up step times: conservation, closed form against single steps, queueing theory."""

from collections.abc import Iterator
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.io.catalogue import load
from scaleout.serving.cluster import Cluster
from scaleout.serving.log import Log
from scaleout.serving.request import STATES, Request
from scaleout.serving.work import Work
from scaleout.specs import (
    POLICIES,
    Arrivals,
    InferenceEngine,
    Length,
    Pool,
    Requests,
    Router,
    Scheduler,
    ServingExperiment,
)

ENGINE = InferenceEngine(
    name="made-up", version="1", max_sequences=64, max_batched_tokens=512, block=16, memory_share=0.9, reserved=0.0,
    kernel_gap=0.0, elementwise_efficiency=1.0, prefill_attention=("none",), decode_attention=("none",), source="none",
)  # fmt: skip
SYSTEM, MODEL = load("system", "dgx-h100"), load("model", "llama-3.1-8b")
SERVED = STATES.index("served")


class Linear:
    """So many ticks a step, a new token, and a token that is seen."""

    def __init__(self, step: int = 1000, token: int = 7, seen: int = 1, stages: int = 1) -> None:
        self.step, self.token, self.seen, self.count = step, token, seen, stages

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        slowest = max(
            self.token * (work.prompt_tokens + work.decode_tokens) + self.seen * work.context // 8 for work in works
        )
        return (self.step + slowest,) * self.count


class Listed:
    """Requests that are given."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self.requests)

    def after(self, request: Request, now: int) -> tuple[Request, ...]:
        return ()


def spec(pools: tuple[Pool, ...] = (Pool(),), router: str = "round_robin", **scheduler: object) -> ServingExperiment:
    one = Length(mean=1)
    return ServingExperiment(
        system=SYSTEM, model=MODEL, engine=ENGINE, pools=pools, router=Router(policy=router),
        requests=Requests(input=one, output=one, arrivals=Arrivals(rate=1)), scheduler=Scheduler(**scheduler),
    )  # fmt: skip


def run(
    rows: list[tuple[int, int, int]], experiment: ServingExperiment, blocks: int = 4000, closed: bool = True,
    timer: Linear | None = None,
) -> tuple[Log, Cluster]:  # fmt: skip
    requests = [Request(at, *row) for at, row in enumerate(rows)]
    count = len(experiment.pools)
    timers = [timer or Linear(stages=pool.pp) for pool in experiment.pools]
    cluster = Cluster(experiment, Listed(requests), timers, [blocks] * count, closed=closed)
    return cluster.run(), cluster


def table(log: Log) -> list[tuple[int, ...]]:
    columns = (log.number, log.scheduled, log.first, log.finish, log.preempted, log.replica, log.state)
    return sorted(zip(*columns, strict=True))


rows = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(1, 700), st.integers(1, 60)), min_size=1, max_size=25
).map(lambda all_: sorted(all_))
pools = st.sampled_from(
    [
        (Pool(),),
        (Pool(replicas=3),),
        (Pool(pp=2),),
        (Pool(role="prefill", replicas=2), Pool(role="decode")),
    ]
)


@given(rows=rows, policy=st.sampled_from(POLICIES), pools=pools, blocks=st.integers(50, 200), most=st.integers(1, 20))
@settings(max_examples=200, deadline=None)
def test_everything_that_comes_ends_and_leaves_nothing_behind(rows, policy, pools, blocks, most):
    log, cluster = run(rows, spec(pools, policy=policy, max_sequences=most), blocks)
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
    experiment = spec(pools, policy=policy, max_sequences=most)
    log, _ = run(rows, experiment, blocks)
    single, _ = run(rows, experiment, blocks, closed=False)
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
    log, _ = run([(at, 10, 1) for at in arrivals], spec(max_sequences=1))
    wait = np.mean(np.array(log.scheduled) - np.array(log.arrival))
    assert wait == pytest.approx(load * service / 2 / (1 - load), rel=0.02)
