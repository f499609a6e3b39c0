"""Layouts are those that an experiment accepts, and none is below its bounds."""

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.errors import PlanError, ScaleoutError, SpecError
from scaleout.evaluate.analytic import analyse, analyse_programs
from scaleout.io.experiments import experiment
from scaleout.planning.floor import Floor, Ranks
from scaleout.planning.layouts import Axes, Cut, Pipe, Point, axes_of, point, recompute_sets
from scaleout.planning.machines import template
from scaleout.planning.survey import survey
from scaleout.specs import TrainingExperiment
from scaleout.training.missing import uncovered


def base_of(model: str, batch: int, sequence: int, **changes: Any) -> TrainingExperiment:
    data = {
        "system": "dgx-h100", "chips": 1, "model": model, "stack": "megatron-lm-2024", "layout": {"dp": 1},
        "batch": {"global": 1, "sequence": sequence},
    }  # fmt: skip
    return template(experiment({**data, **changes}), batch, sequence)


def test_as_many_layouts_as_an_experiment_accepts() -> None:
    base, chips = base_of("gpt2", 24, 1024), 8
    axes = Axes(cp=(1, 2), micro=(1, 3), zero=(0, 1), recompute=((), ("full",)), context=("ring", "all_gather"))
    found = survey(Floor(base, chips), axes)
    accepted = set()
    sizes = (1, 2, 3, 4, 6, 8)
    for tp, cp, pp, vpp, micro, zero, parallel, context, modules in itertools.product(
        sizes, (1, 2), sizes, range(1, 15), (1, 3), (0, 1), (False, True), ("ring", "all_gather"), ((), ("full",))
    ):
        if chips % (tp * cp * pp):
            continue
        # what makes no difference is counted once
        if (
            (cp == 1 and context != "ring")
            or (tp == 1 and parallel)
            or (pp == 1 and vpp > 1)
            or (chips == tp * pp and zero)
        ):
            continue
        at = Point(
            Cut(tp, cp, 1, 1, parallel, context, micro, modules),
            Pipe(pp, vpp, "interleaved" if vpp > 1 else "1f1b", zero),
        )
        try:
            point(base, chips, at)
        except (PlanError, SpecError):
            continue
        accepted.add(at)
    assert set(found.points) == accepted
    assert found.legal == len(accepted)
    assert found.crowded == found.slow == 0


@pytest.mark.parametrize(
    ("model", "chips", "batch", "sequence", "axes"),
    [
        ("llama-3.2-1b", 16, 48, 2048, Axes(cp=(1, 2, 4), pp=(1, 2, 4), vpp=(1, 2, 3), micro=(1, 2))),
        (
            "gpt2", 8, 32, 1024,
            Axes(pp=(2, 4), vpp=(1, 2), schedule=("1f1b", "interleaved", "zb-h1", "zb-v", "dualpipe", "gpipe")),
        ),
        ("deepseek-v2-lite", 16, 32, 2048, Axes(tp=(1, 2), cp=(1, 2), pp=(1, 2), vpp=(1, 2), micro=(1,), etp=(1, 2))),
    ],
)  # fmt: skip
def test_no_layout_is_below_its_bounds(model: str, chips: int, batch: int, sequence: int, axes: Axes) -> None:
    base = base_of(model, batch, sequence)
    floor = Floor(base, chips)
    found = survey(floor, axes)
    draw = np.random.default_rng(5)
    looked = 0
    for i in draw.permutation(len(found.points))[:14].tolist():
        at = found.points[i]
        try:
            spec = point(base, chips, at)
            result = analyse_programs(spec) if uncovered(spec) else analyse(spec, compiled=False)
        except ScaleoutError:
            continue
        looked += 1
        assert found.times[i] <= result.end * 1e-12 * (1 + 1e-9), at
        rank = floor.rank(at.cut, floor.each(at.pipe.zero, at.pipe.pp))
        shared = spec.layout.expert_replicas
        ranks = Ranks([rank], np.array([float(spec.micro_batches)]), np.array([float(shared)]))
        peak = max(sum(kinds.values()) for kinds in result.peaks)
        assert floor.memory(ranks, at.pipe, spec.layout.replicas)[0] <= peak * (1 + 1e-9), at
    assert looked > 5


def test_a_limit_leaves_out_what_is_slower_and_nothing_else() -> None:
    floor = Floor(base_of("gpt2", 24, 1024), 8)
    axes = Axes(cp=(1,), zero=(0, 1), micro=(1,))
    whole = survey(floor, axes)
    limit = float(np.median(whole.times))
    some = survey(floor, axes, limit)
    quick = {at for at, time in zip(whole.points, whole.times.tolist(), strict=True) if time <= limit}
    assert set(some.points) == quick
    assert some.legal == whole.legal == some.crowded + some.slow + len(some.points)


def test_sets_of_recomputation_are_those_of_the_model() -> None:
    dense = recompute_sets(base_of("gpt2", 8, 1024))
    assert ("norm", "mlp_product") in dense
    experts = recompute_sets(base_of("deepseek-v2-lite", 8, 1024))
    assert ("norm", "moe_act", "mla_up_proj") in experts
    assert all("mlp" not in names for names in experts)


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(SpecError, match="zb-v"):
        Axes(schedule=("zb-w",))


def test_axes_may_be_lists_by_name() -> None:
    assert axes_of({"pp": [1, 2], "recompute": [[], ["full"]]}) == Axes(pp=(1, 2), recompute=((), ("full",)))
    with pytest.raises(SpecError, match="axes: 'ppp' is no axis; did you mean 'pp'"):
        axes_of({"ppp": [1]})
    with pytest.raises(SpecError, match=r"axes\.pp: 2 is not accepted"):
        axes_of({"pp": 2})  # type: ignore[dict-item]


def test_gradients_that_are_reduced_each_time_follow_the_experiment() -> None:
    for stack in ("megatron-lm-2024", "torchtitan", "deepspeed"):
        base = base_of("gpt2", 8, 1024, stack=stack)
        floor = Floor(base, 8)
        for zero, pp in itertools.product((0, 1, 2, 3), (1, 2)):
            spec = point(base, 8, Point(Cut(1, 1, 1, 1, False, "ring", 1, ()), Pipe(pp, 1, "1f1b", zero)))
            assert floor.each(zero, pp) == spec.reduces_each
            assert floor.reshard(zero, pp) == spec.reshard


def test_a_template_divides_whatever_the_batch_is() -> None:
    base = base_of("gpt2", 8, 1024)
    for batch in (1, 7, 24, 2048, 1_000_003):
        assert template(replace(base), batch, 512).batch.global_ == batch
