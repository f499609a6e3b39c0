"""A plan as tables for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.planning.plan import OBJECTIVES, Candidate, Plan
from scaleout.report.grid import grid
from scaleout.units import describe

__all__ = ["headline", "plan_tables"]

_DAY = 86_400.0
_PROMISES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("latency", "latency"))
_FIGURES = {
    "training": ("time", "cost", "energy", "mfu", "memory", "power", "step_time"),
    "serving": ("cost_hour", "energy_per_token", "ttft_p99", "tpot_p99", "power", "cost_per_mtoken"),
}
"""Of each kind, what is left out last first."""
_OWN = {"cost": "cost_hour", "energy": "energy_per_token"}
"""Figures of serving by the objective."""
_HEADS = {
    "time": "days", "mfu": "MFU", "memory": "HBM", "step_time": "step", "cost_hour": "USD/h",
    "cost_per_mtoken": "USD/\nMtoken", "energy_per_token": "J/token", "ttft_p99": "TTFT\np99", "tpot_p99": "TPOT\np99",
}  # fmt: skip
_UNITS = {
    "cost": "USD", "energy": "J", "memory": "byte", "power": "W", "step_time": "s", "ttft_p99": "s", "tpot_p99": "s",
}  # fmt: skip
_PLAIN = {"cp": 1, "vpp": 1, "ep": 1, "etp": 1, "cache": "bf16"}
"""Of settings that all have in common, what goes without saying."""
_BEYOND = "outside the calibrated"
_WIDEST = 14
"""Of a cell [characters]."""


def headline(plan: Plan) -> str:
    """The answer in a sentence."""
    best = plan.best
    if best is None:
        if plan.gap == 0.0:
            return f"{plan.name}: nothing in the space does it."
        return f"{plan.name}: nothing was found that does it; that nothing does is not proven."
    figures = best.figures
    chips = f"{best.chips:,} chip{'s' * (best.chips != 1)}"
    parts = [f"{figures['time'] / _DAY:,.1f} days" if "time" in figures else chips]
    if "power" in figures:
        parts.append(describe(figures["power"], "W"))
    if "cost" in figures:
        parts.append(describe(figures["cost"], "USD"))
    if "cost_hour" in figures:
        parts.append(f"{figures['cost_hour']:,.4g} USD/h")
    return f"{best.name}: {', '.join(parts)}."


def plan_tables(plan: Plan, width: int = 80) -> RenderableType:
    """The answer first; then how surely it is the best, what else was close, why, and what was assumed.

    Parameters
    ----------
    width
        Of the terminal [characters].
    """
    parts: dict[str, RenderableType] = {headline(plan): _proof(plan)}
    if plan.best is not None:
        rows = (plan.best, *plan.runners)
        parts["The best, and the next best (= marks what errors cannot tell from it)"] = _rows(plan, rows, width)
        names = {one.name for one in rows}
        if others := [one for one in plan.pareto if one.name not in names]:
            aims = "time, cost, energy and chips" if plan.kind == "training" else "TPOT, cost, energy and chips"
            parts[f"Further ones that no other beats in all of {aims}"] = _rows(plan, others, width)
        parts["Why"] = _lines(plan.why)
        if plan.inputs:
            parts["What moves the answer: a tenth more of"] = _inputs(plan)
    if plan.problems:
        parts["What is in the way" if plan.best is None else "What was left out"] = _lines(plan.problems)
    if plan.warnings:
        parts["Beside that"] = _lines(_short(plan.warnings))
    if plan.assumed:
        parts["Assumed, since nobody said"] = _assumed(plan)
    out: list[RenderableType] = []
    for title, part in parts.items():
        out += [Text(title, style="bold"), part, ""]
    doubtful = sum(not row.verified for row in plan.assumptions)
    if plan.assumptions:
        out.append(
            Text(
                f"It rests on {len(plan.assumptions)} more assumptions, {doubtful} of them unverified: --out writes a "
                "page with their sources, --json has them too."
            )
        )
    return Group(*out)


def _lines(lines: Sequence[str]) -> Group:
    return Group(*(Text(f"- {words}") for words in lines))


def _short(warnings: Sequence[str]) -> list[str]:
    """Shapes beyond what was measured are many, and counted."""
    beyond = sum(_BEYOND in words for words in warnings)
    found = [words for words in warnings if _BEYOND not in words]
    if beyond:
        found.append(f"shapes of {beyond} kinds of kernels lie beyond those that were measured: --json lists them")
    return found


def _proof(plan: Plan) -> Table:
    table, question = grid(), plan.question
    for column in table.columns[1:]:
        column.justify = "left"
    if plan.kind == "serving":
        limits = [f"{words} {describe(question[name], 's')}" for name, words in _PROMISES if question.get(name)]
        table.add_row("promise", f"{', '.join(limits)} to {question['share']:.4g} of the requests")
    if plan.best is not None:
        near = "the optimum of the space" if plan.gap == 0.0 else f"proven within {plan.gap:.2%} of the optimum"
        table.add_row("least", f"{OBJECTIVES[plan.objective]}: {near}; ±{plan.best.error:.0%} by what is not known")
    what = "layouts and machines" if plan.kind == "training" else "ways to make replicas"
    table.add_row("covered", f"{sum(plan.covered.values()):,} {what}")
    for name, number in plan.covered.items():
        table.add_row("", f"{number:,} {name}")
    for column in table.columns[1:]:
        column.justify = "left"
    return table


def _rows(plan: Plan, candidates: Sequence[Candidate], width: int) -> RenderableType:
    """Settings that differ, then figures, as many as there is room for; below, what all have in common."""
    columns: list[tuple[str, list[str]]] = []
    alike: list[str] = []
    settings: list[dict[str, Any]] = [{"system": one.system, "chips": one.chips, **one.layout} for one in candidates]
    for name in dict.fromkeys(name for one in settings for name in one):
        cells = [_setting(name, one) for one in settings]
        if len(set(cells)) > 1:
            columns.append((name.replace("sequence_parallel", "sp").replace(".", "\n").replace("_", "\n"), cells))
        elif cells[0] and settings[0].get(name) != _PLAIN.get(name):
            alike.append(f"{name.replace('_', ' ')} {cells[0]}")
    first = plan.objective if plan.kind == "training" else _OWN.get(plan.objective, "chips")
    columns += [
        (_HEADS.get(name, name), [_figure(name, one.figures.get(name)) for one in candidates])
        for name in dict.fromkeys((first, *_FIGURES[plan.kind]))
        if any(name in one.figures for one in candidates)
    ]
    while len(columns) > 1 and 2 + sum(_width(column) + 1 for column in columns) > width:
        del columns[-1]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for head, cells in (("", []), *columns):
        numbers = all(cell[:1].isdigit() for cell in cells)
        table.add_column(head, justify="right" if numbers else "left", no_wrap=True, vertical="top")
    for at, one in enumerate(candidates):
        table.add_row("=" if one.name in plan.ties else "", *(escape(cells[at]) for _, cells in columns))
    return Group(table, Text(f"all of them: {', '.join(alike)}")) if alike else table


def _setting(name: str, settings: dict[str, Any]) -> str:
    """A setting of a layout; nothing where it makes no difference."""
    value = settings.get(name)
    if value is None or (name == "context" and settings["cp"] == 1):
        return ""
    if name == "sequence_parallel":
        return "" if settings["tp"] == 1 else "on" if value else "off"
    if isinstance(value, list | tuple):
        return _folded(value) if value else "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _folded(modules: Sequence[str]) -> str:
    """Modules one after another, in lines that are not too wide."""
    lines = [""]
    for number, module in enumerate(modules):
        word = module if number == 0 else f"+{module}"
        if lines[-1] and len(lines[-1]) + len(word) > _WIDEST:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def _figure(name: str, value: float | None) -> str:
    if value is None:
        return ""
    if name == "time":
        return f"{value / _DAY:,.1f}"
    if name == "mfu":
        return f"{value:.1%}"
    return describe(value, _UNITS[name]) if name in _UNITS else f"{value:,.4g}"


def _width(column: tuple[str, list[str]]) -> int:
    head, cells = column
    return max(len(line) for text in (head, *cells) for line in text.split("\n"))


def _inputs(plan: Plan) -> Table:
    table = grid("", OBJECTIVES[plan.objective], "")
    for row in plan.inputs:
        change = f"{row.change:+.1%}".replace("-0.0%", "0.0%").replace("+0.0%", "0.0%")
        table.add_row(f"- {escape(row.words)}", change, "another is the best then" if row.moves else "")
    table.columns[0].no_wrap = False
    return table


def _assumed(plan: Plan) -> Table:
    table = grid()
    table.columns.clear()
    for row in plan.assumed:
        table.add_row(f"- {row.name}", escape(row.value))
    for column in table.columns:
        column.justify = "left"
    return table
