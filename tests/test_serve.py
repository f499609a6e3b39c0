"""The facade of serving: what a result says, and what it must not depend on."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import scaleout
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.course import level_of
from scaleout.evaluate.stability import stability_of, too_short
from scaleout.io.experiments import serving_experiment
from scaleout.io.serving import serve, trace_of
from scaleout.serve import prepare, serve_log
from scaleout.served import CURVE, Served, Spread
from scaleout.serving.log import Course
from scaleout.specs import ServingExperiment

SMALL: dict[str, Any] = {
    "kind": "serving",
    "system": "dgx-h100",
    "model": "llama-3.1-8b",
    "engine": "vllm-0.19",
    "requests": {
        "count": 120,
        "input": {"kind": "lognormal", "mean": 400, "low": 8, "high": 4000},
        "output": {"kind": "geometric", "mean": 60, "high": 600},
        "arrivals": {"process": "poisson", "rate": 10},
    },
    "slo": {"ttft": "200 ms", "tpot": "20 ms"},
}


def small(*settings: str, **changes: Any) -> ServingExperiment:
    return serving_experiment({**SMALL, **changes}, settings)


@pytest.fixture(scope="module", name="result")
def _result() -> Served:
    return serve(small())


values = st.lists(st.floats(0.0, 1e4), min_size=1, max_size=300)


@given(values)
def test_percentiles_are_those_of_numpy(times: list[float]) -> None:
    spread = Spread.of(np.array(times))
    expected = np.quantile(times, (0.5, 0.9, 0.99), method="inverted_cdf")
    assert [spread.p50, spread.p90, spread.p99] == expected.tolist()
    assert spread.max == max(times)
    assert spread.mean == pytest.approx(np.mean(times))
    assert len(spread.curve) == len(CURVE)
    assert list(spread.curve) == sorted(spread.curve)
    assert spread.curve[-1] == spread.max


@given(st.dictionaries(st.integers(0, 50), st.integers(1, 40), min_size=1))
def test_counted_times_are_as_many_single_ones(counts: dict[int, int]) -> None:
    single = Spread.of(np.repeat(np.array(sorted(counts)) * 0.5, [counts[key] for key in sorted(counts)]))
    counted = Spread.counted(counts, 0.5)
    assert counted.curve == single.curve
    assert (counted.count, counted.p50, counted.p99) == (single.count, single.p50, single.p99)
    assert counted.mean == pytest.approx(single.mean)


def test_no_values_have_no_curve() -> None:
    assert Spread.of(np.zeros(0)) == Spread.counted({}, 1.0)
    assert Spread.of(np.zeros(0)).curve == ()


def single_server(rate: float, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrivals, and when each is begun by a server that takes 1 s for one."""
    arrivals = np.random.default_rng(seed).exponential(1.0 / rate, count).cumsum()
    begins, free = [], 0.0
    for time in arrivals:
        begins.append(max(time, free))
        free = begins[-1] + 1.0
    return arrivals, np.array(begins)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("rate", "latency", "expected"), [(0.05, 1.03, "stable"), (0.7, 2.2, "backlogged"), (1.3, 90.0, "overloaded")]
)
def test_stability_of_a_single_server(rate: float, latency: float, expected: str, seed: int) -> None:
    arrivals, begins = single_server(rate, 1000, seed)
    assert stability_of(arrivals, begins, begins + 1.0, np.zeros(0), latency) == expected


def test_requests_that_come_at_once_are_offline_and_rejected_ones_overload() -> None:
    arrivals, none = np.zeros(50), np.zeros(0)
    assert stability_of(arrivals, np.arange(50.0), np.arange(50.0), none, 20.0) == "offline"
    arrivals = np.arange(400.0)
    assert stability_of(arrivals, arrivals, arrivals + 1.0, none, 1.0) == "stable"
    assert stability_of(arrivals, arrivals, arrivals + 1.0, arrivals[::2], 1.0) == "overloaded"
    assert too_short(arrivals, 200.0)
    assert not too_short(arrivals, 100.0)


def test_batches_that_fill_without_end_are_overload_once_they_had_time() -> None:
    arrivals, none = np.arange(1000.0), np.zeros(0)
    # nobody waits for a seat, but each stays longer than the one before
    ends = arrivals + np.linspace(5.0, 150.0, 1000)
    assert stability_of(arrivals, arrivals, ends, none, 77.0) == "overloaded"
    assert stability_of(arrivals, arrivals, ends + 40.0, none, 117.0) == "backlogged"
    assert stability_of(arrivals, arrivals, arrivals + 77.0, none, 77.0) == "stable"


def test_a_level_is_weighed_by_time() -> None:
    course = Course()
    for time, running in ((0, 1), (10, 5), (30, 0)):
        course.note(time, running, 0, 0)
    level = level_of(course, "running", 40)
    assert level.mean == pytest.approx((10 * 1 + 20 * 5) / 40)
    assert (level.p50, level.max) == (1.0, 5.0)


