"""The best way to train a model: all legal layouts on all machines are bounded, and those that are left simulated."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, ScaleoutError
from scaleout.evaluate.analytic import analyse, analyse_programs
from scaleout.planning.answer import answer, layout_words
from scaleout.planning.asked import Asked, Machines, asked, machines_of
from scaleout.planning.floor import Floor
from scaleout.planning.layouts import Axes, Point, axes_of, point, recompute_sets
from scaleout.planning.machines import Machine
from scaleout.planning.plan import Plan
from scaleout.planning.search import Level, Search, Stand, search
from scaleout.planning.survey import Survey, survey
from scaleout.planning.tried import Found, Tried
from scaleout.simulate import simulate
from scaleout.training.missing import uncovered
from scaleout.units import describe

__all__ = ["plan_training"]

_RUNNERS = 10
_LOOKED_AHEAD = Axes(cp=(1, 2), zero=(1,), micro=(1, 2), context=("ring", "all_gather"))
"""What is searched first, for a value that rules out most of the rest."""
_SCOUTED = 0.1
_ANY = Axes(tp=(1, 2, 4, 8), cp=(1,), vpp=(1,), zero=(1,), micro=(1,), context=("ring",), recompute=((), ("full",)))
"""What is searched where any layout will do, to say what the job takes."""
_MOST_BROKEN = 64
_NEAR = 1.03
"""Layouts that cannot be better than so many times the best are not even neighbours of it."""


def plan_training(
    model: str | Path,
    *,
    tokens: float,
    days: float | None = None,
    max_power: float | None = None,
    max_cost: float | None = None,
    system: str | Sequence[str] = "dgx-h100",
    chips: str | int | Sequence[int] = "auto",
    sequence: int | None = None,
    batch: int | str | None = None,
    stack: str | None = None,
    facility: str = "default",
    precision: str = "bf16",
    minimise: str | None = None,
    goodput: float | None = None,
    gap: float = 0.02,
    axes: Axes | Mapping[str, Sequence[Any]] | None = None,
    seconds: float | None = None,
    told: Callable[[str], None] | None = None,
) -> Plan:
    """Find the machine and the layout that train a model best, and prove how close to the best they are.

    Parameters
    ----------
    model
        Name of a shipped model, or path of a file.
    tokens
        To be trained on.
    days
        In which the training has to end [day]; None for any time.
    max_power
        That the building may draw, on the mean of a step [W].
    max_cost
        Of the whole training [USD].
    system
        Name, several names, or "all" that are known.
    chips
        Number of chips, several, or "auto": powers of two of nodes, and three times these, up to what limits allow.
    sequence, batch
        Tokens of a sequence, and sequences of a step (as text tokens, such as "16M"); None for what is usual.
    stack, facility, precision
        As in `TrainingExperiment`, by name.
    minimise
        "time", "cost", "energy" or "chips"; None: the time where chips are given, otherwise the cost.
    goodput
        Share of the time that is not lost to failures, restarts and checkpoints; None for 0.9 [1].
    gap
        By how much the answer may be above the optimum, over it; 0 for the optimum [1].
    axes
        What of layouts is gone through, such as ``{"pp": [1, 2]}`` (names as in `Axes`); None for all that is legal.
    seconds
        The search ends after so long, once it has found something, with the gap that is proven then.
    told
        Is told what is going on.

    Raises
    ------
    SpecError
        Something is out of range or unknown.

    Examples
    --------
    >>> import scaleout
    >>> plan = scaleout.plan_training("llama-3.1-8b", tokens=1e12, chips=64)  # doctest: +SKIP
    >>> plan.best.name, plan.gap  # doctest: +SKIP
    """
    question = asked(
        model, tokens=tokens, days=days, max_power=max_power, max_cost=max_cost, system=system, chips=chips,
        sequence=sequence, batch=batch, stack=stack, facility=facility, precision=precision, minimise=minimise,
        goodput=goodput, gap=gap, axes=axes if isinstance(axes, Axes) else axes_of(axes or {}),
    )  # fmt: skip
    until = inf if seconds is None else time.monotonic() + seconds
    enough = None if seconds is None else lambda: time.monotonic() > until
    found = _found(question, enough, told or (lambda words: None))
    return answer(question, found)


def _found(question: Asked, enough: Callable[[], bool] | None, told: Callable[[str], None]) -> Found:
    """Search every machine, the most promising first."""
    machines = machines_of(question)
    found = Found(problems=[*machines.refused])
    found.count("machines that cannot do it", len(machines.hopeless))
    for bound, machine in machines.ready:
        if found.best / (1.0 + question.gap) <= bound:
            found.least = min(found.least, bound)
            found.count("machines ruled out by a bound", 1)
            continue
        if enough is not None and found.kept and enough():
            found.least = min(found.least, bound)
            found.problems.append(f"{machine.name} was not searched: the search was cut short")
            continue
        _MachineSearch(question, machine, found, enough, told).run()
    if not found.kept or not question.counts:
        found.problems += machines.said
    legal = sum(many for what, many in found.covered.items() if not what.startswith("machines"))
    if machines.ready and not legal and not found.least < inf:
        axes = ", ".join(question.told["axes"])
        found.problems.append(f"no layout is legal with what was asked of {axes}" if axes else "no layout is legal")
    elif not found.kept:
        found.problems += _at_the_least(question, machines, found)
    return found


def _at_the_least(question: Asked, machines: Machines, found: Found) -> list[str]:
    """What would do, where nothing does: a usual layout of the machine that is the nearest to it, without limits."""
    free = replace(question, goal=replace(question.goal, time=inf, power=inf, cost=inf, objective="time"))
    some = [*(machine for _, machine in machines.ready), *machines.hopeless]
    if not some:
        return []
    machine = some[0]
    tried = Found()
    _MachineSearch(free, Machine(machine.base, machine.chips, free.goal), tried, None, lambda words: None).scout(
        _ANY, 10.0
    )
    if not tried.kept:
        return [f"no usual layout fits on {machine.name}"]
    best = min(tried.kept, key=lambda one: one.value)
    figures = best.figures
    words = [f"{figures['time'] / 86_400.0:,.4g} days"]
    words += [describe(figures["power"], "W")] if "power" in figures else []
    words += [describe(figures["cost"], "USD")] if "cost" in figures else []
    return [f"{machine.name} takes {', '.join(words)} by a usual layout ({layout_words(best.spec)})"]


class _MachineSearch:
    """The search of one machine."""

    def __init__(
        self,
        question: Asked,
        machine: Machine,
        found: Found,
        enough: Callable[[], bool] | None,
        told: Callable[[str], None],
    ) -> None:
        self.question, self.machine, self.found, self.enough, self.told = question, machine, found, enough, told
        self.floor = Floor(machine.base, machine.chips)
        self.analysed: dict[Point, tuple[float, str]] = {}
        self.tried: dict[Point, tuple[Tried | None, str]] = {}

    def run(self) -> None:
        """Find what the machine does best."""
        found, machine, gap = self.found, self.machine, self.question.gap
        if found.best == inf:
            self.scout()
        self.told(f"{machine.name}: bounding every layout")
        enough = self.enough if found.kept else None
        left = survey(self.floor, self.question.axes, machine.longest_of(found.best * _NEAR), enough)
        if left.cut:
            found.count("simulated", len(self.tried.keys() - set(left.points)))
            # of what was not bounded all that is known is that products take their time
            found.least = min(found.least, float(machine.values(np.array([machine.least_step()]))[0]))
            found.problems.append(f"{machine.name}: the search ended before all layouts were bounded, and counted")
        order = np.argsort(left.times, kind="stable")
        left.points = [left.points[i] for i in order.tolist()]
        left.times = left.times[order]
        # neighbours of the best are simulated too, where there is one machine
        more = _RUNNERS + 1 if len(self.question.counts) == 1 and len(self.question.bases) == 1 else 3
        out = self._search(left, gap, more=more)
        self._book(left, out)
        if found.best == inf and out.least < inf:
            found.problems.append(self._given_up(left.points, out))
        found.least = min(found.least, out.least)
        for broken in out.broken:
            found.problems.append(
                f"{left.points[broken.candidate]} comes out {1 - broken.value / broken.bound:.2%} below its bound: "
                "nothing is proven"
            )

    def _given_up(self, points: list[Point], out: Search) -> str:
        """What is proven of a machine on which nothing was found, though something is left."""
        broken = [one for one in self.found.broken if one.machine is self.machine]
        left = sum(at not in self.tried and out.bounds[number] < inf for number, at in enumerate(points))
        words = [f"{self.machine.name}: {len(broken):,} layouts were simulated to the end, and each breaks a limit"]
        limits = {"time": self.machine.goal.time, "power": self.machine.goal.power, "cost": self.machine.goal.cost}
        units = {"time": "s", "power": "W", "cost": "USD"}
        for name, limit in limits.items():
            if limit < inf and (some := [one.figures[name] for one in broken if name in one.figures]):
                words.append(f"the least {name} of them is {describe(min(some), units[name])}")
        words.append(f"{left:,} others were left, and no bound shows that they do too")
        return "; ".join(words)

    def scout(self, axes: Axes = _LOOKED_AHEAD, gap: float = _SCOUTED) -> None:
        """A first value, from the layouts that are usual."""
        self.told(f"{self.machine.name}: looking for a first layout")
        base = self.machine.base
        if base.model.experts is not None:
            sets = recompute_sets(base)
            axes = replace(axes, cp=(1,), micro=(1,), etp=(1,), recompute=(sets[0], sets[3], sets[-2], sets[-1]))
        usual = _narrowed(self.question.axes, axes)
        if usual is not None:
            self._search(survey(self.floor, usual, self.machine.longest), max(gap, self.question.gap))

    def _search(self, left: Survey, gap: float, more: int = 0) -> Search:
        points, machine = left.points, self.machine

        def tell(stand: Stand) -> None:
            proven = f"within {stand.best / stand.bound - 1.0:.1%}" if stand.best < inf and stand.bound < inf else ""
            self.told(f"{machine.name}: {stand.open:,} layouts open, {stand.looks[1]:,} simulated {proven}")

        levels = (
            Level(name="analytic evaluator", values=lambda some: [self._analyse(points[i]) for i in some]),
            Level(name="simulation", values=lambda some: [self._try(points[i], float(bounds[i])) for i in some]),
        )
        bounds = machine.values(left.times)
        return search(bounds, levels, gap=gap, more=more, known=self.found.best, enough=self._enough, told=tell)

    def _lost(self) -> bool:
        """Whether so many layouts broke a limit that it is no use to go on."""
        return not self.found.kept and sum(one is None for one, _ in self.tried.values()) >= _MOST_BROKEN

    def _enough(self) -> bool:
        return self._lost() or (self.enough is not None and bool(self.found.kept) and self.enough())

    def _analyse(self, at: Point) -> float:
        """Least value of a layout, by the analytic evaluator."""
        if at not in self.analysed:
            self.analysed[at] = self._looked(at)
        return self.analysed[at][0]

    def _looked(self, at: Point) -> tuple[float, str]:
        try:
            spec = point(self.machine.base, self.machine.chips, at)
            # what the recurrence covers is quick without being compiled
            found = analyse_programs(spec) if uncovered(spec) else analyse(spec, compiled=False)
        except ScaleoutError:
            return inf, "cannot be built"
        if max(sum(kinds.values()) for kinds in found.peaks) > spec.system.chip.hbm_bytes:
            return inf, "does not fit in HBM"
        value = self.machine.analysed(spec, found.end / TICKS_PER_SECOND)
        return value, "" if value < inf else "beyond a limit"

    def _try(self, at: Point, bound: float) -> float:
        """Value of a layout, simulated."""
        if at not in self.tried:
            self.tried[at] = self._simulated(at, bound)
        one = self.tried[at][0]
        return inf if one is None else one.value

    def _simulated(self, at: Point, bound: float) -> tuple[Tried | None, str]:
        spec = point(self.machine.base, self.machine.chips, at)
        try:
            result = simulate(spec)
        except PlanError:
            return None, "does not fit in HBM"
        figures = self.machine.figures(result)
        value = self.machine.value(figures)
        one = Tried(self.machine, spec, result, figures, value, max(bound, self.analysed[at][0]))
        if value == inf:
            self.found.broken.append(one)
            return None, "beyond a limit"
        self.found.kept.append(one)
        return one, ""

    def _open(self) -> float:
        """Bounds below it rule nothing out."""
        return self.found.best / (1.0 + self.question.gap)

    def _book(self, left: Survey, out: Search) -> None:
        """What became of every point."""
        found = self.found
        found.count("does not fit in HBM", left.crowded)
        found.count("ruled out by bounds", left.slow)
        for number, at in enumerate(left.points):
            reached = int(out.reached[number])
            if at in self.tried:
                # in this search or in the first look
                reached = 2
            why = self.tried[at][1] if reached == 2 else self.analysed[at][1] if reached == 1 else ""
            usual = ("ruled out by bounds", "ruled out by the analytic evaluator", "simulated")[reached]
            if reached < 2 and out.bounds[number] < self._open():
                usual = "left open"
            if reached == 0 and out.bounds[number] == inf:
                usual = "beyond a limit"
            found.count(why or usual, 1)


def _narrowed(axes: Axes, usual: Axes) -> Axes | None:
    """The usual part of axes; None where nothing is left of one."""
    chosen: dict[str, Any] = {}
    for name in Axes.__dataclass_fields__:
        mine, common = getattr(axes, name), getattr(usual, name)
        both = tuple(value for value in mine if value in common) if mine and common else mine or common
        if mine and common and not both:
            both = mine
        chosen[name] = both
    return Axes(**chosen)
