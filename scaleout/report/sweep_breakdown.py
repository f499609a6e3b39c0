"""Where the step goes, point by point: stacks of the parts of a step out of a sweep."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleout.errors import SweepError
from scaleout.report.style import COLOURS, HATCHES, OTHER_COLOUR, PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import foot, grid_of, titled
from scaleout.report.sweep_points import best_in, settings_of
from scaleout.report.sweep_words import Scale, capital, outcome_words, scale_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["StackTable", "draw_sweep_breakdown", "stack_table_of"]

_PREFIX = "time."
_BARS = 16
_SEEN = 1e-4
"""Parts that are less than this of the longest step get no entry [1]."""


@dataclass(frozen=True, slots=True)
class StackTable:
    """What the figure shows.

    Parameters
    ----------
    title, key
        Of the figure; what the labels are: keys, or "point".
    labels, points
        Of each bar, and what it is in full.
    parts
        Names of the parts of a step.
    seconds
        Of each bar and part [s].
    total, low, high
        Of each bar, and from where to where it is [s].
    ranges
        What the whiskers are.
    scale
        How times are shown.
    left_out
        Points, or values, that have no bar.
    """

    title: str
    key: str
    labels: tuple[str, ...]
    points: tuple[str, ...]
    parts: tuple[str, ...]
    seconds: tuple[tuple[float, ...], ...]
    total: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    ranges: str
    scale: Scale
    left_out: int


def stack_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> StackTable:
    """The best points, or the best point of each value of a key, with the parts of their steps.

    Parameters
    ----------
    x, by
        Key, either of them; None for the best points of all.
    y
        Outcome by which a point is the best; None for the objective.

    Raises
    ------
    SweepError
        No training.
    """
    settings = settings_of(results)
    parts = [name for name in results.outcomes if name.startswith(_PREFIX) and settings.has(name)]
    if not parts:
        raise SweepError(
            f"breakdown: no point of sweep {settings.name!r}, of {settings.kind}, tells the parts of a step"
        )
    outcome = settings.outcome(y or settings.objective)
    if outcome.startswith(_PREFIX):
        raise SweepError(f"breakdown: {outcome} is a part of the step; take an outcome of points for --y, or none")
    worth, least = settings.spread(outcome).value, settings.least(outcome)
    name = x or by
    if name:
        axis = settings.axis(name)
        best = best_in(axis.of, worth, len(axis.values), least=least)
        rows = best[best >= 0]
        words, labels = axis.words, [axis.labels[axis.of[row]] for row in rows]
        left = max(0, len(rows) - _BARS)
        rows, labels = rows[:_BARS], labels[:_BARS]
    else:
        fine = np.flatnonzero(np.isfinite(worth))
        order = fine[np.argsort(worth[fine] * (1.0 if least else -1.0), kind="stable")]
        rows, left = order[:_BARS], max(0, len(order) - _BARS)
        words, labels = "point", [settings.words(int(row)) or settings.name for row in rows]
    spread = settings.spread("step_time")
    columns = [settings.spread(part).value[rows] for part in parts]
    seconds = np.nan_to_num(np.array(columns).T.reshape(len(rows), len(parts)))
    what = f"the best of each {words}" if name else f"the best {len(rows)} of {len(rows) + left:,} points"
    return StackTable(
        title=f"{settings.name}: where the step goes, {what if len(rows) > 1 else 'its only point'}{settings.made}",
        key=words,
        labels=tuple(labels),
        points=tuple(settings.words(int(row)) for row in rows),
        parts=tuple(part.removeprefix(_PREFIX) for part in parts),
        seconds=tuple(tuple(line) for line in seconds.tolist()),
        total=tuple(spread.value[rows].tolist()),
        low=tuple(spread.low[rows].tolist()),
        high=tuple(spread.high[rows].tolist()),
        ranges=settings.ranges,
        scale=scale_of("training", "step_time", spread.value[rows]),
        left_out=left,
    )


def draw_sweep_breakdown(table: StackTable) -> "Figure":
    """Stacked bars of the time of a step, with a whisker for the whole."""
    from matplotlib.patches import Patch

    factor = table.scale.factor
    seconds = np.array(table.seconds) / factor
    total, low, high = (np.array(one) / factor for one in (table.total, table.low, table.high))
    bars = len(table.labels)
    with house_style():
        figure = titled(PRINT_WIDTH, 1.7 + 0.3 * bars, table.title)
        ax = figure.subplots()
        place, start = np.arange(bars), np.zeros(bars)
        handles = []
        for at, part in enumerate(table.parts):
            if seconds[:, at].max() > _SEEN * seconds.sum(axis=1).max():
                colour = COLOURS.get(part, OTHER_COLOUR)
                ink: dict[str, Any] = {
                    "facecolor": colour, "hatch": HATCHES.get(colour), "edgecolor": "white", "linewidth": 0.3,
                }  # fmt: skip
                ax.barh(place, seconds[:, at], left=start, height=0.74, **ink)
                handles.append(Patch(**ink, label=outcome_words(part)))
            start = start + seconds[:, at]
        spread = np.array([np.maximum(total - low, 0.0), np.maximum(high - total, 0.0)])
        if np.nansum(spread) > 0.0:
            ax.errorbar(start, place, xerr=spread, fmt="none", ecolor="black", elinewidth=1.0, capsize=2.5)
        ends = np.fmax(high, start)
        for row, end in enumerate(ends.tolist()):
            ax.annotate(
                table.scale.shown(table.total[row]), (end, row), xytext=(4, 0), textcoords="offset points", va="center",
                fontsize=7.5,
            )  # fmt: skip
        ax.set_xlim(0.0, float(ends.max()) * 1.12)
        ax.set_yticks(place, table.labels, fontsize=7.5)
        ax.set_ylim(bars - 0.4, -0.6)
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(f"time of one step [{table.scale.unit}]")
        if table.key != "point":
            ax.set_ylabel(capital(table.key))
        grid_of(ax, "x")
        more = f"{table.left_out:,} more are not shown. " if table.left_out else ""
        words = f"Whiskers: {table.ranges}." if np.nansum(spread) > 0.0 else ""
        foot(figure, handles, f"{more}{words}", columns=5)
        return figure
