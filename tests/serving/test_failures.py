"""Replicas that are lost: every request ends once, and nothing is left behind."""

from collections import Counter

import made_up
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up import Linear, left_behind, run, spec, table

from scaleout.serving.failures import Outage, outages
from scaleout.serving.request import STATES
from scaleout.serving.swap import HostShare
from scaleout.specs import POLICIES, Cache, Failure, Pool, Router, Speculation

TICK = 1e-12
SERVED, REJECTED, FAILED = (STATES.index(name) for name in ("served", "rejected", "failed"))


def lost(replica: int, at: int, until: int | None = None, requests: str = "retried") -> Failure:
    return Failure(
        replica=replica, at=at * TICK, until=None if until is None else until * TICK, requests=requests
    )  # fmt: skip


failures = st.lists(
    st.builds(
        lambda replica, at, more, requests: lost(replica, at, None if more is None else at + more, requests),
        st.integers(0, 2), st.integers(1, 80_000), st.none() | st.integers(1, 60_000),
        st.sampled_from(["retried", "failed"]),
    ),
    min_size=1, max_size=6,
)  # fmt: skip
several = st.sampled_from(
    [
        (Pool(replicas=3),),
        (Pool(pp=2, replicas=3),),
        (Pool(role="prefill", replicas=2), Pool(role="decode")),
        (Pool(role="prefill"), Pool(role="decode", replicas=2)),
        (Pool(role="prefill", pp=2, replicas=2), Pool(role="decode", pp=2)),
    ]
)
routers = st.sampled_from(["round_robin", "least_load", "power_of_two", "prefix", "sticky"])
slow = st.none() | st.sampled_from([1, 300, 5_000])
speculations = st.none() | st.just(Speculation(tokens=3, acceptance=0.6))


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), pools=several, router=routers, failures=failures,
    blocks=st.integers(50, 200), most=st.integers(1, 20), waiting=st.none() | st.integers(1, 5),
    speculation=speculations, slow=slow,
)  # fmt: skip
@settings(max_examples=120, deadline=None)
def test_every_request_ends_once_and_nothing_is_left_behind(
    rows, policy, pools, router, failures, blocks, most, waiting, speculation, slow
):
    experiment = spec(
        pools, scheduler={"policy": policy, "max_sequences": most}, failures=tuple(failures), speculation=speculation,
        router=Router(policy=router, max_waiting=waiting),
    )  # fmt: skip
    log, cluster = run(rows, experiment, blocks=blocks, slow=slow)
    assert sorted(log.number) == list(range(len(rows)))
    states = Counter(log.state)
    assert states.total() == states[SERVED] + states[REJECTED] + states[FAILED] == len(rows)
    if waiting is None:
        assert not states[REJECTED]
    assert left_behind(cluster, blocks, most) == []
    assert not cluster._moving and not cluster._homeless
    for arrival, scheduled, first, finish, state in zip(
        log.arrival, log.scheduled, log.first, log.finish, log.state, strict=True
    ):
        assert finish >= arrival
        if state == SERVED:
            assert arrival <= scheduled <= first <= finish
    # of every reply that is complete, all tokens but the first have a gap before them
    complete = sum(outputs - 1 for outputs, state in zip(log.outputs, log.state, strict=True) if state == SERVED)
    assert sum(log.gaps.values()) >= complete
    if states[SERVED] == len(rows):
        assert sum(log.gaps.values()) == complete


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), pools=several, failures=failures, blocks=st.integers(50, 120),
    most=st.integers(1, 20), slow=slow,
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_many_steps_at_once_are_equal_to_single_steps(rows, policy, pools, failures, blocks, most, slow):
    experiment = spec(pools, scheduler={"policy": policy, "max_sequences": most}, failures=tuple(failures))
    log, _ = run(rows, experiment, blocks=blocks, slow=slow)
    single, _ = run(rows, experiment, blocks=blocks, closed=False, slow=slow)
    assert table(log) == table(single)
    assert log.gaps == single.gaps and log.retries == single.retries
    assert log.steps == single.steps and log.busy == single.busy and log.decoded == single.decoded


