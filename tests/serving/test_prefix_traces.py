"""The prefix cache on a trace of conversations."""

from itertools import takewhile

import pytest
from made_up_serving import SIZE, assert_all_served, assert_nothing_held, experiment, run
from slow_blocks import Twin

from scaleout.io.experiments import find_trace
from scaleout.io.requests import Trace
from scaleout.serving.request import Request


def conversations(gap: int) -> list[Request]:
    """The sample of conversations, with a mean gap between its requests [tick]."""
    rows = list(Trace(find_trace("chat-multi-turn")))
    scale = gap * len(rows) / rows[-1].arrival
    return [
        Request(number, int(row.arrival * scale), row.inputs, row.outputs, 0, row.session, row.blocks, row.block_tokens)
        for number, row in enumerate(rows)
    ]


def test_with_room_for_all_a_prompt_finds_what_any_before_it_began_with():
    requests = conversations(10**9)
    log, _ = run(requests, experiment(), blocks=100_000)
    seen: set[int] = set()
    expected = []
    for request in requests:
        known = len(list(takewhile(seen.__contains__, request.blocks))) * request.block_tokens
        expected.append(min(known, (request.inputs - 1) // SIZE * SIZE))
        seen.update(request.blocks)
    assert list(log.number) == list(range(len(requests)))
    assert list(log.cached) == expected
    assert 0.3 < sum(log.cached) / sum(log.inputs) < 0.9
    assert not sum(log.hosted)


@pytest.mark.parametrize("host", [0, 60])
def test_short_of_room_it_finds_what_explicit_blocks_hold(monkeypatch, host):
    monkeypatch.setattr("scaleout.serving.replica.PrefixBlocks", Twin)
    requests = conversations(60_000)
    log, cluster = run(requests, experiment(block=128), blocks=110, host=host)
    assert_all_served(log, requests)
    assert_nothing_held(cluster, 110)
    twin = cluster.replicas[0].ranks[0].blocks
    assert twin.slow.evictions > 500
    assert bool(sum(log.hosted)) == bool(host)


def test_less_room_finds_less_and_the_host_makes_up_for_it():
    requests = conversations(10**9)
    rates = []
    for blocks, host in ((100_000, 0), (2000, 0), (700, 0), (700, 100_000)):
        log, _ = run(requests, experiment(), blocks=blocks, host=host)
        rates.append(sum(log.cached) / sum(log.inputs))
    # requests one after the other find in a larger cache all that they find in a smaller one
    assert rates[0] > rates[1] > rates[2] > 0
    assert rates[3] == rates[0]
