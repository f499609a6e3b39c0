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

_MOST = 0.9
"""Error band beyond which a bar would leave the page."""


def scaling_tables(scaling: Scaling) -> RenderableType:
    """A row a number of chips; below, why a row is empty."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for name in ("chips", "dp", "batch", "step time", "+-", "tokens/s", "MFU", "speed-up", "efficiency", "HBM"):
        table.add_column(name, justify="right", no_wrap=True)
    problems: list[RenderableType] = []
    for row in scaling.rows:
        place = [f"{row.chips:,}", *("-" if n is None else f"{n:,}" for n in (row.dp, row.global_batch))]
        result = row.result
        if result is None or row.speed_up is None or row.efficiency is None:
            table.add_row(*place, *"-------")
            problems.append(Text.from_markup(f"[bold]{row.chips:,} chips[/]: {escape(row.problem)}"))
            continue
        table.add_row(
            *place,
            describe(result.step_time, "s"),
            f"{result.error_band.relative:.0%}",
            f"{result.tokens_per_second:,.0f}",
            f"{result.mfu:.1%}",
            f"{row.speed_up:.2f}x",
            f"{row.efficiency:.1%}",
            describe(result.memory.total, "byte"),
        )
    beyond = [row for row in scaling.rows if row.result and row.result.warnings]
    if beyond:
        counts = ", ".join(f"{row.chips:,}" for row in beyond)
        problems.append(
            f"Kernels of shapes beyond what was calibrated, on {counts} chips: their error bands are wider; "
            "scaleout run says which."
        )
    title = Text(f"{scaling.name}, {'weak' if scaling.weak else 'strong'} scaling", style="bold")
    return Group(title, table, *(["", *problems] if problems else []))


def draw_scaling(scaling: Scaling) -> "Figure":
    """Throughput of a chip [token/s] over chips, beside that of the first row."""
    rows = [(row.chips, row.result) for row in scaling.rows if row.result is not None]
    chips = [count for count, _ in rows]
    rates = [result.tokens_per_second / count for count, result in rows]
    with house_style():
        figure = new_figure(6.5, 4.0)
        ax = figure.subplots()
        ax.axhline(rates[0], color="#999999", linestyle="--", linewidth=1.0, label="as the first")
        # time within 1 - b to 1 + b is throughput within 1 / (1 + b) to 1 / (1 - b)
        bands = [min(result.error_band.relative, _MOST) for _, result in rows]
        lower = [rate - rate / (1 + band) for rate, band in zip(rates, bands, strict=True)]
        upper = [rate / (1 - band) - rate for rate, band in zip(rates, bands, strict=True)]
        colour = COLOURS["compute"]
        ax.errorbar(chips, rates, yerr=(lower, upper), color=colour, marker="o", capsize=3, label="simulated")
        ax.set_xscale("log", base=2)
        ax.set_xticks(chips, [f"{n:,}" for n in chips])
        ax.minorticks_off()
        ax.set_ylim(0, max(rate + up for rate, up in zip(rates, upper, strict=True)) * 1.08)
        ax.set_xlabel("chips")
        ax.set_ylabel("throughput of a chip [token/s]")
        ax.set_title(f"{scaling.name}, {'weak' if scaling.weak else 'strong'} scaling")
        ax.legend(loc="lower left")
        return figure
