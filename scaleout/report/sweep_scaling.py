"""Strong and weak scaling out of a sweep: throughput or step time over chips, the ideal, and efficiency below."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.errors import SweepError
from scaleout.report.style import PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import OTHERS, foot, grid_of, log_axis, look, titled
from scaleout.report.sweep_points import Axis, Settings, Spread, best_in, settings_of
from scaleout.report.sweep_words import Scale, capital, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["ScalingLine", "ScalingPanel", "ScalingTable", "draw_sweep_scaling", "scaling_table_of"]

_BATCH = "batch.global"
_OUTCOMES = ("tokens_per_second", "step_time")


@dataclass(frozen=True, slots=True)
class ScalingLine:
    """One line.

    Parameters
    ----------
    label
        "" where it is the only one.
    chips
        Upwards [1].
    value, low, high
        The best at each number of chips, and from where to where it is, SI.
    efficiency
        Throughput of a chip over that of the first of the line [1].
    points
        What the best are.
    named
        False among the others.
    """

    label: str
    chips: tuple[float, ...]
    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    efficiency: tuple[float, ...]
    points: tuple[str, ...]
    named: bool = True


@dataclass(frozen=True, slots=True)
class ScalingPanel:
    """Lines of one way to scale: "strong", one batch for all, or "weak", a batch that grows with the chips.

    Lines of fewer than half as many numbers of chips as the longest has are left out.
    """

    way: str
    lines: tuple[ScalingLine, ...]
    others: int


@dataclass(frozen=True, slots=True)
class ScalingTable:
    """What the figure shows.

    Parameters
    ----------
    title
        Of the figure.
    outcome, scale
        What is over chips, and how it is shown.
    panels
        Strong before weak.
    ranges
        What the bands are.
    best_over
        Keys over which the best is taken.
    """

    title: str
    outcome: str
    scale: Scale
    panels: tuple[ScalingPanel, ...]
    ranges: str
    best_over: tuple[str, ...]


def scaling_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> ScalingTable:
    """Lines of throughput over chips.

    Parameters
    ----------
    x
        Has to be "chips".
    y
        "tokens_per_second" or "step_time".
    by
        Key that makes lines; None for what the jobs differ by.

    Raises
    ------
    SweepError
        No training, or one number of chips only.
    """
    settings = settings_of(results)
    if settings.kind != "training":
        raise SweepError(f"scaling: is of training; sweep {settings.name!r} is of {settings.kind}")
    if x not in (None, "chips"):
        raise SweepError(f"scaling: over {x!r:.40}; it is over chips, leave --x out")
    outcome = y or _OUTCOMES[0]
    if outcome not in _OUTCOMES:
        raise SweepError(f"scaling: of {outcome!r:.40}; expected {' or '.join(_OUTCOMES)}")
    settings.outcome(outcome)
    chips, spread = settings.chips, settings.spread(outcome)
    counts = np.unique(chips[np.isfinite(chips) & np.isfinite(spread.value)])
    if not len(counts):
        raise SweepError(f"scaling: nobody knows the chips of any point of sweep {settings.name!r}")
    if len(counts) < 2:
        raise SweepError(f"scaling: every point that can be simulated has {counts[0]:,.0f} chips; sweep over chips")
    batch = next((axis for axis in settings.axes if axis.key == _BATCH), None)
    chosen = [settings.axis(by)] if by else _lines(settings)
    ways: list[tuple[str, Floats]] = []
    if batch is None:
        ways.append(("strong", np.zeros(len(settings))))
    else:
        sequences = np.array(batch.values, dtype=float)[batch.of]
        ways += [("strong", sequences), ("weak", np.round(sequences / chips, 9))]
    used = [axis.key for axis in chosen] + [_BATCH, "chips"]
    inner = [axis for axis in chosen if axis is not batch]
    every = [_panel(settings, way, group, inner, chips, spread, outcome) for way, group in ways]
    panels = [panel for panel in every if panel.lines]
    if not panels:
        raise SweepError(
            f"scaling: no batch, and no batch of a chip, has two numbers of chips in sweep {settings.name!r}"
        )
    values = np.concatenate([np.array(line.value) for panel in panels for line in panel.lines])
    return ScalingTable(
        title=f"{settings.name}: {' and '.join(panel.way for panel in panels)} scaling{settings.made}",
        outcome=outcome,
        scale=scale_of(settings.kind, outcome, values),
        panels=tuple(panels),
        ranges=settings.ranges,
        best_over=tuple(axis.words for axis in settings.own if axis.key not in used),
    )


def _lines(settings: Settings) -> list[Axis]:
    """What jobs differ by has lines of its own: a step of one model is not the best of another's."""
    found = settings.jobs(also=("system", "precision", "stack"))
    return [axis for axis in found if axis.key not in (_BATCH, "chips")]


