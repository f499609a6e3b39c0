"""When requests come: every process against its law, and what must not depend on what."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from scaleout.errors import SpecError
from scaleout.serving.arrivals import DRAWN, requests
from scaleout.serving.request import Request
from scaleout.specs import Arrivals, Length, Requests, TraceRow

PROMPT = Length(kind="lognormal", mean=1000, cv=1.0, high=8192)
REPLY = Length(kind="geometric", mean=220, high=2048)
OPEN = ("poisson", "server", "gamma", "constant", "ramp", "diurnal", "offline")


def drawn(process: str = "poisson", count: int = 20_000, seed: int = 0, **arrivals: Any) -> Requests:
    when = Arrivals(process=process, **{"rate": 5.0, "end_rate": 20.0, "period": 600.0, **arrivals})
    return Requests(input=PROMPT, output=REPLY, count=count, seed=seed, arrivals=when)


def seconds(spec: Requests) -> Any:
    return np.array([request.arrival for request in requests(spec)]) * 1e-12


def said(spec: Requests, rows: list[TraceRow] | None = None) -> list[tuple[Any, ...]]:
    names = ("number", "arrival", "inputs", "outputs", "priority", "session", "blocks", "block_tokens", "client")
    return [tuple(getattr(request, name) for name in names) for request in requests(spec, rows)]


@pytest.mark.parametrize("process", OPEN)
def test_requests_are_numbered_in_the_order_of_arrival_and_as_many_as_asked_for(process: str) -> None:
    sent = list(requests(drawn(process, 9000)))
    assert [request.number for request in sent] == list(range(9000))
    assert all(a.arrival <= b.arrival for a, b in pairwise(sent))
    assert all(request.state == "waiting" and request.inputs >= 1 and request.outputs >= 1 for request in sent)


@pytest.mark.parametrize("process", OPEN)
def test_the_same_seed_gives_the_same_stream_and_another_seed_another(process: str) -> None:
    assert said(drawn(process, 6000)) == said(drawn(process, 6000))
    assert said(drawn(process, 6000)) != said(drawn(process, 6000, seed=1))


@pytest.mark.parametrize("process", ["poisson", "server", "gamma", "ramp", "diurnal"])
def test_another_seed_of_arrivals_changes_them_alone(process: str) -> None:
    spec = drawn(process, 6000)
    one, other = said(spec), said(replace(spec, arrivals=replace(spec.arrivals, seed=1)))
    assert [row[2:] for row in one] == [row[2:] for row in other]
    assert [row[1] for row in one] != [row[1] for row in other]


@pytest.mark.parametrize("process", ["poisson", "gamma", "constant", "diurnal", "ramp"])
def test_another_rate_changes_no_length_and_a_longer_stream_begins_with_the_shorter(process: str) -> None:
    slow, fast = said(drawn(process, 6000, rate=1.0)), said(drawn(process, 6000, rate=9.0))
    assert [row[2:] for row in slow] == [row[2:] for row in fast]
    assert [row[1] for row in slow] != [row[1] for row in fast]
    if process != "ramp":
        assert said(drawn(process, 5000)) == said(drawn(process, 6000))[:5000]


def test_another_rate_of_one_seed_is_the_same_pattern_faster() -> None:
    assert seconds(drawn(rate=10.0)) == pytest.approx(seconds(drawn(rate=5.0)) / 2, rel=1e-12, abs=1e-12)


def test_longer_prompts_leave_replies_as_they_are() -> None:
    longer = Requests(input=Length(mean=5), output=REPLY, count=6000, arrivals=Arrivals(rate=5.0))
    assert [request.outputs for request in requests(longer)] == [r.outputs for r in requests(drawn("poisson", 6000))]


@pytest.mark.parametrize("process", ["poisson", "server"])
def test_gaps_of_a_poisson_process_are_exponential(process: str) -> None:
    gaps = np.diff(seconds(drawn(process, seed=3)))
    assert stats.kstest(gaps, stats.expon(scale=0.2).cdf).pvalue > 0.01
    assert np.corrcoef(gaps[1:], gaps[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_gaps_of_a_gamma_process_have_its_mean_and_variation(cv: float) -> None:
    gaps = np.diff(seconds(drawn("gamma", cv=cv)))
    shape = 1 / cv**2
    assert stats.kstest(gaps, stats.gamma(shape, scale=0.2 / shape).cdf).pvalue > 0.01
    assert gaps.mean() == pytest.approx(0.2, rel=4 * cv / math.sqrt(len(gaps)))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.06)


def test_a_gamma_process_without_variation_is_even() -> None:
    assert np.diff(seconds(drawn("gamma", 5000, cv=0.0))) == pytest.approx(0.2, rel=1e-4)


def test_a_constant_process_is_even_to_the_tick() -> None:
    times = [request.arrival for request in requests(drawn("constant", 10_000, rate=4.0))]
    assert times == [250_000_000_000 * number for number in range(10_000)]


@pytest.mark.parametrize(("start", "end"), [(5.0, 20.0), (20.0, 5.0), (5.0, 5.0), (1e-3, 10.0), (10.0, 1e-3)])
def test_epochs_of_a_ramp_through_its_integrated_rate_are_a_unit_poisson_process(start: float, end: float) -> None:
    count = 20_000
    times = seconds(drawn("ramp", count, rate=start, end_rate=end))
    span = 2 * count / (start + end)
    inside = times[times <= span]
    assert abs(len(inside) - count) < 4 * math.sqrt(count)
    epochs = start * inside + (end - start) * inside**2 / (2 * span)
    assert stats.kstest(np.diff(epochs), stats.expon.cdf).pvalue > 0.01


def test_a_ramp_goes_to_its_end_rate_with_the_last_request() -> None:
    times = seconds(drawn("ramp", 40_000, rate=5.0, end_rate=20.0))
    span = 2 * 40_000 / 25
    for part in range(8):
        count = np.count_nonzero((times >= part * span / 8) & (times < (part + 1) * span / 8))
        expected = span / 8 * (5.0 + 15.0 * (part + 0.5) / 8)
        assert count == pytest.approx(expected, abs=4 * math.sqrt(expected))


@pytest.mark.parametrize("amplitude", [0.0, 0.5, 1.0])
def test_epochs_of_a_day_through_its_integrated_rate_are_a_unit_poisson_process(amplitude: float) -> None:
    times = seconds(drawn("diurnal", amplitude=amplitude))
    turn = 2 * math.pi / 600.0
    epochs = 5.0 * (times + amplitude / turn * (1 - np.cos(turn * times)))
    assert stats.kstest(np.diff(epochs), stats.expon.cdf).pvalue > 0.01


def test_a_day_has_its_noon_and_its_night() -> None:
    times = seconds(drawn("diurnal", amplitude=0.9))
    # whole days alone
    times = times[times < 3600.0] % 600.0
    noon, night = (np.count_nonzero((times > at - 75) & (times < at + 75)) for at in (150.0, 450.0))
    # the mean of the sine over the quarter around its top
    swing = 0.9 * math.sin(math.pi / 4) / (math.pi / 4)
    assert noon / night == pytest.approx((1 + swing) / (1 - swing), rel=0.1)


def test_offline_requests_are_all_there_at_once() -> None:
    assert not seconds(drawn("offline")).any()


ROWS = [TraceRow(2, 1.0, 10, 1, 2, 5, (7, 8), 4), TraceRow(3, 2.0, 20, 2), TraceRow(4, 5.0, 30, 3, 0, 6, (7, 9), 4)]


def traced(**changes: Any) -> Requests:
    return Requests(trace="some.csv", **changes)


def test_a_trace_is_taken_as_it_is() -> None:
    assert said(traced(), ROWS) == [
        (0, 10**12, 10, 1, 2, 5, (7, 8), 4, -1),
        (1, 2 * 10**12, 20, 2, 0, -1, (), 0, -1),
        (2, 5 * 10**12, 30, 3, 0, 6, (7, 9), 4, -1),
    ]
    assert said(traced(count=2), ROWS) == said(traced(), ROWS)[:2]


def test_a_trace_that_is_too_short_begins_again_with_other_sessions_and_blocks_after_its_mean_gap() -> None:
    sent = said(traced(count=8), ROWS)
    assert [row[1] / 1e12 for row in sent] == [1.0, 2.0, 5.0, 7.0, 8.0, 11.0, 13.0, 14.0]
    assert [row[2:5] for row in sent[3:6]] == [row[2:5] for row in sent[:3]]
    assert sent[4][5:8] == (-1, (), 0)
    sessions = [{row[5] for row in part} - {-1} for part in (sent[:3], sent[3:6], sent[6:])]
    assert all(not a & b for a, b in pairwise(sessions))
    blocks = [{block for row in part for block in row[6]} for part in (sent[:3], sent[3:6], sent[6:])]
    assert all(not a & b for a, b in pairwise(blocks))
    # what is shared inside of a round stays shared
    assert sent[3][6][0] == sent[5][6][0]
    assert sent[3][6][1] != sent[5][6][1]


@pytest.mark.parametrize("count", [None, 3, 30])
def test_a_trace_is_sped_up_to_a_rate(count: int | None) -> None:
    spec = traced(count=count, arrivals=Arrivals(process="trace", rate=4.0))
    times = seconds_of(spec)
    assert (len(times) - 1) / (times[-1] - times[0]) == pytest.approx(4.0, rel=0.15 if count == 30 else 1e-9)
    assert times[1] - times[0] == pytest.approx(0.125)


def seconds_of(spec: Requests) -> Any:
    return [request.arrival * 1e-12 for request in requests(spec, ROWS)]


def test_lengths_of_a_trace_go_with_any_process() -> None:
    spec = traced(count=7, arrivals=Arrivals(process="constant", rate=2.0))
    assert [row[1:3] for row in said(spec, ROWS)] == [(i * 10**12 // 2, 10 * (i % 3 + 1)) for i in range(7)]
    assert len(said(traced(arrivals=Arrivals(process="poisson", rate=2.0)), ROWS)) == 3
    ramp = traced(arrivals=Arrivals(process="ramp", rate=2.0, end_rate=4.0))
    assert len(said(ramp, ROWS)) == 3


def test_no_count_and_no_trace_is_a_thousand() -> None:
    assert sum(1 for _ in requests(Requests(input=PROMPT, output=REPLY, arrivals=Arrivals(rate=1.0)))) == DRAWN == 1000


def test_the_order_of_draws_never_depends_on_who_asks_how_many() -> None:
    def endless() -> Iterator[Request]:
        return iter(requests(drawn("poisson", 10**9)))

    assert [r.arrival for r in islice(endless(), 10)] == [r.arrival for r in islice(endless(), 5000)][:10]


REFUSED: dict[str, tuple[Requests, list[TraceRow] | None, str]] = {
    "no times": (traced(), [TraceRow(2, None, 1, 1)], "'trace', but some.csv has lengths alone"),
    "no times to scale": (
        traced(arrivals=Arrivals(process="trace", rate=1.0)), [TraceRow(2, None, 1, 1)], "has lengths alone",
    ),
    "no rate": (
        traced(arrivals=Arrivals(process="trace", rate=1.0)), [ROWS[0]] * 3, "requests of some.csv come at once",
    ),
    "empty": (traced(), [], "some.csv: has no requests"),
    "no rows": (traced(), None, "expected rows of a file"),
    "rows of nothing": (drawn(), ROWS, "expected rows of a file"),
    "too late": (traced(), [TraceRow(2, 1e9, 1, 1)], "request 0 comes after 11,574 days; at most 106 days"),
    "blocks and a prefix": (traced(prefix=8), ROWS, "requests.prefix: 8, but some.csv itself says"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_streams_that_cannot_be_are_refused(name: str) -> None:
    spec, rows, says = REFUSED[name]
    with pytest.raises(SpecError) as caught:
        list(requests(spec, rows))
    assert says in str(caught.value)


def test_time_ends_only_for_requests_that_come_so_late() -> None:
    slow = drawn("constant", 10, rate=1e-6)
    assert len(list(requests(slow))) == 10
    with pytest.raises(SpecError, match="request 10 comes after 116 days"):
        list(requests(drawn("constant", 11, rate=1e-6)))


@pytest.mark.parametrize(
    ("spec", "rows", "says"),
    [
        (traced(), ROWS, r"some\.csv: line 3: prompt of 20 and reply of 2 tokens; at most 21 fit"),
        (drawn(), None, r"requests: prompt of .* tokens; at most 21 fit; input\.high and output\.high limit"),
    ],
)
def test_prompts_that_do_not_fit_are_refused_with_their_line(spec: Requests, rows: Any, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        list(requests(spec, rows, longest=21))


def test_what_fits_is_taken() -> None:
    assert len(list(requests(traced(), ROWS, longest=33))) == 3


@pytest.mark.parametrize(
    ("arrivals", "says"),
    [
        ({"process": "poisson"}, "rate: missing"),
        ({"process": "ramp", "rate": 1.0}, "end_rate: missing"),
        ({"process": "diurnal", "rate": 1.0, "period": 0.0}, "0 s is no day"),
        ({"process": "diurnal", "rate": 1.0, "amplitude": 1.5}, "amplitude: 1.5"),
        ({"process": "single_stream", "clients": 2}, "a single stream has one"),
        ({"process": "gamma", "rate": 1.0, "cv": -1.0}, "cv: -1.0"),
        ({"process": "poisson", "rate": 0.0}, "rate: 0"),
        ({"process": "poisson", "rate": math.inf}, "rate: inf"),
    ],
)
def test_arrivals_that_cannot_be_are_refused(arrivals: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        Arrivals(**arrivals)


@given(
    process=st.sampled_from(OPEN),
    rate=st.floats(1e-2, 1e4),
    end=st.floats(1e-2, 1e4),
    cv=st.floats(0.0, 10.0),
    amplitude=st.floats(0.0, 1.0),
    period=st.floats(1.0, 1e6),
    count=st.integers(1, 300),
)
def test_any_open_stream_is_in_order_and_complete(
    process: str, rate: float, end: float, cv: float, amplitude: float, period: float, count: int
) -> None:
    spec = drawn(process, count, rate=rate, end_rate=end, cv=cv, amplitude=amplitude, period=period)
    times = [request.arrival for request in requests(spec)]
    assert len(times) == count
    assert times == sorted(times)
    assert times[0] >= 0
