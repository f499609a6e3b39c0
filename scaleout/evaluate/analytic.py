"""The analytic evaluator: the step as a recurrence over passes, without events and without contention.

It reads the same costs as the event evaluator and is never above it; see ``docs/analytic.md``.
"""

from functools import lru_cache

import numpy as np

from scaleout.arrays import Floats
from scaleout.evaluate.machine import Machine, machine
from scaleout.hardware import Rates, pack
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.shard import cut, dimensions, options
from scaleout.specs import Chip, Stack, TrainingExperiment
from scaleout.training.recurrence import OUTCOME, Plan, Wires, step_ticks

__all__ = ["analyse"]


def analyse(experiment: TrainingExperiment, *, compiled: bool = True) -> dict[str, int]:
    """`OUTCOME` of a step by the recurrence [tick].

    Parameters
    ----------
    compiled
        False runs the same source plain: slower, with the same integers, without numba.
    """
    dims, choices = dimensions(experiment.model), options(experiment)
    rates = _rates(experiment.system.chip, experiment.stack, experiment.precision)
    wires, plan = _wires(experiment), _plan(experiment)
    if compiled:
        mine = cut.compiled(dims, choices)
        found = step_ticks.compiled(mine, layer_costs.compiled(mine, rates), rates, wires, plan)
    else:
        mine = cut(dims, choices)
        found = step_ticks(mine, layer_costs(mine, rates), rates, wires, plan)
    return dict(zip(OUTCOME, found.tolist(), strict=True))


@lru_cache(maxsize=64)
def _rates(chip: Chip, stack: Stack, precision: str) -> Rates:
    return pack(chip, stack, precision)


def _plan(experiment: TrainingExperiment) -> Plan:
    layout, stack, modules = experiment.layout, experiment.stack, experiment.recompute
    return Plan(
        pp=layout.pp,
        vpp=layout.vpp,
        dp=layout.dp,
        micro_batches=experiment.micro_batches,
        layers=experiment.model.layers,
        balanced=float(stack.stages == "balanced"),
        sharded=float(layout.zero > 0),
        full=float("full" in modules),
        attention=float("attention" in modules),
        mlp=float("mlp" in modules),
        overlap_tp=float(stack.overlap_tensor_parallel),
        overlap_gather=float(stack.overlap_parameter_gather),
        overlap_reduction=float(stack.overlap_gradient_reduction),
        overlap_sends=float(stack.overlap_sends),
        bucket=stack.bucket,
        optimizer_traffic=stack.optimizer_traffic,
    )


def _wires(experiment: TrainingExperiment) -> Wires:
    layout = experiment.layout
    return _wires_of(machine(experiment), layout.tp, layout.pp, layout.dp)


@lru_cache(maxsize=65_536)
def _wires_of(place: Machine, tp: int, pp: int, dp: int) -> Wires:
    """Rows of the first group of every stage; of all of them, where stages lie differently."""
    firsts = np.arange(pp) * (tp * dp)

    def rows(stride: int, members: int, operation: str) -> Floats:
        if members == 1:
            return np.zeros((0, 3))
        starts = sorted({place.shifted(first) for first in firsts.tolist()})
        return np.array([row for start in starts for row in place.rows(start, stride, members, operation)])

    pairs = [(p, (p + 1) % pp) for p in range(pp)] + [(p, (p - 1) % pp) for p in range(pp)] if pp > 1 else []
    sends = [place.send_rows(int(firsts[a]), int(firsts[b])) for a, b in pairs]
    nobody = np.zeros((0, 3))
    return Wires(
        tp_all_gather=rows(1, tp, "all_gather"),
        tp_reduce_scatter=rows(1, tp, "reduce_scatter"),
        tp_all_reduce=rows(1, tp, "all_reduce"),
        dp_all_gather=rows(tp, dp, "all_gather"),
        dp_reduce_scatter=rows(tp, dp, "reduce_scatter"),
        dp_all_reduce=rows(tp, dp, "all_reduce"),
        send=np.array(sends) if pp > 1 else np.zeros((2, 0, 3)),
        embedding=np.array(place.rows(0, int(firsts[-1]), 2, "all_reduce")) if pp > 1 else nobody,
        world=np.array(place.world_rows()) if tp * pp * dp > 1 else nobody,
    )
