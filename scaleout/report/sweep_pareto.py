"""Two outcomes of a sweep against each other: all points, and the front that nothing beats in both."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import SweepError
from scaleout.report.style import PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import foot, grid_of, log_axis, look, titled
from scaleout.report.sweep_points import Settings, settings_of
from scaleout.report.sweep_words import Scale, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["Front", "ParetoTable", "draw_sweep_pareto", "front", "pareto_table_of"]

_PAIRS = {
    "training": (
        ("tokens_per_second", "cost_per_mtoken"), ("tokens_per_second", "energy_per_token"),
        ("memory_share", "tokens_per_second"),
    ),
    "serving": (("user_tokens", "chip_tokens"), ("ttft_p99", "chip_tokens"), ("tpot_p99", "chip_tokens")),
}  # fmt: skip
"""What is of interest against each other, by kind of experiment."""
_LABELS = 10
"""Points of fronts that are named."""
_APART = 0.055
"""Least distance of named points, of the panel [1]."""
_RASTER = 2000
"""Points from which on they are pixels in an SVG."""
_FEW = 60
"""Points of a front that get marks of their own."""


@dataclass(frozen=True, slots=True)
class Front:
    """Points of one series.

    Parameters
    ----------
    label
        "" where there is one.
    x, y
        All points, SI.
    front_x, front_y
        Those that no other of the series beats in both, along x.
    points
        What these are.
    named
        Which of these are numbered in the figure, by their place.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    front_x: tuple[float, ...]
    front_y: tuple[float, ...]
    points: tuple[str, ...]
    named: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ParetoTable:
    """What the figure shows.

    Parameters
    ----------
    title
        Of the figure.
    x, y
        The outcomes, and how they are shown.
    least
        Whether less of x, and of y, is better.
    series
        A front each; with `others` lines that have no name together in the last.
    others
        How many lines those are.
    """

    title: str
    outcomes: tuple[str, str]
    x: Scale
    y: Scale
    least: tuple[bool, bool]
    series: tuple[Front, ...]
    others: int


def front(x: Floats, y: Floats, *, least: tuple[bool, bool]) -> Ints:
    """Points that no other one beats: as good in both, and better in one; along x, of equal ones the first.

    >>> front(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 1.0]), least=(True, True))
    array([0, 2])
    """
    a, b = x * (1.0 if least[0] else -1.0), y * (1.0 if least[1] else -1.0)
    order = np.lexsort((np.arange(len(a)), b, a))
    run = np.minimum.accumulate(b[order])
    keeps = np.ones(len(order), dtype=bool)
    keeps[1:] = b[order][1:] < run[:-1]
    found = order[keeps]
    return found if least[0] else found[::-1]


def pareto_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> ParetoTable:
    """All points by two outcomes, and their front.

    Parameters
    ----------
    x, y
        Outcomes; None for two that are of interest against each other.
    by
        Key with a front for each value; None for the system, precision, stack or engine, where one is an axis.

    Raises
    ------
    SweepError
        There are no two such outcomes, or no two points.
    """
    settings = settings_of(results)
    one, other = _outcomes(settings, x, y)
    a, b = settings.spread(one).value, settings.spread(other).value
    fine = np.isfinite(a) & np.isfinite(b)
    if len(set(zip(a[fine].tolist(), b[fine].tolist(), strict=True))) < 2:
        raise SweepError(f"pareto: fewer than two points of sweep {settings.name!r} differ in {one} or {other}")
    least = (settings.least(one), settings.least(other))
    axes = [settings.axis(by)] if by else settings.jobs(also=("system", "precision", "stack", "engine"))
    lines = settings.series(axes, np.where(fine, b, np.nan), least=least[1])
    rows = []
    for at, label in [*enumerate(lines.labels), *([(-1, f"{lines.others} others")] if lines.others else [])]:
        mine = np.flatnonzero(fine & (lines.of == at))
        best = mine[front(a[mine], b[mine], least=least)] if at >= 0 else mine[:0]
        rows.append((label, mine, best))
    named = _named([(a[best], b[best]) for _, _, best in rows], a[fine], b[fine])
    inner = [axis for axis in settings.axes if axis not in axes and (axis.own or axis.numeric)]
    series = tuple(
        Front(
            label=label,
            x=tuple(a[mine].tolist()),
            y=tuple(b[mine].tolist()),
            front_x=tuple(a[best].tolist()),
            front_y=tuple(b[best].tolist()),
            points=tuple(settings.words(int(row), inner) for row in best),
            named=picked if inner else (),
        )
        for (label, mine, best), picked in zip(rows, named, strict=True)
    )
    scales = scale_of(settings.kind, one, a[fine]), scale_of(settings.kind, other, b[fine])
    title = f"{settings.name}: {scales[1].words} against {scales[0].words}{settings.made}"
    return ParetoTable(title, (one, other), *scales, least, series, lines.others)