@given(
    rows=made_up.rows, policy=st.sampled_from(POLICIES), pools=several, failures=failures, blocks=st.integers(50, 120),
    most=st.integers(1, 20), host=st.none() | st.integers(0, 60), forced=st.booleans(), prefix=st.booleans(),
    speculation=speculations, slow=slow,
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_the_same_with_prefixes_priorities_and_caches_at_the_host(
    rows, policy, pools, failures, blocks, most, host, forced, prefix, speculation, slow
):
    # every third prompt begins like the one before it
    rows = [
        (*row, at % 3, at // 3, tuple(at * 50 + block - 50 * (at % 3 == 1) for block in range(row[1] // 16)), 16)
        for at, row in enumerate(rows)
    ]
    scheduler = {"policy": policy, "max_sequences": most, "preemption": "swap" if host is not None else "recompute"}
    if forced:
        scheduler |= {"order": "priority", "preempt_for": "waiting"}
    experiment = spec(
        pools, scheduler=scheduler, failures=tuple(failures), cache=Cache(prefix=prefix), speculation=speculation,
        router=Router(policy="prefix"),
    )  # fmt: skip
    hosts = None if host is None else [HostShare(host, 3e-10, 1e-11)] * len(pools)
    log, cluster = run(rows, experiment, blocks=blocks, hosts=hosts, slow=slow)
    assert sorted(log.number) == list(range(len(rows)))
    assert left_behind(cluster, blocks, most) == []
    single, _ = run(rows, experiment, blocks=blocks, hosts=hosts, closed=False, slow=slow)
    assert table(log) == table(single) and log.gaps == single.gaps and log.cached == single.cached


STEP = 1000  # ticks of every step


def test_a_lost_request_keeps_the_tokens_it_has_and_computes_them_again_elsewhere():
    experiment = spec((Pool(replicas=2),), failures=(lost(0, 10_500),))
    log, _ = run([(0, 100, 50)], experiment, timer=Linear(STEP, 0, 0))
    # ten tokens by then, then prompt and ten tokens in one step, which brings the next, and 39 further ones
    assert list(log.first) == [STEP] and list(log.finish) == [10_500 + 40 * STEP]
    assert list(log.replica) == [1] and log.retries == 1
    assert log.gaps == {STEP: 48, 1_500: 1}
    assert log.busy == [10_500, 40 * STEP] and log.steps == [10, 40]


def test_requests_of_a_lost_replica_fail_where_they_are_not_to_be_retried():
    experiment = spec((Pool(replicas=2),), failures=(lost(0, 10_500, requests="failed"),))
    log, _ = run([(0, 100, 50), (1, 100, 50)], experiment, timer=Linear(STEP, 0, 0))
    assert list(log.state) == [FAILED, SERVED] and log.finish[0] == 10_500


@pytest.mark.parametrize(("until", "state", "finish"), [(20_000, SERVED, 20_000 + 40 * STEP), (None, FAILED, 10_500)])
def test_without_a_replica_requests_wait_for_one_or_fail(until, state, finish):
    experiment = spec(failures=(lost(0, 10_500, until),))
    log, _ = run([(0, 100, 50), (15_000, 10, 1)], experiment, timer=Linear(STEP, 0, 0))
    ends = dict(zip(log.number, zip(log.state, log.finish, strict=True), strict=True))
    assert ends == {0: (state, finish), 1: (state, 15_000 if until is None else 21_000)}


def test_nobody_goes_to_a_lost_replica_until_it_is_back():
    experiment = spec((Pool(replicas=2),), failures=(lost(0, 5_000, 15_000),))
    log, _ = run([(at * 1000, 10, 1) for at in range(20)], experiment, timer=Linear(10, 0, 0))
    where = dict(zip(log.number, log.replica, strict=True))
    assert {where[at] for at in range(5, 15)} == {1}
    assert {where[at] for at in range(15, 20)} == {0, 1} == {where[at] for at in range(5)}


def test_a_decode_replica_that_is_lost_gives_its_requests_to_those_that_prefill():
    pools = (Pool(role="prefill"), Pool(role="decode", replicas=2))
    log, cluster = run([(0, 100, 50)], spec(pools, failures=(lost(1, 10_500),)), timer=Linear(STEP, 0, 0))
    # again through the first pool, and on to the one that is left
    assert list(log.replica) == [2] and list(log.finish) == [10_500 + 40 * STEP]
    assert left_behind(cluster, 4000, 64) == []


def test_a_prefilled_request_waits_where_it_is_for_a_replica_to_decode():
    pools = (Pool(role="prefill"), Pool(role="decode"))
    log, cluster = run([(500, 100, 50)], spec(pools, failures=(lost(1, 100, 9_000),)), timer=Linear(STEP, 0, 0))
    assert list(log.first) == [1_500] and list(log.finish) == [9_000 + 49 * STEP]
    log, cluster = run([(500, 100, 50)], spec(pools, failures=(lost(1, 1_100),)), timer=Linear(STEP, 0, 0))
    assert list(log.state) == [FAILED] and list(log.finish) == [1_500]
    assert left_behind(cluster, 4000, 64) == []


@pytest.mark.parametrize("replica", [0, 1])
def test_a_cache_under_way_is_dropped_with_either_end(replica):
    pools = (Pool(role="prefill"), Pool(role="decode"))
    experiment = spec(pools, failures=(lost(replica, 3_000, 4_000),))
    log, cluster = run([(0, 100, 50)], experiment, timer=Linear(STEP, 0, 0), slow=5_000)
    # prefilled again with the token it has, at once by the one that is left, or when it is back; and carried again
    again = 4_000 if replica == 0 else 3_000
    assert list(log.finish) == [again + STEP + 5_000 + 3 * 101 + 48 * STEP] and list(log.first) == [STEP]
    assert left_behind(cluster, 4000, 64) == []


def test_blocks_that_are_about_to_be_given_back_are_those_that_were_taken():
    pools = (Pool(role="prefill", replicas=2), Pool(role="decode"))
    experiment = spec(pools, scheduler={"max_sequences": 1}, failures=(lost(2, 4_584),))
    log, cluster = run([(0, 1, 2), (0, 512, 2), (1, 452, 60), (2, 1, 1)], experiment, blocks=50)
    assert left_behind(cluster, 50, 1) == [] and FAILED in log.state


def test_failures_that_touch_or_overlap_are_one():
    planned = outages([lost(1, 50, 60), lost(0, 30), lost(1, 10, 20), lost(1, 20, 40, "failed"), lost(0, 40, 50)])
    assert planned == [Outage(10, 40, 1, True), Outage(30, None, 0, True), Outage(50, 60, 1, True)]
