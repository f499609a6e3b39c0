"""Figures of serving: what they show, and that they are the same bytes each time."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from scaleout.capacity import Capacity, capacity
from scaleout.io.experiments import serving_experiment
from scaleout.report.capacity import draw_frontier, draw_rates
from scaleout.report.serving import draw_course, draw_latency, latency_curves
from scaleout.report.serving_requests import draw_requests, request_bars, requests_csv
from scaleout.report.style import render
from scaleout.serve import serve_log
from scaleout.served import Served, Spread
from scaleout.serving.log import Log

SMALL: dict[str, Any] = {
    "kind": "serving",
    "system": "dgx-h100",
    "model": "llama-3.1-8b",
    "engine": "vllm-0.19",
    "cache": {"blocks": 300},
    "router": {"max_waiting": 12},
    "requests": {
        "count": 80,
        "input": {"mean": 400},
        "output": {"kind": "geometric", "mean": 60, "high": 600},
        "arrivals": {"process": "poisson", "rate": 40},
    },
    "slo": {"ttft": "200 ms", "tpot": "20 ms"},
}
ROLES = [{"role": "prefill", "replicas": 1}, {"role": "decode", "replicas": 3}]


def served(**changes: Any) -> tuple[Served, Log]:
    return serve_log(serving_experiment({**SMALL, **changes}), sensitivity=False)


@pytest.fixture(scope="module", name="found")
def _found() -> Capacity:
    requests = {**SMALL["requests"], "count": 40}
    return capacity(serving_experiment({**SMALL, "requests": requests}), within=0.3)


CASES: dict[str, Callable[[], Figure]] = {
    "latency": lambda: draw_latency(served()[0]),
    "no promise": lambda: draw_latency(served(slo={})[0]),
    "course": lambda: draw_course(served()[0]),
    "pools": lambda: draw_course(served(pools=ROLES, cache={})[0]),
    "many replicas": lambda: draw_course(served(pools=[{"replicas": 64}])[0]),
    "requests": lambda: draw_requests(request_bars(served()[1]), "requests"),
    "one token": lambda: draw_latency(served(requests={**SMALL["requests"], "output": {"mean": 1}})[0]),
    "one request": lambda: draw_course(served(requests={**SMALL["requests"], "count": 1})[0]),
}


@pytest.mark.parametrize("name", CASES)
def test_figures_are_the_same_bytes_and_no_text_is_beyond_the_edge(name: str) -> None:
    figure = CASES[name]()
    files = render(figure, "x")
    assert files == render(CASES[name](), "x")
    assert files["x.png"].startswith(b"\x89PNG")
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert box is not None
        assert box.x0 >= 0.0
        assert box.y0 >= 0.0
        assert box.x1 <= figure.bbox.x1 + 1.0
        assert box.y1 <= figure.bbox.y1 + 1.0


def test_curves_are_those_of_the_result() -> None:
    result, _ = served()
    ttft, tpot = latency_curves(result)
    assert ttft.curves["TTFT"].tolist() == list(result.ttft.curve)
    assert ttft.limit == 0.2
    assert ttft.kept == pytest.approx(1.0 - result.missed["ttft"])
    assert tpot.curves["ITL, between two"].tolist() == list(result.gap.curve)
    empty = replace(result, tpot=Spread.of(np.zeros(0)))
    assert list(latency_curves(empty)[1].curves) == ["ITL, between two"]


def test_bars_of_a_request_are_its_times() -> None:
    result, log = served()
    bars = request_bars(log, most=1000)
    assert [bar.number for bar in bars] == list(range(80))
    assert {bar.state for bar in bars} == {"served", "rejected"}
    for bar in bars:
        ends = [end for _, _, end in bar.parts]
        assert all(begin < end for _, begin, end in bar.parts)
        assert [begin for _, begin, _ in bar.parts][1:] == ends[:-1]
        assert not ends or ends[-1] == bar.end
    waits = sum(
        end - begin for bar in bars if bar.state == "served" for kind, begin, end in bar.parts if kind == "waiting"
    )
    assert waits == pytest.approx(result.queue.mean * result.requests["served"])
    assert sum(bar.preempted for bar in bars) == result.preemptions


def test_bars_know_of_caches_on_their_way() -> None:
    bars = request_bars(served(pools=ROLES, cache={}, router={})[1])
    assert {kind for bar in bars for kind, _, _ in bar.parts} == {"waiting", "prompt", "cache on its way", "reply"}
    for bar in bars:
        assert [begin for _, begin, _ in bar.parts][1:] == [end for _, _, end in bar.parts][:-1]


def test_rows_of_requests_are_the_result() -> None:
    result, log = served()
    header, *rows = (line.split(",") for line in requests_csv(log).decode().splitlines())
    assert len(rows) == 80
    ttft = [float(row[header.index("ttft_s")]) for row in rows if row[header.index("state")] == "served"]
    assert np.mean(ttft) == pytest.approx(result.ttft.mean, rel=1e-6)
    assert {row[header.index("latency_s")] for row in rows if row[header.index("state")] == "rejected"} == {""}


def test_curves_over_rates(found: Capacity) -> None:
    for draw in (draw_rates, draw_frontier):
        files = [render(draw([found], ["x"]), "x") for _ in range(2)]
        assert files[0] == files[1]
    figure = draw_rates([found, replace(found, chips=2)], ["one", "two"])
    assert figure.axes[0].get_xlabel() == "requests of a chip [1/s]"
    assert "requests [1/s]" in draw_rates([found], ["x"]).axes[0].get_xlabel()
    assert draw_rates([replace(found, rate=0.0)], ["x"]).axes
