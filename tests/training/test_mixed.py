"""Several kinds of chips in one job: the same integers where they are alike, and who waits for whom where not."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.breakdown import breakdown
from scaleout.evaluate.event import Recording, evaluate
from scaleout.io.catalogue import load
from scaleout.simulate import simulate
from scaleout.specs import Chip, Others, TrainingExperiment
from scaleout.training import build
from scaleout.training.mixed import mean_peak, seats

Make = Callable[..., TrainingExperiment]
A100 = "a100-sxm-80gb"
DP = {"tp": 1, "pp": 1, "dp": 8, "vpp": 1, "sequence_parallel": False, "zero": 1}
PP = {"tp": 1, "pp": 4, "dp": 2, "vpp": 1, "sequence_parallel": False, "zero": 1}


def mixed(small: Make, first: int, count: int, layout: dict[str, Any], chip: str = A100) -> TrainingExperiment:
    """Four layers of Llama on eight H100, some of which are others."""
    spec = small(
        chips=8,
        layout=layout,
        batch={"global": 16, "sequence": 1024},
        others=[{"chip": chip, "first": first, "count": count}] if count else [],
    )
    return replace(spec, model=replace(spec.model, layers=4))


@pytest.mark.parametrize("layout", [DP, PP])
def test_others_everywhere_are_a_machine_of_them(small: Make, layout: dict[str, Any]) -> None:
    everywhere = mixed(small, 0, 8, layout)
    plain = mixed(small, 0, 0, layout)
    system = replace(plain.system, chip=everywhere.others[0].chip)
    theirs, ours = evaluate(replace(plain, system=system)), evaluate(everywhere)
    assert ours.timeline.end == theirs.timeline.end
    assert breakdown(ours, 0) == breakdown(theirs, 0)
    assert simulate(everywhere).mfu == pytest.approx(simulate(replace(plain, system=system)).mfu)


def test_others_that_are_the_same_change_nothing(small: Make) -> None:
    plain = mixed(small, 0, 0, DP)
    spec = replace(plain, others=(Others(chip=plain.system.chip, first=3, count=2),))
    assert evaluate(spec).timeline.end == evaluate(plain).timeline.end
    assert len(build(spec).programs) == 1


def test_a_group_waits_for_its_slower_chips(small: Make) -> None:
    fast, some, slow = (evaluate(mixed(small, 0, count, DP)) for count in (0, 2, 8))
    assert fast.timeline.end < some.timeline.end
    # gradients are reduced when the last has come: the job is as slow as the slower chip, but for its own update
    assert some.timeline.end == pytest.approx(slow.timeline.end, rel=0.01)
    wait = [breakdown(some, _class_of(some, rank)) for rank in (0, 7)]
    # the first two are the slow ones; the others wait in the reduction
    assert wait[1]["imbalance"] > wait[0]["imbalance"]
    assert wait[1]["compute"] < wait[0]["compute"]
    assert wait[1]["compute"] == breakdown(fast, 0)["compute"]
    assert wait[0]["compute"] == breakdown(slow, 0)["compute"]


def _class_of(recording: Recording, rank: int) -> int:
    return int(recording.wiring.class_of[rank])


@pytest.mark.parametrize(("first", "count", "layout"), [(0, 2, DP), (5, 3, DP), (2, 2, PP), (1, 5, PP)])
def test_folded_is_unfolded_and_the_bound_is_below(small: Make, first: int, count: int, layout: dict[str, Any]) -> None:
    spec = mixed(small, first, count, layout)
    folded = evaluate(spec).timeline.end
    assert folded == evaluate(spec, fold=False, compiled=False).timeline.end
    assert folded == evaluate(spec, fold=False, compiled=True).timeline.end
    assert analyse(spec, compiled=False).end <= folded


def test_a_stage_of_slower_chips_slows_the_pipeline(small: Make) -> None:
    ends = [evaluate(mixed(small, *where, PP)).timeline.end for where in ((0, 0), (4, 2), (0, 8))]
    assert ends == sorted(ends)
    assert ends[0] < ends[1] < ends[2]


def test_every_rank_has_a_program_of_its_stage_and_its_chip(small: Make) -> None:
    spec = mixed(small, 1, 5, PP)
    program_of, found = seats(spec)
    plain, _ = seats(replace(spec, others=()))
    assert [found[program].stage for program in program_of.tolist()] == plain.tolist()
    names = [found[program].chip.name for program in program_of.tolist()]
    assert [name == A100 for name in names] == [1 <= rank < 6 for rank in range(8)]
    assert sorted(np.unique(program_of)) == list(range(len(found)))


def test_mfu_is_over_all_peaks_and_each_chip_has_its_own_hbm(small: Make) -> None:
    spec = mixed(small, 0, 2, DP)
    chips: list[Chip] = [spec.system.chip, load("chip", A100)]
    assert mean_peak(spec, "bf16") == pytest.approx((6 * chips[0].flops("bf16") + 2 * chips[1].flops("bf16")) / 8)
    small_one = replace(chips[1], hbm_bytes=10e9)
    with pytest.raises(PlanError, match=r"does not fit in HBM: stage 0 of 1 .* 10 GB of a100-sxm-80gb"):
        simulate(replace(spec, others=(Others(chip=small_one, first=0, count=2),)))


def test_mistakes_are_named(small: Make) -> None:
    with pytest.raises(SpecError, match=r"others: ranks 6 to 9 of a100-sxm-80gb are not free among the 8 chips"):
        mixed(small, 6, 4, DP)
    with pytest.raises(SpecError, match=r"others\.0\.chip: unknown chip 'a101'"):
        mixed(small, 0, 2, DP, chip="a101")
    with pytest.raises(PlanError, match="contention with others: no time model exists"):
        build(replace(mixed(small, 0, 2, DP), contention="all"))
    spec = mixed(small, 0, 2, DP)
    with pytest.raises(SpecError, match="each rank once"):
        replace(spec, others=(*spec.others, *spec.others))
