"""What 10 % more of each knob does to a job: its time, its tail, its energy, its cost."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from scaleout.architect.knobs import Knob, knob_of, knobs_of
from scaleout.errors import PlanError, SpecError
from scaleout.hardware.power import settled
from scaleout.hardware.rates import UNFUSED, preferred_attention
from scaleout.hardware.silicon import estimate
from scaleout.io.catalogue import load
from scaleout.io.serving import serve
from scaleout.simulate import simulate
from scaleout.specs import (
    Chip,
    NetExperiment,
    ServingExperiment,
    Silicon,
    StreamExperiment,
    System,
    TrainingExperiment,
)
from scaleout.specs.fields import plain

__all__ = ["ELASTICITY_FORMAT", "Effect", "Elasticities", "elasticities", "on_chip", "priced"]

ELASTICITY_FORMAT = 1
"""Version of the JSON form."""
Experiment = TrainingExperiment | ServingExperiment
_LEAST, _MOST = 0.1, 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a turn of a knob does to one outcome of one job.

    Parameters
    ----------
    job, outcome, unit
        Which.
    knob, words
        Turned.
    before, after
        The outcome without and with the turn, in `unit`.
    change
        After over before, less 1 [1].
    elasticity
        Relative change of the outcome over that of the knob, by logarithms [1]: -1 halves it where the knob doubles.
    """

    job: str
    outcome: str
    unit: str
    knob: str
    words: str
    before: float
    after: float
    change: float
    elasticity: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Elasticities:
    """A row for each knob and outcome.

    Parameters
    ----------
    chip
        Whose knobs were turned.
    factor
        By which they were.
    effects
        By job and outcome, the strongest first.
    problems
        Knobs without an effect to tell of, and why.
    """

    chip: str
    factor: float
    effects: tuple[Effect, ...]
    problems: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, ``format`` first."""
        return {"format": ELASTICITY_FORMAT, **plain(self)}


def on_chip(job: Experiment | NetExperiment | StreamExperiment, chip: Chip) -> Experiment:
    """A job with another chip in its system.

    Where the chip has no constants of the kernel that a training job's stack takes for attention, the job takes one
    that it has.

    Raises
    ------
    SpecError
        It is neither training nor serving, or its pools name chips of their own.
    """
    job = _accepted(job)
    if isinstance(job, ServingExperiment) and all(pool.chip is not None for pool in job.pools):
        raise SpecError(
            f"{job.model.name} on {job.system.name}: each of its pools names a chip of its own, so that another in its "
            "system changes nothing; take one whose pools name none"
        )
    job = replace(job, system=replace(job.system, chip=chip))
    if isinstance(job, TrainingExperiment) and job.stack.attention not in (UNFUSED, *chip.attention):
        job = replace(job, stack=replace(job.stack, attention=preferred_attention(chip)))
    return job


def _accepted(job: Experiment | NetExperiment | StreamExperiment) -> Experiment:
    if not isinstance(job, TrainingExperiment | ServingExperiment):
        what = f"{job!r:.60}"
        if isinstance(job, NetExperiment | StreamExperiment):
            name = job.net.name if isinstance(job, NetExperiment) else job.sources[0].name
            what = f"{name} on {job.system.name}, of kind {job.kind!r},"
        raise SpecError(f"{what} is not accepted here; expected an experiment of training or of serving")
    return job


def priced(chip: Chip, silicon: Silicon, volume: int | None = None) -> Chip:
    """A design without a price at what it costs to make, with its share of masks and design work; others as they are.

    Parameters
    ----------
    volume
        Chips over which masks and design are spread; None for what `silicon` says.

    Raises
    ------
    SpecError
        The estimate does not know its process or memory, or no such die works.
    """
    if chip.design is None or chip.price is not None:
        return chip
    made = estimate(chip.design, silicon, volume)
    words = (
        f"estimate from its design, without margin: {made.unit_cost:,.0f} USD to make one, and {made.nre_share:,.0f} "
        f"of masks and design over {made.volume:,} chips (docs/silicon.md)"
    )
    return replace(
        chip, price=made.unit_cost + made.nre_share, price_source=words, unverified=(*chip.unverified, "price")
    )


def elasticities(
    experiments: Experiment | Sequence[Experiment],
    *,
    factor: float = 1.1,
    knobs: Sequence[str] | None = None,
    evaluator: str = "event",
    silicon: Silicon | str = "default",
    volume: int | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> Elasticities:
    """Turn each knob of a machine and simulate its jobs anew.

    Chips that are designs and have no price are priced by their silicon, each turn anew. Energy of an operation, and
    what the power limit sustains, stay unless the knob is theirs.

    Parameters
    ----------
    experiments
        Of training or of serving, on chips alike.
    factor
        So many times as much of each knob [1].
    knobs
        Names; None for all.
    evaluator
        Of training: "event" or "analytic".
    silicon, volume
        What designs are priced by: prices and areas, a spec, or a name or file of one; chips over which masks and
        design are spread.
    watch
        Called after each simulation with how many are done, of how many.

    Raises
    ------
    SpecError
        No experiment, an unknown knob, or a factor that changes nothing.
    PlanError
        A job does not fit as it is.
    """
    jobs = [experiments] if isinstance(experiments, TrainingExperiment | ServingExperiment) else list(experiments)
    if not jobs:
        raise SpecError("elasticities: no experiment; expected at least one of training or of serving")
    if not isinstance(factor, int | float) or not _LEAST <= factor <= _MOST or factor == 1:
        raise SpecError(f"factor: {factor!r:.40} is not accepted; expected a number from 0.1 to 10 that is not 1")
    effects: list[Effect] = []
    problems: list[str] = []
    turned = [(_settled(_accepted(job)), _wanted(job.system, knobs)) for job in jobs]
    done, whole = 0, sum(1 + len(names) for _, names in turned)
    known: Silicon = load("silicon", silicon) if isinstance(silicon, str) else silicon
    names_seen: list[str] = []

    def said() -> None:
        nonlocal done
        done += 1
        if watch is not None:
            watch(done, whole)

    for job, wanted in turned:
        system = job.system
        price: Callable[[Chip], Chip] = partial(priced, silicon=known, volume=volume)
        try:
            before_job = _with(job, system, price)
        except SpecError as error:
            problems.append(f"{system.chip.name}: no price: {str(error).splitlines()[0]}")
            before_job, price = job, _as_it_is
        name, before = _outcomes(before_job, evaluator)
        names_seen.append(name)
        if names_seen.count(name) > 1:
            name = f"{name} ({names_seen.count(name)})"
        said()
        rows = []
        for knob in wanted:
            try:
                _, after = _outcomes(_with(job, knob.turn(system, factor), price), evaluator)
                rows += [_effect(name, knob, key, before[key], after[key], factor) for key in before if key in after]
            except (PlanError, SpecError) as error:
                problems.append(f"{name}: {knob.name}: {str(error).splitlines()[0]}")
            said()
        order = {key: at for at, (key, _) in enumerate(before)}
        effects += sorted(rows, key=lambda row: (order[row.outcome], -abs(row.elasticity), row.knob))
    return Elasticities(
        chip=jobs[0].system.chip.name, factor=float(factor), effects=tuple(effects), problems=tuple(problems)
    )


def _settled(job: Experiment) -> Experiment:
    return replace(job, system=replace(job.system, chip=settled(job.system.chip)))


def _with(job: Experiment, system: System, price: Callable[[Chip], Chip]) -> Experiment:
    return replace(job, system=replace(system, chip=price(system.chip)))


def _as_it_is(chip: Chip) -> Chip:
    return chip


def _wanted(system: System, names: Sequence[str] | None) -> tuple[Knob, ...]:
    return knobs_of(system) if names is None else tuple(knob_of(system, name) for name in dict.fromkeys(names))


def _outcomes(job: Experiment, evaluator: str) -> tuple[str, dict[tuple[str, str], float]]:
    """The job in words, and what comes out, by name and unit."""
    found: dict[tuple[str, str], float]
    if isinstance(job, TrainingExperiment):
        result = simulate(job, evaluator=evaluator)
        name, energy, cost = result.name, result.energy, result.cost
        found = {("step time", "s"): result.step_time}
    else:
        served = serve(job)
        name, energy, cost = served.name, served.energy, served.cost
        found = {("TTFT p99", "s"): served.ttft.p99, ("TPOT p99", "s"): served.tpot.p99}
    if energy is not None:
        found["energy", "J/token"] = energy.per_token
    if cost is not None:
        found["cost", "USD/Mtoken"] = cost.per_million_tokens
    return name, found


def _effect(
    job: str, knob: Knob, outcome: tuple[str, str], before: float, after: float, factor: float
) -> Effect:  # fmt: skip
    change = after / before - 1.0 if before else 0.0
    slope = math.log(after / before) / math.log(factor) if before > 0.0 and after > 0.0 else 0.0
    return Effect(
        job=job, outcome=outcome[0], unit=outcome[1], knob=knob.name, words=knob.words, before=before, after=after,
        change=change, elasticity=slope,
    )  # fmt: skip
