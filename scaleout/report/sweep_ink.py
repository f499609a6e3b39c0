"""Ink that figures of sweeps share: lines told apart in grey too, axes that read well, legends, captions."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, new_figure
from scaleout.report.sweep_words import number_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["GRID", "MARKS", "OTHERS", "foot", "grid_of", "log_axis", "look", "titled"]

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
_DASHES: tuple[Any, ...] = (
    "-",
    "--",
    "-.",
    (0, (1, 1)),
    (0, (5, 1, 1, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 1)),
    (0, (1, 2)),
)
GRID = "#E5E5E5"
OTHERS: Mapping[str, Any] = {"color": OTHER_COLOUR, "linewidth": 0.7, "alpha": 0.6, "zorder": 1}
"""Look of lines that have no name."""
_LETTERS = 15.5
"""Of a caption in an inch [1/inch]."""
_TITLE_LETTERS = 10.8
_NOTE = 7.5
_LINE, _ROW = 0.14, 0.185
"""Heights of a line of a caption, and of a legend [inch]."""
_LEFT = 0.08
"""Margin of captions [inch]."""


def look(at: int) -> dict[str, Any]:
    """Colour, mark and dashes of a line; no two of eight alike in grey."""
    at %= len(MARKS)
    return {
        "color": GROUP_COLOURS[at], "marker": MARKS[at], "linestyle": _DASHES[at], "linewidth": 1.3,
        "markersize": 6.0 if MARKS[at] in "PX*" else 4.5,
    }  # fmt: skip


def titled(width: float, height: float, title: str) -> "Figure":
    """A figure with its title at the left, broken where it is long [inch]."""
    lines = textwrap.wrap(title, max(20, int(width * _TITLE_LETTERS))) or [""]
    figure = new_figure(width, height + 0.16 * (len(lines) - 1))
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10.5, fontweight="bold")
    return figure


def foot(figure: "Figure", handles: Sequence[Any], text: str, columns: int = 4) -> None:
    """A legend in as many columns as there is room for, and what a reader has to know, below the panels.

    The figure grows by them.
    """
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(text, int(width * _LETTERS)) if text else []
    room = 0.06 + _LINE * len(lines)
    legend = 0.0
    if handles:
        longest = max(len(str(one.get_label())) for one in handles)
        columns = max(1, min(columns, int(width * 12.0 / (longest + 7)), len(handles)))
        legend = 0.1 + _ROW * -(-len(handles) // columns)
    total = height + room + legend
    figure.set_size_inches(width, total)
    if lines:
        figure.text(
            _LEFT / width, room / total, "\n".join(lines), ha="left", va="top", fontsize=_NOTE, color="#444444",
            linespacing=1.3,
        )  # fmt: skip
    if handles:
        figure.legend(
            handles=handles, loc="lower left", bbox_to_anchor=(_LEFT / width, room / total), ncols=columns, fontsize=8,
            handlelength=2.6, columnspacing=1.4, borderaxespad=0.0, labelspacing=0.4,
        )  # fmt: skip
    below = (room + legend + 0.04) / total
    engine: Any = figure.get_layout_engine()
    engine.set(rect=(0.0, below, 1.0, 1.0 - below))


def grid_of(ax: "Axes", axis: Any = "both") -> None:
    """Faint lines behind everything."""
    ax.grid(visible=True, axis=axis, color=GRID, linewidth=0.6)
    ax.set_axisbelow(True)


def log_axis(ax: "Axes", which: str, values: Sequence[float], *, at: Sequence[float] | None = None) -> None:
    """A logarithmic axis with few round numbers on it, or those of `at`; values are above 0."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    low, high = min(values), max(values)
    axis = ax.xaxis if which == "x" else ax.yaxis
    (ax.set_xscale if which == "x" else ax.set_yscale)("log")
    room = max((high / low) ** 0.06, 1.08)
    (ax.set_xlim if which == "x" else ax.set_ylim)(low / room, high * room)
    locator: Any
    if at is not None and len(at) <= 9:
        locator = FixedLocator(list(at))
    elif high < 2.5 * low:
        locator = FixedLocator(_round_steps(low / room, high * room))
    else:
        locator = LogLocator(subs=(1.0, 2.0, 5.0) if high < 300.0 * low else (1.0,), numticks=12)
    axis.set_major_locator(locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: number_words(value)))
    axis.set_minor_locator(NullLocator())


def _round_steps(low: float, high: float) -> list[float]:
    """Some five round numbers between two."""
    raw = (high - low) / 5.0
    size = 10.0 ** np.floor(np.log10(raw))
    step = float(next(size * one for one in (1.0, 2.0, 5.0, 10.0) if size * one >= raw))
    return [float(one) for one in np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step]
