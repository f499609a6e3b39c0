"""The analytic evaluator: the longest path through a step, without events and without contention.

Where the step is a recurrence over passes, that is taken; what is `uncovered` by it goes through
the Programs. Both read the same costs as the event evaluator and are never above it; see
``docs/analytic.md``.
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.places import Rails, railed, rails
from scaleout.compiled import Compilable, compilable
from scaleout.errors import SpecError
from scaleout.evaluate.alone import Ground
from scaleout.evaluate.breakdown import parts_of
from scaleout.evaluate.longest import longest
from scaleout.hardware import Rates, pack
from scaleout.network import machine
from scaleout.once import once
from scaleout.parallel.activations import kept_of
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.layer import KINDS
from scaleout.parallel.shard import Dimensions, Options, cut, dimensions, options
from scaleout.parallel.wires import Wires, wires_of, wires_on
from scaleout.specs import Layout, System, TrainingExperiment
from scaleout.training.memory import stage_peaks
from scaleout.training.missing import uncovered
from scaleout.training.peaks import peaks
from scaleout.training.recurrence import OUTCOME, Plan, step_ticks
from scaleout.training.step import build

__all__ = [
    "Analysis",
    "Given",
    "analyse",
    "analyse_programs",
    "given",
    "plan_of",
    "point",
    "point_wired",
    "refuse_slow",
]


class Analysis(NamedTuple):
    """What the analytic evaluator gives.

    Parameters
    ----------
    end, parts
        The step, and the parts of the first stage's that sum to it [tick].
    peaks
        Peak HBM of every stage by kind [byte].
    """

    end: int
    parts: dict[str, int]
    peaks: list[dict[str, float]]


class Given(NamedTuple):
    """An experiment as numbers: what `point` takes, or `point_wired` where the machine is no rail fat tree."""

    model: Dimensions
    choices: Options
    rates: Rates
    machine: Rails | Wires
    plan: Plan

    @property
    def point(self) -> Compilable[..., tuple[Ints, Floats]]:
        """The function that takes them."""
        return point if isinstance(self.machine, Rails) else point_wired


@compilable
def point(
    model: Dimensions, choices: Options, rates: Rates, machine: Rails, plan: Plan, capacity: float
) -> tuple[Ints, Floats]:
    """`OUTCOME` of the step [tick], and peak HBM of every stage by kind [byte].

    The step of what does not fit into `capacity` [byte] is left at 0.
    """
    s = cut(model, choices)
    stages = peaks(s, kept_of(s, choices, rates), plan, rates)
    if stages.sum(axis=1).max() > capacity:
        return np.zeros(len(OUTCOME), dtype=np.int64), stages
    wires = wires_of(machine, int(s.tp), plan.pp, plan.dp, plan.sharded > 0.0, s.sequence_parallel > 0.0)
    return step_ticks(s, choices, layer_costs(s, rates), rates, wires, plan), stages


@compilable
def point_wired(
    model: Dimensions, choices: Options, rates: Rates, wires: Wires, plan: Plan, capacity: float
) -> tuple[Ints, Floats]:
    """`point`, on wires that are counted already."""
    s = cut(model, choices)
    stages = peaks(s, kept_of(s, choices, rates), plan, rates)
    if stages.sum(axis=1).max() > capacity:
        return np.zeros(len(OUTCOME), dtype=np.int64), stages
    return step_ticks(s, choices, layer_costs(s, rates), rates, wires, plan), stages


def analyse(experiment: TrainingExperiment, *, compiled: bool = True) -> Analysis:
    """The step and its memory, whether it fits or not: by the recurrence where it holds, otherwise by the Programs.

    Parameters
    ----------
    compiled
        False runs the same source plain: slower, with the same integers, without numba.

    Raises
    ------
    PlanError
        No time model exists for something that is asked for.
    SpecError
        Chips or links are slow; or the chip lacks constants for the precision or the attention kernel.
    TopologyError
        The machine cannot be built at this size.
    """
    refuse_slow(experiment)
    if uncovered(experiment):
        return analyse_programs(experiment, compiled=compiled)
    numbers = given(experiment)
    run = numbers.point.compiled if compiled else numbers.point
    ticks, stages = run(*numbers, math.inf)
    named = [dict(zip(KINDS, row, strict=True)) for row in stages.tolist()]
    end, *parts = ticks.tolist()
    return Analysis(end, dict(zip(OUTCOME[1:], parts, strict=True)), named)


def analyse_programs(experiment: TrainingExperiment, *, compiled: bool = True) -> Analysis:
    """The step and its memory by the longest path through its Programs; `analyse` where no recurrence holds.

    Raises
    ------
    WorkloadError
        The Programs do not come to an end.
    """
    refuse_slow(experiment)
    job = build(experiment)
    times = longest(job, _ground(experiment), compiled=compiled)
    ends = [int(mine.ended.max(initial=0)) for mine in times]
    end = max(ends)
    last = ends.index(end)
    return Analysis(end, parts_of(job, last, times[last], end), stage_peaks(job))


def _ground(experiment: TrainingExperiment) -> Ground:
    # communicators depend on where ranks stand, not on how their passes are arranged
    layout = replace(experiment.layout, vpp=1, sequence_parallel=False, zero=0, schedule=None, chunks=None)
    return _grounds(experiment.system, experiment.chips, layout)


@lru_cache(maxsize=64)
def _grounds(system: System, chips: int, layout: Layout) -> Ground:
    return Ground(system, chips)


def given(experiment: TrainingExperiment) -> Given:
    """An experiment of which nothing is `uncovered` as numbers; refuses slow parts."""
    refuse_slow(experiment)
    chip, stack, precision = experiment.system.chip, experiment.stack, experiment.precision
    return Given(
        once(dimensions, experiment.model),
        options(experiment),
        once(pack, chip, stack, precision),
        once(rails, experiment.system, experiment.chips) if once(railed, experiment.system) else _wires(experiment),
        plan_of(experiment),
    )


def _wires(experiment: TrainingExperiment) -> Wires:
    layout = experiment.layout
    return _wired(experiment.system, experiment.chips, Layout(tp=layout.tp, pp=layout.pp, dp=layout.dp))


@lru_cache(maxsize=256)
def _wired(system: System, chips: int, layout: Layout) -> Wires:
    """Wires of a machine under the degrees of a layout."""
    return wires_on(machine(system, chips), layout)


def refuse_slow(experiment: TrainingExperiment) -> None:
    """Refuse what only the event evaluator knows: slow parts, and faults."""
    for part in ("chips", "ports", "scale_up"):
        if getattr(experiment.slow, part):
            raise SpecError(
                f"slow.{part}: the analytic evaluator takes all chips and links for equal; take evaluator 'event'"
            )
    if experiment.slow.spread:
        raise SpecError("slow.spread: the analytic evaluator takes all chips for equal; take evaluator 'event'")
    if experiment.faults:
        raise SpecError(
            "faults: the analytic evaluator takes links for what they are all the step; take evaluator 'event'"
        )


def plan_of(experiment: TrainingExperiment) -> Plan:
    """What decides the step beside shapes, rates and wires."""
    layout, stack = experiment.layout, experiment.stack
    return Plan(
        pp=layout.pp,
        vpp=layout.vpp,
        dp=layout.dp,
        micro_batches=experiment.micro_batches,
        layers=experiment.model.layers,
        sharded=float(layout.zero > 0),
        balanced=float(stack.stages == "balanced"),
        overlap_tp=float(stack.overlap_tensor_parallel),
        overlap_gather=float(stack.overlap_parameter_gather),
        overlap_reduction=float(stack.overlap_gradient_reduction),
        overlap_sends=float(stack.overlap_sends),
        bucket=stack.bucket,
        optimizer_traffic=stack.optimizer_traffic,
        reserved=stack.reserved,
    )
