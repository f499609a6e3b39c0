"""Points are all combinations in order; each is known by one text."""

import itertools
import json

import numpy as np
import pytest

from scaleout.errors import SweepError
from scaleout.sweep.points import points_of, slow_points
from scaleout.sweep.spec import MOST_POINTS, Sweep

BASE = {
    "system": "dgx-h100", "chips": 16, "model": "llama-3.1-8b", "layout": {"tp": 8, "dp": 2},
    "batch": {"global": 16, "sequence": 2048},
}  # fmt: skip
SERVING = "llama3-8b-closed-loop"
AXES = {"layout.tp": [1, 2, 4], "recompute": ["none", ["norm"]], "stack": ["pytorch", {"from": "pytorch"}]}


def test_points_are_the_product_in_order() -> None:
    zipped = [{"layout.pp": [1, 2], "layout.dp": [4, 8]}]
    points = points_of(Sweep(base=BASE, axes=AXES, zipped=zipped))
    expected = [
        dict(zip(AXES, row[:3], strict=True)) | {"layout.pp": row[3][0], "layout.dp": row[3][1]}
        for row in itertools.product(*AXES.values(), [(1, 4), (2, 8)])
    ]
    assert [points.settings(at) for at in range(len(points))] == expected
    assert points.names == (*AXES, "layout.pp", "layout.dp")
    texts = points.texts(range(len(points)))
    assert texts == [json.dumps(row, sort_keys=True, separators=(",", ":")) for row in expected]
    assert len(set(texts)) == len(texts)
    assert points.texts([5, 0]) == [texts[5], texts[0]]
    assert points.settings(-1) == expected[-1]


STEADY = {
    "kind": "serving", "system": "dgx-h100", "model": "llama-3.1-8b", "engine": "vllm-0.19", "pools": [{"replicas": 2}],
    "requests": {
        "input": {"mean": 300}, "output": {"mean": 40}, "count": 30, "arrivals": {"process": "constant", "rate": 4},
    },
}  # fmt: skip
"""Nothing of it is left to chance."""


def test_rules_derive_after_axes_and_seeds_come_last() -> None:
    base = {**BASE, "slow": {"spread": 0.05}}
    points = points_of(
        Sweep(base=base, axes={"layout.tp": [1, 3, 4]}, rules=["fill-dp", "sequence-parallel-with-tp"], seeds=3, seed=5)
    )
    assert points.names == ("layout.tp", "layout.dp", "layout.sequence_parallel", "seed")
    assert points.left_out == {"fill-dp": 1, "sequence-parallel-with-tp": 0}
    rows = [points.settings(at) for at in range(len(points))]
    assert [row["seed"] for row in rows] == [5, 6, 7, 5, 6, 7]
    assert rows[-1] == {"layout.tp": 4, "layout.dp": 4, "layout.sequence_parallel": True, "seed": 7}


def test_one_value_that_draws_is_worth_seeds() -> None:
    policies = ["round_robin", "power_of_two", "least_load"]
    assert len(points_of(Sweep(base=STEADY, axes={"router.policy": policies}, seeds=2))) == 6
    with pytest.raises(SweepError, match="nothing in the base or its axes is drawn at random"):
        points_of(Sweep(base=STEADY, axes={"router.policy": ["round_robin", "least_load"]}, seeds=2))


def test_no_axes_are_one_point() -> None:
    points = points_of(Sweep(base=BASE))
    assert (len(points), points.texts([0]), points.settings(0)) == (1, ["{}"], {})


def test_points_cost_a_few_bytes_each() -> None:
    axes = {
        "layout.tp": [1, 2, 4, 8],
        "layout.pp": range(1, 33),
        "layout.vpp": range(1, 41),
        "batch.micro": range(1, 41),
    }
    points = points_of(Sweep(base={**BASE, "chips": 1024}, axes=axes, rules="fill-dp"))
    assert len(points) == 4 * 6 * 40 * 40
    numbers = points._numbers
    assert numbers is not None
    assert numbers.nbytes + sum(column.index.nbytes for column in points._derived.values()) <= 8 * len(points)


