"""What lies near the best of a plan: ties, the Pareto front, why it wins, and what would move the answer."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from scaleout.architect.knobs import knobs_of
from scaleout.comparison import compare
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import analyse, analyse_programs
from scaleout.planning.machines import Machine
from scaleout.planning.plan import OBJECTIVES, Candidate, Input
from scaleout.planning.tried import Tried
from scaleout.result import PART_WORDS, Result
from scaleout.simulate import simulate
from scaleout.specs import Facility, System, TrainingExperiment
from scaleout.training.missing import uncovered
from scaleout.units import describe

__all__ = ["apart", "by_others", "inputs_of", "pareto", "under_contention", "why"]

_KNOBS = (
    "tensor", "macs", "clock", "hbm-bandwidth", "hbm-capacity", "scale-up-bandwidth", "network-bandwidth",
    "power-limit",
)  # fmt: skip
_TENTH = 1.1
_RESOLVED = 0.01
"""Two step times of one machine that are closer are a tie, whatever cancels [1]: so much one run differs from another;
from memory."""
_RIVALS = 4
_WORDS = {"compute": "in kernels", "optimizer": "in the optimizer", "bubble": "in the pipeline bubble"}


def apart(a: Result, b: Result) -> float:
    """How far the ratio of two step times may be off [1].

    On one system and stack errors of one kind go the same way: what they share cancels, and what is left is the
    difference of their parts. On two they are independent.
    """
    one, other = a.error_band, b.error_band
    if (a.experiment["system"], a.experiment["stack"]) != (b.experiment["system"], b.experiment["stack"]):
        return math.hypot(one.relative, other.relative)
    kinds = sorted({*one.parts, *other.parts})
    left = math.hypot(*(one.parts.get(kind, 0.0) - other.parts.get(kind, 0.0) for kind in kinds))
    return max(left, _RESOLVED)


def pareto(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Those that no other is at least as good as in all of time, cost, energy and chips, and better in one."""
    names = ("time", "cost", "energy")

    def place(one: Candidate) -> tuple[float, ...]:
        return (*(one.figures.get(name, 0.0) for name in names), float(one.chips))

    places = [place(one) for one in candidates]
    front = [
        one
        for one, mine in zip(candidates, places, strict=True)
        if not any(other != mine and all(x <= y for x, y in zip(other, mine, strict=True)) for other in places)
    ]
    return tuple(sorted(front, key=lambda one: (*place(one), one.name)))


def why(best: Tried, rivals: Sequence[tuple[str, Tried]]) -> tuple[str, ...]:
    """Sentences: what bounds the best, and where its nearest rivals lose."""
    result = best.result
    path = sum(result.critical_path.values())
    share = f" ({result.critical_path[result.bound_by] / path:.0%} of what the step waits for)" if path else ""
    memory = result.memory
    found = [
        f"The step is bound by {_part(result.bound_by)}{share}; the fullest stage takes "
        f"{describe(memory.total, 'byte')} of {describe(memory.capacity, 'byte')}."
    ]
    for name, rival in rivals:
        found.append(f"Against {name}: {_sentence(best.result, rival.result)}")
    return tuple(found)


def under_contention(rows: Sequence[tuple[str, Tried]]) -> str:
    """What becomes of the best, the first, and of its ties, where kernels and transfers slow each other."""
    found = []
    for name, one in rows:
        result = simulate(replace(one.spec, contention="all"))
        figures = one.machine.figures(result)
        value = float(one.spec.chips) if one.machine.goal.objective == "chips" else figures[one.machine.goal.objective]
        found.append((value, result.step_time / one.result.step_time - 1.0, name))
    slower = found[0][1]
    words = f"Where kernels and transfers slow each other (contention: all), its step takes {slower:.1%} longer"
    if len(found) == 1:
        return f"{words}."
    least = min(found)
    if least[0] < found[0][0]:
        return f"{words}, and {least[2]} is ahead of it, by {1.0 - least[0] / found[0][0]:.1%}."
    return f"{words}, and it stays ahead of its nearest tie in another layout."


def by_others(candidates: Sequence[Candidate], objective: str) -> tuple[str, ...]:
    """Which of the candidates would be the best by another objective, where that is not the first."""
    found = []
    for name, words in OBJECTIVES.items():
        known = [one for one in candidates if name == "chips" or name in one.figures]
        if name == objective or not known:
            continue
        least = min(known, key=lambda one: float(one.chips) if name == "chips" else one.figures[name])
        value, first = (float(one.chips) if name == "chips" else one.figures[name] for one in (least, candidates[0]))
        if value < first:
            found.append(f"By the {words} {least.name} would be the best of these, {1.0 - value / first:.1%} below.")
    return tuple(found)


def _part(name: str) -> str:
    return PART_WORDS.get(name, PART_WORDS.get(f"exposed_{name}", name)).removeprefix("waiting for ")


