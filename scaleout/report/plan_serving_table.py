"""A plan of serving as tables for the terminal."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.planning.plan import OBJECTIVES, Candidate, Plan
from scaleout.report.grid import grid, resting_on
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["serving_headline", "serving_plan_tables"]

_PROMISES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("latency", "latency"))


def serving_headline(plan: Plan) -> str:
    """The answer in a line."""
    if plan.best is None:
        return f"{plan.name}: nothing keeps the promise"
    best = plan.best
    cost = f", {best.figures['cost_hour']:,.4g} USD/h" if "cost_hour" in best.figures else ""
    return f"{plan.name}: {best.name}, {best.chips:,} chip{'s' * (best.chips > 1)}{cost}"


def serving_plan_tables(plan: Plan) -> RenderableType:
    """The answer first; then how surely it is the best, what else was close, why, and what it rests on."""
    parts: dict[str, RenderableType] = {serving_headline(plan): _proof(plan)}
    if plan.best is not None:
        rows = (plan.best, *plan.runners)
        parts["The best, and others (= marks what errors cannot tell from it)"] = _rows(rows, plan.ties)
        if len(plan.pareto) > 1:
            parts["Nothing that was simulated is as good as these in TPOT, cost, energy and chips"] = _rows(
                plan.pareto, ()
            )
        parts["Why"] = _lines(plan.why)
        if plan.inputs:
            parts["What moves the answer (a tenth more of it)"] = _inputs(plan)
    if plan.problems:
        parts["What is in the way"] = _lines(plan.problems)
    if plan.warnings:
        parts["Beside that"] = _lines(plan.warnings)
    for text in plan.launch.values():
        # to be pasted: as it is, whatever the width
        parts["Start it with"] = Text(text.rstrip("\n"), no_wrap=True, overflow="ignore")
    parts["Rests on (! marks what is unverified; the source below each)"] = resting_on(map(plain, plan.assumptions))
    out: list[RenderableType] = []
    for title, part in parts.items():
        out += [Text(title, style="bold"), part, ""]
    return Group(*out[:-1])


def _lines(lines: Sequence[str]) -> Group:
    return Group(*(Text(f"  {words}") for words in lines))


def _proof(plan: Plan) -> Table:
    table, question = grid(), plan.question
    limits = [
        f"{words} {describe(question[name], 's')}" for name, words in _PROMISES if question.get(name) is not None
    ]  # fmt: skip
    table.add_row("promise", f"{', '.join(limits)} to {question['share']:.4g} of the requests")
    if plan.best is not None:
        near = "it is the optimum of the space" if plan.gap == 0.0 else f"within {plan.gap:.2%} of the optimum, proven"
        table.add_row("least", f"{OBJECTIVES[plan.objective]}: {near}")
    table.add_row("covered", f"{sum(plan.covered.values()):,} ways to make replicas")
    for what, number in plan.covered.items():
        table.add_row("", f"{number:,} {what}")
    for row in table.columns[1:]:
        row.justify = "left"
    return table


def _rows(candidates: Sequence[Candidate], ties: Sequence[str]) -> Table:
    table = grid("", "chips", "USD/h", "USD/Mtoken", "J/token", "power", "TTFT p99", "TPOT p99", "error")
    for one in candidates:
        figures = one.figures
        mark = "= " if one.name in ties else "  "
        table.add_row(
            mark + escape(one.name),
            f"{one.chips:,}",
            _number(figures.get("cost_hour")),
            _number(figures.get("cost_per_mtoken")),
            _number(figures.get("energy_per_token")),
            describe(figures["power"], "W") if "power" in figures else "",
            describe(figures["ttft_p99"], "s"),
            describe(figures["tpot_p99"], "s"),
            f"±{one.error:.0%}",
        )
    table.columns[0].no_wrap = False
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.4g}"


def _inputs(plan: Plan) -> Table:
    table = grid("", OBJECTIVES[plan.objective], "")
    for row in plan.inputs:
        moves = "another way is the best then" if row.moves else ""
        table.add_row(f"  {escape(row.words)}", f"{row.change:+.1%}", moves)
    return table
