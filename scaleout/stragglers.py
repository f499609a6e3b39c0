"""What a slow chip costs the whole job: one simulation for each place that a chip can have in it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from scaleout.errors import SpecError
from scaleout.result import FORMAT
from scaleout.simulate import record
from scaleout.specs import TrainingExperiment
from scaleout.training.mixed import seats

__all__ = ["MOST_PLACES", "Straggler", "Stragglers", "straggler_table"]

MOST_PLACES = 256
"""Simulations of one table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Straggler:
    """One chip, slow or at its nominal rate.

    Parameters
    ----------
    rank, like_it
        The chip, and how many have the same place in the job, itself included.
    stage
        Its pipeline stage.
    rate
        Share of the nominal rate [1].
    step_time
        With that chip slow [s].
    cost
        Step time over the one without this chip's slowness, less 1 [1].
    passed_on
        That over what the chip itself takes longer for everything, 1 / rate - 1: 1 where the whole
        job is as slow as its chip, 0 where nobody waits for it.
    """

    rank: int
    like_it: int
    stage: int
    rate: float
    step_time: float
    cost: float
    passed_on: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stragglers:
    """A row for each place, the most costly first.

    Parameters
    ----------
    name
        Model and machine, in words.
    step_time
        Of the experiment as it is [s].
    rate
        Rate that was given to a chip of each place; None where the experiment's own slow chips
        were brought to their nominal rate, one at a time.
    """

    name: str
    step_time: float
    rate: float | None
    rows: tuple[Straggler, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        rows = [{name: getattr(row, name) for name in Straggler.__dataclass_fields__} for row in self.rows]
        return {"format": FORMAT, "name": self.name, "step_time": self.step_time, "rate": self.rate, "rows": rows}


def straggler_table(
    experiment: TrainingExperiment, rate: float | None = None, *, watch: Callable[[int, int], None] | None = None
) -> Stragglers:
    """Simulate the job with one chip slow, for each place that a chip can have.

    Parameters
    ----------
    rate
        Share of its nominal rate that the slow chip reaches [1]. None asks instead what each of the
        experiment's own slow chips costs: the step without its slowness, the others as they are.
    watch
        Called after each simulation with how many are done, of how many.

    Raises
    ------
    SpecError
        The rate is not between 0 and 1, or there are too many places, or no chip is slow and no rate is given.
    PlanError
        The experiment does not fit.
    """
    slow = experiment.slow
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate < 1):
        raise SpecError(f"rate: {rate!r:.40} is not accepted; expected a share of the nominal rate above 0 and below 1")
    if rate is None and not slow.chips:
        raise SpecError("slow.chips: no chip is slow; give a rate, or name slow chips (slow.chips, rank: share)")
    result, recording = record(experiment)
    wiring = recording.wiring
    if rate is None:
        places = [(rank, 1, share) for rank, share in sorted(slow.chips.items())]
    else:
        whole = zip(wiring.representatives.tolist(), wiring.sizes.tolist(), strict=True)
        places = [(rank, size, rate) for rank, size in whole if rank not in slow.chips]
    if len(places) > MOST_PLACES:
        raise SpecError(
            f"{len(places):,} places in which a chip may be slow, no two of them alike; at most {MOST_PLACES} are tried"
        )
    rows = []
    for done, (rank, size, share) in enumerate(places, start=1):
        chips = {**slow.chips, rank: share} if rate is not None else {r: s for r, s in slow.chips.items() if r != rank}
        other = record(replace(experiment, slow=replace(slow, chips=chips)))[0].step_time
        with_it, without = (other, result.step_time) if rate is not None else (result.step_time, other)
        cost = with_it / without - 1.0
        rows.append(
            Straggler(
                rank=rank,
                like_it=size,
                stage=seats(experiment)[1][int(recording.job.program_of[rank])].stage,
                rate=share,
                step_time=with_it,
                cost=cost,
                passed_on=cost / (1.0 / share - 1.0) if share < 1.0 else 0.0,
            )
        )
        if watch is not None:
            watch(done, len(places))
    return Stragglers(
        name=result.name,
        step_time=result.step_time,
        rate=rate,
        rows=tuple(sorted(rows, key=lambda row: (-row.cost, row.rank))),
    )