def _sentence(best: Result, rival: Result) -> str:
    compared = compare(best, rival)
    parts = sorted(compared.parts, key=lambda part: (-(part.share or 0.0), part.name))
    ratio = best.tokens_per_second / rival.tokens_per_second
    if not parts or not parts[0].share:
        return "it takes the same time, in every part."
    main = parts[0]
    where = _WORDS.get(main.name, PART_WORDS.get(main.name, main.name))
    more = "more" if ratio >= 1.0 else "less"
    per = " a token's share of a step" if compared.per_token else " a step"
    speed = f"it takes {ratio - 1.0:.1%} longer" if ratio >= 1.0 else f"it takes {1.0 - ratio:.1%} less time"
    times = f"{describe(main.b, 's')} against {describe(main.a, 's')}{per}"
    others = [part for part in parts[1:] if (part.share or 0.0) < -0.05]
    saved = ""
    if others:
        last = others[-1]
        saved = f", though it spends less {_WORDS.get(last.name, PART_WORDS.get(last.name, last.name))}"
    return f"{speed}, most of it {more} time {where} ({times}){saved if ratio >= 1.0 else ''}."


# --- inputs --------------------------------------------------------------------------------------


def inputs_of(tried: Sequence[Tried]) -> tuple[Input, ...]:
    """What a tenth more of each input does to the best, the first, by the analytic evaluator; the strongest first."""
    some = list(tried[:_RIVALS])
    before = [_value(one.machine, one.spec) for one in some]
    found = []
    for name, words, change in _changes(some[0].machine):
        try:
            after = [_value(*change(one.machine, one.spec)) for one in some]
        except ScaleoutError:
            continue
        best = min(range(len(some)), key=lambda at: (after[at], at))
        moves = best > 0 and after[best] < after[0] * (1.0 - 1e-9) and before[0] <= before[best]
        found.append(Input(name=name, words=words, change=after[0] / before[0] - 1.0, moves=moves))
    return tuple(sorted(found, key=lambda row: (-abs(row.change), row.name)))


Change = Callable[[Machine, TrainingExperiment], tuple[Machine, TrainingExperiment]]


def _changes(machine: Machine) -> list[tuple[str, str, Change]]:
    rows: list[tuple[str, str, Change]] = []
    rows += [
        (knob.name, knob.words, _with_system(knob.turn))
        for knob in knobs_of(machine.base.system)
        if knob.name in _KNOBS
    ]
    if machine.goal.goodput < 1.0:
        rows.append(("goodput", "share of the time that is not lost (at most all)", _with_goodput))
    if machine.goal.objective == "cost" and machine.base.facility is not None:
        rows.append(("electricity", "price of electricity", _with_facility("electricity")))
        if not machine.base.facility.rent:
            rows.append(("chip-price", "price of a chip", _dearer))
            rows.append(("life", "life of machines", _with_facility("life")))
    return rows


def _value(machine: Machine, spec: TrainingExperiment) -> float:
    found = analyse_programs(spec) if uncovered(spec) else analyse(spec, compiled=False)
    return machine.analysed(spec, found.end / TICKS_PER_SECOND)


def _changed(machine: Machine, spec: TrainingExperiment, system: System, facility: Facility | None) -> tuple[
    Machine, TrainingExperiment
]:  # fmt: skip
    free = replace(machine.goal, time=math.inf, power=math.inf, cost=math.inf)
    base = replace(machine.base, system=system, facility=facility)
    return Machine(base, machine.chips, free), replace(spec, system=system, facility=facility)


def _with_system(turn: Callable[[System, float], System]) -> Change:
    return lambda machine, spec: _changed(machine, spec, turn(spec.system, _TENTH), spec.facility)


def _with_facility(name: str) -> Change:
    def change(machine: Machine, spec: TrainingExperiment) -> tuple[Machine, TrainingExperiment]:
        facility = spec.facility
        more = None if facility is None else replace(facility, **{name: getattr(facility, name) * _TENTH})
        return _changed(machine, spec, spec.system, more)

    return change


def _dearer(machine: Machine, spec: TrainingExperiment) -> tuple[Machine, TrainingExperiment]:
    chip, facility = spec.system.chip, spec.facility
    if chip.price is None:
        more = None if facility is None else replace(facility, chip_price=facility.chip_price * _TENTH)
        return _changed(machine, spec, spec.system, more)
    system = replace(spec.system, chip=replace(chip, price=chip.price * _TENTH))
    return _changed(machine, spec, system, facility)


def _with_goodput(machine: Machine, spec: TrainingExperiment) -> tuple[Machine, TrainingExperiment]:
    goal = replace(
        machine.goal,
        goodput=min(1.0, machine.goal.goodput * _TENTH),
        time=math.inf,
        power=math.inf,
        cost=math.inf,
    )
    return Machine(machine.base, machine.chips, goal), spec