def _panel(
    settings: Settings, way: str, group: Floats, axes: list[Axis], chips: Floats, spread: Spread, outcome: str
) -> ScalingPanel:
    """Lines of each batch, or batch of a chip, by the axes."""
    least = settings.least(outcome)
    kinds, of = np.unique(group, return_inverse=True)
    words = "sequences" if way == "strong" else "sequences a chip"
    several = len(kinds) > 1 or way == "weak"
    made = Axis("", words, tuple(float(one) for one in kinds), of.astype(np.int64))
    batches = [made] if several else []
    enough: Bools = np.isfinite(spread.value) & np.isfinite(chips)
    series = settings.series([*axes, *batches], np.where(enough, spread.value / chips, np.nan), least=least, most=10**6)
    lines = []
    for at, label in enumerate(series.labels):
        mine = enough & (series.of == at)
        counts, place = np.unique(np.where(mine, chips, -1.0), return_inverse=True)
        best = best_in(np.where(mine, place, -1), spread.value, len(counts), least=least)
        rows = best[best >= 0]
        if len(rows) < 2:
            continue
        rows = rows[np.argsort(chips[rows], kind="stable")]
        value, count = spread.value[rows], chips[rows]
        each = value / count if not least else 1.0 / (value * (count if way == "strong" else 1.0))
        lines.append(
            ScalingLine(
                label=_of_words(label, words),
                chips=tuple(count.tolist()),
                value=tuple(value.tolist()),
                low=tuple(spread.low[rows].tolist()),
                high=tuple(spread.high[rows].tolist()),
                efficiency=tuple((each / each[0]).tolist()),
                points=tuple(settings.words(int(row)) for row in rows),
            )
        )
    return _named(way, lines)


def _of_words(label: str, words: str) -> str:
    """ "sequences 512" reads the other way round."""
    head, found, tail = label.rpartition(f"{words} ")
    return f"{head}{tail} {words.replace('sequences', 'sequence') if tail == '1' else words}" if found else label


def _named(way: str, lines: list[ScalingLine]) -> ScalingPanel:
    """The lines over the most chips keep their names, where there are too many."""
    from dataclasses import replace

    from scaleout.report.sweep_points import MOST_SERIES

    # corners of a grid of batches and chips are short diagonals
    longest = max((len(line.chips) for line in lines), default=0)
    lines = [line for line in lines if 2 * len(line.chips) >= longest]
    order = sorted(range(len(lines)), key=lambda at: (-len(lines[at].chips), at))[:MOST_SERIES]
    rows = tuple(replace(line, named=at in order) for at, line in enumerate(lines))
    return ScalingPanel(way, rows, len(lines) - len(order))


def draw_sweep_scaling(table: ScalingTable) -> "Figure":
    """The outcome over chips, both logarithmic, beside the ideal; below, efficiency [%]."""
    with house_style():
        columns = len(table.panels)
        figure = titled(PRINT_WIDTH if columns > 1 else 4.4, 4.9, table.title)
        axes = figure.subplots(2, columns, sharex="col", sharey="row", height_ratios=(1.5, 1.0), squeeze=False)
        counts = sorted({count for panel in table.panels for line in panel.lines for count in line.chips})
        for column, panel in enumerate(table.panels):
            _draw_panel(axes[0][column], axes[1][column], table, panel, counts)
        over = f"; best over {', '.join(table.best_over)}" if table.best_over else ""
        shaded = f"Shaded: {table.ranges}. " if table.ranges else ""
        each = "Efficiency: throughput of a chip over that of the first number of chips of its line"
        foot(figure, [], f"{shaded}{each}{over}.")
        return figure


def _draw_panel(top: "Axes", below: "Axes", table: ScalingTable, panel: ScalingPanel, counts: list[float]) -> None:
    from matplotlib.lines import Line2D

    factor, falls = table.scale.factor, table.outcome == "step_time"
    values: list[float] = []
    at = 0
    for line in panel.lines:
        y, chips = np.array(line.value) / factor, np.array(line.chips)
        values += y.tolist()
        style: dict[str, Any] = look(at) if line.named else dict(OTHERS)
        top.plot(chips, y, label=line.label if line.named else None, **style)
        below.plot(chips, 100.0 * np.array(line.efficiency), **style)
        if not line.named:
            continue
        low, high = np.array(line.low) / factor, np.array(line.high) / factor
        top.fill_between(chips, low, high, color=style["color"], alpha=0.13, linewidth=0)
        ideal = y[0] * (chips / chips[0] if not falls else chips[0] / chips if panel.way == "strong" else 1.0)
        top.plot(chips, np.broadcast_to(ideal, chips.shape), color="#777777", linewidth=0.8, linestyle=":", zorder=1)
        values += [*np.broadcast_to(ideal, chips.shape).tolist(), *low, *high]
        at += 1
    log_axis(top, "x", counts, at=_thinned(counts))
    log_axis(top, "y", values)
    below.axhline(100.0, color="#777777", linewidth=0.8, linestyle=":")
    below.set_ylim(0.0, max(105.0, 105.0 * max(max(line.efficiency) for line in panel.lines)))
    handles, labels = top.get_legend_handles_labels()
    if len(labels) == 1 and not labels[0]:
        handles = []
    handles.append(Line2D([], [], color="#777777", linewidth=0.8, linestyle=":", label="ideal"))
    if panel.others:
        handles.append(Line2D([], [], **OTHERS, label=f"{panel.others} others"))
    below.legend(
        handles=handles, fontsize=7.5, loc="upper left", bbox_to_anchor=(0.0, -0.36), ncols=2, handlelength=3.0
    )
    top.set_title(f"{capital(panel.way)} scaling")
    top.set_ylabel(table.scale.label)
    below.set_ylabel("efficiency [%]")
    below.set_xlabel("chips")
    top.label_outer()
    below.label_outer()
    for ax in (top, below):
        grid_of(ax)


def _thinned(counts: list[float]) -> list[float]:
    """At most eight numbers of chips for ticks, evenly, ends among them."""
    if len(counts) <= 8:
        return counts
    places = np.unique(np.linspace(0, len(counts) - 1, 8).round().astype(int))
    return [counts[place] for place in places]
