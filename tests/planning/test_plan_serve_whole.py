"""Plans of serving: as brute force finds them, as `scaleout run` repeats them, and why there is none."""

import json
import math
from itertools import product
from typing import Any

import pytest

import scaleout
from scaleout.errors import SpecError
from scaleout.io.experiments import serving_experiment
from scaleout.io.serving import serve, trace_of
from scaleout.planning import serve_ways
from scaleout.planning.plan import Plan
from scaleout.planning.serve import plan_serving
from scaleout.planning.serve_demand import demand_of, stream_of
from scaleout.planning.serve_question import as_mapping, question_of, rate_of
from scaleout.planning.serve_trials import Trials
from scaleout.planning.serve_ways import space_of
from scaleout.specs import Pool

ASKED: dict[str, Any] = {
    "rate": "40/s", "ttft": "500 ms", "tpot": "12 ms", "share": 0.95, "input": 700, "output": 60, "count": 150,
}  # fmt: skip


@pytest.fixture(autouse=True)
def few_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_ways, "STAGES", (1, 2))


@pytest.fixture(scope="module")
def plan() -> Plan:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve_ways, "STAGES", (1, 2))
        return plan_serving("llama-3.1-8b", **ASKED, runners=2)


def _all_of_it(counts: tuple[int, ...], **asked: Any) -> dict[tuple[str, tuple[int, ...]], float]:
    """Every way with every number of replicas, simulated to the end: what those that keep the promise come to."""
    usual = {
        "latency": None, "requests": None, "systems": "dgx-h100", "precisions": ("bf16", "fp8"), "caches": ("bf16",),
        "chunks": (None,), "engine": "vllm-0.19", "kinds": "together", "minimise": "cost", "facility": "default",
        "max_chips": None, "max_power": None,
    }  # fmt: skip
    question = question_of(asked.pop("model", "llama-3.1-8b"), **{**usual, **ASKED, **asked})
    base = serving_experiment(as_mapping(question, question.systems[0]))
    stream = stream_of(base, trace_of(base))
    space = space_of(question, stream.longest)
    trials = Trials(question, space, trace_of(base), stream, demand_of(stream, question.slo))
    found = {}
    for way in space.ways:
        for numbers in product(counts, repeat=len(way.pools)):
            trial = trials.at(way, numbers, whole=True)
            if trial.kept and trial.served is not None:
                found[way.name, numbers] = trials.value(trial.served)
    return found


@pytest.mark.parametrize("goal", ["cost", "energy"])
def test_it_is_what_brute_force_finds(goal: str, plan: Plan) -> None:
    asked = {} if goal == "cost" else {"precisions": ("fp8",), "tpot": "8 ms"}
    found = plan if goal == "cost" else plan_serving(
        "llama-3.1-8b", **{**ASKED, **asked}, minimise=goal, runners=0, inputs=False
    )  # fmt: skip
    all_of_it = _all_of_it((1, 2), minimise=goal, **asked)
    best = min(all_of_it, key=lambda key: (all_of_it[key], key))
    assert found.best is not None
    assert found.best.value == all_of_it[best]
    assert found.best.name == f"{best[0]} x {best[1][0]}"
    assert found.gap == 0.0
    assert found.best.bound <= found.best.value


def test_pools_apart_are_what_brute_force_finds() -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(serve_ways, "STAGES", (1,))
        patched.setattr(
            "scaleout.planning.serve_ways._layouts",
            lambda model, node: iter([Pool(tp=1), Pool(tp=2)]),
        )
        asked = {"count": 100, "systems": "l4-pcie", "precisions": ("fp8",), "rate": 4, "ttft": "1 s", "tpot": "80 ms"}
        found = plan_serving("llama-3.2-3b", **{**ASKED, **asked}, pools="apart", runners=0, inputs=False)
        assert found.best is not None
        assert {"prefill.replicas", "decode.replicas"} <= set(found.best.layout)
        assert "--kv-transfer-config" in found.launch["vllm"]
        all_of_it = _all_of_it((1, 2), **asked, kinds="apart", model="llama-3.2-3b")
        assert found.best.value == min(all_of_it.values())
        again = serve(serving_experiment(json.loads(found.to_json())["experiment"]))
        assert again.cost is not None
        assert again.cost.hour_total == found.best.value


def test_running_it_gives_the_same_figures(plan: Plan) -> None:
    data = json.loads(plan.to_json())
    for one, settings in ((plan.best, ()), *((row, row.settings) for row in plan.runners)):
        assert one is not None
        served = scaleout.serve(scaleout.serving_experiment(data["experiment"], settings))
        assert served.cost is not None
        assert served.energy is not None
        assert served.attainment is not None
        assert served.cost.hour_total == one.value
        assert served.chips == one.chips
        assert served.tpot.p99 == one.figures["tpot_p99"]
        assert served.energy.power == one.figures["power"]
        assert served.attainment >= 0.95


