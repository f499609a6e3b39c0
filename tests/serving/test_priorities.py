"""Who waits goes in order, and who runs may have to give way."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_serving import alike, assert_all_served, assert_nothing_held, experiment, run, table

from scaleout.errors import SpecError
from scaleout.serving.queue import Queue
from scaleout.serving.request import Request
from scaleout.specs import POLICIES, Pool, Scheduler

pools = st.sampled_from(
    [
        (Pool(),),
        (Pool(pp=2),),
        (Pool(tp=1, dp=2, ep=2),),
        (Pool(role="prefill"), Pool(role="decode")),
    ]
)
orders = st.sampled_from(
    [
        {"order": "fcfs"},
        {"order": "shortest"},
        {"order": "priority"},
        {"order": "priority", "preempt_for": "waiting"},
    ]
)


@given(rows=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 3)), max_size=20))
def test_order_of_those_who_wait(rows):
    requests = [Request(number, 0, inputs, 1, priority) for number, (inputs, priority) in enumerate(rows)]
    wanted = {
        "fcfs": requests,
        "priority": sorted(requests, key=lambda one: -one.priority),
        "shortest": sorted(requests, key=lambda one: one.inputs),
    }
    for order, expected in wanted.items():
        queue = Queue(order)
        for request in requests:
            queue.push(request)
        assert queue.drain() == expected


def test_who_was_preempted_goes_first_with_fcfs_and_in_its_turn_otherwise():
    low, high = Request(0, 0, 10, 1, 0), Request(1, 0, 10, 1, 5)
    for order, expected in (("fcfs", [0, 1]), ("priority", [1, 0])):
        queue = Queue(order)
        queue.push(high)
        queue.push_back(low)
        assert [request.number for request in queue.drain()] == expected


def test_higher_priorities_get_seats_first():
    requests = [Request(number, 0, 16, 10, number % 3) for number in range(9)]
    log, _ = run(requests, experiment(order="priority", max_sequences=1))
    assert list(log.number) == [2, 5, 8, 1, 4, 7, 0, 3, 6]


def test_for_replies_the_lowest_priority_that_runs_loses_its_seat_and_of_equals_who_came_last():
    # three that grow until there is no room; all were let in together
    rows = [(3, 0), (1, 1), (1, 2)]
    requests = [Request(number, 0, 160, 200, priority) for priority, number in rows]
    log, _ = run(requests, experiment(prefix=False, order="priority"), blocks=40)
    lost = dict(zip(log.number, log.preempted, strict=True))
    assert lost[0] == 0 and lost[2] > 0
    assert list(log.number) == [0, 1, 2]
    last, _ = run([Request(0, 0, 160, 200, 1), Request(1, 0, 160, 200, 3)], experiment(prefix=False), blocks=30)
    first, _ = run(
        [Request(0, 0, 160, 200, 1), Request(1, 0, 160, 200, 3)], experiment(prefix=False, order="priority"), blocks=30
    )
    assert [dict(zip(log.number, log.preempted, strict=True))[0] > 0 for log in (last, first)] == [False, True]


def test_one_that_waits_takes_a_seat_only_if_told_so():
    rows = [Request(0, 0, 160, 100, 0), Request(1, 0, 160, 100, 1), Request(2, 20_000, 160, 10, 1)]
    for scheduler in ({"max_sequences": 2}, {}):
        blocks = 4000 if scheduler else 33
        kind = {"prefix": False, "order": "priority", **scheduler}
        waits, _ = run(rows, experiment(**kind), blocks)
        takes, _ = run(rows, experiment(**kind, preempt_for="waiting"), blocks)
        assert dict(zip(takes.number, takes.preempted, strict=True)) == {0: 1, 1: 0, 2: 0}
        start = [dict(zip(log.number, log.scheduled, strict=True))[2] for log in (waits, takes)]
        # at the end of the step under way, and not when somebody ends
        assert start[1] <= 20_000 + 2000 < start[0]


def test_equals_do_not_take_each_others_seats():
    rows = [Request(number, 1000 * number, 160, 50, 4) for number in range(6)]
    kind = {"prefix": False, "order": "priority", "max_sequences": 2}
    one, other = (run(rows, experiment(**kind, preempt_for=whom))[0] for whom in ("replies", "waiting"))
    assert table(one) == table(other) and not sum(other.preempted)


def test_a_steady_stream_of_higher_priorities_keeps_a_lower_one_waiting():
    rows = [Request(0, 0, 16, 5, 0)] + [Request(number, 0, 16, 5, 1) for number in range(1, 40)]
    log, _ = run(rows, experiment(order="priority", max_sequences=1))
    assert log.number[-1] == 0


def test_taking_seats_needs_an_order_by_priority():
    with pytest.raises(SpecError, match="preempt_for: 'waiting' needs order 'priority', not 'fcfs'"):
        Scheduler(preempt_for="waiting")


@given(
    requests=alike(priorities=3), policy=st.sampled_from(POLICIES), pools=pools, order=orders, prefix=st.booleans(),
    preemption=st.sampled_from(["recompute", "swap"]), blocks=st.integers(32, 80), most=st.integers(1, 8),
    host=st.sampled_from([0, 20, 200]), tokens=st.sampled_from([4, 64, 512]),
)  # fmt: skip
@settings(max_examples=100)
def test_policies_orders_preemption_and_prefixes_together(
    requests, policy, pools, order, prefix, preemption, blocks, most, host, tokens
):
    spec = experiment(
        pools, prefix=prefix, policy=policy, preemption=preemption, max_sequences=most, max_batched_tokens=tokens,
        **order,
    )  # fmt: skip
    log, cluster = run(requests, spec, blocks, host=host)
    assert_all_served(log, requests)
    assert_nothing_held(cluster, blocks)
    single, _ = run(requests, spec, blocks, host=host, closed=False)
    assert table(log) == table(single)
    assert log.gaps == single.gaps and log.host == single.host
    assert log.steps == single.steps and log.busy == single.busy and log.decoded == single.decoded
