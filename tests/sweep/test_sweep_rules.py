"""Rules leave out exactly what they say."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import scaleout
from scaleout.errors import ScaleoutError, SweepError
from scaleout.io.catalogue import load
from scaleout.specs import TrainingExperiment
from scaleout.sweep.columns import Columns
from scaleout.sweep.divide import CONTEXTS, Ground, refusals, refused
from scaleout.sweep.points import points_of
from scaleout.sweep.rules import RULES, known_rules, register_rule
from scaleout.sweep.spec import Sweep

BASE = {
    "system": "dgx-h100", "chips": 64, "model": "llama-3.1-8b", "layout": {"tp": 8, "dp": 8},
    "batch": {"global": 96, "sequence": 4096},
}  # fmt: skip


def rows(sweep: Sweep) -> list[dict[str, Any]]:
    points = points_of(sweep)
    return [points.settings(at) for at in range(len(points))]


def drawn(count: int, seed: int) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(seed)
    at = {
        "tp": draw.choice([1, 2, 3, 4, 8, 16, 64], count), "pp": draw.choice([1, 2, 3, 4, 6, 32], count),
        "dp": draw.choice([1, 2, 3, 4, 8], count), "vpp": draw.choice([1, 1, 1, 2, 4], count),
        "cp": draw.choice([1, 1, 2, 4], count), "ep": draw.choice([1, 1, 2, 4, 8], count),
        "etp": draw.choice([1, 1, 2], count), "micro": draw.choice([1, 2, 3], count),
        "batch": draw.choice([16, 48, 96], count), "sequence": draw.choice([1000, 2048, 4096, 8192], count),
        "shard": draw.choice([0, 0, 0, 2, 4], count), "context": draw.integers(0, 3, count),
        "sequence_parallel": draw.integers(0, 2, count),
    }  # fmt: skip
    product = at["tp"] * at["cp"] * at["pp"] * at["dp"]
    at["chips"] = np.where(draw.random(count) < 0.9, product, 64)
    return {name: np.asarray(column, dtype=np.int64) for name, column in at.items()}


def accepts(spec: TrainingExperiment, point: dict[str, int]) -> bool:
    layout = {name: point[name] for name in ("tp", "pp", "dp", "vpp", "cp", "ep", "etp")}
    try:
        made = replace(
            spec.layout, **layout, context=CONTEXTS[point["context"]], shard=point["shard"] or None,
            sequence_parallel=bool(point["sequence_parallel"]),
        )  # fmt: skip
        batch = replace(spec.batch, global_=point["batch"], micro=point["micro"], sequence=point["sequence"])
        replace(spec, chips=point["chips"], layout=made, batch=batch)
    except ScaleoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("model", "system", "stack"),
    [
        ("llama-3.1-8b", "dgx-h100", "pytorch"),
        ("mixtral-8x7b", "dgx-h100", "megatron-lm"),
        ("gpt3-175b", "tpu-v4", "nemo"),
        ("deepseek-v3", "hgx-h800", "megatron-lm"),
    ],
)
def test_what_is_refused_is_what_an_experiment_refuses(model: str, system: str, stack: str) -> None:
    spec = scaleout.experiment({**BASE, "chips": 1, "layout": {}, "model": "llama-3.1-8b"})
    parts = {"model": load("model", model), "system": load("system", system), "stack": load("stack", stack)}
    spec = replace(spec, batch=replace(spec.batch, sequence=1024), **parts)
    at = drawn(1500, seed=3)
    against = refusals(Ground(**parts), at)
    for place in range(1500):
        point = {name: int(column[place]) for name, column in at.items()}
        assert accepts(spec, point) == (against[place] == 0), (point, against[place])
        if against[place]:
            assert ": " in refused(int(against[place]), Ground(**parts), point)
    assert 20 <= (against == 0).sum() <= 1400


def test_nothing_overflows() -> None:
    at = drawn(8, seed=1)
    for name in ("tp", "pp", "dp", "cp", "ep", "etp", "vpp", "micro", "batch"):
        at[name] = np.full(8, 10**12)
    parts = {"model": load("model", "llama-3.1-8b"), "system": load("system", "dgx-h100")}
    assert (refusals(Ground(**parts, stack=load("stack", "pytorch")), at) > 0).all()


def test_dividing_is_looked_at_on_the_models_and_systems_of_the_points() -> None:
    axes = {"model": ["llama-3.1-8b", "gpt3-175b"], "layout.tp": [1, 3, 8, 16, 32], "system.chips_per_node": [8, 16]}
    kept = rows(Sweep(base={**BASE, "chips": 64}, axes=axes, rules=["fill-dp", "divides"]))
    expected = []
    for model in axes["model"]:
        for tp in (1, 3, 8, 16, 32):
            for node in (8, 16):
                settings = (
                    f"model={model}",
                    f"layout.tp={tp}",
                    f"layout.dp={64 // tp}",
                    f"system.chips_per_node={node}",
                )
                try:
                    scaleout.experiment(BASE, settings)
                except ScaleoutError:
                    continue
                expected.append((model, tp, node))
    assert [(row["model"], row["layout.tp"], row["system.chips_per_node"]) for row in kept] == expected
    assert expected


def test_small_rules() -> None:
    node = rows(Sweep(base=BASE, axes={"layout.tp": [1, 3, 8, 16]}, rules="tp-in-node"))
    assert [row["layout.tp"] for row in node] == [1, 8]
    filled = rows(Sweep(base=BASE, axes={"layout.tp": [2, 4], "layout.dp": [1, 3]}, rules="fill-chips"))
    assert [row["chips"] for row in filled] == [2, 6, 4, 12]
    axes = {"layout.pp": [1, 2, 4], "layout.vpp": [1, 2, 3]}
    kept = rows(Sweep(base=BASE, axes=axes, rules=["interleave-fits"]))
    # 32 layers; 96 sequences on 8 ranks are 12 micro-batches
    assert [(r["layout.pp"], r["layout.vpp"]) for r in kept] == [(1, 1), (2, 1), (2, 2), (4, 1), (4, 2)]
    served = rows(
        Sweep(base="llama3-70b-poisson", axes={"pools.0.tp": [1, 2, 4, 8]}, rules="fill-replicas")
    )  # fmt: skip
    assert [(row["pools.0.tp"], row["pools.0.replicas"]) for row in served] == [(1, 4), (2, 2), (4, 1)]
    experts = Sweep(
        base={**BASE, "model": "mixtral-8x7b"}, axes={"layout.ep": [1, 8, 16], "layout.dp": [8]}, rules="ep-in-dp"
    )
    assert [row["layout.ep"] for row in rows(experts)] == [1, 8]


def test_keys_are_found_inside_whole_values() -> None:
    axes = {"layout": [{"tp": 2, "pp": 2}, {"tp": 3}, {"pp": 8}]}

    def seen(columns: Columns) -> Any:
        assert columns.whole("layout.tp", 1).tolist() == [2, 3, 1]
        assert columns.whole("layout.dp", 1).tolist() == [1, 1, 1]
        assert columns.of("model").tolist() == [None] * 3
        assert columns.of("batch.sequence").tolist() == [4096] * 3
        assert columns.of("layout").tolist() == axes["layout"]
        return np.array([True, False, True])

    register_rule("looks-inside", seen)
    assert len(rows(Sweep(base=BASE, axes=axes, rules="looks-inside"))) == 2
    with pytest.raises(SweepError, match=r"layout.dp: a rule derives it, and layout is an axis"):
        points_of(Sweep(base=BASE, axes=axes, rules="fill-dp"))


@pytest.fixture
def odd() -> Iterator[str]:
    register_rule("odd", lambda columns: columns.whole("layout.tp") % 2)  # type: ignore[arg-type]
    yield "odd"


def test_rules_of_ones_own_are_checked(odd: str) -> None:
    assert {*RULES, odd} <= set(known_rules())
    with pytest.raises(SweepError, match=r"odd: gave .* of type int64; expected true or false"):
        points_of(Sweep(base=BASE, axes={"layout.tp": [1, 2]}, rules=odd))
    register_rule("endless", lambda columns: columns.derive("slow.spread", np.full(len(columns), np.inf)))
    with pytest.raises(SweepError, match=r"endless: slow.spread: a rule derives what is no number"):
        points_of(Sweep(base=BASE, axes={"layout.tp": [1, 2]}, rules="endless"))
    with pytest.raises(SweepError, match="came along"):
        register_rule("divides", lambda columns: None)
    with pytest.raises(SweepError, match="no function"):
        register_rule("mine", 3)  # type: ignore[arg-type]