def _outcomes(settings: Settings, x: str | None, y: str | None) -> tuple[str, str]:
    """Those that are asked for, the first pair that differs where none is."""
    if x and y:
        pair = settings.outcome(x), settings.outcome(y)
    else:
        pairs = [pair for pair in _PAIRS.get(settings.kind, ()) if settings.has(*pair)]
        if x:
            settings.outcome(x)
            pairs = [(x, other) for pair in pairs for other in pair if other != x and x in pair]
            pairs += [(x, settings.objective)] * settings.has(settings.objective)
        if y:
            settings.outcome(y)
            pairs = [(other, y) for pair in pairs for other in pair if other != y and y in pair]
            pairs += [(settings.objective, y)] * settings.has(settings.objective)
        pairs = [pair for pair in pairs if pair[0] != pair[1] and _differs(settings, *pair)]
        if not pairs:
            raise SweepError(
                f"pareto: no two outcomes of sweep {settings.name!r} are known to be of interest against each other; "
                f"name them: --x and --y of {', '.join(settings.numbers())}"
            )
        pair = pairs[0]
    if pair[0] == pair[1]:
        raise SweepError(f"pareto: {pair[0]} against itself; take two outcomes of {', '.join(settings.numbers())}")
    return pair


def _differs(settings: Settings, one: str, other: str) -> bool:
    """Whether both have more than one value."""
    values = [settings.spread(name).value for name in (one, other)]
    return all(np.nanmin(value) < np.nanmax(value) for value in values)


def _named(fronts: list[tuple[Floats, Floats]], x: Floats, y: Floats) -> list[tuple[int, ...]]:
    """Places of points to be named: the ends of fronts first, then those that are furthest from all that are."""

    def placed(values: Floats, among: Floats) -> Floats:
        low, high = np.log(among.min()) if among.min() > 0.0 else 0.0, np.log(among.max()) if among.min() > 0.0 else 1.0
        shown = np.log(values) if among.min() > 0.0 else values / max(abs(among).max(), 1e-300)
        return np.asarray((shown - low) / max(high - low, 1e-12), dtype=float)

    spots = [
        (one, at, px, py)
        for one, (a, b) in enumerate(fronts)
        for at, (px, py) in enumerate(zip(placed(a, x).tolist(), placed(b, y).tolist(), strict=True))
    ]
    ends = [spot for spot in spots if spot[1] in (0, len(fronts[spot[0]][0]) - 1)]
    taken: list[tuple[int, int, float, float]] = []
    for spot in ends:
        if len(taken) < _LABELS and _distance(spot, taken) >= _APART:
            taken.append(spot)
    while spots and len(taken) < _LABELS:
        best = max(spots, key=lambda spot: _distance(spot, taken))
        if _distance(best, taken) < 1.6 * _APART:
            break
        taken.append(best)
    return [tuple(sorted(at for one, at, _, _ in taken if one == number)) for number in range(len(fronts))]


def _distance(spot: tuple[int, int, float, float], taken: list[tuple[int, int, float, float]]) -> float:
    return min((float(np.hypot(spot[2] - px, spot[3] - py)) for _, _, px, py in taken), default=np.inf)


