"""One experiment on several numbers of chips: the layout grows by its data-parallel degree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaleout.errors import PlanError, ScaleoutError, SpecError
from scaleout.result import FORMAT, Result
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.specs.fields import plain

__all__ = ["MOST_ROWS", "Scaling", "ScalingRow", "scaling_table"]

MOST_ROWS = 64
"""Numbers of chips in one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingRow:
    """One number of chips.

    Parameters
    ----------
    dp, global_batch
        Data-parallel degree [1] and sequences of a step; None where the chips do not divide.
    result
        None where it cannot be simulated.
    problem
        Why not; "" where it can.
    speed_up
        Tokens a second over those of the first row that has a result [1].
    efficiency
        The same over the ratio of chips [1].
    """

    chips: int
    dp: int | None = None
    global_batch: int | None = None
    result: Result | None = None
    problem: str = ""
    speed_up: float | None = None
    efficiency: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """A row a number of chips.

    Parameters
    ----------
    name
        Model and machine, in words.
    weak
        The batch grows with the chips; otherwise it stays.
    """

    name: str
    weak: bool
    rows: tuple[ScalingRow, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        return {
            "format": FORMAT,
            "name": self.name,
            "scaling": "weak" if self.weak else "strong",
            "rows": [_plain(row) for row in self.rows],
        }


def _plain(row: ScalingRow) -> dict[str, Any]:
    figures: dict[str, Any] = {"chips": row.chips, "dp": row.dp, "global_batch": row.global_batch}
    if row.result is None:
        return {**figures, "problem": row.problem}
    result = row.result
    return {
        **figures,
        "step_time": result.step_time,
        "error_band": plain(result.error_band),
        "warnings": list(result.warnings),
        "tokens_per_second": result.tokens_per_second,
        "mfu": result.mfu,
        "speed_up": row.speed_up,
        "efficiency": row.efficiency,
        "memory": result.memory.total,
        "memory_capacity": result.memory.capacity,
        "bound_by": result.bound_by,
        "breakdown": dict(result.breakdown),
    }


def scaling_table(
    experiment: TrainingExperiment,
    chips: Sequence[int],
    *,
    weak: bool = False,
    fold: bool = True,
    evaluator: str = "event",
) -> Scaling:
    """Simulate an experiment on several numbers of chips.

    Tensor- and pipeline-parallel degree stay; dp is what is left of the chips.

    Parameters
    ----------
    chips
        Numbers of chips, at most 64 of them.
    weak
        Keep the batch of a dp rank, so that the global batch grows; otherwise the global batch stays.

    fold, evaluator
        As in `simulate`.

    Raises
    ------
    SpecError
        No number, a number beyond the largest machine, or no experiment.
    PlanError
        Not one of the rows can be simulated.
    """
    if not isinstance(experiment, TrainingExperiment):
        raise SpecError(f"{experiment!r:.80} is no experiment; make one with scaleout.experiment()")
    counts = list(dict.fromkeys(chips))
    if not 1 <= len(counts) <= MOST_ROWS:
        raise SpecError(f"chips: {len(counts)} numbers of chips; expected 1 to {MOST_ROWS}")
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= LARGEST_MACHINE:
            raise SpecError(f"chips: {count!r:.40} is not a whole number from 1 to {LARGEST_MACHINE:,}")
    rows: list[ScalingRow] = []
    first: Result | None = None
    for count in counts:
        row = _row(experiment, count, weak, fold, evaluator)
        if row.result is not None:
            first = first or row.result
            speed_up = row.result.tokens_per_second / first.tokens_per_second
            row = replace(row, speed_up=speed_up, efficiency=speed_up * first.chips / count)
        rows.append(row)
    if first is None:
        raise PlanError("\n".join(f"{row.chips:,} chips: {row.problem}" for row in rows))
    return Scaling(
        name=f"{experiment.model.name} on {experiment.system.chip.name} ({experiment.system.name})",
        weak=weak,
        rows=tuple(rows),
    )


def _row(experiment: TrainingExperiment, chips: int, weak: bool, fold: bool, evaluator: str) -> ScalingRow:
    """Simulate one number of chips, or say why not."""
    layout, batch = experiment.layout, experiment.batch
    replica = layout.chips // layout.dp
    dp, left = divmod(chips, replica)
    if left or not dp:
        degrees = f"tp {layout.tp} x pp {layout.pp}"
        return ScalingRow(
            chips=chips, problem=f"not a multiple of the {replica} chips of one copy of the model ({degrees})"
        )
    global_batch = batch.global_ // layout.dp * dp if weak else batch.global_
    place = ScalingRow(chips=chips, dp=dp, global_batch=global_batch)
    try:
        changed = replace(
            experiment, chips=chips, layout=replace(layout, dp=dp), batch=replace(batch, global_=global_batch)
        )
        return replace(place, result=simulate(changed, fold=fold, evaluator=evaluator))
    except ScaleoutError as error:
        return replace(place, problem="; ".join(str(error).splitlines()))
