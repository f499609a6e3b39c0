"""Where a step goes, a bar for each of several steps: absolute, with how far it may be off, and as shares."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SpecError
from scaleout.evaluate.breakdown import CATEGORIES
from scaleout.report.style import COLOURS, HATCHES, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.result import Result
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["StackTable", "draw_stacks", "stack_table"]

_LEAST = 2e-3
"""Share of every bar below which a part is too thin to be seen, and has no entry in the legend."""
_WORDS = {
    "exposed_tp": "waiting for tp", "exposed_cp": "waiting for cp", "exposed_ep": "waiting for ep",
    "exposed_pp": "waiting for pp", "exposed_dp": "waiting for dp", "exposed_copy": "waiting for copies",
    "imbalance": "waiting for a late peer", "bubble": "pipeline bubble",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class StackTable:
    """What the figure shows.

    Parameters
    ----------
    labels
        Of each bar.
    parts
        Parts that take time somewhere.
    seconds
        Of the chip that ends last, by part [s], shape (bars, parts).
    band
        How far each step may be off, to either side [s].
    ends
        Words at the end of each bar.
    """

    title: str
    labels: tuple[str, ...]
    parts: tuple[str, ...]
    seconds: Floats
    band: Floats
    ends: tuple[str, ...]

    @property
    def shares(self) -> Floats:
        """Of each part in its step [1], shape (bars, parts)."""
        whole: Floats = self.seconds.sum(axis=1, keepdims=True)
        return self.seconds / whole


def stack_table(rows: Sequence[tuple[str, Result]], title: str) -> StackTable:
    """A bar a row: label and result.

    Raises
    ------
    SpecError
        There is no row.
    """
    if not rows:
        raise SpecError("breakdown: there is no step to draw")
    seconds = np.array([[result.breakdown.get(name, 0.0) for name in CATEGORIES] for _, result in rows])
    there = np.flatnonzero((seconds > 0.0).any(axis=0))
    return StackTable(
        title=title,
        labels=tuple(label for label, _ in rows),
        parts=tuple(CATEGORIES[at] for at in there),
        seconds=seconds[:, there],
        band=np.array([result.error_band.relative * result.step_time for _, result in rows]),
        ends=tuple(f"{describe(result.step_time, 's')}, MFU {result.mfu:.0%}" for _, result in rows),
    )


def draw_stacks(table: StackTable) -> "Figure":
    """Two panels that share their bars: time of a step [s or ms] with its error band, and shares of it [%]."""
    bars = len(table.labels)
    with house_style():
        figure = new_figure(PRINT_WIDTH, 1.5 + 0.42 * bars)
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.35, 1.0))
        headline(figure, table.title)
        whole = table.seconds.sum(axis=1)
        scale, unit = (1.0, "s") if whole.max() >= 1.0 else (1e3, "ms")
        _bars(left, table.seconds * scale, table.parts)
        _bars(right, table.shares * 100.0, table.parts)
        _ends(left, whole * scale, table.band * scale, table.ends)
        left.set_xlabel(f"time of one step, and its error band [{unit}]")
        right.set_xlabel("share of the step [%]")
        right.set_xlim(0, 100)
        left.set_yticks(range(bars), table.labels, fontsize=8)
        left.set_ylim(bars - 0.5, -0.55)
        for ax in (left, right):
            ax.tick_params(axis="y", length=0)
        handles, names = left.get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower left", ncols=4, fontsize=7.5, handlelength=1.6, columnspacing=1.2
        )
        return figure


def _bars(ax: "Axes", rows: Floats, parts: tuple[str, ...]) -> None:
    start, whole = np.zeros(len(rows)), rows.sum(axis=1)
    for at, name in enumerate(parts):
        label = _WORDS.get(name, name) if (rows[:, at] > whole * _LEAST).any() else None
        ax.barh(
            np.arange(len(rows)), rows[:, at], left=start, height=0.66, color=COLOURS[name],
            hatch=HATCHES.get(COLOURS[name]), linewidth=0, label=label,
        )  # fmt: skip
        start = start + rows[:, at]


def _ends(ax: "Axes", whole: Floats, band: Floats, words: Sequence[str]) -> None:
    """Whiskers, and words behind them."""
    position, reach = np.arange(len(whole)), whole + band
    ax.errorbar(whole, position, xerr=band, fmt="none", ecolor="black", elinewidth=1.0, capsize=2.5)
    for at, text in enumerate(words):
        ax.annotate(text, (reach[at], at), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
    # words take about a third of the panel
    ax.set_xlim(0, float(reach.max()) * 1.55)
