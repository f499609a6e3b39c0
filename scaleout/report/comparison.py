"""Two results side by side, as a table for the terminal, and as a figure of two bars."""

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.comparison import Comparison
from scaleout.evaluate.breakdown import CATEGORIES
from scaleout.report.breakdown import stacked_bars
from scaleout.report.footprint_table import footprint_rows
from scaleout.report.style import COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.result import PART_WORDS, Result
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["comparison_tables", "draw_comparison"]


def comparison_tables(comparison: Comparison, a: str, b: str) -> RenderableType:
    """What differs, headline figures and parts of the step side by side, then the sentence.

    Parameters
    ----------
    a, b
        What the two are called.
    """
    rows: list[RenderableType] = [Text("A  ", style="bold") + Text(f"{a}: {comparison.a.name}", style="not bold")]
    rows += [Text("B  ", style="bold") + Text(f"{b}: {comparison.b.name}", style="not bold"), ""]
    if comparison.settings:
        table = _grid("what differs", "A", "B")
        for key, (x, y) in comparison.settings.items():
            table.add_row(f"[dim]{escape(key)}[/]", escape(_value(x)), escape(_value(y)))
        rows += [table, ""]
    else:
        rows += ["No setting on record differs.", ""]
    rows += [_headline(comparison), "", _parts(comparison), "", Text(comparison.words, style="bold")]
    return Group(*rows)


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name)
    return table


def _value(value: Any) -> str:
    """A setting in words."""
    if value is None:
        return "-"
    if isinstance(value, tuple | list):
        return "; ".join(map(str, value)) or "none"
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _headline(comparison: Comparison) -> Table:
    def ratio(x: float, y: float) -> str:
        return f"{y / x:.3g}x" if x else ""

    def memory(result: Result) -> str:
        return f"{describe(result.memory.total, 'byte')} ({result.memory.total / result.memory.capacity:.0%})"

    a, b = comparison.a, comparison.b
    table = _grid("", "A", "B", "B / A")
    for column in table.columns[1:]:
        column.justify = "right"
    table.add_row("chips", f"{a.chips:,}", f"{b.chips:,}", ratio(a.chips, b.chips))
    table.add_row("step time", describe(a.step_time, "s"), describe(b.step_time, "s"), ratio(a.step_time, b.step_time))
    table.add_row("error band", str(a.error_band), str(b.error_band), "tie" if comparison.tie else "")
    if a.warnings or b.warnings:
        table.add_row("beyond what was calibrated", *(f"{len(side.warnings)} sizes" for side in (a, b)), "")
    rates = a.tokens_per_second, b.tokens_per_second
    table.add_row("tokens/s", *(f"{rate:,.0f}" for rate in rates), ratio(*rates))
    flops = a.model_flops_per_chip, b.model_flops_per_chip
    table.add_row("model FLOP/s per chip", *(describe(rate, "flop/s") for rate in flops), ratio(*flops))
    table.add_row("MFU", f"{a.mfu:.1%}", f"{b.mfu:.1%}", ratio(a.mfu, b.mfu))
    table.add_row("HBM at its peak", memory(a), memory(b), ratio(a.memory.total, b.memory.total))
    rows = [footprint_rows(side.energy, side.cost) for side in (a, b)]
    for name in dict.fromkeys((*rows[0], *rows[1])):
        (x, shown), (y, other) = (side.get(name, (0.0, "-")) for side in rows)
        table.add_row(name, shown, other, ratio(x, y) if y else "")
    table.add_row("bound by", escape(a.bound_by), escape(b.bound_by), "")
    return table


def _parts(comparison: Comparison) -> Table:
    table = _grid("part of the step", "A", "B", "B - A", "share a token" if comparison.per_token else "share")
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    whole = comparison.b.step_time - comparison.a.step_time
    for part in comparison.parts:
        words = escape(PART_WORDS.get(part.name, part.name))
        of_whole = "" if part.share is None else f"{round(part.share, 3) + 0.0:.1%}"
        table.add_row(words, describe(part.a, "s"), describe(part.b, "s"), _signed(part.difference), of_whole)
    table.add_row(
        "[bold]step[/]",
        describe(comparison.a.step_time, "s"),
        describe(comparison.b.step_time, "s"),
        _signed(whole),
        "",
    )
    return table


def _signed(seconds: float) -> str:
    return f"{'+' if seconds > 0 else ''}{describe(seconds, 's')}"


def draw_comparison(comparison: Comparison, a: str, b: str) -> "Figure":
    """Two stacked bars that share their axis: the parts of the step [s]."""
    results = (comparison.a, comparison.b)
    seconds = np.array([[result.breakdown.get(name, 0.0) for name in CATEGORIES] for result in results])
    band = np.array([result.step_time * result.error_band.relative for result in results])
    with house_style():
        figure = new_figure(PRINT_WIDTH, 2.5)
        ax = figure.subplots()
        title = f"{describe(results[0].step_time, 's')} and {describe(results[1].step_time, 's')} a step"
        headline(figure, title)
        scale, unit = (1.0, "s") if seconds.sum(axis=1).max() >= 1.0 else (1e3, "ms")
        stacked_bars(ax, seconds * scale, CATEGORIES, COLOURS, f"time of one step [{unit}]", band * scale)
        ax.set_yticks(range(2), [f"{letter}: {name[-40:]}" for letter, name in (("A", a), ("B", b))])
        ax.set_ylim(1.6, -0.9)
        return figure
