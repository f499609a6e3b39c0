"""The recurrence on its own: the schedule's order, the bubble in closed form, the steady state."""

from itertools import islice

import numpy as np
import pytest
from random_layouts import random_experiments

from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import given, plan_of
from scaleout.io.experiments import experiment
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.shard import cut
from scaleout.parallel.wires import wires_of
from scaleout.training.passes import Passes, least, rounded
from scaleout.training.recurrence import Plan, _run, orders, step_ticks, warm_up
from scaleout.training.schedules import Pass, interleaved, one_f_one_b

PLAN = plan_of(experiment("llama-3.1-8b-1k"))
SHAPES = [(1, 1, 1), (1, 1, 5), (2, 1, 1), (4, 1, 2), (4, 1, 9), (3, 1, 3), (2, 2, 2), (4, 2, 4), (4, 3, 12), (3, 5, 6)]


def plan(pp: int, vpp: int, micro_batches: int) -> Plan:
    return PLAN._replace(pp=pp, vpp=vpp, micro_batches=micro_batches)


@pytest.mark.parametrize(("pp", "vpp", "micro_batches"), SHAPES)
def test_the_order_is_the_schedules(pp: int, vpp: int, micro_batches: int) -> None:
    mine = plan(pp, vpp, micro_batches)
    order, total = orders(mine), micro_batches * vpp
    for stage in range(pp):
        warm = min(warm_up(stage, mine), total)
        passes, forth, back = [], 0, 0
        while back < total:
            if forth < total and forth - back <= warm:
                passes.append(Pass("F", int(order[1, forth]), int(order[0, forth])))
                forth += 1
            else:
                passes.append(Pass("B", int(order[1, back]), vpp - 1 - int(order[0, back])))
                back += 1
        schedule = interleaved if vpp > 1 else one_f_one_b
        assert passes == list(schedule(stage, pp, vpp, micro_batches))


@pytest.mark.parametrize(("pp", "vpp", "micro_batches"), SHAPES)
def test_equal_stages_leave_the_bubble_of_the_paper(pp: int, vpp: int, micro_batches: int) -> None:
    # arXiv 2104.04473, section 2: (p - 1) / v of a micro-batch's time, with messages that take none
    chunks, forth, back = pp * vpp, 100, 230
    passes = Passes(
        *(np.full(chunks, ticks) for ticks in (forth, back, forth, back)), 0, 0, 0, np.zeros(2 * pp, dtype=np.int64)
    )
    nothing = np.zeros(pp, dtype=np.int64)
    mine = plan(pp, vpp, micro_batches)
    run = _run(passes, orders(mine), np.zeros(chunks, dtype=np.int64), nothing, nothing, mine, micro_batches * vpp)
    assert run.free.max() == (micro_batches * vpp + pp - 1) * (forth + back)


def test_a_steady_state_that_is_gone_through_once_changes_nothing() -> None:
    whole = step_ticks.replacing({"_short": lambda total, length, size: total})
    shorter = 0
    for spec in islice(random_experiments(seed=2, most_micro_batches=120), 60):
        try:
            g = given(spec)
        except ScaleoutError:
            continue
        s = cut(g.model, g.choices)
        wires = wires_of(g.machine, spec.layout.tp, spec.layout.pp, spec.layout.dp, g.plan.sharded > 0.0, True)
        numbers = s, g.choices, layer_costs(s, g.rates), g.rates, wires, g.plan
        seen: list[int] = []
        short = step_ticks.replacing({"_booked": lambda *a, seen=seen: seen.append(1)})
        short(*numbers)
        shorter += len(seen) > 1
        assert step_ticks(*numbers).tolist() == whole(*numbers).tolist()
    assert shorter >= 10


def test_the_fastest_row_is_taken_for_each_size() -> None:
    rows = np.array([[1e-6, 1.0, 1e9], [5e-6, 0.5, 1e9]])
    assert least(rows, 0.0) == 1_000_000
    assert least(rows, 1e3) == 2_000_000
    assert least(rows, 1e6) == 505_000_000
    assert least(rows[:0], 1e6) == 0
    assert rounded(1.4e-12) == 1