def test_a_plan_says_all_of_it(plan: Plan) -> None:
    assert plan.best is not None
    # tp 1 to 8 and two numbers of stages, in two precisions
    assert sum(plan.covered.values()) == 16
    assert len(plan.runners) >= 2
    assert [row.value for row in plan.runners] == sorted(row.value for row in plan.runners)
    assert plan.pareto
    assert plan.why
    assert {row.name for row in plan.inputs} >= {"rate", "input", "output", "tpot", "hbm_bandwidth", "electricity"}
    assert all(math.isfinite(row.change) for row in plan.inputs if row.name in ("price", "electricity"))
    assert plan.question["rate"] == 40.0
    assert any(row.name == "requests: prompts" and not row.verified for row in plan.assumed)
    words = plan.launch["vllm"]
    assert f"--tensor-parallel-size {plan.best.layout['tp']}" in words
    assert "--max-num-seqs 1024" in words
    assert plan.question["requests"]["count"] == 150


def test_equal_questions_have_equal_plans() -> None:
    asked = {**ASKED, "precisions": ("fp8",), "tpot": "20 ms", "count": 100}
    one, other = (plan_serving("llama-3.1-8b", **asked, runners=0) for _ in range(2))
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"tpot": "0.1 ms"}, "tpot: 100 us is broken by 16 of 16 ways in an empty system"),
        ({"ttft": "1 ms"}, "ttft: 1 ms is broken"),
        ({"max_power": "100 W"}, "more than 100 W"),
        ({"rate": "4000/s", "max_chips": 2}, "more than 2 chips; about"),
        ({"systems": "tpu-v5e", "precisions": ("bf16",)}, "no constants of decode attention"),
        ({"systems": "dgx-1", "precisions": ("fp8",)}, "no layout of the model fits"),
    ],
)
def test_why_there_is_none(asked: dict[str, Any], words: str) -> None:
    found = plan_serving("llama-3.1-8b", **{**ASKED, **asked})
    assert found.best is None
    assert words in "\n".join(found.problems)
    assert not found.launch
    assert sum(found.covered.values()) >= 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"rate": 0}, "rate: 0 is not a number"),
        ({"rate": "fast"}, "such as '50/s'"),
        ({"rate": True}, "rate: True"),
        ({"ttft": None, "tpot": None}, "nothing is promised"),
        ({"ttft": "2"}, "ttft: '2' has no unit"),
        ({"tpot": -1.0}, "tpot: -1.0 is not above 0"),
        ({"share": 0.2}, "share: 0.2"),
        ({"precisions": ("fp9",)}, "did you mean 'fp8'"),
        ({"systems": ("dgx-h1000",)}, "did you mean 'dgx-h100'"),
        ({"engine": "vlm"}, "unknown engine"),
        ({"minimise": "time"}, "minimise: 'time'"),
        ({"pools": "alone"}, "pools: 'alone'"),
        ({"input": 0}, "input: 0"),
        ({"input": 90_000}, "takes 131,072"),
        ({"requests": "chat-1000"}, "expected either"),
        ({"requests": "llama3-8b-closed-loop", "input": None, "output": None}, "'closed'"),
        ({"count": 3}, "--count: 3"),
        ({"max_chips": 0}, "--max-chips: 0"),
        ({"chunks": (1,)}, "chunk: 1"),
        ({"facility": "clouds"}, "unknown facility"),
    ],
)
def test_what_is_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_serving("llama-3.1-8b", **{**ASKED, **asked})
    assert words in str(caught.value)


def test_rates_have_units() -> None:
    assert rate_of("600/min") == 10.0
    assert rate_of("7200/h") == 2.0
    assert rate_of(3) == rate_of(" 3 /s ") == 3.0


def test_a_search_that_is_cut_short_says_its_gap() -> None:
    asked = {**ASKED, "tpot": "6 ms", "count": 100}
    found = plan_serving("llama-3.1-8b", **asked, seconds=1e-9, inputs=False)
    assert found.best is not None
    assert 0.0 < found.gap < math.inf


def test_requests_of_a_trace() -> None:
    asked = {**ASKED, "input": None, "output": None, "requests": "chat-1000", "precisions": ("fp8",)}
    found = plan_serving("llama-3.1-8b", **asked, runners=0, inputs=False)
    assert found.best is not None
    assert str(found.experiment["requests"]["trace"]).endswith("chat-1000.csv")