def test_a_sample_is_drawn_from_spaces_that_are_not_enumerated() -> None:
    axes = {f"stack.unknown{at}" if at > 9 else key: range(1, 1001) for at, key in enumerate(
        ("layout.tp", "layout.pp", "batch.global")
    )}  # fmt: skip
    with pytest.raises(SweepError) as caught:
        points_of(Sweep(base=BASE, axes=axes))
    for words in ("1,000,000,000 combinations", f"{MOST_POINTS:,}", "layout.tp 1,000", "sample: 100000", "fill-dp"):
        assert words in str(caught.value)
    sweep = Sweep(base=BASE, axes=axes, sample=500, seed=1)
    points = points_of(sweep)
    texts = points.texts(range(len(points)))
    assert len(set(texts)) == 500
    assert texts == points_of(sweep).texts(range(500))
    assert texts != points_of(Sweep(base=BASE, axes=axes, sample=500, seed=2)).texts(range(500))
    small = Sweep(base=BASE, axes={"layout.tp": [1, 2, 4]}, sample=3)
    assert len(points_of(small)) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"axes": {"layout.tq": [1]}}, "layout.tq: unknown key; did you mean"),
        ({"axes": {"system.netwrk.bandwidth": ["1 Gb/s"]}}, "netwrk: unknown key; did you mean"),
        ({"axes": {"layout.tp.x": [1]}}, "is a value, it has no key"),
        ({"axes": {"layuot": [{"tp": 1}]}}, "layuot: unknown key; did you mean 'layout'"),
        ({"axes": {"layout.tp": [3]}, "rules": ["fill-dp"]}, "leave none of .*: left out by fill-dp 1"),
        ({"rules": ["fill-dq"]}, "unknown rule 'fill-dq'; did you mean 'fill-dp'"),
        ({"axes": {"layout.dp": [1]}, "rules": ["fill-dp"]}, "layout.dp: a rule derives it, and layout.dp is an axis"),
        ({"axes": {"layout.tp": ["two"]}, "rules": ["fill-dp"]}, "'two' is no whole number above 0"),
        ({"seeds": 3}, "nothing in the base or its axes is drawn at random"),
        ({"seed": 3}, "nothing is drawn with it"),
        ({"base": SERVING, "rules": ["fill-dp"]}, "is about training, and the base is of kind serving"),
        ({"base": "voice-assistant", "stages": "analytic"}, "no analytic evaluator knows experiments of kind stream"),
        ({"objective": "speed"}, "'speed' does not come out of training"),
        ({"objective": "cost_hour", "stages": ["analytic", {"within": 0.1}]}, "does not know cost_hour"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_runs(given: dict[str, object], said: str) -> None:
    with pytest.raises(SweepError, match=said):
        points_of(Sweep(**{"base": BASE, **given}))  # type: ignore[arg-type]


def test_a_value_that_does_not_fit_is_the_affair_of_its_point() -> None:
    assert len(points_of(Sweep(base=BASE, axes={"layout.tp": [7, "x"], "precision": ["fp7"]}))) == 2


def test_points_beyond_the_closed_form_are_counted() -> None:
    axes = {"layout.zero": [1, 3], "layout.tp": [4, 8, 16], "batch.micro": [1, 2]}
    sweep = Sweep(base=BASE, axes=axes, rules="fill-dp")
    points = points_of(sweep)
    # 16 is more than the chips of BASE
    assert slow_points(sweep, points) == sum(points.settings(at)["layout.zero"] == 3 for at in range(len(points))) > 0
    many = Sweep(base=BASE, axes={**axes, "batch.global": range(64, 6464, 64)}, rules="fill-dp")
    points = points_of(many)
    assert slow_points(many, points) == pytest.approx(len(points) / 2, rel=0.2)
    assert slow_points(Sweep(base=STEADY), points_of(Sweep(base=STEADY))) == 0


def test_large_spaces_are_enumerated_in_index_columns() -> None:
    points = points_of(Sweep(base=BASE, axes={"batch.global": range(1, 1001), "batch.micro": range(1, 1001)}))
    column = points.column("batch.micro", np.array([0, 999, 1000, 999_999]))
    assert [column.values[at] for at in column.index] == [1, 1000, 1, 1000]
    assert points.texts([999_999]) == ['{"batch.global":1000,"batch.micro":1000}']
