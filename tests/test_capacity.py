"""The highest rate that keeps a promise."""

import json
from typing import Any

import pytest

import scaleout
from scaleout.capacity import capacity
from scaleout.errors import PlanError, SpecError
from scaleout.io.experiments import serving_experiment

SMALL: dict[str, Any] = {
    "kind": "serving",
    "system": "dgx-h100",
    "model": "llama-3.1-8b",
    "engine": "vllm-0.19",
    "requests": {
        "count": 400,
        "input": {"mean": 500},
        "output": {"mean": 50},
        "arrivals": {"process": "poisson", "rate": 10},
    },
    "slo": {"ttft": "200 ms", "tpot": "12 ms", "share": 0.9},
}


def test_the_rate_lies_between_one_that_keeps_the_promise_and_one_that_breaks_it() -> None:
    spec = serving_experiment(SMALL)
    found = capacity(spec, [5.0])
    assert found.above is not None
    assert found.rate < found.above <= found.rate * 1.021
    kept = {point.rate: point.kept for point in found.points}
    assert kept[5.0]
    assert kept[found.rate]
    assert not kept[found.above]
    assert all(is_kept for rate, is_kept in kept.items() if rate <= found.rate)
    assert found.rate_per_chip == found.rate
    assert found.binds == "tpot"
    assert found.resource == "step time"
    at = serving_experiment(SMALL, (f"requests.arrivals.rate={found.rate}",))
    assert (scaleout.serve(at).attainment or 0.0) >= 0.9
    assert json.loads(found.to_json())["points"][0]["rate"] == found.points[0].rate
    assert capacity(spec, [5.0]) == found


def test_twice_the_replicas_take_about_twice_the_requests() -> None:
    changed = {**SMALL, "requests": {**SMALL["requests"], "count": 800}, "router": {"policy": "least_load"}}
    one, two = (capacity(serving_experiment({**changed, "pools": [{"replicas": n}]}), within=0.1) for n in (1, 2))
    assert 1.7 < two.rate / one.rate < 2.6


def test_a_small_cache_is_what_binds() -> None:
    found = capacity(serving_experiment({**SMALL, "cache": {"blocks": 500}, "slo": {"ttft": "1 s"}}), within=0.2)
    assert (found.binds, found.resource) == ("ttft", "KV cache")


def test_where_no_rate_keeps_the_promise_the_floor_is_said() -> None:
    # a prompt in ten is long; alone it takes longer than promised
    changed = {
        **SMALL,
        "requests": {**SMALL["requests"], "count": 60, "input": {"kind": "uniform", "low": 100, "high": 8000}},
        "slo": {"ttft": "60 ms"},
    }
    found = capacity(serving_experiment(changed), within=0.5)
    assert found.rate == 0.0
    assert any("break the promise" in line and "floor" in line for line in found.warnings)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"slo": {}}, SpecError, "nothing is promised"),
        ({"slo": {"tpot": "1 ms"}}, PlanError, "the floor"),
        ({"requests": {**SMALL["requests"], "arrivals": {"process": "offline"}}}, SpecError, "no rate to search"),
    ],
)
def test_what_has_no_capacity_is_refused(changes: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        capacity(serving_experiment({**SMALL, **changes}))


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), True, 1e9])
def test_rates_are_positive_numbers(rate: float) -> None:
    with pytest.raises(SpecError, match="rates"):
        capacity(serving_experiment(SMALL), [rate])
