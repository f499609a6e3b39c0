"""An outcome of a sweep over two axes, the best over the others, with the reason where there is none."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import SweepError
from scaleout.report.style import PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import foot, titled
from scaleout.report.sweep_points import Axis, Settings, best_in, settings_of
from scaleout.report.sweep_words import Scale, capital, number_words, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["HeatTable", "draw_sweep_heat", "heat_table_of"]

_USUAL = ("layout.tp", "layout.pp", "layout.cp", "layout.ep", "layout.dp", "layout.vpp", "batch.micro", "pools.0.tp")
"""Axes that a reader expects, the first two of them that vary."""
_WRITTEN = 160
"""Cells up to which values are written into them."""
_ABREAST = 14
"""Columns that are wide enough for it."""
_LARGEST = 200
"""Values of an axis at most."""
_TICKS = 24
_HATCHES = {
    "does not fit": "////",
    "does not divide": "\\\\\\\\",
    "refused": "xxxx",
    "failed": "++++",
    "screened out": "----",
}


@dataclass(frozen=True, slots=True)
class HeatTable:
    """What the figure shows.

    Parameters
    ----------
    title
        Of the figure.
    outcome, scale
        What the colours stand for, and how it is shown.
    least
        Whether less is better.
    x, y
        Keys, in short.
    columns, rows
        Their values.
    cells
        The best of each cell, SI, rows first; None where there is none.
    bounds
        Which cells have no point that the last stage took: what is shown is the bound that kept them from it.
    reasons
        Why, in the few words of a legend; "" with a value, or without any point.
    best
        Row and column of the best cell.
    point
        What the best point is.
    best_over
        Keys over which the best is taken.
    """

    title: str
    outcome: str
    scale: Scale
    least: bool
    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[tuple[float | None, ...], ...]
    bounds: tuple[tuple[bool, ...], ...]
    reasons: tuple[tuple[str, ...], ...]
    best: tuple[int, int]
    point: str
    best_over: tuple[str, ...]


def heat_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> HeatTable:
    """The best of an outcome in each cell of two axes.

    Parameters
    ----------
    x
        Key of the columns; None for a usual one.
    y
        Outcome; None for the objective.
    by
        Key of the rows; None for a usual one.

    Raises
    ------
    SweepError
        Fewer than two axes vary, or one of them takes too many values.
    """
    settings = settings_of(results)
    outcome = settings.outcome(y or settings.objective)
    least, spread = settings.least(outcome), settings.spread(outcome)
    across, down = _axes(settings, x, by, spread.value)
    for axis in (across, down):
        if len(axis.values) > _LARGEST:
            raise SweepError(f"heatmap: {axis.key} takes {len(axis.values):,} values; at most {_LARGEST} are drawn")
    shape = (len(down.values), len(across.values))
    place = down.of * shape[1] + across.of
    best = best_in(place, spread.value, shape[0] * shape[1], least=least)
    values = np.where(best >= 0, spread.value[best], np.nan)
    top = int(np.nanargmin(values) if least else np.nanargmax(values))
    bound = settings.bound(outcome)
    other = best_in(place, bound, shape[0] * shape[1], least=least)
    bounded = (best < 0) & (other >= 0)
    values = np.where(bounded, bound[other], values)
    found = values[np.isfinite(values)]
    why = _reasons(settings, place, np.maximum(best, other))
    flat = [None if not np.isfinite(one) else float(one) for one in values.tolist()]
    scale = scale_of(settings.kind, outcome, found)
    return HeatTable(
        title=f"{settings.name}: {scale.words} by {across.words} and {down.words}{settings.made}",
        outcome=outcome,
        scale=scale,
        least=least,
        x=across.words,
        y=down.words,
        columns=across.labels,
        rows=down.labels,
        cells=tuple(tuple(flat[at * shape[1] : (at + 1) * shape[1]]) for at in range(shape[0])),
        bounds=tuple(tuple(row) for row in bounded.reshape(shape).tolist()),
        reasons=tuple(tuple(why[at * shape[1] : (at + 1) * shape[1]]) for at in range(shape[0])),
        best=(top // shape[1], top % shape[1]),
        point=settings.words(int(best[top])),
        best_over=tuple(axis.words for axis in settings.own if axis not in (across, down)),
    )


def _axes(settings: Settings, x: str | None, by: str | None, worth: Floats) -> tuple[Axis, Axis]:
    """Columns and rows: those asked for, then the usual, then those that matter most."""
    chosen = [settings.axis(name) if name else None for name in (x, by)]
    if x and by and chosen[0] == chosen[1]:
        raise SweepError(f"heatmap: {x} is columns and rows; take another key for --by")
    usual = [axis for name in _USUAL for axis in settings.own if axis.key == name]
    least = settings.least(settings.objective)
    rest = sorted(
        (axis for axis in settings.own if axis not in usual and len(axis.values) <= _LARGEST),
        key=lambda axis: -settings.strength(axis, worth, least=least),
    )
    free = iter([axis for axis in (*usual, *rest) if axis not in chosen])
    across, down = (one if one is not None else next(free, None) for one in chosen)
    if across is None or down is None:
        raise SweepError(f"heatmap: fewer than two keys take 2 to {_LARGEST} values in sweep {settings.name!r}")
    # long words stand better in lines
    return (down, across) if not x and not by and down.numeric and not across.numeric else (across, down)


def _reasons(settings: Settings, place: Ints, best: Ints) -> list[str]:
    """The commonest reason of each cell without a value."""
    empty = np.flatnonzero(best[place] < 0)
    counts: dict[int, Counter[str]] = {}
    if empty.size:
        why = settings.reasons()
        for at in empty.tolist():
            counts.setdefault(int(place[at]), Counter())[why[at]] += 1
    words = [""] * len(best)
    for cell, found in counts.items():
        words[cell] = min(found, key=lambda reason: (-found[reason], reason))
    return words


def draw_sweep_heat(table: HeatTable) -> "Figure":
    """Cells in colours that are as ordered in grey, hatched ones without a value, the best one framed."""
    import matplotlib
    from matplotlib.patches import Patch, Rectangle
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    columns, rows = len(table.columns), len(table.rows)
    values = np.array([[np.nan if one is None else one for one in row] for row in table.cells]) / table.scale.factor
    with house_style():
        # on cells without colour
        matplotlib.rcParams["hatch.color"] = "#8C8C8C"
        width = min(PRINT_WIDTH, max(5.6, 2.3 + 0.56 * columns))
        figure = titled(width, min(12.0, max(3.0, 1.9 + 0.36 * rows)), table.title)
        ax = figure.subplots()
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        wide = low > 0.0 and high > 20.0 * low
        shown = _shades(values, logarithmic=wide)
        mesh = ax.pcolormesh(
            np.arange(columns + 1) - 0.5, np.arange(rows + 1) - 0.5, np.ma.masked_invalid(values),
            cmap="cividis_r" if table.least else "cividis", norm="log" if wide else None,
            edgecolors="white" if columns * rows <= 2500 else "none", linewidth=0.6, rasterized=columns * rows > 2500,
        )  # fmt: skip
        for name in _HATCHES:
            _hatch(ax, table, name)
        if columns * rows <= _WRITTEN and columns <= _ABREAST:
            dark = shown < 0.5 if not table.least else shown > 0.5
            for (row, column), value in np.ndenumerate(values):
                if np.isfinite(value):
                    words = number_words(value)
                    ax.text(
                        column, row, f"({words})" if table.bounds[row][column] else words, ha="center",
                        va="center", fontsize=7.5,
                        color="white" if dark[row, column] else "black",
                        fontweight="bold" if (row, column) == table.best else "normal",
                    )  # fmt: skip
        row, column = table.best
        for colour, line in (("white", 4.2), ("#D55E00", 2.2)):
            frame = Rectangle(
                (column - 0.5, row - 0.5), 1.0, 1.0, fill=False, edgecolor=colour, linewidth=line, zorder=4
            )
            frame.set_clip_on(False)
            ax.add_patch(frame)
        for which, labels, words in (("x", table.columns, table.x), ("y", table.rows, table.y)):
            _ticks(ax, which, labels, words)
        ax.set_xlim(-0.5, columns - 0.5)
        ax.set_ylim(rows - 0.5, -0.5)
        ax.tick_params(length=0)
        for side in ("left", "bottom"):
            ax.spines[side].set_visible(False)
        bar = figure.colorbar(mesh, ax=ax, label=table.scale.label, pad=0.02)
        if wide:
            bar.ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number_words(value)))
            bar.ax.yaxis.set_minor_locator(NullLocator())
        bar.outline.set_visible(False)
        handles = [Patch(fill=False, edgecolor="#D55E00", linewidth=2.0, label="best")]
        present = Counter(reason for line in table.reasons for reason in line if reason)
        handles += [
            Patch(facecolor="#F2F2F2", edgecolor="#8C8C8C", hatch=_HATCHES[name], linewidth=0, label=name)
            for name in _HATCHES if name in present
        ]  # fmt: skip
        over = f" Of a cell the best over {', '.join(table.best_over)} is shown." if table.best_over else ""
        blank = any(
            one is None and not why
            for cells, whys in zip(table.cells, table.reasons, strict=True)
            for one, why in zip(cells, whys, strict=True)
        )
        best = table.cells[row][column] or 0.0
        if any(map(any, table.bounds)):
            over = f"{over} In brackets: a bound, by which all of the cell was screened out."
        where = f"Best: {table.scale.shown(best)} at {table.point}."
        foot(figure, handles, f"{where}{over}{' Blank: no such point in the sweep.' if blank else ''}")
        return figure


def _shades(values: Floats, *, logarithmic: bool) -> Floats:
    """Place of each value on the colour bar [1]."""
    placed = np.log(values) if logarithmic else values
    low, high = np.nanmin(placed), np.nanmax(placed)
    return np.asarray((placed - low) / max(high - low, 1e-300))


def _hatch(ax: "Axes", table: HeatTable, name: str) -> None:
    """Cells that have this reason."""
    from matplotlib.patches import Rectangle

    for row, line in enumerate(table.reasons):
        for column, reason in enumerate(line):
            if reason == name:
                ax.add_patch(
                    Rectangle(
                        (column - 0.5, row - 0.5), 1.0, 1.0, facecolor="#F2F2F2", edgecolor="#8C8C8C",
                        hatch=_HATCHES[name], linewidth=0,
                    )
                )  # fmt: skip


def _ticks(ax: "Axes", which: str, labels: tuple[str, ...], words: str) -> None:
    places = list(range(len(labels)))
    if len(labels) > _TICKS:
        places = sorted({round(at) for at in np.linspace(0, len(labels) - 1, _TICKS).tolist()})
    names = [labels[at] for at in places]
    if which == "x":
        slanted = max(map(len, names)) > 7
        ax.set_xticks(places, names, rotation=35 if slanted else 0, ha="right" if slanted else "center")
    else:
        ax.set_yticks(places, names)
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(capital(words))
