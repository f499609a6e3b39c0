"""Simulated against measured, as tables for the terminal and as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.arrays import Floats
from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, house_style, new_figure
from scaleout.units import describe
from scaleout.validation.agreement import Agreement, Compared, statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ScatterTable", "agreement_tables", "draw_scatter", "line_ranges", "percent", "scatter_table"]

_FEW_LINES = 60
"""Characters of line numbers that are shown for a reason, unless all are asked for."""
_MANY_POINTS = 2000
"""From here on points are drawn as pixels, also in SVG."""
_BAND = 0.10


# --- tables --------------------------------------------------------------------------------------


def agreement_tables(agreement: Agreement, *, rows: int, all_lines: bool = False) -> RenderableType:
    """Errors overall and by group, the rows that are furthest off, and the rows that were left out."""
    summary = agreement.summary()
    parts: dict[str, RenderableType] = {
        f"{agreement.kind}: simulated / measured - 1": _errors({"all rows": summary, **summary["groups"]})
    }
    worst = agreement.worst(rows)
    if worst:
        parts[f"Furthest off ({len(worst)} of {summary['n']:,} rows)"] = _worst(worst, agreement)
    if agreement.skipped:
        parts[f"Left out ({len(agreement.skipped):,} rows)"] = _skipped(agreement, all_lines)
    shown: list[RenderableType] = []
    for title, table in parts.items():
        shown += [Text(title, style="bold"), table, ""]
    return Group(*shown[:-1])


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name in _WORDS else "right", overflow="fold")
    return table


_WORDS = ("rows of", "reason", "lines", "row", "assumed")


def _errors(groups: dict[str, Any]) -> Table:
    banded = any("inside" in values for values in groups.values())
    table = _grid("rows of", "n", "MAPE", "median", "p90", "bias", *(["band", "inside"] if banded else []))
    for name, values in groups.items():
        sizes = [percent(values[key]) for key in ("mape", "median", "p90")]
        bias = percent(values["bias"], sign=True)
        stated = [percent(values.get(key)) for key in ("band", "inside")] if banded else []
        table.add_row(escape(name), f"{values['n']:,}", *sizes, bias, *stated)
    return table


def _worst(rows: Sequence[Compared], agreement: Agreement) -> Table:
    unit, everything = agreement.unit, agreement.compared
    # what all rows share tells nothing about one of them
    keys = dict.fromkeys(key for row in everything for key in row.keys)
    telling = [key for key in keys if len({row.keys.get(key) for row in everything}) > 1]
    assumed = any(row.flags for row in rows)
    table = _grid("line", "measured", "simulated", "error", "row", *(["assumed"] if assumed else []))
    for row in rows:
        cells = [
            f"{row.line:,}",
            describe(row.measured, unit),
            describe(row.simulated, unit),
            percent(row.error, sign=True),
        ]
        words = [row.label, *(f"{key} {row.keys[key]}" for key in telling if row.keys.get(key))]
        cells.append(", ".join(word for word in words if word))
        table.add_row(*map(escape, [*cells, *([", ".join(row.flags)] if assumed else [])]))
    return table


def _skipped(agreement: Agreement, all_lines: bool) -> Table:
    table = _grid("n", "reason", "lines")
    for reason, lines in agreement.reasons().items():
        text = line_ranges(lines)
        if len(text) > _FEW_LINES and not all_lines:
            text = f"{text[:_FEW_LINES].rpartition(', ')[0]}, ... (--all lists them)"
        table.add_row(f"{len(lines):,}", escape(reason), text)
    return table


def percent(error: float | None, *, sign: bool = False) -> str:
    """A fraction as per cent, to a tenth, below one per cent to a hundredth.

    >>> percent(-0.25, sign=True), percent(0.0031)
    ('-25.0%', '0.31%')
    """
    if error is None:
        return "-"
    digits = 1 if abs(error) >= 0.01 else 2
    return f"{error:{'+' if sign else ''}.{digits}%}"


def line_ranges(lines: Sequence[int]) -> str:
    """Line numbers, those in a row as a range.

    >>> line_ranges([2, 5, 6, 7])
    '2, 5-7'
    """
    runs = [
        [line for _, line in run]
        for _, run in groupby(enumerate(sorted(set(lines))), key=lambda pair: pair[1] - pair[0])
    ]
    return ", ".join(f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


# --- figure --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ScatterTable:
    """What the figure shows.

    Parameters
    ----------
    title
        Of the figure.
    unit
        Of measured and simulated, scaled so that the numbers are easy to read.
    labels
        Of each group: its value and its errors in words.
    groups
        Measured and simulated of each group [unit], shape (rows, 2); the largest groups first, the rest
        of them together as the last.
    other
        Whether the last group is what is left of many.
    """

    title: str
    unit: str
    labels: tuple[str, ...]
    groups: tuple[Floats, ...]
    other: bool


_SCALES = {"s": (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)), "byte": (("GiB", 2.0**30), ("MiB", 2.0**20), ("byte", 1.0))}


def scatter_table(agreement: Agreement) -> ScatterTable:
    """Rows by the keys that tell most apart with no more groups than there are colours.

    Raises
    ------
    ValueError
        No row was compared.
    """
    rows = agreement.compared
    if not rows:
        raise ValueError("no row was compared")
    middle = float(np.median([row.measured for row in rows]))
    scales = _SCALES.get(agreement.unit, ((agreement.unit, 1.0),))
    unit, factor = next((scale for scale in scales if middle >= scale[1]), scales[-1])
    keys = _colour_keys(agreement)
    parts: dict[str, list[Compared]] = {}
    for row in rows:
        parts.setdefault(", ".join(row.keys.get(key, "") or "unknown" for key in keys) or "all rows", []).append(row)
    ordered = sorted(parts.items(), key=lambda item: (-len(item[1]), item[0]))
    most = len(GROUP_COLOURS)
    other = len(ordered) > most
    if other:
        rest = [row for _, part in ordered[most - 1 :] for row in part]
        ordered = [*ordered[: most - 1], (f"{len(ordered) - most + 1} others", rest)]
    errors = statistics(rows)
    return ScatterTable(
        title=f"{agreement.kind}: {_words(errors)}",
        unit=unit,
        labels=tuple(f"{_clip(name)}: {_words(statistics(part))}" for name, part in ordered),
        groups=tuple(np.array([(row.measured, row.simulated) for row in part]) / factor for _, part in ordered),
        other=other,
    )


def _words(errors: dict[str, Any]) -> str:
    rows = "row" if errors["n"] == 1 else "rows"
    return f"{errors['n']:,} {rows}, MAPE {percent(errors['mape'])}, bias {percent(errors['bias'], sign=True)}"


def _clip(text: str, most: int = 44) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _colour_keys(agreement: Agreement) -> tuple[str, ...]:
    """Of the keys, alone or combined, those that make most groups without running out of colours."""
    rows = agreement.compared
    names = dict.fromkeys(key for row in rows for key in row.keys)
    candidates = [*agreement.combined, *((key,) for key in names)]
    counts = [len({tuple(row.keys.get(key, "") for key in keys) for row in rows}) for keys in candidates]
    fitting = [index for index, count in enumerate(counts) if 1 < count <= len(GROUP_COLOURS)]
    if fitting:
        return candidates[max(fitting, key=lambda index: (counts[index], -index))]
    return candidates[0] if candidates else ()


def draw_scatter(table: ScatterTable) -> "Figure":
    """Simulated against measured, and how many rows are within which error."""
    with house_style():
        figure = new_figure(10.0, 5.2 + 0.2 * len(table.groups))
        figure.suptitle(table.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
        left, right = figure.subplots(1, 2, width_ratios=(1.15, 1.0))
        colours = list(GROUP_COLOURS[: len(table.groups)])
        if table.other:
            colours[-1] = OTHER_COLOUR
        _points(left, table, colours)
        _within(right, table, colours)
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=1, fontsize=8)
        return figure


def _points(ax: "Axes", table: ScatterTable, colours: Sequence[str]) -> None:
    whole = np.concatenate(table.groups)
    low, high = whole.min() / 1.5, whole.max() * 1.5
    many = len(whole) > _MANY_POINTS
    ends = np.array([low, high])
    ax.fill_between(
        ends, ends * (1 - _BAND), ends * (1 + _BAND), color="#DDDDDD", linewidth=0, label=f"within ±{_BAND:.0%}"
    )
    ax.plot(ends, ends, color="black", linewidth=0.8, zorder=1, label="equal")
    for points, colour, label in zip(table.groups, colours, table.labels, strict=True):
        ax.plot(
            *points.T, "o", color=colour, markersize=1.8 if many else 4.0, alpha=0.4 if many else 0.8,
            markeredgewidth=0, rasterized=many,
        )  # fmt: skip
        ax.plot([], [], "o", color=colour, markersize=4.0, markeredgewidth=0, label=label)
    ax.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    ax.set_xlabel(f"measured [{table.unit}]")
    ax.set_ylabel(f"simulated [{table.unit}]")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:,.10g}")
        axis.set_minor_formatter("")


def _within(ax: "Axes", table: ScatterTable, colours: Sequence[str]) -> None:
    """Share of each group's rows whose error is at most so large."""
    sizes = [np.sort(np.abs(points[:, 1] / points[:, 0] - 1)) * 100 for points in table.groups]
    # a few rows far off must not press all others against the axis
    right = min(100.0, max(1.5 * _BAND * 100, 1.2 * float(np.percentile(np.concatenate(sizes), 95))))
    for size, colour in zip(sizes, colours, strict=True):
        share = np.arange(1, len(size) + 1) / len(size) * 100
        ax.step([0, *size, 1e9], [0, *share, 100], where="post", color=colour, linewidth=1.2)
    ax.axvline(_BAND * 100, color="#BBBBBB", linewidth=0.8, zorder=0)
    ax.set(xlim=(0, right), ylim=(0, 102))
    ax.set_xlabel("absolute error [%]")
    ax.set_ylabel("rows with at most that error [%]")
