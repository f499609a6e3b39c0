"""What a plan of a training is asked: every input with its unit, checked, and what is assumed where nothing is said."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.errors import ScaleoutError, SpecError, near
from scaleout.io.catalogue import list_names, load
from scaleout.io.experiments import experiment
from scaleout.models import parameters
from scaleout.planning.layouts import Axes
from scaleout.planning.machines import Goal, Machine, counts_of, stack_for, template
from scaleout.planning.plan import OBJECTIVES
from scaleout.result import Assumption
from scaleout.specs import Model, TrainingExperiment
from scaleout.units import describe

__all__ = ["Asked", "Machines", "asked", "machines_of"]

_SMALL, _LARGE, _MANY = 4_194_304, 16_777_216, 30e9
_DAY = 86_400.0
_GOODPUT = 0.9
_TOKENS = re.compile(r"([0-9]+\.?[0-9]*)\s*([kmbKMB])")
_THOUSANDS = {"k": 1e3, "m": 1e6, "b": 1e9}
_MOST_CHIPS, _MOST_COUNTS = 1_048_576, 64
_LIMITS = {"days": 1e6, "max_power": 1e15, "max_cost": 1e18, "gap": 10.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question.

    Parameters
    ----------
    model
        As it was named, or the path of its file.
    bases
        Of each system, by name: everything but chips, layout, micro-batch and recomputation.
    files
        Of each system: the form of a file of that.
    goal
        What the training is to come to.
    counts
        Numbers of chips; empty for those of `counts_of`.
    gap
        With which a search may end [1].
    axes
        What of layouts is gone through.
    told
        Every input, by name.
    assumptions
        What was assumed where nothing was said.
    left
        Systems that cannot be asked, and why.
    """

    model: str
    bases: dict[str, TrainingExperiment]
    files: dict[str, dict[str, Any]]
    goal: Goal
    counts: tuple[int, ...]
    gap: float
    axes: Axes
    told: dict[str, Any]
    assumptions: tuple[Assumption, ...]
    left: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """Machines of a question: those that may do, each with its bound; those that are hopeless; of others why not."""

    ready: tuple[tuple[float, Machine], ...]
    refused: tuple[str, ...]
    said: tuple[str, ...]
    hopeless: tuple[Machine, ...]


