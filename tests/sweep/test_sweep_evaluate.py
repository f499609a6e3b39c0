"""A point has one outcome, whatever it is evaluated with; it is that of its experiment."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import scaleout
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import analyse
from scaleout.io.catalogue import find
from scaleout.io.experiments import any_experiment
from scaleout.io.yaml import read_mapping
from scaleout.specs.fields import plain
from scaleout.sweep import build, evaluate, screen
from scaleout.sweep.build import Forms, forms_of
from scaleout.sweep.evaluate import evaluate_batch
from scaleout.sweep.outcomes import ANALYTIC, OUTCOMES
from scaleout.sweep.points import points_of
from scaleout.sweep.spec import Sweep, canonical

BASE = {
    "system": "dgx-h100", "chips": 64, "model": "llama-3.1-8b", "layout": {"tp": 8, "dp": 8, "zero": 1},
    "batch": {"global": 64, "sequence": 2048}, "facility": "default",
}  # fmt: skip
LAYOUTS = Sweep(
    base=BASE,
    axes={
        "layout.tp": [1, 4, 8, 16], "layout.pp": [1, 2, 4], "layout.vpp": [1, 2], "layout.zero": [0, 1],
        "batch.micro": [1, 2], "recompute": ["none", ["norm"]],
    },
    rules=["fill-dp", "sequence-parallel-with-tp", "interleave-fits"], stages="analytic",
)  # fmt: skip


def overrides(settings: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


@pytest.mark.parametrize(
    ("base", "settings"),
    [
        (BASE, {}),
        (BASE, {"layout.tp": 4, "layout.dp": 16, "stack": "megatron-lm", "stack.attention": "cudnn"}),
        (BASE, {"system": "dgx-a100", "system.network.bandwidth": "100 Gb/s", "system.chip.power_limit": "300 W"}),
        (BASE, {"model": {"from": "llama-3.1-8b", "layers": 16}, "compress": ["drop_layers=0.25"]}),
        (BASE, {"facility": "hyperscaler", "facility.pue": 1.3, "slow": {"chips": {"3": 0.8}}}),
        ("llama-3.1-8b-16", {"precision": "fp8", "recompute": "full"}),
        ("llama3-70b-poisson", {"pools.0.tp": 8, "requests.arrivals.rate": 3, "engine.max_sequences": 64}),
        ("llama3-70b-mixed-pools", {"precision": "fp8", "cache.dtype": "fp8"}),
        ("resnet-50-h200", {"batch": 64, "system": "dgx-h100"}),
        ("voice-assistant", {"duration": "2 s"}),
    ],
)
def test_experiments_are_those_of_the_command_line(base: Any, settings: dict[str, Any]) -> None:
    expected = plain(any_experiment(base, overrides(settings)))
    made = plain(Forms(base).experiment(json.loads(canonical(settings))))
    for one in (expected, made):
        one.pop("settings")
        one.pop("published", None)
    assert made == expected


def test_a_point_has_the_same_outcome_in_any_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(LAYOUTS)
    texts = points.texts(range(len(points)))
    whole = evaluate_batch(LAYOUTS, "analytic", texts)
    assert {one.status for one in whole} == {"done", "infeasible"}
    order = np.random.default_rng(0).permutation(len(texts)).tolist()
    shuffled = evaluate_batch(LAYOUTS, "analytic", [texts[at] for at in order])
    assert [shuffled[order.index(at)] for at in range(len(texts))] == whole
    few = [at for start in range(0, len(texts), 40) for at in range(start, min(start + 5, len(texts)))]
    for at in few[::2]:
        # by itself, plain; one of many, compiled
        assert evaluate_batch(LAYOUTS, "analytic", [texts[at]]) == [whole[at]], texts[at]


def test_the_quick_way_is_the_slow_way(monkeypatch: pytest.MonkeyPatch) -> None:
    points = points_of(LAYOUTS)
    texts = points.texts(range(len(points)))
    quick = evaluate_batch(LAYOUTS, "analytic", texts)
    monkeypatch.setattr(evaluate, "screen", lambda forms, settings: [None] * len(settings))
    slow = evaluate_batch(LAYOUTS, "analytic", texts[::3])
    for one, other in zip(quick[::3], slow, strict=True):
        assert one.status == other.status, (one, other)
        if one.status == "done":
            assert json.loads(one.text) == json.loads(other.text)
    done = [at for at, one in enumerate(quick) if one.status == "done"]
    assert len(done) > 20
    for at in done[::10]:
        spec = scaleout.experiment(BASE, overrides(points.settings(at)))
        found = json.loads(quick[at].text)
        assert round(found["step_time"] * 1e12) == analyse(spec, compiled=False).end
        assert found["mfu"] == pytest.approx(scaleout.simulate(spec, evaluator="analytic").mfu, rel=1e-12)
        assert set(found) <= ANALYTIC["training"]


def test_texts_are_those_of_json() -> None:
    points = points_of(LAYOUTS)
    for one in evaluate_batch(LAYOUTS, "analytic", points.texts(range(0, len(points), 3))):
        assert one.text == json.dumps(json.loads(one.text), separators=(",", ":") if one.status == "done" else None)


def test_what_the_recurrence_does_not_know_is_evaluated_by_itself() -> None:
    sweep = Sweep(
        base={**BASE, "chips": 16},
        axes={
            "layout.dp": [1, 2],
            "layout.zero": [1, 3],
            "model": ["llama-3.1-8b", "mixtral-8x7b"],
            "chips": [8, 16.0],
        },
    )
    points = points_of(sweep)
    texts = points.texts(range(len(points)))
    rows = evaluate_batch(sweep, "analytic", texts)
    for at, row in enumerate(rows):
        try:
            spec = scaleout.experiment({**BASE, "chips": 16}, overrides(points.settings(at)))
            expected = scaleout.simulate(spec, evaluator="analytic", advise=False).step_time
        except ScaleoutError:
            assert row.status == "infeasible"
            continue
        assert json.loads(row.text)["step_time"] == expected
    assert {row.status for row in rows} == {"done", "infeasible"}


def test_events_are_those_of_a_run() -> None:
    sweep = Sweep(base=BASE, axes={"layout.tp": [4, 8], "layout.dp": [8], "layout.zero": [1]})
    points = points_of(sweep)
    refused, done = evaluate_batch(sweep, "event", points.texts([0, 1]))
    assert (refused.status, done.status) == ("infeasible", "done")
    assert json.loads(refused.text).startswith(
        "layout: tp 4 x pp 1 x dp 8 = 32 chips, but chips is 64; dp 16 would fit"
    )
    result = scaleout.simulate(scaleout.experiment(BASE))
    found = json.loads(done.text)
    assert found["step_time"] == result.step_time
    assert found["bound_by"] == result.bound_by
    assert found["cost_per_mtoken"] == result.cost.per_million_tokens  # type: ignore[union-attr]
    assert sum(value for name, value in found.items() if name.startswith("time.")) == pytest.approx(result.step_time)
    assert [name for name in OUTCOMES["training"] if name in found] == list(found)


SERVED = {
    "kind": "serving", "system": "dgx-h100", "model": "llama-3.1-8b", "engine": "vllm-0.19", "pools": [{"tp": 1}],
    "requests": {
        "input": {"kind": "lognormal", "mean": 300}, "output": {"mean": 40}, "count": 30,
        "arrivals": {"process": "poisson", "rate": 4},
    },
    "slo": {"ttft": "1 s"},
}  # fmt: skip


def test_serving_is_that_of_a_run_in_any_order() -> None:
    sweep = Sweep(base=SERVED, axes={"requests.arrivals.rate": [2, 20], "pools.0.tp": [1, 2]})
    texts = points_of(sweep).texts(range(4))
    rows = evaluate_batch(sweep, "event", texts)
    assert rows == evaluate_batch(sweep, "event", texts[::-1])[::-1]
    spec = scaleout.serving_experiment(SERVED, ("requests.arrivals.rate=20", "pools.0.tp=2"))
    served, found = scaleout.serve(spec), json.loads(rows[3].text)
    assert found["ttft_p99"] == served.ttft.p99
    assert found["goodput"] == served.goodput
    assert found["tokens_per_second"] == served.output_tokens_per_second
    assert found["chip_tokens"] == served.output_tokens_per_second / 2
    state = json.loads(evaluate_batch(sweep, "analytic", texts)[2].text)
    assert state["capacity"] > 20.0
    assert state["tpot_mean"] == pytest.approx(json.loads(rows[2].text)["tpot_mean"], rel=0.3)
    assert set(state) <= ANALYTIC["serving"]


def test_closed_loops_have_no_steady_state() -> None:
    sweep = Sweep(base="llama3-8b-closed-loop", axes={"pools.0.tp": [1]})
    (row,) = evaluate_batch(sweep, "analytic", points_of(sweep).texts([0]))
    assert (row.status, "has no mean rate" in row.text) == ("infeasible", True)


def test_points_of_one_seed_see_the_same_requests() -> None:
    sweep = Sweep(base=SERVED, axes={"pools.0.tp": [1, 2]}, seeds=2, seed=7)
    points = points_of(sweep)
    specs = [forms_of(sweep).experiment(points.settings(at)) for at in range(4)]
    assert specs[0].requests == specs[2].requests
    assert specs[1].requests == specs[3].requests
    assert specs[0].requests.seed != specs[1].requests.seed
    assert specs[0].requests.seed != specs[0].requests.arrivals.seed
    first, second, *_ = evaluate_batch(sweep, "event", points.texts(range(2)))
    assert first != second


@pytest.mark.parametrize(("base", "name"), [("resnet-50-h200", "samples_per_second"), ("voice-assistant", "missed")])
def test_other_kinds_have_outcomes(base: str, name: str) -> None:
    sweep = Sweep(base=base)
    (row,) = evaluate_batch(sweep, "event", points_of(sweep).texts([0]))
    found = json.loads(row.text)
    assert name in found
    assert set(found) <= set(OUTCOMES[points_of(sweep).kind])


def test_what_breaks_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(base=BASE, axes={"layout.vpp": [1, 2]})
    texts = points_of(sweep).texts([0, 1])

    def broken(*_: object, **__: object) -> None:
        raise ValueError('no "such" thing')

    monkeypatch.setattr(evaluate, "simulate", broken)
    rows = evaluate_batch(sweep, "event", texts)
    assert rows[0] == ("failed", json.dumps('ValueError: no "such" thing'))
    assert rows[1].status == "infeasible"
    monkeypatch.setattr(screen, "design_space", broken)
    monkeypatch.setattr(screen, "_one_by_one", broken)
    assert [row.status for row in evaluate_batch(sweep, "analytic", texts)] == ["done", "infeasible"]


def test_bases_are_read_again_when_a_file_changes(tmp_path: Any) -> None:
    path = tmp_path / "base.yaml"
    path.write_text(json.dumps(BASE))
    sweep = Sweep(base=str(path), axes={"layout.tp": [8]})
    first = evaluate_batch(sweep, "analytic", ['{"layout.tp":8}'])
    path.write_text(json.dumps({**BASE, "batch": {"global": 128, "sequence": 2048}}))
    assert evaluate_batch(sweep, "analytic", ['{"layout.tp":8}']) != first


def test_few_systems_are_kept_however_many_the_points_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_MOST_MADE", 3)
    forms = Forms(BASE)
    for rate in (100, 200, 300, 400, 100):
        spec = forms.experiment({"system.network.bandwidth": f"{rate} Gb/s"})
        assert spec.system.network.bandwidth == rate / 8 * 1e9
        assert len(forms._made) <= 3


@pytest.mark.parametrize("where", ["base", "file", "axis", "inside"])
def test_files_that_are_named_are_read_again_when_they_change(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = Path("mine/small.yaml")
    named.parent.mkdir()
    model = read_mapping(find("model", "llama-3.1-8b"))
    base: Any = BASE if where in ("axis", "inside") else {**BASE, "model": str(named)}
    value = {"axis": str(named), "inside": {"from": str(named), "ffn": 14336}}.get(where)
    if where == "file":
        Path("base.yaml").write_text(json.dumps(base))
        base = "base.yaml"
    sweep = Sweep(base=base, axes={"model": [value]} if value else {"layout.tp": [8]})
    found = []
    for layers in (16, 32):
        named.write_text(json.dumps({**model, "layers": layers}))
        found += evaluate_batch(sweep, "analytic", points_of(sweep).texts([0]))
    assert [one.status for one in found] == ["done", "done"]
    assert found[0] != found[1]
