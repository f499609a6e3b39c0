"""A plan of a training as tables for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.planning.answer import headline
from scaleout.planning.plan import OBJECTIVES, Candidate, Plan
from scaleout.report.grid import grid, resting_on
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["plan_tables"]

_DAY = 86_400.0


def plan_tables(plan: Plan) -> RenderableType:
    """The answer first; then how surely it is the best, what else was close, why, and what it rests on."""
    parts: dict[str, RenderableType] = {}
    if plan.best is not None:
        parts[headline(plan)] = _proof(plan)
        parts["The best, and the next best (= marks what errors cannot tell from it)"] = _candidates(plan)
        if len(plan.pareto) > 1:
            parts["No other is as good as these in time, cost, energy and chips"] = _rows(plan.pareto, ())
        parts["Why"] = Group(*(Text(f"  {words}") for words in plan.why))
        parts["What moves the answer (a tenth more of it)"] = _inputs(plan)
    else:
        parts[headline(plan)] = _proof(plan)
    if plan.problems:
        parts["What is in the way" if plan.best is None else "Beside that"] = Group(
            *(Text(f"  {words}") for words in plan.problems)
        )
    parts["Rests on (! marks what is unverified; the source below each)"] = resting_on(map(plain, plan.assumptions))
    rows: list[RenderableType] = []
    for title, part in parts.items():
        rows += [Text(title, style="bold"), part, ""]
    return Group(*rows[:-1])


def _proof(plan: Plan) -> Table:
    table = grid()
    points = sum(plan.covered.values())
    if plan.best is not None:
        near = "the optimum of the space" if plan.gap == 0.0 else f"proven within {plan.gap:.2%} of the optimum"
        table.add_row("least", f"{OBJECTIVES[plan.objective]}, {near}; ±{plan.best.error:.0%} by what is not known")
    table.add_row("covered", f"{points:,} layouts and machines")
    for what, number in plan.covered.items():
        table.add_row("", f"{number:,} {what}")
    return table


def _candidates(plan: Plan) -> Table:
    best = [] if plan.best is None else [plan.best]
    return _rows((*best, *plan.runners), plan.ties)


def _rows(candidates: Sequence[Candidate], ties: Sequence[str]) -> Table:
    table = grid("", "days", "power", "cost", "MFU", "HBM", "step")
    table.columns[0].no_wrap = False
    table.columns[0].overflow = "fold"
    # a machine that is the same in all of them is in the headline
    machines = {one.name.partition(", tp ")[0] for one in candidates}
    start = len(machines.pop()) + 2 if len(machines) == 1 else 0
    for one in candidates:
        figures = one.figures
        mark = "= " if one.name in ties else "  "
        table.add_row(
            mark + escape(one.name[start:]),
            f"{figures['time'] / _DAY:,.1f}",
            describe(figures["power"], "W") if "power" in figures else "",
            describe(figures["cost"], "USD") if "cost" in figures else "",
            f"{figures['mfu']:.1%}",
            describe(figures["memory"], "byte"),
            describe(figures["step_time"], "s"),
        )
    return table


def _inputs(plan: Plan) -> Table:
    table = grid("", OBJECTIVES[plan.objective], "")
    for row in plan.inputs:
        moves = "another layout is the best then" if row.moves else ""
        table.add_row(f"  {escape(row.name)}", f"{row.change:+.1%}", moves)
    return table