def asked(
    model: str | Path,
    *,
    tokens: float,
    days: float | None,
    max_power: float | None,
    max_cost: float | None,
    system: str | Sequence[str],
    chips: str | int | Sequence[int],
    sequence: int | None,
    batch: int | str | None,
    stack: str | None,
    facility: str,
    precision: str,
    minimise: str | None,
    goodput: float | None,
    gap: float,
    axes: Axes,
) -> Asked:
    """Check a question, and fill in what it leaves open; parameters as of `plan_training`.

    Raises
    ------
    SpecError
        Something is out of range or unknown; the message says what is accepted.
    """
    _number("tokens", tokens, 1e18)
    if goodput is not None:
        _number("goodput", goodput, 1.0)
    for name, value in (("days", days), ("max_power", max_power), ("max_cost", max_cost)):
        if value is not None:
            _number(name, value, _LIMITS[name])
    if gap:
        _number("gap", gap, _LIMITS["gap"])
    counts = _counts(chips)
    if minimise is not None and minimise not in OBJECTIVES:
        raise SpecError(f"minimise: {minimise!r:.40} is unknown; {near(minimise, OBJECTIVES)}")
    objective = minimise or ("time" if counts else "cost")
    loaded = load("model", str(model))
    assumed: list[Assumption] = []
    sequence = _sequence(loaded, sequence, assumed)
    batch = _batch(loaded, batch, sequence, assumed)
    if stack is None:
        stack = "megatron-lm-2024"
        assumed.append(Assumption("stack", stack, "the framework whose flags are written; docs/planning.md"))
    if goodput is None:
        goodput = _GOODPUT
        source = "The Llama 3 Herd of Models, arXiv 2407.21783, section 3.3.4: more than 90% of the time was effective"
        assumed.append(Assumption("goodput", f"{goodput:.0%} of the time is not lost", source, False))
    names = list_names("system") if system == "all" else [system] if isinstance(system, str) else list(system)
    if not names:
        raise SpecError("system: none is named; expected a name, several, or 'all'")
    bases, files, left = {}, {}, {}
    for name in dict.fromkeys(names):
        try:
            bases[name], files[name] = _base(str(model), name, batch, sequence, stack, facility, precision)
        except ScaleoutError as error:
            if len(names) == 1:
                raise
            left[name] = str(error).splitlines()[0]
    if not bases:
        raise SpecError("system: none of them can train this: " + "; ".join(f"{k}: {v}" for k, v in left.items())[:400])
    goal = Goal(
        tokens=float(tokens),
        objective=objective,
        time=inf if days is None else days * _DAY,
        power=inf if max_power is None else float(max_power),
        cost=inf if max_cost is None else float(max_cost),
        goodput=float(goodput),
    )
    told: dict[str, Any] = {
        "model": loaded.name,
        "tokens": float(tokens),
        "days": days,
        "max_power": max_power,
        "max_cost": max_cost,
        "system": list(bases),
        "chips": list(counts) or "auto",
        "sequence": sequence,
        "batch": batch,
        "stack": stack,
        "facility": facility,
        "precision": precision,
        "minimise": objective,
        "goodput": float(goodput),
        "gap": float(gap),
        "axes": {name: list(getattr(axes, name)) for name in Axes.__dataclass_fields__ if getattr(axes, name)},
    }
    return Asked(
        model=str(model),
        bases=bases,
        files=files,
        goal=goal,
        counts=counts,
        gap=float(gap),
        axes=axes,
        told=told,
        assumptions=tuple(assumed),
        left=left,
    )


