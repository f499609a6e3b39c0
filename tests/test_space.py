"""Many points at once give what one at a time gives."""

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from itertools import islice

import numpy as np
import pytest
from random_layouts import random_experiments

from scaleout.errors import PlanError, ScaleoutError, SpecError
from scaleout.evaluate.analytic import analyse
from scaleout.simulate import simulate
from scaleout.space import PARTS, PROBLEMS, Outcomes, analyse_many, design_space
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
RECOMPUTE = [(), ("norm",), ("full",), ("norm", "core_attention")]


def points(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {
        "tp": draw.choice([1, 2, 3, 4, 8, 16], count),
        "pp": draw.choice([1, 2, 3, 4, 8], count),
        "dp": draw.choice([1, 2, 3, 4, 8, 16], count),
        "vpp": draw.integers(1, 4, count),
        "sequence_parallel": draw.integers(0, 2, count),
        "zero": draw.integers(0, 2, count),
        "global_batch": draw.choice([16, 32, 48, 96], count),
        "micro": draw.choice([1, 2], count),
    }


@pytest.fixture(scope="module")
def grid() -> tuple[dict[str, np.ndarray], list[tuple[str, ...]]]:
    at = points(600)
    return at, [RECOMPUTE[i] for i in np.random.default_rng(1).integers(0, len(RECOMPUTE), 600)]


def test_even_stages_have_a_layer_each(small: Make) -> None:
    base = small()
    even = replace(base, stack=replace(base.stack, stages="even"))
    # 32 layers: only stacks that balance stages give embedding and loss a chunk each
    for spec, most in ((base, 34), (even, 32)):
        table = design_space(spec, tp=4, pp=[32, 34], dp=2, vpp=1, global_batch=32)
        assert [PROBLEMS[problem] == "does not divide" for problem in table.problem] == [False, most < 34]


def one(base: TrainingExperiment, at: dict[str, np.ndarray], recompute: tuple[str, ...], i: int) -> TrainingExperiment:
    value = {name: int(column[i]) for name, column in at.items()}
    batch = replace(base.batch, global_=value.pop("global_batch"), micro=value.pop("micro"))
    value["sequence_parallel"] = bool(value["sequence_parallel"])
    layout = replace(base.layout, **value)
    return replace(base, chips=layout.chips, layout=layout, batch=batch, recompute=recompute)


def test_batched_equals_heterogeneous_equals_single(
    small: Make, grid: tuple[dict[str, np.ndarray], list[tuple[str, ...]]]
) -> None:
    base, (at, recompute) = small(), grid
    table = design_space(base, **at, recompute=recompute)
    assert len(table) == 600
    specs: list[TrainingExperiment] = []
    rows: list[int] = []
    for i in range(len(table)):
        try:
            spec = one(base, at, recompute[i], i)
        except (PlanError, SpecError):
            assert PROBLEMS[table.problem[i]] == "does not divide"
            assert np.isnan(table.step_time[i])
            assert np.isnan(table.memory[i])
            continue
        # what the recurrence does not know is analysed one by one alone
        uneven = spec.layout.vpp > 1 and spec.micro_batches % spec.layout.pp > 0
        assert (PROBLEMS[table.problem[i]] == "no time model") == uneven
        if not uneven:
            specs.append(spec)
            rows.append(i)
    assert "does not divide" not in {PROBLEMS[problem] for problem in table.problem[rows]}
    many = analyse_many(specs)
    for name in ("problem", "step_time_ps", "breakdown_ps", "memory", "step_time", "tokens_per_second"):
        assert np.array_equal(getattr(many, name), getattr(table, name)[rows], equal_nan=True), name
    assert many.mfu == pytest.approx(table.mfu[rows], rel=1e-12, nan_ok=True)
    fine = [i for i in range(len(specs)) if PROBLEMS[many.problem[i]] == ""]
    assert len(fine) >= 30
    for i in fine[::4]:
        found = analyse(specs[i], compiled=False)
        assert many.step_time_ps[i] == found.end
        assert dict(zip(PARTS, many.breakdown_ps[i].tolist(), strict=True)) == found.parts
        assert many.memory[i] == pytest.approx(max(sum(kinds.values()) for kinds in found.peaks))
        result = simulate(specs[i], evaluator="analytic")
        assert many.mfu[i] == pytest.approx(result.mfu)
        assert many.tokens_per_second[i] == pytest.approx(result.tokens_per_second)


def test_anything_may_be_mixed_and_every_problem_has_a_number(small: Make) -> None:
    drawn = list(islice(random_experiments(seed=3), 40))
    radix = small().system
    cramped = replace(radix, network=replace(radix.network, radix=2, tiers=2))
    wrong = {
        "slow parts": small(slow={"chips": {1: 0.5}}),
        "does not fit in HBM": small(model="llama-3.1-405b"),
        "cannot be built": replace(small(), system=cramped),
    }
    table = analyse_many([*drawn, *wrong.values()])
    assert [PROBLEMS[problem] for problem in table.problem[len(drawn) :]] == list(wrong)
    assert np.isnan(table.step_time[len(drawn) :]).all()
    # what is needed is known where it can be, also of what does not fit
    assert table.memory[len(drawn) + 1] > small().system.chip.hbm_bytes
    for spec, problem, ticks in zip(drawn, table.problem, table.step_time_ps, strict=False):
        try:
            assert simulate(spec, evaluator="analytic").step_time_ps == ticks
        except ScaleoutError:
            assert problem


def test_the_best_point_is_the_fastest(small: Make) -> None:
    table = design_space(small(), tp=[1, 2, 4], dp=[16, 8, 4], vpp=1)
    assert table.best == int(np.nanargmax(table.mfu))
    assert table.mfu[table.best] == np.nanmax(table.mfu)
    assert design_space(small(model="llama-3.1-405b"), vpp=1).best == -1


def test_the_table_is_frozen(small: Make) -> None:
    table = design_space(small(), micro=[1, 2])
    with pytest.raises(FrozenInstanceError):
        table.mfu = np.zeros(2)  # type: ignore[misc]
    with pytest.raises(ValueError, match="read-only"):
        table.mfu[0] = 1.0
    assert isinstance(table, Outcomes)


BAD = {
    "lengths": ({"tp": [1, 2], "pp": [1, 2, 4]}, "different lengths: tp 2, pp 3"),
    "fraction": ({"tp": [1.5]}, "tp: .* whole numbers from 1"),
    "zero": ({"dp": [0]}, "dp: .* whole numbers from 1"),
    "flag": ({"zero": [2]}, "zero: .* 0 or 1"),
    "axes": ({"pp": [[1, 2]]}, "at most one axis"),
    "module": ({"recompute": ["norms"]}, "did you mean 'norm'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_no_point_can_have_is_refused(small: Make, name: str) -> None:
    arguments, words = BAD[name]
    with pytest.raises(SpecError, match=words):
        design_space(small(), **arguments)  # type: ignore[arg-type]


def test_neither_no_point_nor_another_thing_is_a_surprise(small: Make) -> None:
    assert len(analyse_many([])) == 0
    assert len(design_space(small(), tp=[])) == 0
    assert analyse_many([]).best == -1
    with pytest.raises(SpecError, match="number 1, 'x', is no experiment"):
        analyse_many([small(), "x"])  # type: ignore[list-item]
    with pytest.raises(SpecError, match="slow"):
        design_space(small(slow={"chips": {1: 0.5}}))
