"""The analytic evaluator: the step as a recurrence over passes, without events and without contention.

It reads the same costs as the event evaluator and is never above it; see ``docs/analytic.md``.
"""

from functools import lru_cache

import numpy as np

from scaleout.collectives import trials
from scaleout.evaluate.event import Site, site
from scaleout.hardware import Rates, pack
from scaleout.hardware.rates import Floats
from scaleout.network.topology import Ints
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
        bucket=stack.bucket,
        optimizer_traffic=stack.optimizer_traffic,
    )


def _wires(experiment: TrainingExperiment) -> Wires:
    layout = experiment.layout
    return _wires_of(site(experiment), layout.tp, layout.pp, layout.dp)


@lru_cache(maxsize=4096)
def _wires_of(place: Site, tp: int, pp: int, dp: int) -> Wires:
    """Rows of the first group of every stage; the fastest of all, where stages lie differently."""
    grid = np.arange(tp * pp * dp).reshape(pp, dp, tp)

    def rows(groups: Ints, operation: str) -> Floats:
        if groups.shape[1] == 1:
            return np.zeros((0, 3))
        found = {row for group in groups for row in _rows(place, group, operation)}
        return np.array(sorted(found))

    tp_groups, dp_groups = grid[:, 0, :], grid[:, :, 0]
    firsts = grid[:, 0, 0]
    pairs = [(firsts, np.roll(firsts, -1)), (firsts, np.roll(firsts, 1))] if pp > 1 else []
    sends = [_rows(place, np.array(pair), "send") for a, b in pairs for pair in zip(a, b, strict=True)]
    return Wires(
        tp_all_gather=rows(tp_groups, "all_gather"),
        tp_reduce_scatter=rows(tp_groups, "reduce_scatter"),
        tp_all_reduce=rows(tp_groups, "all_reduce"),
        dp_all_gather=rows(dp_groups, "all_gather"),
        dp_reduce_scatter=rows(dp_groups, "reduce_scatter"),
        dp_all_reduce=rows(dp_groups, "all_reduce"),
        send=np.array(sends).reshape(len(sends), -1, 3) if sends else np.zeros((2, 0, 3)),
        embedding=rows(grid[[0, -1], 0, 0][None, :], "all_reduce") if pp > 1 else np.zeros((0, 3)),
        world=rows(grid.reshape(1, -1), "all_reduce"),
    )


def _rows(place: Site, group: Ints, operation: str) -> list[tuple[float, float, float]]:
    """Latency [s], share [1] and rate alone [byte/s] by everything that can do an operation."""
    tried = trials(place.fabric, group[None, :], operation).values()
    return [(float(pattern.latency[0]), pattern.share, pattern.rate(place.fabric)) for pattern in tried]
