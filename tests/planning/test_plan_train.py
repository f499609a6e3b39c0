"""Plans of trainings: as good as simulating everything, and honest where nothing does it."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaleout.errors import PlanError, ScaleoutError, SpecError
from scaleout.io.experiments import experiment
from scaleout.io.yaml import as_yaml
from scaleout.planning.asked import asked
from scaleout.planning.floor import Floor
from scaleout.planning.layouts import Axes, point
from scaleout.planning.machines import Machine
from scaleout.planning.plan import Plan
from scaleout.planning.survey import survey
from scaleout.planning.train import plan_training
from scaleout.report.plan_table import headline
from scaleout.simulate import simulate
from scaleout.specs.fields import plain

SMALL: dict[str, Any] = {"tokens": 1e9, "chips": 8, "batch": 32, "sequence": 1024, "goodput": 0.9}
SPACES: dict[str, dict[str, Any]] = {
    "dense": {"axes": Axes(tp=(1, 2, 4), cp=(1,), pp=(1, 2), vpp=(1, 2), micro=(1, 2), zero=(0, 1), recompute=((),))},
    "context": {
        "axes": Axes(tp=(2,), cp=(1, 2), pp=(1,), micro=(1,), zero=(1, 3), recompute=((), ("full",))),
        "batch": 16,
        "minimise": "cost",
    },
    "experts": {
        "model": "experts",
        "batch": 16,
        "axes": Axes(tp=(1, 2), cp=(1,), pp=(1, 2), vpp=(1,), micro=(1,), zero=(0, 1), etp=(1,), recompute=((),)),
        "minimise": "energy",
    },
}


@pytest.fixture(name="experts")
def small_experts(tmp_path: Path) -> str:
    """A small model with experts, as a file."""
    shape = {
        "name": "small-experts", "layers": 4, "hidden": 1024, "heads": 16, "kv_heads": 8, "head_size": 64, "ffn": 2048,
        "vocabulary": 32000, "gated": True, "norm": "rms", "bias": False, "positions": "rope",
        "tied_embeddings": False, "max_sequence": 4096, "experts": {"count": 8, "top_k": 2, "ffn": 1024},
        "source": "made up",
    }  # fmt: skip
    path = tmp_path / "small-experts.yaml"
    path.write_text(yaml.safe_dump(shape))
    return str(path)


def all_of(model: str, asking: dict[str, Any]) -> list[float]:
    """Values of every legal layout that can be simulated."""
    whole: dict[str, Any] = {
        "days": None, "max_power": None, "max_cost": None, "system": "dgx-h100", "stack": None, "facility": "default",
        "precision": "bf16", "minimise": None, "gap": 0.0,
    }  # fmt: skip
    question = asked(model, **{**whole, **asking})
    base = question.bases["dgx-h100"]
    machine = Machine(base, 8, question.goal)
    values = []
    for at in survey(Floor(base, 8), question.axes).points:
        try:
            result = simulate(point(base, 8, at))
        except ScaleoutError:
            continue
        values.append(machine.value(machine.figures(result)))
    return sorted(values)


@pytest.mark.parametrize("space", SPACES)
def test_the_best_is_that_of_simulating_every_layout(space: str, experts: str) -> None:
    asking = {**SMALL, **SPACES[space]}
    model = experts if asking.pop("model", "") == "experts" else "llama-3.2-1b"
    values = all_of(model, asking)
    assert len(values) > 10
    plan = plan_training(model, **asking, gap=0.0)
    assert plan.best is not None
    assert plan.best.value == values[0]
    assert plan.gap == 0.0
    near = plan_training(model, **asking, gap=0.05)
    assert near.best is not None
    assert near.best.value <= values[0] * (1.0 + near.gap) * (1 + 1e-12)
    assert near.gap <= 0.05
    found = [one.value for one in plan.runners]
    assert found == sorted(found)
    assert set(found) <= set(values)
    assert all(one.bound <= one.value * (1 + 1e-9) for one in (plan.best, *plan.runners))


@pytest.fixture(name="plan", scope="module")
def small_plan() -> Plan:
    return plan_training("llama-3.2-1b", **SMALL, axes=Axes(pp=(1, 2), micro=(1,), zero=(0, 1), cp=(1,)))


def test_a_plan_is_an_experiment_that_gives_the_same_figures(plan: Plan, tmp_path: Path) -> None:
    assert plan.best is not None
    path = tmp_path / "plan.yaml"
    path.write_text(as_yaml(plain(plan.experiment)))
    again = simulate(experiment(path))
    assert again.step_time == plan.best.figures["step_time"]
    assert again.energy is not None
    assert again.energy.power == plan.best.figures["power"]
    other = plan.runners[-1]
    assert simulate(experiment(path, other.settings)).step_time == other.figures["step_time"]


def test_a_plan_says_what_it_covered_and_why(plan: Plan) -> None:
    assert plan.best is not None
    assert (
        sum(plan.covered.values())
        == survey(Floor(_base(plan), 8), Axes(pp=(1, 2), micro=(1,), zero=(0, 1), cp=(1,))).legal
    )
    assert plan.covered["simulated"] >= 1 + len(plan.runners)
    assert "bound by" in plan.why[0]
    assert all(line.startswith(("Against", "By the", "Where kernels")) for line in plan.why[1:])
    assert [abs(row.change) for row in plan.inputs] == sorted((abs(row.change) for row in plan.inputs), reverse=True)
    assert plan.inputs[0].name in ("goodput", "tensor", "power-limit")
    assert "days" in headline(plan)
    assert json.loads(plan.to_json())["best"]["name"] == plan.best.name
    front = [(one.figures["time"], one.figures["cost"], one.figures["energy"]) for one in plan.pareto]
    for a, b in itertools.permutations(front, 2):
        assert not all(x <= y for x, y in zip(a, b, strict=True))


def _base(plan: Plan) -> Any:
    spec = experiment(plain(plan.experiment))
    from scaleout.planning.machines import template

    return template(spec, spec.batch.global_, spec.batch.sequence)


def test_the_same_question_gives_the_same_answer(plan: Plan) -> None:
    again = plan_training("llama-3.2-1b", **SMALL, axes=Axes(pp=(1, 2), micro=(1,), zero=(0, 1), cp=(1,)))
    assert again.to_json() == plan.to_json()


def test_flags_start_the_layout(plan: Plan) -> None:
    assert plan.best is not None
    text, layout = plan.launch["torchrun"], plan.best.layout
    words = text.replace("\\\n", " ").split()

    def value(flag: str) -> str:
        return words[words.index(flag) + 1]

    assert value("--tensor-model-parallel-size") == str(layout["tp"])
    assert value("--micro-batch-size") == str(layout["micro"])
    assert value("--global-batch-size") == "32"
    assert value("--num-layers") == "16"
    assert ("--use-distributed-optimizer" in words) == (layout["zero"] > 0)
    assert "--swiglu" in words
    assert int(value("--nnodes")) * int(value("--nproc-per-node")) == 8
    assert int(value("--train-samples")) * 1024 >= 1e9


def test_too_short_and_too_weak_are_answered_with_what_would_do() -> None:
    axes = Axes(pp=(1,), cp=(1,), micro=(1,), zero=(1,))
    plan = plan_training(
        "llama-3.2-1b", tokens=1e12, days=1.0, max_power=1e5, chips=(16, 256), batch=512, sequence=2048, axes=axes
    )
    assert plan.best is None
    words = " ".join(plan.problems)
    assert "1 days need at least" in words
    assert "100 kW feed at most" in words
    assert "by a usual layout" in words
    assert plan.launch == {}


def test_a_search_that_is_cut_short_says_the_gap_that_is_proven(plan: Plan) -> None:
    assert plan.best is not None
    cut = plan_training("llama-3.2-1b", **SMALL, seconds=1e-9)
    assert cut.best is not None
    assert 0.0 < cut.gap < math.inf
    assert cut.best.value / (1.0 + cut.gap) <= plan.best.value
    assert "before all layouts were bounded" in " ".join(cut.problems)
    assert sum(cut.covered.values()) > 0


def test_where_what_was_tried_breaks_a_limit_nothing_is_proven() -> None:
    axes = Axes(tp=(1,), cp=(1,), pp=(1,), zero=(1,))
    free = plan_training("llama-3.2-1b", **SMALL, axes=axes)
    rows = [one for one in (free.best, *free.runners) if one is not None]
    power = min(one.figures["power"] for one in rows) * 0.999
    plan = plan_training("llama-3.2-1b", **SMALL, axes=axes, max_power=power)
    words = " ".join(plan.problems)
    assert plan.best is None or plan.best.figures["power"] <= power
    assert plan.best is not None or (plan.gap == 0.0) == ("nobody looked" not in words)


def test_a_limit_of_cost_is_kept() -> None:
    plan = plan_training("llama-3.2-1b", **SMALL, max_cost=0.01, axes=Axes(pp=(1,), micro=(1,), zero=(1,)))
    assert plan.best is None
    assert "costs more than 0.01 USD" in " ".join(plan.problems)


def test_the_fewest_chips_that_are_in_time() -> None:
    axes = Axes(tp=(1,), cp=(1,), pp=(1,), micro=(1,), zero=(1,), recompute=((),))
    base: dict[str, Any] = {
        "tokens": 1e10,
        "batch": 96,
        "sequence": 1024,
        "minimise": "chips",
        "chips": (4, 8, 16, 24),
        "axes": axes,
    }
    slow = plan_training("llama-3.2-1b", **{**base, "chips": 8})
    assert slow.best is not None
    days = slow.best.figures["time"] / 86_400.0 * 0.99
    plan = plan_training("llama-3.2-1b", **base, days=days)
    assert plan.best is not None
    assert plan.best.chips == 16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": 0}, "tokens: 0 is not accepted"),
        ({"days": -1.0}, "days: -1.0 is not accepted"),
        ({"max_power": 0.0}, "max_power"),
        ({"goodput": 1.5}, "goodput: 1.5 is not accepted"),
        ({"gap": -0.1}, "gap: -0.1"),
        ({"chips": 0}, "chips: 0 is not accepted"),
        ({"chips": "many"}, "chips: 'many'"),
        ({"minimise": "times"}, "minimise: 'times' is unknown.*time"),
        ({"batch": 0}, "batch: 0"),
        ({"batch": "16 sequences"}, "batch: '16 sequences' is neither"),
        ({"sequence": True}, "sequence: True"),
        ({"system": "dgx-h10"}, "dgx-h100"),
        ({"system": ()}, "none is named"),
        ({"stack": "megatron"}, "megatron-bridge"),
        ({"facility": "nowhere"}, "nowhere"),
        ({"precision": "int2"}, "int2"),
    ],
)
def test_bad_questions_are_refused_in_words(changes: dict[str, Any], words: str) -> None:
    with pytest.raises((SpecError, PlanError), match=words):
        plan_training("llama-3.2-1b", **{**SMALL, **changes})


def test_an_unknown_model_is_refused_with_those_near() -> None:
    with pytest.raises(SpecError, match=r"llama-3\.1-405b"):
        plan_training("llama-3.1-405", **SMALL)


def test_chips_that_are_no_whole_nodes_are_said() -> None:
    plan = plan_training("gpt2", **{**SMALL, "chips": 12})
    assert plan.best is None
    assert "12 chips are not whole nodes of dgx-h100, which have 8" in plan.problems
