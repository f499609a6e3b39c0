"""Bounds of serving: below what simulations need, and what a linear programme says of their dual."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped]

from scaleout.io.experiments import serving_experiment
from scaleout.planning import serve_bounds
from scaleout.planning.serve_bounds import least_time
from scaleout.planning.serve_demand import Stream, demand_of, stream_of
from scaleout.planning.serve_trials import kept
from scaleout.serve import prepare, serve_log
from scaleout.serving.work import Work, upto
from scaleout.specs import ServingExperiment, Slo


def _experiment(system: str, model: str, precision: str, pools: list[dict[str, Any]], **keys: Any) -> ServingExperiment:
    return serving_experiment(
        {
            "kind": "serving", "system": system, "model": model, "engine": keys.get("engine", "vllm-0.19"),
            "precision": precision, "pools": pools,
            "requests": {
                "count": 150, "seed": keys.get("seed", 0),
                "input": {"kind": "lognormal", "mean": keys.get("input", 600), "cv": 1.0, "low": 1, "high": 6000},
                "output": {"kind": "lognormal", "mean": keys.get("output", 60), "cv": 0.8, "low": 1, "high": 600},
                "arrivals": {"process": "poisson", "rate": keys.get("rate", 40.0), "seed": keys.get("seed", 0)},
            },
            "slo": keys.get("slo", {"ttft": "1 s", "tpot": "25 ms", "share": 0.95}),
            "router": {"policy": "least_load"},
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("system", "model", "precision", "pools", "keys"),
    [
        ("dgx-h100", "llama-3.1-8b", "fp8", [{"tp": 1}], {"rate": 60.0}),
        ("dgx-h100", "llama-3.1-8b", "bf16", [{"tp": 2, "pp": 2}], {"rate": 200.0, "slo": {"ttft": "3 s"}}),
        ("dgx-a100", "llama-3.1-8b", "bf16", [{"tp": 1}], {"rate": 30.0, "output": 150}),
        ("l40s-8", "llama-3.1-8b", "fp8", [{"tp": 2}], {"rate": 30.0, "slo": {"latency": "4 s", "share": 0.9}}),
        ("mi300x-8", "llama-3.1-8b", "bf16", [{"tp": 4}], {"rate": 150.0, "seed": 3}),
        ("dgx-h100", "mixtral-8x7b", "bf16", [{"tp": 2, "dp": 2, "ep": 4}], {"rate": 60.0, "seed": 1}),
        ("dgx-h100", "llama-3.1-8b", "fp8", [{"tp": 1}], {"rate": 60.0, "engine": "tensorrt-llm-1.0"}),
        (
            "dgx-h100", "llama-3.1-8b", "bf16", [{"role": "prefill", "tp": 1}, {"role": "decode", "tp": 1}],
            {"rate": 60.0},
        ),
    ],
)  # fmt: skip
def test_no_fewer_replicas_than_the_bound_keep_the_promise(
    system: str, model: str, precision: str, pools: list[dict[str, Any]], keys: dict[str, Any]
) -> None:
    spec = _experiment(system, model, precision, pools, **keys)
    prepared = prepare(spec)
    demand = demand_of(stream_of(spec, None), spec.slo)
    rows = zip(spec.pools, prepared.timers, prepared.rooms, strict=True)
    least = [least_time(spec, pool, timer, space, demand) / demand.span for pool, timer, space in rows]
    assert max(least) > 0.0
    for count in (1, 2, 3, 5):
        more = [{**pool, "replicas": count} for pool in pools]
        served, _ = serve_log(_experiment(system, model, precision, more, **keys), None, sensitivity=False)
        if kept(served, spec.slo.share):
            assert max(least) <= count
            return
    pytest.fail("none of these keeps the promise")


def test_times_of_steps_are_not_below_their_minorants() -> None:
    rng = np.random.default_rng(5)
    for system, tp in (("dgx-h100", 1), ("dgx-h100", 8), ("mi300x-8", 4)):
        spec = _experiment(system, "llama-3.1-8b", "bf16", [{"tp": tp}])
        timer = prepare(spec).timers[0]
        demand = demand_of(stream_of(spec, None), spec.slo)
        steps = serve_bounds._Least(spec, spec.pools[0], timer, demand, decoding=True, prefilling=True)
        sizes = serve_bounds._edges(steps.largest)
        plain = serve_bounds._under(
            [steps._times(steps.bare, Work(decode_tokens=max(1, n), rows=1)) for n in sizes.tolist()]
        )
        beside = serve_bounds._under([steps._mixed(max(1, n)) for n in sizes.tolist()])
        rate, _ = steps._attention()
        for _ in range(60):
            b, seen = int(rng.integers(1, 900)), int(rng.integers(1, 6000))
            m = int(rng.integers(1, 7000)) if rng.random() < 0.5 else 0
            work = Work(m, m * (m + 1) // 2, m, int(m > 0), b, b, upto(b * seen), upto(seen), b + int(m > 0))
            took = steps._times(timer, work)[0]
            at = int(np.searchsorted(sizes, b + m, side="right")) - 1
            assert (beside if m else plain)[at][0] + rate * b * seen <= took


def test_the_dual_is_feasible_and_close_to_the_programme() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        columns = rng.random((60, 6)) * np.array([100.0, 4000.0, 1.0, 5.0, 0.01, 0.01])
        columns[:, 3:] -= columns[:, 3:].mean(axis=0)
        times, worth = rng.random(60) * 0.05 + 0.005, np.array([3e4, 2e5, 200.0, 0.0, -0.1, -0.1])
        found = serve_bounds._dual(columns, times, worth)
        assert (found >= 0.0).all()
        assert (columns @ found <= times * (1 + 1e-9)).all()
        rows = np.vstack([columns, [[0, 0, 0, 0, 1, 1]]])
        best = -linprog(-worth, A_ub=rows, b_ub=np.append(times, 1.0)).fun
        assert worth @ found <= best * (1 + 1e-6)
        assert worth @ found >= 0.98 * best


def test_demand_leaves_out_the_longest_that_may_break_the_promise() -> None:
    stream = Stream(np.array([0.0, 1.0, 2.0, 3.0]), np.array([10, 20, 30, 1000]), np.array([3, 5, 9, 2]))
    demand = demand_of(stream, Slo(ttft=1.0, tpot=0.1, share=0.75))
    # until 4.1 s: of 2, 4, 8 and 1 tokens after the first all but 8
    assert demand.decodes == 7.0
    assert demand.prompts == 60.0
    assert demand.span == pytest.approx(4.1)
    alone = demand_of(stream, Slo(ttft=1.0, share=0.75))
    assert alone.decodes == 0.0
    assert alone.prompts == 60.0
    assert demand_of(stream, Slo(tpot=0.1)).span == math.inf
