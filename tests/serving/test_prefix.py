"""Prefix cache: against explicit blocks, against closed forms, and in replicas of every kind."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_serving import (
    SIZE,
    alike,
    assert_all_served,
    assert_nothing_held,
    experiment,
    run,
    table,
)  # fmt: skip
from slow_blocks import Twin

from scaleout.serving.prefix import PrefixBlocks, names
from scaleout.serving.request import Request
from scaleout.specs import POLICIES, Pool

policies = st.sampled_from(POLICIES)
pools = st.sampled_from(
    [
        (Pool(),),
        (Pool(replicas=2),),
        (Pool(pp=2),),
        (Pool(tp=1, dp=2, ep=2),),
        (Pool(role="prefill", replicas=2), Pool(role="decode")),
    ]
)


def same(number: int, at: int, inputs: int, outputs: int = 1, shared: int = 0, piece: int = SIZE) -> Request:
    """A prompt whose first tokens everybody shares."""
    common = min(shared, inputs) // piece
    own = range(1000 * (number + 1) + common, 1000 * (number + 1) + inputs // piece)
    return Request(number, at, inputs, outputs, blocks=(*range(common), *own), block_tokens=piece)


# --- names -----------------------------------------------------------------------------------------


@given(
    inputs=st.integers(1, 300), size=st.sampled_from([1, 8, 16, 48]), piece=st.sampled_from([1, 8, 16, 24, 64]),
    known=st.integers(0, 40),
)  # fmt: skip
def test_a_block_has_a_name_as_far_as_hashes_reach_and_prompts_that_begin_alike_share_it(inputs, size, piece, known):
    hashes = tuple(range(100, 100 + min(known, inputs // piece)))
    found = list(names(Request(0, 0, inputs, 1, blocks=hashes, block_tokens=piece), size))
    assert len(found) == len(set(found)) == len(hashes) * piece // size
    for cut in range(len(hashes) + 1):
        other = hashes[:cut] + tuple(-1 - at for at in range(len(hashes) - cut))
        others = list(names(Request(1, 0, inputs, 1, blocks=other, block_tokens=piece), size))
        whole = cut * piece // size
        assert others[:whole] == found[:whole]
        assert not set(others[whole:]) & set(found)


# --- hits ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [1, 15, 16, 17, 160, 161])
@pytest.mark.parametrize("piece", [1, 16])
def test_all_but_the_first_of_a_shared_prefix_find_its_whole_blocks(prefix, piece):
    requests = [same(number, number * 10**6, 200, 3, prefix, piece) for number in range(20)]
    log, _ = run(requests, experiment())
    assert dict(zip(log.number, log.cached, strict=True)) == {0: 0} | dict.fromkeys(range(1, 20), prefix // 16 * 16)


@pytest.mark.parametrize("inputs", [1, 16, 17, 31, 32, 33])
def test_one_token_of_a_prompt_is_always_computed(inputs):
    log, _ = run([same(number, number * 10**6, inputs, 1, inputs) for number in range(2)], experiment())
    assert list(log.cached) == [0, (inputs - 1) // 16 * 16]


def test_who_comes_while_the_first_prompt_is_computed_finds_what_is_through():
    # steps of 512 tokens: the second gets its seat beside the last 88 of the first, when 600 are there or being written
    log, _ = run([same(number, 0, 600, 2, 600) for number in range(2)], experiment())
    assert dict(zip(log.number, log.cached, strict=True)) == {0: 0, 1: 592}


def test_what_is_found_is_not_computed():
    spec = experiment()
    apart = [Request(0, 0, 400, 1), Request(1, 10**6, 400, 1)]
    together = [same(number, number * 10**6, 400, 1, 320) for number in range(2)]
    (without, _), (found, _) = (run(requests, spec) for requests in (apart, together))
    assert without.first[1] - found.first[1] == 320 * 7
    off, _ = run(together, experiment(prefix=False))
    assert list(off.first) == list(without.first)
    assert list(off.cached) == [0, 0]


def test_blocks_are_shared_and_so_leave_room_for_others():
    # each prompt of 10 blocks and a reply in its last one; 8 of them shared
    requests = [same(number, number, 155, 3, 128) for number in range(8)]
    log, _ = run(requests, experiment(), blocks=24)
    alone, _ = run(requests, experiment(prefix=False), blocks=24)
    assert max(log.courses[0].blocks) <= 24 and max(log.courses[0].running) == 8
    assert max(alone.courses[0].running) == 2


def test_the_least_recently_used_goes_first_and_a_prompts_end_before_its_beginning():
    blocks = PrefixBlocks(8, SIZE)
    first, second, third = (same(number, 0, 64) for number in range(3))
    for request in (first, second):
        assert blocks.admit(request) == 0
        blocks.fill(request, 64)
    blocks.release(second, 64)
    blocks.release(first, 64)
    blocks.admit(third)
    again = Request(4, 0, 200, 1, blocks=second.blocks, block_tokens=SIZE)
    assert blocks.found(again) == 0
    blocks.release(third, 64)
    # nothing of the third was computed: its blocks are empty, and go before any that can be found
    assert blocks.found(Request(5, 0, 200, 1, blocks=first.blocks, block_tokens=SIZE)) == 64
    blocks.grow(5)
    assert blocks.found(Request(6, 0, 200, 1, blocks=first.blocks, block_tokens=SIZE)) == 48


def test_a_sequence_that_lost_its_seat_finds_its_own_blocks_again():
    # two replies that grow until one has to go; the 10 blocks of its prompt are idle then, and some are still there
    requests = [same(number, number, 160, 200) for number in range(2)]
    log, _ = run(requests, experiment(), blocks=36)
    plain, _ = run(requests, experiment(prefix=False), blocks=36)
    assert sum(log.preempted) and sum(plain.preempted)
    assert list(log.cached) == [0, 0]
    assert max(log.finish) < max(plain.finish)


# --- replicas of every kind --------------------------------------------------------------------------


@given(requests=alike(), policy=policies, pools=pools, blocks=st.integers(32, 120), most=st.integers(1, 12))
@settings(max_examples=60)
def test_hits_evictions_and_room_are_those_of_explicit_blocks(requests, policy, pools, blocks, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaleout.serving.replica.PrefixBlocks", Twin)
        log, cluster = run(requests, experiment(pools, policy=policy, max_sequences=most), blocks)
    assert isinstance(cluster.replicas[0].ranks[0].blocks, Twin)
    assert_all_served(log, requests)
    assert_nothing_held(cluster, blocks)


@given(
    requests=alike(), policy=policies, pools=pools, blocks=st.integers(32, 120), most=st.integers(1, 12),
    host=st.integers(1, 40),
)  # fmt: skip
@settings(max_examples=60)
def test_what_goes_to_the_host_and_comes_back_is_that_of_explicit_blocks(requests, policy, pools, blocks, most, host):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scaleout.serving.replica.PrefixBlocks", Twin)
        log, cluster = run(requests, experiment(pools, policy=policy, max_sequences=most), blocks, host=host)
    assert_all_served(log, requests)
    assert_nothing_held(cluster, blocks)


@given(
    requests=alike(), policy=policies, pools=pools, blocks=st.integers(32, 90), most=st.integers(1, 12),
    host=st.sampled_from([0, 0, 10, 100]),
)  # fmt: skip
@settings(max_examples=100)
def test_many_steps_at_once_find_what_single_steps_find(requests, policy, pools, blocks, most, host):
    spec = experiment(pools, policy=policy, max_sequences=most)
    log, _ = run(requests, spec, blocks, host=host)
    single, _ = run(requests, spec, blocks, host=host, closed=False)
    assert table(log) == table(single)
    assert log.gaps == single.gaps and log.host == single.host
    assert log.steps == single.steps and log.busy == single.busy and log.decoded == single.decoded


def test_two_runs_are_equal():
    requests = [same(number, 300 * number, 100 + number, 20, 64) for number in range(60)]
    logs = [run(requests, experiment(), blocks=60, host=30)[0] for _ in range(2)]
    assert table(logs[0]) == table(logs[1]) and logs[0].host == logs[1].host