def test_counts_add_up(result: Served) -> None:
    counts, course = result.requests, result.course
    assert counts["came"] == counts["served"] + counts["rejected"] + counts["failed"] == 120
    assert sum(share.requests for share in result.replicas) == 120
    width = course.time[1]
    assert sum(course.came) * width == pytest.approx(120, rel=1e-5)
    assert sum(course.ended) * width == pytest.approx(120, rel=1e-5)
    # Little's law, exactly: requests that wait, over time, are their waits
    assert sum(course.waiting) * width == pytest.approx(result.queue.mean * 120, rel=1e-3)
    assert result.output_tokens_per_second == pytest.approx(result.tokens["output"] / result.duration)
    assert sum(result.step.values()) == pytest.approx(1.0)
    assert result.error_band == pytest.approx(math.hypot(*result.error_parts.values()))
    assert 0.05 < result.error_band < 0.5


def test_nothing_is_faster_than_the_floor(result: Served) -> None:
    assert result.floor.ttft <= result.ttft.curve[0]
    assert result.floor.tpot <= result.tpot.curve[0]
    assert result.floor.weights < result.floor.tpot


def test_times_are_made_of_their_parts(result: Served) -> None:
    assert result.queue.mean <= result.ttft.mean <= result.latency.mean
    assert result.gap.count == result.tokens["output"] - 120
    assert result.attainment is not None
    assert result.goodput == pytest.approx(result.attainment * 120 / result.duration)


def test_json_is_the_same_each_time_and_comes_back(result: Served) -> None:
    text = result.to_json()
    assert serve(small()).to_json() == text
    back = Served.from_json(text)
    assert back == result
    assert back.to_json() == text
    assert len(text) < 200_000
    with pytest.raises(SpecError, match="not a result"):
        Served.from_json("{}")
    with pytest.raises(SpecError, match="format"):
        Served.from_json(json.dumps({**json.loads(text), "format": 0}))
    with pytest.raises(SpecError, match="stability"):
        Served.from_json(json.dumps({**json.loads(text), "stability": "fine"}))
    with pytest.raises(SpecError, match="result"):
        Served.from_json(json.dumps({**json.loads(text), "course": 3}))


def test_what_is_prepared_changes_no_time(result: Served) -> None:
    other, spec = small("requests.arrivals.rate=30"), small()
    prepared = prepare(other)
    serve_log(other, prepared=prepared)
    assert serve_log(spec, prepared=prepared)[0] == result


def test_requests_that_wait_show_how_sensitive_they_are() -> None:
    busy = small("requests.arrivals.rate=40", "scheduler.max_sequences=4")
    result = serve(busy)
    assert result.stability == "overloaded"
    assert result.sensitivity is not None
    assert result.sensitivity.ttft_p99 > result.ttft.p99
    assert serve_log(busy, sensitivity=False)[0].sensitivity is None


def test_all_at_once_is_offline() -> None:
    arrivals = {**SMALL["requests"], "arrivals": {"process": "offline"}}
    result = serve(small(requests=arrivals))
    assert result.stability == "offline"
    assert result.sensitivity is None


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("slo.ttft=1 ms", "first token after"),
        ("slo.tpot=1 ms", "a token takes"),
        ("slo.latency=1 ms", "first token alone"),
    ],
)
def test_a_promise_that_nobody_can_keep_is_refused_with_the_floor(setting: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        serve(small(setting))


def test_who_watches_hears_of_requests() -> None:
    heard: list[int] = []
    serve_log(small("requests.count=600"), told=heard.append, sensitivity=False)
    assert heard == [256, 512]


def test_the_public_function_reads_the_trace() -> None:
    spec = scaleout.serving_experiment({**SMALL, "requests": {"trace": "chat-1000", "count": 20}})
    assert scaleout.serve(spec).requests["served"] == 20
    assert trace_of(small()) is None
    with pytest.raises(SpecError, match="no serving experiment"):
        scaleout.serve("llama3-70b-poisson")


def test_links_carry_what_the_caches_are() -> None:
    pools = [{"role": "prefill", "replicas": 1}, {"role": "decode", "replicas": 1}]
    result = serve(small(pools=pools))
    # a reply of one token ends where its prompt is
    assert result.transfers["count"] == result.tpot.count
    assert result.links
    # once out of a chip and once into one; steps on one chip send nothing
    assert sum(row.bytes for row in result.links) == pytest.approx(2.0 * result.transfers["bytes"])
    assert all(0.0 < row.utilisation <= row.busiest_utilisation < 1.0 for row in result.links)
    assert Served.from_json(result.to_json()) == result
    assert serve(small()).links == ()
