"""Closed loops: who waits for whom, and that every request comes once."""

import heapq
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.serving.arrivals import requests
from scaleout.serving.request import Request
from scaleout.specs import Arrivals, Length, Requests, TraceRow

SERVICE = 7


def loop(count: int, **arrivals: Any) -> Requests:
    return Requests(input=Length(mean=10), output=Length(mean=2), count=count, arrivals=Arrivals(**arrivals))


def run(spec: Requests, rows: list[TraceRow] | None = None) -> list[tuple[int, Request]]:
    """Every request with its end, where a reply takes 7 + number mod 3 ticks and nobody waits."""
    source = requests(spec, rows)
    coming = [(request.arrival, request.number, request) for request in source]
    going: list[tuple[int, int, Request]] = []
    ended = []
    while coming or going:
        if coming and (not going or coming[0] <= going[0]):
            time, number, request = heapq.heappop(coming)
            heapq.heappush(going, (time + SERVICE + number % 3, number, request))
        else:
            now, _, request = heapq.heappop(going)
            ended.append((now, request))
            for following in source.after(request, now):
                heapq.heappush(coming, (following.arrival, following.number, following))
    return ended


@given(count=st.integers(1, 60), clients=st.integers(1, 20), think=st.integers(0, 5))
def test_each_client_sends_its_next_request_after_a_reply_and_its_pause(count: int, clients: int, think: int) -> None:
    ended = run(loop(count, process="closed", clients=clients, think=think * 1e-12))
    assert sorted(request.number for _, request in ended) == list(range(count))
    for client in range(min(clients, count)):
        mine = [(now, request) for now, request in ended if request.client == client]
        assert mine[0][1].arrival == 0
        for (before, _), (_, request) in pairwise(mine):
            assert request.arrival == before + think


def test_a_single_stream_sends_one_after_the_other() -> None:
    ended = run(loop(10, process="single_stream"))
    assert [request.arrival for _, request in ended] == [0, *(now for now, _ in ended[:-1])]


@given(count=st.integers(1, 60), together=st.integers(1, 9))
def test_a_multi_stream_waits_for_all_before_it_sends_as_many_again(count: int, together: int) -> None:
    ended = run(loop(count, process="multi_stream", clients=together))
    assert len(ended) == count
    ends = {request.number: now for now, request in ended}
    for number, request in ((request.number, request) for _, request in ended):
        round_ = number // together
        expected = max((ends[n] for n in range((round_ - 1) * together, round_ * together)), default=0) if round_ else 0
        assert request.arrival == expected


def test_open_streams_send_nothing_after_a_reply() -> None:
    source = requests(loop(3, process="offline"))
    assert [source.after(request, 5) for request in source] == [(), (), ()]


def test_lengths_of_a_trace_go_through_a_closed_loop() -> None:
    rows = [TraceRow(2, None, 5, 1), TraceRow(3, None, 6, 2), TraceRow(4, None, 7, 3)]
    spec = Requests(trace="x", arrivals=Arrivals(process="closed", clients=2))
    assert sorted(request.inputs for _, request in run(spec, rows)) == [5, 6, 7]
    more = Requests(trace="x", count=7, arrivals=Arrivals(process="closed", clients=2))
    assert sorted(request.inputs for _, request in run(more, rows)) == [5, 5, 5, 6, 6, 7, 7]


@pytest.mark.parametrize("process", ["closed", "multi_stream"])
def test_more_clients_than_requests_are_idle(process: str) -> None:
    assert len(run(loop(3, process=process, clients=50))) == 3
