"""The analytic evaluator: the step as a recurrence over passes, without events and without contention.

It reads the same costs as the event evaluator and is never above it; see ``docs/analytic.md``.
"""

from functools import lru_cache
from typing import NamedTuple

from scaleout.collectives.alone import Rails, rails
from scaleout.compiled import compilable
from scaleout.errors import SpecError
from scaleout.hardware import Rates, pack
from scaleout.hardware.rates import Floats
from scaleout.parallel.activations import kept_of
from scaleout.parallel.costs import layer_costs
from scaleout.parallel.layer import KINDS
from scaleout.parallel.shard import Dimensions, Options, cut, dimensions, options
from scaleout.parallel.wires import wires_of
from scaleout.specs import Chip, Model, Stack, System, TrainingExperiment
from scaleout.training.passes import Ints
from scaleout.training.peaks import peaks
from scaleout.training.recurrence import OUTCOME, Plan, step_ticks

__all__ = ["Analysis", "analyse", "plan_of", "refuse_slow"]


class Analysis(NamedTuple):
    """What the recurrence gives.

    Parameters
    ----------
    ticks
        `OUTCOME` of the step [tick].
    peaks
        Peak HBM of every stage by kind [byte].
    """

    ticks: dict[str, int]
    peaks: list[dict[str, float]]


@compilable
def _point(d: Dimensions, o: Options, rates: Rates, machine: Rails, plan: Plan) -> tuple[Ints, Floats]:
    s = cut(d, o)
    wires = wires_of(machine, int(s.tp), plan.pp, plan.dp, plan.sharded > 0.0, s.sequence_parallel > 0.0)
    return step_ticks(s, o, layer_costs(s, rates), rates, wires, plan), peaks(s, kept_of(s, o, rates), plan)


def analyse(experiment: TrainingExperiment, *, compiled: bool = True) -> Analysis:
    """The step and its memory by the recurrence.

    Parameters
    ----------
    compiled
        False runs the same source plain: slower, with the same integers, without numba.

    Raises
    ------
    SpecError
        Chips or links are slow; or the chip lacks constants for the precision or the attention kernel.
    TopologyError
        The machine cannot be built at this size.
    """
    refuse_slow(experiment)
    run = _point.compiled if compiled else _point
    ticks, stages = run(
        _dimensions(experiment.model),
        options(experiment),
        _rates(experiment.system.chip, experiment.stack, experiment.precision),
        _rails(experiment.system, experiment.chips),
        plan_of(experiment),
    )
    named = [dict(zip(KINDS, row, strict=True)) for row in stages.tolist()]
    return Analysis(dict(zip(OUTCOME, ticks.tolist(), strict=True)), named)


def refuse_slow(experiment: TrainingExperiment) -> None:
    """Refuse what only the event evaluator knows."""
    for part in ("chips", "ports", "scale_up"):
        if getattr(experiment.slow, part):
            raise SpecError(
                f"slow.{part}: the analytic evaluator takes all chips and links for equal; take evaluator 'event'"
            )


_dimensions = lru_cache(maxsize=1024)(dimensions)


@lru_cache(maxsize=256)
def _rates(chip: Chip, stack: Stack, precision: str) -> Rates:
    return pack(chip, stack, precision)


@lru_cache(maxsize=1024)
def _rails(system: System, chips: int) -> Rails:
    return rails(system, chips)


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
