"""A scaling table for the terminal, and its figure."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.report.style import COLOURS, house_style, new_figure
from scaleout.scaling import Scaling
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_scaling", "scaling_tables"]


def scaling_tables(scaling: Scaling) -> RenderableType:
    """A row a number of chips; below, why a row is empty."""
    table = Table(box=None, pad_edge=False)
    columns = ("chips", "dp", "batch", "step time", "tokens/s", "MFU", "speed-up", "efficiency", "HBM")
    for name in (*columns, "bound by"):
        table.add_column(name, justify="left" if name == "bound by" else "right")
    problems: list[RenderableType] = []
    for row in scaling.rows:
        place = [f"{row.chips:,}", *("-" if n is None else f"{n:,}" for n in (row.dp, row.global_batch))]
        result = row.result
        if result is None or row.speed_up is None or row.efficiency is None:
            table.add_row(*place, *"------", "see below")
            problems.append(Text.from_markup(f"[bold]{row.chips:,} chips[/]: {escape(row.problem)}"))
            continue
        table.add_row(
            *place,
            describe(result.step_time, "s"),
            f"{result.tokens_per_second:,.0f}",
            f"{result.mfu:.1%}",
            f"{row.speed_up:.2f}x",
            f"{row.efficiency:.1%}",
            f"{describe(result.memory.total, 'byte')} ({result.memory.total / result.memory.capacity:.0%})",
            result.bound_by,
        )
    batch = "the batch of a data-parallel rank stays" if scaling.weak else "the global batch stays"
    title = Text(f"{scaling.name}: {batch}", style="bold")
    return Group(title, table, *(["", *problems] if problems else []))


def draw_scaling(scaling: Scaling) -> "Figure":
    """Tokens a second over chips, both logarithmic, beside a line of equal efficiency."""
    rows = [(row.chips, row.result) for row in scaling.rows if row.result is not None]
    chips = [count for count, _ in rows]
    rates = [result.tokens_per_second for _, result in rows]
    with house_style():
        figure = new_figure(6.5, 4.5)
        ax = figure.subplots()
        ax.plot(chips, [rates[0] * n / chips[0] for n in chips], color="#999999", linestyle="--", label="as the first")
        ax.plot(chips, rates, color=COLOURS["compute"], marker="o", label="simulated")
        ax.set_xscale("log", base=2)
        ax.set_yscale("log")
        ax.set_xticks(chips, [f"{n:,}" for n in chips])
        ax.minorticks_off()
        ax.set_xlabel("chips")
        ax.set_ylabel("throughput [token/s]")
        ax.set_title(f"{scaling.name}, {'weak' if scaling.weak else 'strong'} scaling")
        ax.legend()
        return figure
