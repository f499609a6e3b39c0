"""What a search of trainings found, as a `Plan`."""

import math
from collections.abc import Mapping
from typing import Any

from scaleout.errors import ScaleoutError
from scaleout.planning.asked import Asked
from scaleout.planning.launch_train import torchrun
from scaleout.planning.neighbours import apart, by_others, inputs_of, pareto, under_contention, why
from scaleout.planning.plan import Candidate, Plan
from scaleout.planning.tried import Found, Tried
from scaleout.specs import TrainingExperiment

__all__ = ["answer", "layout_words"]

_RUNNERS = 10
_RIVALS = 3
_UNITS = {"time": "s", "cost": "USD", "energy": "J", "chips": "chip"}


def answer(question: Asked, found: Found) -> Plan:
    """The plan of a question."""
    ranked = sorted(found.kept, key=lambda one: (one.value, one.figures["time"], layout_words(one.spec)))
    candidates = [_candidate(question, one) for one in ranked]
    goal = question.goal
    plan: dict[str, Any] = {
        "kind": "training",
        "name": f"{question.told['model']} on {_many(goal.tokens)} tokens",
        "question": question.told,
        "objective": goal.objective,
        "unit": _UNITS[goal.objective],
        "covered": found.covered,
        "assumed": question.assumptions,
        "problems": (*(f"{name}: {words}" for name, words in question.left.items()), *found.problems),
    }
    if not ranked:
        first = next(iter(question.files.values()))
        return Plan(
            **plan, experiment=_plain_file(first), best=None, gap=0.0 if found.least == math.inf else math.inf,
            launch={},
        )  # fmt: skip
    best = ranked[0]
    runners = ranked[1 : 1 + _RUNNERS]
    least = min(found.least, best.value)
    names = {id(one): candidate.name for one, candidate in zip(ranked, candidates, strict=True)}
    return Plan(
        **plan,
        experiment=_file(question, best),
        best=candidates[0],
        gap=best.value / least - 1.0 if least > 0.0 else math.inf,
        runners=tuple(candidates[1 : 1 + _RUNNERS]),
        ties=tuple(names[id(one)] for one in runners if _tie(best, one)),
        pareto=pareto(candidates),
        why=(
            *why(best, [(_difference(best, one), one) for one in _rivals(best, runners)]),
            *_contended(best, _rivals(best, [one for one in runners if _tie(best, one)])[:1]),
            *by_others(candidates, goal.objective),
        ),
        inputs=inputs_of([best, *runners]),
        launch={"torchrun": torchrun(best.spec, goal.tokens)},
        assumptions=best.result.assumptions,
        warnings=best.result.warnings,
    )


def _many(tokens: float) -> str:
    """A number of tokens, as one says it."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if tokens >= size:
            return f"{tokens / size:.4g}{unit}"
    return f"{tokens:.4g}"


def _tie(best: Tried, other: Tried) -> bool:
    return math.log(other.value / best.value) <= math.log1p(apart(best.result, other.result))


def _rivals(best: Tried, runners: list[Tried]) -> list[Tried]:
    """The nearest that differ in more than what they recompute."""
    found: list[Tried] = []
    for one in runners:
        if all(one.spec.layout != other.spec.layout for other in (best, *found)):
            found.append(one)
    return found[:_RIVALS]


def _contended(best: Tried, ties: list[Tried]) -> tuple[str, ...]:
    """A sentence, where contention is simulated; of few, as it takes as long again as the step without."""
    try:
        return (under_contention([("it", best), *((_difference(best, one), one) for one in ties)]),)
    except ScaleoutError:
        return ()


def _difference(best: Tried, other: Tried) -> str:
    """What another is that the best is not, in words."""
    mine, theirs = _words(best.spec), _words(other.spec)
    parts = [] if other.machine is best.machine else [other.machine.name]
    parts += [words for words in theirs if words not in mine]
    return ", ".join(parts) or layout_words(other.spec)


def layout_words(spec: TrainingExperiment) -> str:
    """A layout in words."""
    return ", ".join(_words(spec))


def _words(spec: TrainingExperiment) -> list[str]:
    layout, parts = spec.layout, [f"tp {spec.layout.tp}"]
    if layout.cp > 1:
        parts.append(f"cp {layout.cp} ({layout.context.replace('_', '-')})")
    parts.append(f"pp {layout.pp}")
    if layout.vpp > 1:
        parts.append(f"vpp {layout.vpp}")
    if layout.schedule is not None:
        parts.append(layout.schedule)
    parts.append(f"dp {layout.dp}")
    if layout.ep > 1:
        parts.append(f"ep {layout.ep}")
    if layout.etp > 1:
        parts.append(f"etp {layout.etp}")
    if layout.tp > 1 and not layout.sequence_parallel:
        parts.append("no sequence parallelism")
    parts += [f"ZeRO-{layout.zero}", f"micro-batch {spec.batch.micro}"]
    if spec.recompute:
        parts.append(f"recompute {', '.join(spec.recompute)}")
    return parts


def _candidate(question: Asked, one: Tried) -> Candidate:
    spec = one.spec
    doubt = one.result.error_band.relative
    of_value = {"cost": one.result.cost, "energy": one.result.energy}.get(question.goal.objective)
    return Candidate(
        name=f"{one.machine.name}, {layout_words(spec)}",
        settings=_settings(question, one),
        layout=_layout(spec),
        system=spec.system.name,
        chips=spec.chips,
        value=one.value,
        error=math.hypot(doubt, of_value.error) if of_value is not None else doubt,
        bound=min(one.bound, one.value),
        figures=one.figures,
        parts={name: seconds for name, seconds in one.result.breakdown.items() if seconds},
    )


def _layout(spec: TrainingExperiment) -> dict[str, Any]:
    layout = spec.layout
    found: dict[str, Any] = {
        "tp": layout.tp,
        "cp": layout.cp,
        "pp": layout.pp,
        "vpp": layout.vpp,
        "dp": layout.dp,
        "ep": layout.ep,
        "etp": layout.etp,
        "sequence_parallel": layout.sequence_parallel,
        "zero": layout.zero,
        "context": layout.context,
    }
    if layout.schedule is not None:
        found["schedule"] = layout.schedule
    return {**found, "micro": spec.batch.micro, "recompute": list(spec.recompute)}


def _settings(question: Asked, one: Tried) -> tuple[str, ...]:
    """Overrides that make a candidate of the plan's experiment, whatever its best is."""
    found = [f"system={one.spec.system.name}", f"chips={one.spec.chips}"]
    for name, value in _layout(one.spec).items():
        if name == "micro":
            found.append(f"batch.micro={value}")
        elif name == "recompute":
            found.append(f"recompute=[{', '.join(value)}]")
        else:
            found.append(f"layout.{name}={str(value).lower() if isinstance(value, bool) else value}")
    if one.spec.layout.schedule is None:
        found.append("layout.schedule=null")
    return (*found, *question.files[one.spec.system.name]["more"])


def _plain_file(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "more"}


def _file(question: Asked, one: Tried) -> dict[str, Any]:
    """The form of a file of the experiment of a layout."""
    spec, data = one.spec, _plain_file(question.files[one.spec.system.name])
    layout = {name: value for name, value in _layout(spec).items() if name not in ("micro", "recompute")}
    batch = {"global": spec.batch.global_, "micro": spec.batch.micro, "sequence": spec.batch.sequence}
    data |= {"chips": spec.chips, "layout": layout, "batch": batch, "recompute": list(spec.recompute)}
    return data
