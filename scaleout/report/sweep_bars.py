"""Outcomes of a sweep by the values of a key, side by side: topologies and systems, cost and energy of a token."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SweepError
from scaleout.report.style import GROUP_COLOURS, HATCHES, PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import foot, grid_of, titled
from scaleout.report.sweep_points import Axis, Settings, best_in, settings_of
from scaleout.report.sweep_words import Scale, capital, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["Bar", "BarsTable", "cost_table_of", "draw_sweep_bars", "energy_table_of", "topologies_table_of"]

_MOST = 24
"""Bars of a figure."""
_PANEL, _LETTER = 2.5, 0.068
"""Width of a panel, and of a letter in it [inch]."""
_MACHINES = ("system", "system.network", "system.network.builder", "system.network.kind")
_MACHINE_WORDS = ("system", "network", "topolog", "fabric", "routing")


@dataclass(frozen=True, slots=True)
class Bar:
    """One row.

    Parameters
    ----------
    label
        Value of the key.
    values, low, high
        Of each outcome, SI, and from where to where it is; NaN where there is none.
    relative
        Of the first outcome: how many times as bad as the best row it is [1].
    point
        What the best point of the row is.
    """

    label: str
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    relative: float
    point: str


@dataclass(frozen=True, slots=True)
class BarsTable:
    """What the figure shows.

    Parameters
    ----------
    title, key
        Of the figure; by which values.
    outcomes, scales
        A panel each.
    least
        Whether less is better, of each.
    bars
        Rows, the best first, or by the value where that is a number.
    others
        Rows that are left out.
    best_over
        Keys over which the best is taken.
    ranges
        What the whiskers are.
    normalised
        Whether the first panel is over the best row.
    """

    title: str
    key: str
    outcomes: tuple[str, ...]
    scales: tuple[Scale, ...]
    least: tuple[bool, ...]
    bars: tuple[Bar, ...]
    others: int
    best_over: tuple[str, ...]
    ranges: str
    normalised: bool


def topologies_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> BarsTable:
    """Machines side by side, each at its best, over the best of all.

    Parameters
    ----------
    x
        Key whose values are compared; None for the system or its network.
    y
        Outcome; None for the objective.
    by
        One more key whose values get rows.

    Raises
    ------
    SweepError
        No such key takes several values.
    """
    settings = settings_of(results)
    outcome = settings.outcome(y or settings.objective)
    axes = [settings.axis(x) if x else _machines(settings), *([settings.axis(by)] if by else [])]
    return _table(settings, axes, (outcome,), normalised=True)


def _machines(settings: Settings) -> Axis:
    for axis in sorted(settings.own, key=lambda axis: (axis.key not in _MACHINES, len(axis.key))):
        if axis.key.startswith(_MACHINE_WORDS) and (axis.key in _MACHINES or not axis.numeric):
            return axis
    raise SweepError(
        f"topologies: neither system nor its network is an axis of sweep {settings.name!r}; name another key with --x: "
        f"{', '.join(axis.key for axis in settings.own) or 'none takes several values'}"
    )


def cost_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> BarsTable:
    """Cost of a token beside its energy, by the values of a key.

    Raises
    ------
    SweepError
        No key takes several values, or no cost is known: neither the analytic evaluator knows one, nor is there one
        without prices.
    """
    return _by_token(results, "cost", x, y or "cost_per_mtoken", by, ("energy_per_token",))


def energy_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> BarsTable:
    """Energy of a token beside the power of all chips, by the values of a key.

    Raises
    ------
    SweepError
        No key takes several values, or no energy is known: the analytic evaluator knows none.
    """
    return _by_token(results, "energy", x, y or "energy_per_token", by, ("power",))


def _by_token(
    results: "SweepResults", kind: str, x: str | None, y: str, by: str | None, beside: tuple[str, ...]
) -> BarsTable:
    settings = settings_of(results)
    outcome = settings.outcome(y)
    if not settings.axes:
        raise SweepError(f"{kind}: no key takes several values in sweep {settings.name!r}")
    worth, least = settings.spread(outcome).value, settings.least(outcome)
    more = [settings.axis(by)] if by else []
    axes = [settings.axis(x)] if x else _telling(settings, more, worth, least=least)
    names = (outcome, *(name for name in beside if settings.has(name) and name != outcome))
    return _table(settings, [*axes, *more], names, normalised=False)


def _telling(settings: Settings, taken: list[Axis], worth: Floats, *, least: bool) -> list[Axis]:
    """What is bought or decided first: the system, its chip, their number; otherwise what matters most."""
    free = [axis for axis in settings.own if axis not in taken]
    if not free:
        return []
    few = [axis for axis in free if len(axis.values) <= _MOST] or free
    first = [axis for axis in few if axis.key.startswith("system")]
    first = first or [axis for axis in few if axis.key.startswith(("precision", "model", "stack", "engine"))]
    return [max(first or few, key=lambda axis: settings.strength(axis, worth, least=least))]


def _table(settings: Settings, axes: list[Axis], names: tuple[str, ...], *, normalised: bool) -> BarsTable:
    """A row for each value, the best point of it by the first outcome."""
    if len(axes) > 1 and axes[0] == axes[1]:
        raise SweepError(f"{axes[0].key}: is the key of the rows and --by; take another one for --by")
    spreads = [settings.spread(name) for name in names]
    least = tuple(settings.least(name) for name in names)
    worth = spreads[0].value
    codes = axes[0].of if len(axes) == 1 else axes[0].of * len(axes[1].values) + axes[1].of
    count = int(np.prod([len(axis.values) for axis in axes]))
    best = best_in(codes, worth, count, least=least[0])
    rows = best[best >= 0]
    if not len(rows):
        raise SweepError(f"{names[0]}: no point of sweep {settings.name!r} has it")
    top = float(worth[rows].min() if least[0] else worth[rows].max())
    inner = [axis for axis in settings.axes if axis not in axes]
    bars = [
        Bar(
            label=", ".join(axis.labels[axis.of[row]] for axis in axes),
            values=tuple(float(spread.value[row]) for spread in spreads),
            low=tuple(float(spread.low[row]) for spread in spreads),
            high=tuple(float(spread.high[row]) for spread in spreads),
            relative=float(worth[row] / top if least[0] else top / worth[row]) if top and worth[row] else 1.0,
            point=settings.words(int(row), inner),
        )
        for row in rows.tolist()
    ]
    ordered = axes[0].numeric and len(bars) <= _MOST
    if not ordered:
        bars.sort(key=lambda bar: bar.relative)
    scales = tuple(
        scale_of(settings.kind, name, spread.value[rows]) for name, spread in zip(names, spreads, strict=True)
    )
    words = " and ".join(scale.words for scale in scales)
    return BarsTable(
        title=f"{settings.name}: {words} by {' and '.join(axis.words for axis in axes)}{settings.made}",
        key=", ".join(axis.words for axis in axes),
        outcomes=names,
        scales=scales,
        least=least,
        bars=tuple(bars[:_MOST]),
        others=max(0, len(bars) - _MOST),
        best_over=tuple(axis.words for axis in inner if axis.own),
        ranges=settings.ranges,
        normalised=normalised,
    )


def draw_sweep_bars(table: BarsTable) -> "Figure":
    """A panel for each outcome; whiskers are error bands and seeds, figures at the ends are values."""
    with house_style():
        panels = len(table.outcomes)
        figure = titled(PRINT_WIDTH - _PANEL * (2 - panels), 1.3 + 0.3 * len(table.bars), table.title)
        axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
        for at, ax in enumerate(axes):
            _panel(ax, table, at)
        axes[0].set_yticks(range(len(table.bars)), [bar.label for bar in table.bars], fontsize=8)
        axes[0].set_ylim(len(table.bars) - 0.4, -0.6)
        axes[0].set_ylabel(capital(table.key))
        parts = [f"Whiskers: {table.ranges}"] * bool(_whiskers(table))
        if table.best_over:
            parts.append(f"each row at its best over {', '.join(table.best_over)}")
        if table.others:
            parts.append(f"{table.others} worse rows are left out")
        foot(figure, [], f"{capital('; '.join(parts))}." if parts else "")
        return figure


def _whiskers(table: BarsTable) -> bool:
    return any(low < high for bar in table.bars for low, high in zip(bar.low, bar.high, strict=True))


def _panel(ax: "Axes", table: BarsTable, at: int) -> None:
    scale = table.scales[at]
    value, low, high = (np.array([getattr(bar, name)[at] for bar in table.bars]) for name in ("values", "low", "high"))
    over = scale.factor
    if table.normalised and at == 0:
        over = float(np.nanmin(value) if table.least[0] else np.nanmax(value)) or 1.0
    places = np.arange(len(value))
    colour = GROUP_COLOURS[(0, 4, 2)[at % 3]]
    ax.barh(
        places, value / over, height=0.66, color=colour, alpha=0.85, hatch=HATCHES.get(colour), edgecolor="white",
        linewidth=0,
    )  # fmt: skip
    spread = np.array([np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)]) / over
    wide = np.nan_to_num(spread).sum(axis=0) > 0.0
    if wide.any():
        ax.errorbar(
            (value / over)[wide], places[wide], xerr=spread[:, wide], fmt="none", ecolor="black", elinewidth=1.0,
            capsize=2.5,
        )  # fmt: skip
    ends = np.fmax(value, high) / over
    most = float(np.nanmax(ends))
    for place, end, one in zip(places.tolist(), ends.tolist(), value.tolist(), strict=True):
        words = scale.shown(one) if np.isfinite(one) else "unknown"
        ax.annotate(
            words, (end if np.isfinite(end) else 0.0, place), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=7.5,
        )  # fmt: skip
    longest = max(len(scale.shown(one)) for one in value.tolist())
    ax.set_xlim(0.0, most / max(0.3, 0.96 - _LETTER * longest / _PANEL))
    ax.set_xlabel(f"{scale.words} over the best [1]" if table.normalised and at == 0 else scale.label)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    grid_of(ax, "x")
