"""What a turn of each knob does: tables for the terminal, and a tornado of bars as a figure."""

import math
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.architect import Effect, Elasticities
from scaleout.report.style import GROUP_COLOURS, HATCHES, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Bars", "Tornado", "draw_tornado", "elasticity_tables", "tornado"]

LEAST = 5e-4
"""Changes below this are not shown [1]."""
_MOST = 14
"""Knobs of one panel."""
_COLUMNS = 2
_ROOM = 0.42
"""Of the width of the bars, for figures at their ends [1]."""
_TITLE = -84.0
"""Where a panel's title begins, left of its axis [point]: above the names of the knobs."""


def elasticity_tables(found: Elasticities) -> RenderableType:
    """A table for each job and outcome, the strongest knobs first."""
    rows: list[RenderableType] = []
    for (job, outcome), effects in _panels(found):
        moved = [row for row in effects if abs(row.change) >= LEAST]
        first = effects[0]
        title = f"{job}: {outcome}, {_value(first)}"
        if not moved:
            rows += [Text(f"{title}: no knob moves it by {LEAST:.2%}", style="dim"), ""]
            continue
        table = Table(box=None, pad_edge=False)
        for at, name in enumerate(("knob", f"x {found.factor:g}", "elasticity", "more of")):
            table.add_column(name, justify="right" if at in (1, 2) else "left")
        for row in moved:
            colour = "green" if row.change < 0.0 else "red"
            table.add_row(
                row.knob, f"[{colour}]{row.change:+.2%}[/]", f"{row.elasticity:+.3f}", f"[dim]{escape(row.words)}[/]"
            )
        rows += [Text(title, style="bold"), table]
        if still := [row.knob for row in effects if abs(row.change) < LEAST]:
            rows.append(Text(f"less than {LEAST:.2%}: {', '.join(sorted(still))}", style="dim"))
        rows.append("")
    rows += [Text.from_markup(f"[bold yellow]![/] {escape(line)}") for line in found.problems]
    title = f"What {found.factor:g} times as much of each knob of {found.chip} does"
    return Group(Text(title, style="bold underline"), "", *rows)


def _panels(found: Elasticities) -> list[tuple[tuple[str, str], list[Effect]]]:
    """Rows by job and outcome, in their order."""
    return [(key, list(rows)) for key, rows in groupby(found.effects, lambda row: (row.job, row.outcome))]


def _value(row: Effect) -> str:
    """The outcome as it is, in words."""
    unit = row.unit.split("/")[0]
    rest = row.unit.removeprefix(unit)
    return f"{describe(row.before, unit)}{rest}" if unit != "USD" else f"{row.before:.4g} {row.unit}"


@dataclass(frozen=True, slots=True)
class Bars:
    """One panel.

    Parameters
    ----------
    job, outcome, value
        What changes, and what it is before.
    knobs, changes
        The strongest first [1].
    """

    job: str
    outcome: str
    value: str
    knobs: tuple[str, ...]
    changes: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Tornado:
    """What the figure shows: a panel for each outcome that something moves, and which nothing does."""

    title: str
    panels: tuple[Bars, ...]
    still: tuple[str, ...]


def tornado(found: Elasticities) -> Tornado:
    """The strongest knobs of each job and outcome."""
    panels, still = [], []
    for (job, outcome), effects in _panels(found):
        moved = [row for row in effects if abs(row.change) >= LEAST][:_MOST]
        if not moved:
            still.append(f"{outcome} of {job}")
            continue
        knobs, changes = tuple(row.knob for row in moved), tuple(row.change for row in moved)
        panels.append(Bars(job.replace(f" {found.chip} ", " chips "), outcome, _value(moved[0]), knobs, changes))
    more = f"{found.factor - 1.0:+.0%}" if found.factor < 2.0 else f"x {found.factor:g}"
    return Tornado(f"{found.chip}: what {more} of each knob does", tuple(panels), tuple(still))


def draw_tornado(picture: Tornado) -> "Figure":
    """Bars of changes [%], a panel for each outcome; blue is less, which is better, and orange more."""
    panels = picture.panels
    lines = [panels[at : at + _COLUMNS] for at in range(0, len(panels), _COLUMNS)]
    heights = [0.95 + 0.165 * max(len(panel.knobs) for panel in line) for line in lines]
    with house_style():
        figure = new_figure(PRINT_WIDTH, 0.6 + sum(heights) + 0.25)
        headline(figure, picture.title)
        if lines:
            grid = figure.subplots(len(lines), _COLUMNS, height_ratios=heights, squeeze=False)
            for line, axes in zip(lines, grid, strict=True):
                most = max(len(panel.knobs) for panel in line)
                for ax, panel in zip(axes, line, strict=False):
                    _bars(ax, panel, most)
                for ax in axes[len(line) :]:
                    ax.set_visible(False)
        words = "blue: less, which is better; orange and dotted: more"
        if picture.still:
            words += f". Moved by less than {LEAST:.2%}: {'; '.join(picture.still)}"
        figure.supxlabel(words, x=0.01, ha="left", fontsize=7.5)
        return figure


def _bars(ax: "Axes", panel: Bars, most: int) -> None:
    percent = [100.0 * change for change in panel.changes]
    colours = [GROUP_COLOURS[0] if change < 0.0 else GROUP_COLOURS[4] for change in panel.changes]
    hatches = [HATCHES.get(colour, "") for colour in colours]
    ax.barh(range(len(percent)), percent, height=0.68, color=colours, hatch=hatches, linewidth=0)
    low, high = min(0.0, *percent), max(0.0, *percent)
    room = _ROOM * (high - low)
    for at, value in enumerate(percent):
        side = math.copysign(1.0, value)
        ax.annotate(
            f"{value:+.2f}", (value, at), xytext=(3 * side, 0), textcoords="offset points", va="center",
            ha="left" if value > 0.0 else "right", fontsize=7,
        )  # fmt: skip
    ax.axvline(0.0, color="black", linewidth=0.8)
    ax.set_xlim(low - (room if low < 0.0 else 0.0), high + (room if high > 0.0 else 0.0))
    ax.set_yticks(range(len(percent)), panel.knobs, fontsize=7.5)
    ax.set_ylim(most - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.tick_params(axis="x", labelsize=7.5)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(f"change of {panel.outcome} [%]", fontsize=8)
    for words, up, size, weight, colour in (
        (f"{panel.outcome}, {panel.value}", 15, 9, "bold", "black"), (panel.job, 5, 7, "normal", "#555555"),
    ):  # fmt: skip
        ax.annotate(
            words, (0.0, 1.0), xycoords="axes fraction", xytext=(_TITLE, up), textcoords="offset points",
            fontsize=size, fontweight=weight, color=colour,
        )  # fmt: skip
