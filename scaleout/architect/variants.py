"""Thousands of chips under one training and one serving job, in closed form.

What does not depend on the chip, such as shapes, layouts, wires and messages, is worked out once; of
each chip its constants are packed, the step's recurrence runs compiled, and replicas are brought to
their steady state. Cost grows with chips alone: about a millisecond each (``docs/architect.md``).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.analytic import analyse, given, refuse_slow
from scaleout.evaluate.steady import Typical, steady
from scaleout.hardware import pack
from scaleout.serving.room import needs, room_on
from scaleout.serving.steps import PoolSteps
from scaleout.specs import Chip, ServingExperiment, TrainingExperiment
from scaleout.training.missing import uncovered

__all__ = ["Variants", "typical_of", "variants"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variants:
    """A table with a row for each chip, in the order in which they were given.

    Parameters
    ----------
    names
        Of the chips.
    problem
        Why a row has no figures: a job that does not fit; "" where there is none.
    step_time
        Of the training job, a lower bound [s]; NaN where there is none. Shape (chips,).
    memory
        Peak of the fullest stage, over the chip's capacity [1]. Shape (chips,).
    ttft, tpot
        Means of the serving job at its rate [s]; infinite where more come than are served. Shape (chips,).
    most
        Requests that it could serve [1/s]. Shape (chips,).
    """

    names: tuple[str, ...]
    problem: tuple[str, ...]
    step_time: Floats
    memory: Floats
    ttft: Floats
    tpot: Floats
    most: Floats

    def __len__(self) -> int:
        return len(self.names)

    def to_dict(self) -> dict[str, Any]:
        """Lists of plain values, SI units; None for what is not a finite number."""
        columns = {name: getattr(self, name) for name in ("step_time", "memory", "ttft", "tpot", "most")}
        lists = {name: [v if np.isfinite(v) else None for v in column.tolist()] for name, column in columns.items()}
        return {"names": list(self.names), "problem": list(self.problem), **lists}


def typical_of(serving: ServingExperiment, prompt: float | None = None, reply: float | None = None) -> Typical:
    """Mean rate and lengths of an experiment's requests.

    Parameters
    ----------
    prompt, reply
        Mean tokens of a trace, which an experiment does not say itself.

    Raises
    ------
    SpecError
        Requests have no rate of their own, or lengths that are in a file alone.
    """
    wanted = serving.requests
    if wanted.arrivals.rate is None:
        raise SpecError(
            f"requests.arrivals: {wanted.arrivals.process!r} has no mean rate, which a steady state needs; "
            "set requests.arrivals.rate"
        )
    means = []
    for name, length, own in (("input", wanted.input, prompt), ("output", wanted.output, reply)):
        if own is not None:
            means.append(own)
        elif length is None:
            raise SpecError(
                f"requests.{name}: the trace's mean length is not known here; give prompt and reply, to variants as "
                "typical=typical_of(serving, prompt, reply) of scaleout.architect.variants"
            )
        else:
            means.append(length.mean if length.mean is not None else (length.low + length.high) / 2.0)
    return Typical(rate=wanted.arrivals.rate, prompt=means[0], reply=means[1])


def variants(
    chips: Iterable[Chip],
    *,
    training: TrainingExperiment | None = None,
    serving: ServingExperiment | None = None,
    typical: Typical | None = None,
) -> Variants:
    """Put each chip into the system of a training and of a serving job, and analyse both.

    The first call on a machine compiles, which takes about a minute.

    Parameters
    ----------
    typical
        Mean rate and lengths of the requests; None takes them from the experiment.

    Raises
    ------
    SpecError
        Neither job is given, the steady state is not known, or a chip lacks constants.
    """
    if training is None and serving is None:
        raise SpecError("variants: neither a training nor a serving job is given; expected one of them, or both")
    found = list(chips)
    problem = [""] * len(found)
    columns = {name: np.full(len(found), np.nan) for name in ("step_time", "memory", "ttft", "tpot", "most")}
    if training is not None:
        _train(training, found, columns, problem)
    if serving is not None:
        _serve(serving, found, typical or typical_of(serving), columns, problem)
    for column in columns.values():
        column.setflags(write=False)
    return Variants(names=tuple(chip.name for chip in found), problem=tuple(problem), **columns)


def _train(spec: TrainingExperiment, chips: list[Chip], columns: dict[str, Floats], problem: list[str]) -> None:
    refuse_slow(spec)
    known = bool(uncovered(spec))
    numbers = None if known else given(spec)
    for at, chip in enumerate(chips):
        if numbers is None:
            other = replace(spec, system=replace(spec.system, chip=chip))
            analysis = analyse(other)
            end, peak = analysis.end, max(sum(kinds.values()) for kinds in analysis.peaks)
        else:
            one = numbers._replace(rates=pack(chip, spec.stack, spec.precision))
            ticks, stages = one.point.compiled(*one, chip.hbm_bytes)
            end, peak = int(ticks[0]), float(stages.sum(axis=1).max())
        columns["memory"][at] = peak / chip.hbm_bytes
        if peak > chip.hbm_bytes:
            problem[at] = f"training does not fit in HBM: {peak / chip.hbm_bytes:.0%} of it"
        else:
            columns["step_time"][at] = end / TICKS_PER_SECOND


def _serve(
    spec: ServingExperiment, chips: list[Chip], typical: Typical, columns: dict[str, Floats], problem: list[str]
) -> None:
    starts, start = [], 0
    for pool in spec.pools:
        starts.append(start)
        start += pool.chips
    needed = [needs(spec, pool) for pool in spec.pools]
    first = [PoolSteps(spec, pool, at, compiled=True) for pool, at in zip(spec.pools, starts, strict=True)]
    for at, chip in enumerate(chips):
        pools = [replace(pool, chip=chip) for pool in spec.pools]
        rooms = [room_on(chip, spec.engine, one) for one in needed]
        if (asked := spec.cache.blocks) is not None:
            rooms = [one._replace(blocks=asked if asked <= one.blocks else 0) for one in rooms]
        if any(one.blocks < 1 for one in rooms):
            problem[at] = "; ".join(filter(None, (problem[at], "serving: weights leave no room for the KV cache")))
            continue
        timers = [PoolSteps(spec, pool, like=like) for pool, like in zip(pools, first, strict=True)]
        try:
            state = steady(spec, list(timers), rooms, typical)
        except PlanError as error:
            problem[at] = "; ".join(filter(None, (problem[at], f"serving: {error}")))
            continue
        columns["ttft"][at], columns["tpot"][at], columns["most"][at] = state.ttft, state.tpot, state.most
