"""Caches in the host's memory: copies take their time, and nothing is lost on the way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_serving import SIZE, alike, assert_all_served, assert_nothing_held, experiment, run, table

from scaleout.engine.clock import Alarm, Clock
from scaleout.errors import PlanError
from scaleout.io.catalogue import load
from scaleout.serving.request import Request
from scaleout.serving.room import room
from scaleout.serving.swap import host_share
from scaleout.specs import POLICIES, Cache, Pool

pools = st.sampled_from(
    [
        (Pool(),),
        (Pool(pp=2),),
        (Pool(tp=1, dp=2, ep=2),),
        (Pool(role="prefill"), Pool(role="decode")),
    ]
)


def alone(number: int, at: int, inputs: int, family: int, outputs: int = 1) -> Request:
    names = tuple(1000 * family + place for place in range(inputs // SIZE))
    return Request(number, at, inputs, outputs, blocks=names, block_tokens=SIZE)


# --- blocks of prompts -------------------------------------------------------------------------------


def test_a_prompt_waits_for_its_beginning_from_the_host():
    # 20 blocks: the second prompt overwrites the first, whose 9 full blocks that may be found come back from the host
    requests = [alone(0, 0, 160, 1), alone(1, 10**6, 319, 2), alone(2, 2 * 10**6, 160, 1)]
    log, _ = run(requests, experiment(), blocks=20, host=100, latency=5000, block_time=300)
    assert list(log.cached) == list(log.hosted) == [0, 0, 144]
    step = 1000 + 7 * 16
    assert log.first[2] - log.arrival[2] == 5000 + 9 * 300 + step
    # the copies stay at the host: of the second prompt those go out that are overwritten
    assert log.host == {"loads": 1, "in": 9, "out": 10 + 9}


def test_other_prompts_are_computed_beside_the_copy():
    requests = [
        alone(0, 0, 160, 1), alone(1, 10**6, 319, 2), alone(2, 2 * 10**6, 160, 1), alone(3, 2 * 10**6, 100, 3)
    ]  # fmt: skip
    log, _ = run(requests, experiment(), blocks=20, host=100, latency=50_000)
    first = dict(zip(log.number, log.first, strict=True))
    assert first[3] == 2 * 10**6 + 1000 + 700
    assert first[2] > first[3] + 40_000


def test_copies_in_one_direction_wait_for_each_other():
    requests = [alone(0, 0, 160, 1), alone(1, 0, 160, 2), alone(2, 10**6, 639, 3)]
    requests += [alone(3, 2 * 10**6, 160, 1), alone(4, 2 * 10**6, 160, 2)]
    log, _ = run(requests, experiment(), blocks=40, host=100, latency=20_000, block_time=100)
    first = dict(zip(log.number, log.first, strict=True))
    assert first[3] == 2 * 10**6 + 20_900 + 1000 + 7 * 16
    assert first[4] == first[3] + 20_900


def test_the_host_forgets_what_was_asked_for_longest_ago():
    requests = [alone(at, at * 10**6, 319, at) for at in range(3)]
    again = [alone(3, 3 * 10**6, 319, 1), alone(4, 4 * 10**6, 319, 0)]
    log, _ = run(requests + again, experiment(), blocks=20, host=20)
    # of the first prompt nothing is left when the second has gone to the host; the second is there
    assert dict(zip(log.number, log.hosted, strict=True)) == {0: 0, 1: 0, 2: 0, 3: 304, 4: 0}


# --- sequences that lose their seat ------------------------------------------------------------------


def test_a_sequence_comes_back_and_decodes_on():
    requests = [Request(number, number, 160, 200) for number in range(2)]
    spec = experiment(prefix=False, preemption="swap")
    log, _ = run(requests, spec, blocks=36, host=100, latency=500, block_time=10)
    again, _ = run(requests, experiment(prefix=False), blocks=36)
    assert sum(log.preempted) == log.host["swaps"] == log.host["loads"] > 0
    assert log.host["in"] == log.host["out"]
    # nothing is computed twice: each token of prompts and replies once
    assert sum(log.decoded) == sum(r.outputs - 1 for r in requests) > sum(again.decoded)
    assert max(log.finish) < max(again.finish)


def test_without_room_at_the_host_it_is_computed_again():
    requests = [Request(number, number, 160, 200) for number in range(2)]
    tables = []
    for scheduler, host in (({}, 0), ({"preemption": "swap"}, 0), ({"preemption": "swap"}, 5)):
        log, _ = run(requests, experiment(prefix=False, **scheduler), blocks=36, host=host)
        assert not log.host
        tables.append(table(log))
    assert tables[0] == tables[1] == tables[2]


def test_a_cache_is_not_fetched_before_it_is_out():
    requests = [Request(number, number, 160, 200) for number in range(2)]
    spec = experiment(prefix=False, preemption="swap")
    log, _ = run(requests, spec, blocks=36, host=100, latency=3_000_000)
    late = dict(zip(log.number, log.finish, strict=True))
    assert late[1] - late[0] > 3_000_000
    assert max(log.gaps) >= 6_000_000


@given(
    requests=alike(), policy=st.sampled_from(POLICIES), pools=pools, blocks=st.integers(32, 70), prefix=st.booleans(),
    most=st.integers(2, 12), host=st.sampled_from([3, 30, 300]), latency=st.sampled_from([0, 300, 40_000]),
)  # fmt: skip
@settings(max_examples=60)
def test_everything_comes_back_and_many_steps_at_once_are_equal_to_single_steps(
    requests, policy, pools, blocks, prefix, most, host, latency
):
    spec = experiment(pools, prefix=prefix, policy=policy, max_sequences=most, preemption="swap")
    log, cluster = run(requests, spec, blocks, host=host, latency=latency)
    assert_all_served(log, requests)
    assert_nothing_held(cluster, blocks)
    single, _ = run(requests, spec, blocks, host=host, latency=latency, closed=False)
    assert table(log) == table(single)
    assert log.gaps == single.gaps and log.host == single.host


def test_copies_may_be_carried_by_somebody_else():
    carried, env = [], Clock()

    def copies(replica, rank):
        def copy(request, blocks, out, done):
            carried.append((replica, rank, request.number, blocks, out))
            Alarm(env, 0, [lambda _: done()])

        return copy

    requests = [Request(number, number, 160, 200) for number in range(2)]
    log, _ = run(requests, experiment(prefix=False, preemption="swap"), blocks=36, host=100, copies=copies, env=env)
    assert sum(row[3] for row in carried if row[4]) == log.host["out"]
    assert {row[:2] for row in carried} == {(0, 0)}


# --- the system's host ---------------------------------------------------------------------------------


def with_cache(host: float, **pool: int):
    return replace(experiment((Pool(**pool),)), cache=Cache(host=host, prefix=True))


@pytest.mark.parametrize("tp", [1, 2, 8])
def test_a_copy_takes_the_bytes_of_a_chip_over_its_link(tp):
    spec = with_cache(200e9, tp=tp)
    model, system = spec.model, spec.system
    share = host_share(spec, spec.pools[0], room(spec, spec.pools[0]))
    head = model.hidden // model.heads
    token = 2 * model.layers * model.kv_heads * head * 2.0
    assert share.blocks == 200e9 // (token * SIZE)
    assert share.block_time == pytest.approx(token * SIZE / tp / system.host.payload)
    assert share.latency == system.host.latency


def test_chips_that_share_a_link_share_its_rate():
    spec = with_cache(20e9, tp=2)
    host = replace(spec.system.host, chips_per_link=2)
    shared = replace(spec, system=replace(spec.system, host=host))
    own, half = (host_share(one, one.pools[0], room(one, one.pools[0])) for one in (spec, shared))
    assert half.block_time == pytest.approx(2 * own.block_time)


def test_more_memory_than_a_node_has_is_refused():
    spec = with_cache(300e9)
    with pytest.raises(PlanError, match=r"cache.host: 300 GB .* 2,000 GB of a node of 8, 250 GB"):
        host_share(spec, spec.pools[0], room(spec, spec.pools[0]))
    bare = replace(with_cache(1e9), system=replace(spec.system, host=None))
    with pytest.raises(PlanError, match="describes no host"):
        host_share(bare, bare.pools[0], room(bare, bare.pools[0]))
    none = with_cache(0.0)
    assert host_share(none, none.pools[0], room(none, none.pools[0])) is None


# --- bytes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-3.1-8b", "llama-3.1-70b"])
@pytest.mark.parametrize("tp", [4, 8])
def test_eight_bits_are_twice_the_blocks(name, tp):
    spec = replace(experiment((Pool(tp=tp),)), model=load("model", name))
    found = {dtype: room(replace(spec, cache=Cache(dtype=dtype)), spec.pools[0]) for dtype in ("bf16", "fp16", "fp8")}
    assert found["bf16"] == found["fp16"]
    assert found["fp8"].token == found["bf16"].token / 2
    assert found["fp8"].blocks - 2 * found["bf16"].blocks in (0, 1)
    assert np.isclose(found["fp8"].cache, found["bf16"].cache, rtol=1e-3)