def draw_sweep_pareto(table: ParetoTable) -> "Figure":
    """Points, fronts as stairs over them, and beside it what the numbered points are."""
    from matplotlib.lines import Line2D

    with house_style():
        figure = titled(PRINT_WIDTH, 4.4, table.title)
        ax, words = figure.subplots(1, 2, width_ratios=(1.6, 1.0))
        words.set_axis_off()
        handles, numbered = [], []
        several = len(table.series) > 1
        for at, one in enumerate(table.series):
            style = look(at)
            if table.others and at == len(table.series) - 1:
                _points(ax, table, one, "#999999")
                handles.append(Line2D([], [], color="#999999", linestyle="", marker=".", label=one.label))
                continue
            _points(ax, table, one, style["color"] if several else "#8FA9BF")
            _stairs(ax, table, one, style)
            if several:
                handles.append(Line2D([], [], **style, label=one.label))
            numbered += [(one, place, style["color"]) for place in one.named]
        _numbers(ax, words, table, numbered, several)
        for which, scale, values in (
            ("x", table.x, [v / table.x.factor for one in table.series for v in one.x]),
            ("y", table.y, [v / table.y.factor for one in table.series for v in one.y]),
        ):
            _axis(ax, which, scale, values)
        grid_of(ax)
        both = zip(table.least, (table.x, table.y), strict=True)
        better = " and ".join(f"{'less' if less else 'more'} {scale.words}" for less, scale in both)
        foot(figure, handles, f"Better: {better}. Lines: points that no other one beats in both.")
        return figure


def _points(ax: "Axes", table: ParetoTable, one: Front, colour: str) -> None:
    count = len(one.x)
    size = 7.0 if count < 100 else 4.0 if count < _RASTER else 1.5
    ax.plot(
        np.array(one.x) / table.x.factor, np.array(one.y) / table.y.factor, linestyle="", marker=".", color=colour,
        markersize=size, alpha=0.45 if count < _RASTER else 0.3, markeredgewidth=0, zorder=1,
        rasterized=count >= _RASTER,
    )  # fmt: skip


def _stairs(ax: "Axes", table: ParetoTable, one: Front, style: dict[str, Any]) -> None:
    """Between two points of a front nothing is better than the worse of both."""
    x, y = np.array(one.front_x) / table.x.factor, np.array(one.front_y) / table.y.factor
    marks = {**style, "marker": style["marker"] if len(x) <= _FEW else ""}
    ax.plot(x, y, zorder=3, drawstyle="steps-post" if table.least[0] else "steps-pre", **marks)


def _numbers(ax: "Axes", words: "Axes", table: ParetoTable, rows: list[tuple[Front, int, str]], several: bool) -> None:
    """Numbers at points, and beside the panel what they are."""
    import textwrap

    lines = []
    for number, (one, place, colour) in enumerate(rows, 1):
        x, y = one.front_x[place] / table.x.factor, one.front_y[place] / table.y.factor
        ax.annotate(
            f"{number}", (x, y), xytext=(6.0, 6.0), textcoords="offset points", fontsize=7.5, fontweight="bold",
            color="white", ha="center", va="center", zorder=5,
            bbox={"boxstyle": "circle,pad=0.22", "facecolor": colour, "edgecolor": "white", "linewidth": 0.6},
        )  # fmt: skip
        head = f"{one.label}: " if several and one.label else ""
        # a name stays with its value
        told = head + ", ".join(part.replace(" ", "\u00a0") for part in one.points[place].split(", "))
        wrapped = textwrap.wrap(told, 37, subsequent_indent="      ")
        figures = f"{table.x.shown(one.front_x[place])}, {table.y.shown(one.front_y[place])}"
        lines += [f"{number:>2}  {wrapped[0]}", *wrapped[1:3], f"      {figures}"]
    if lines:
        words.text(
            0.0, 1.0, "\n".join(lines), transform=words.transAxes, va="top", fontsize=7.5, linespacing=1.25
        ).set_in_layout(False)


def _axis(ax: "Axes", which: str, scale: Scale, values: list[float]) -> None:
    low, high = min(values), max(values)
    if low > 0.0 and high > 8.0 * low:
        log_axis(ax, which, values)
    else:
        room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
        (ax.set_xlim if which == "x" else ax.set_ylim)(low - room, high + room)
    (ax.set_xlabel if which == "x" else ax.set_ylabel)(scale.label)