def _number(name: str, value: object, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise SpecError(f"{name}: {value!r:.40} is not accepted; expected a number above 0, at most {most:g}")


def _counts(chips: str | int | Sequence[int]) -> tuple[int, ...]:
    if isinstance(chips, str):
        if chips == "auto":
            return ()
        raise SpecError(f"chips: {chips!r:.40} is not accepted; expected whole numbers, or 'auto'")
    given = [chips] if isinstance(chips, int) else list(chips)
    if not given or len(given) > _MOST_COUNTS:
        raise SpecError(f"chips: {len(given)} numbers; expected 1 to {_MOST_COUNTS}, or 'auto'")
    for one in given:
        if isinstance(one, bool) or not isinstance(one, int) or not 1 <= one <= _MOST_CHIPS:
            raise SpecError(f"chips: {one!r:.40} is not accepted; expected a whole number from 1 to {_MOST_CHIPS:,}")
    return tuple(sorted(dict.fromkeys(given)))


def _sequence(model: Model, sequence: int | None, assumed: list[Assumption]) -> int:
    if sequence is None:
        found = min(8192, model.max_sequence)
        assumed.append(Assumption("sequence", f"{found:,} tokens", "8,192, or what the model has learned", False))
        return found
    if isinstance(sequence, bool) or not isinstance(sequence, int) or not 1 <= sequence <= 10**8:
        raise SpecError(f"sequence: {sequence!r:.40} is not accepted; expected a whole number of tokens")
    return sequence


def _batch(model: Model, batch: int | str | None, sequence: int, assumed: list[Assumption]) -> int:
    if batch is None:
        many = parameters(model) >= _MANY
        found = max(1, (_LARGE if many else _SMALL) // sequence)
        source = "The Llama 3 Herd of Models, arXiv 2407.21783, section 3.4.1: 16M tokens of 405B, 4M at first"
        assumed.append(Assumption("batch", f"{found:,} sequences, {found * sequence:,} tokens", source, False))
        return found
    if isinstance(batch, str):
        match = _TOKENS.fullmatch(batch.strip())
        tokens = float(match[1]) * _THOUSANDS[match[2].lower()] if match else 0.0
        if not sequence <= tokens <= 1e12:
            raise SpecError(
                f"batch: {batch!r:.40} is neither a number of sequences nor one of tokens, such as 16M, with at least "
                f"one sequence of {sequence:,}"
            )
        return round(tokens / sequence)
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= 10**8:
        raise SpecError(f"batch: {batch!r:.40} is not accepted; expected a whole number of sequences, or text: tokens")
    return batch


def _base(
    model: str, system: str, batch: int, sequence: int, stack: str, facility: str, precision: str
) -> tuple[TrainingExperiment, dict[str, Any]]:
    """Everything but chips, layout, micro-batch and recomputation; and the file that it is read from."""
    data: dict[str, Any] = {
        "kind": "training",
        "system": system,
        "chips": 1,
        "model": model,
        "layout": {"dp": 1},
        "batch": {"global": 1, "micro": 1, "sequence": sequence},
        "precision": precision,
        "stack": stack,
        "facility": facility,
    }
    spec = experiment(data)
    fitting = stack_for(spec.system, spec.stack, precision)
    settings: tuple[str, ...] = ()
    if fitting is not spec.stack:
        settings = (f"stack.attention={fitting.attention}",)
        spec = replace(experiment(data, settings), settings=())
    return template(spec, batch, sequence), {**data, "more": settings}


def machines_of(question: Asked) -> Machines:
    """Machines that may do, the least bound first; one that cannot is never searched."""
    ready: list[tuple[float, int, str, Machine]] = []
    refused: list[str] = []
    slow: list[Machine] = []
    hungry: list[Machine] = []
    goal = question.goal
    for name, base in question.bases.items():
        for chips in question.counts or counts_of(base.system):
            per_node = base.system.chips_per_node
            if chips > per_node and chips % per_node:
                refused.append(f"{chips:,} chips are not whole nodes of {name}, which have {per_node}")
                continue
            try:
                machine = Machine(base, chips, goal)
            except ScaleoutError as error:
                refused.append(f"{chips:,} chips of {name}: {str(error).splitlines()[0]}")
                continue
            step = machine.least_step()
            if step > machine.longest:
                slow.append(machine)
            elif machine.least_power() > goal.power:
                hungry.append(machine)
            elif (bound := float(machine.values(np.array([step]))[0])) == inf:
                refused.append(f"{machine.name}: costs more than {goal.cost:,.4g} USD, whatever the layout")
            else:
                ready.append((bound, chips, name, machine))
    ready.sort(key=lambda row: row[:3])
    said = (*_too_slow(question, slow), *_too_hungry(question, hungry))
    return Machines(
        ready=tuple((bound, machine) for bound, _, _, machine in ready),
        refused=tuple(refused) if question.counts else (),
        said=said,
        # first those that are the nearest to doing it
        hopeless=(
            *sorted(hungry, key=lambda machine: machine.chips),
            *sorted(slow, key=lambda machine: -machine.chips),
        ),
    )


def _too_slow(question: Asked, slow: list[Machine]) -> list[str]:
    """The least number of chips that could be in time, by system."""
    found = []
    for name in dict.fromkeys(machine.base.system.name for machine in slow):
        one = next(machine for machine in slow if machine.base.system.name == name)
        need = math.ceil(one.least_step() * one.chips / one.longest)
        days = question.goal.time / _DAY
        found.append(
            f"{days:,.4g} days need at least {need:,} {one.base.system.chip.name} ({name}), even if all products ran "
            "at the chip's best rate"
        )
    return found


def _too_hungry(question: Asked, hungry: list[Machine]) -> list[str]:
    """The most chips that a limit of power feeds, by system."""
    found = []
    for name in dict.fromkeys(machine.base.system.name for machine in hungry):
        one = next(machine for machine in hungry if machine.base.system.name == name)
        most = int(question.goal.power / (one.least_power() / one.chips))
        found.append(
            f"{describe(question.goal.power, 'W')} feed at most about {most:,} {one.base.system.chip.name} ({name}) at "
            "what so many draw at the least if they are in time"
        )
    return found
