"""Latency over throughput out of a sweep over rates: TTFT and TPOT, half and 99 % of them, and what is promised."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from scaleout.arrays import Bools, Floats
from scaleout.errors import ScaleoutError, SweepError
from scaleout.report.style import PRINT_WIDTH, house_style
from scaleout.report.sweep_ink import OTHERS, foot, grid_of, log_axis, look, titled
from scaleout.report.sweep_points import Axis, Settings, Spread, best_in, settings_of
from scaleout.report.sweep_words import Scale, scale_of
from scaleout.units import parse

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scaleout.sweep.results import SweepResults

__all__ = ["LatencyLine", "LatencyTable", "draw_sweep_latency", "latency_table_of"]

_RATE = "requests.arrivals.rate"
_TIMES = ("ttft_p50", "ttft_p99", "tpot_p50", "tpot_p99")
_FASTEST = 1e-6
"""What is shorter is drawn as this, since the axis is logarithmic [s]."""


@dataclass(frozen=True, slots=True)
class LatencyLine:
    """One line, from low rates to high ones.

    Parameters
    ----------
    label
        "" where it is the only one.
    rate
        At which requests come [1/s].
    x
        Throughput, SI.
    times
        Of each of ``ttft_p50``, ``ttft_p99``, ``tpot_p50``, ``tpot_p99`` [s]; NaN where there is none.
    low, high
        Range of these over seeds [s].
    kept_up
        Whether as many requests are served as come.
    named
        False among the others.
    """

    label: str
    rate: tuple[float, ...]
    x: tuple[float, ...]
    times: tuple[tuple[float, ...], ...]
    low: tuple[tuple[float, ...], ...]
    high: tuple[tuple[float, ...], ...]
    kept_up: tuple[bool, ...]
    named: bool = True


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """What the figure shows.

    Parameters
    ----------
    title, outcome, scale
        Of the figure; throughput, and how it is shown.
    lines, others
        Those with names first; how many have none.
    promised
        Limits of TTFT and of TPOT [s]; None where there is none.
    best_over
        Keys over which the best is taken.
    """

    title: str
    outcome: str
    scale: Scale
    lines: tuple[LatencyLine, ...]
    others: int
    promised: tuple[float | None, float | None]
    best_over: tuple[str, ...]


def latency_table_of(
    results: "SweepResults", *, x: str | None = None, y: str | None = None, by: str | None = None
) -> LatencyTable:
    """Lines of latency over throughput, each along its rates of requests.

    Parameters
    ----------
    x
        Outcome that is the throughput; None for requests a second, tokens of a chip where machines differ in size.
    y
        Has to be None: both TTFT and TPOT are drawn.
    by
        Key that makes lines; None for every key but the rate.

    Raises
    ------
    SweepError
        No serving, or the rate is no axis.
    """
    settings = settings_of(results)
    if settings.kind != "serving":
        raise SweepError(f"latency: is of serving; sweep {settings.name!r} is of {settings.kind}")
    if y is not None:
        raise SweepError(f"latency: draws TTFT and TPOT; leave --y {y!r:.40} out, or take pareto for two outcomes")
    rates = [axis for axis in settings.axes if axis.key == _RATE]
    if not rates:
        raise SweepError(f"latency: {_RATE} is no axis of sweep {settings.name!r}; sweep over it for throughput")
    along = rates[0]
    same = len(set(settings.chips[np.isfinite(settings.chips)].tolist())) < 2
    outcome = settings.outcome(x or ("requests_per_second" if same else "chip_tokens"))
    throughput = settings.spread(outcome).value
    spreads = [settings.spread(name) if settings.has(name) else None for name in _TIMES]
    if all(spread is None for spread in spreads):
        raise SweepError(f"latency: no point of sweep {settings.name!r} has {', '.join(_TIMES)}")
    objective = settings.spread(settings.objective if settings.has(settings.objective) else outcome).value
    least = settings.least(settings.objective)
    chosen = [settings.axis(by)] if by else [axis for axis in settings.own if axis is not along]
    if by and chosen[0] == along:
        raise SweepError(f"latency: lines run along {along.key}; take another key for --by")
    series = settings.series(chosen, np.where(np.isfinite(throughput), objective, np.nan), least=least)
    # of the others each is a line as well: these get numbers of their own
    extra = settings.series(chosen, objective, least=least, most=10**6) if series.others else series
    state = settings.text("stability") if "stability" in results.outcomes else ["stable"] * len(settings)
    same_for_all = (settings, along, objective, least, throughput, spreads, state)
    lines = [
        _line(*same_for_all, extra.of == at, label, named=label in series.labels)
        for at, label in enumerate(extra.labels)
    ]  # fmt: skip
    lines = [line for line in lines if line.x]
    if not any(len(line.x) > 1 for line in lines):
        raise SweepError(f"latency: no line of sweep {settings.name!r} has two rates that can be simulated")
    scale = scale_of(settings.kind, outcome, [value for line in lines for value in line.x])
    return LatencyTable(
        title=f"{settings.name}: latency over throughput{settings.made}",
        outcome=outcome,
        scale=scale,
        lines=tuple(sorted(lines, key=lambda line: not line.named)),
        others=sum(not line.named for line in lines),
        promised=_promised(settings),
        best_over=tuple(axis.words for axis in settings.own if axis is not along and axis not in chosen),
    )


def _line(
    settings: Settings, along: Axis, objective: Floats, least: bool, x: Floats, spreads: Sequence[Spread | None],
    state: Sequence[str], mine: Bools, label: str, *, named: bool,
) -> LatencyLine:  # fmt: skip
    """One line: at each rate the best by the objective."""
    worth = np.where(mine & np.isfinite(x), objective, np.nan)
    best = best_in(np.where(mine, along.of, -1), worth, len(along.values), least=least)
    rows = best[best >= 0]

    def times(name: str) -> tuple[tuple[float, ...], ...]:
        nothing = tuple(np.nan for _ in rows)
        return tuple(tuple(getattr(one, name)[rows].tolist()) if one else nothing for one in spreads)

    return LatencyLine(
        label=label,
        rate=tuple(float(along.values[along.of[row]]) for row in rows),
        x=tuple(x[rows].tolist()),
        times=times("value"),
        low=times("low"),
        high=times("high"),
        kept_up=tuple(state[row] != "overloaded" for row in rows),
        named=named,
    )


def _promised(settings: Settings) -> tuple[float | None, float | None]:
    """Limits of TTFT and TPOT, where they are the same for all points."""
    from scaleout.sweep.build import forms_of

    if any(axis.key.startswith("slo") for axis in settings.axes):
        return None, None
    try:
        base = forms_of(settings.results.sweep)
        ttft, tpot = (base.value(f"slo.{name}") for name in ("ttft", "tpot"))
        return None if ttft is None else parse(str(ttft), "s"), None if tpot is None else parse(str(tpot), "s")
    except ScaleoutError:
        # the file may have gone since
        return None, None


def draw_sweep_latency(table: LatencyTable) -> "Figure":
    """TTFT beside TPOT over throughput: 99th percentiles in full lines, medians in dashes."""
    from matplotlib.lines import Line2D

    with house_style():
        figure = titled(PRINT_WIDTH, 3.8, table.title)
        axes = figure.subplots(1, 2)
        for at, (ax, words) in enumerate(zip(axes, ("time to first token", "time per output token"), strict=True)):
            _panel(ax, table, at, words)
        named = [line for line in table.lines if line.named]
        handles = []
        if len(named) > 1 or named[0].label:
            for at, line in enumerate(named):
                style = {**look(at), "linestyle": "-"}
                handles.append(Line2D([], [], **style, label=line.label))
        if table.others:
            handles.append(Line2D([], [], **OTHERS, label=f"{table.others} others"))
        grey: dict[str, Any] = {"color": "#555555", "linewidth": 1.3}
        handles += [
            Line2D([], [], **grey, label="99 % are below"),
            Line2D([], [], **grey, linestyle="--", label="half are below"),
        ]
        if not all(all(line.kept_up) for line in table.lines):
            hollow = {**grey, "linestyle": "", "marker": "o", "markersize": 4.5, "markerfacecolor": "white"}
            handles.append(Line2D([], [], **hollow, label="more come than are served"))
        if any(limit is not None for limit in table.promised):
            handles.append(Line2D([], [], color="black", linewidth=1.0, linestyle=":", label="promised"))
        over = f" Each point the best over {', '.join(table.best_over)}." if table.best_over else ""
        bars = " Bars: range of seeds." if any(line.low != line.high for line in table.lines) else ""
        foot(figure, handles, f"Points of a line follow each other by the rate of requests.{over}{bars}")
        return figure


def _panel(ax: "Axes", table: LatencyTable, at: int, words: str) -> None:
    limit = table.promised[at]
    half, most = 2 * at, 2 * at + 1
    both = [times for line in table.lines for times in line.times[half : most + 1]]
    values = [max(one, _FASTEST) for times in both for one in times if np.isfinite(one)]
    if not values:
        ax.set_axis_off()
        ax.text(0.5, 0.5, f"{words}: none", transform=ax.transAxes, ha="center")
        return
    scale = Scale(words, *_unit(values))
    rank = 0
    for line in table.lines:
        x = np.array(line.x) / table.scale.factor
        style: dict[str, Any] = dict(OTHERS)
        if line.named:
            style = {**look(rank), "linestyle": "-"}
            rank += 1
        kept = np.array(line.kept_up)
        for which, dashes in ((most, "-"), (half, "--")):
            if which == half and not line.named:
                continue
            times = np.maximum(np.array(line.times[which]), _FASTEST) / scale.factor
            bare = {**style, "linestyle": dashes, "marker": ""}
            ax.plot(x, times, **{**bare, "linewidth": 1.3 if which == most and line.named else 0.9})
            if not line.named:
                continue
            marks = {**style, "linestyle": "", "markersize": style["markersize"] * (1.0 if which == most else 0.8)}
            ax.plot(x[kept], times[kept], **marks)
            ax.plot(x[~kept], times[~kept], **marks, markerfacecolor="white")
            if which == most:
                low, high = np.array(line.low[which]) / scale.factor, np.array(line.high[which]) / scale.factor
                spread = np.array([np.maximum(times - low, 0.0), np.maximum(high - times, 0.0)])
                if np.nansum(spread) > 0.0:
                    ax.errorbar(x, times, yerr=spread, fmt="none", ecolor=style["color"], elinewidth=0.9, capsize=2)
    if limit:
        ax.axhline(limit / scale.factor, color="black", linewidth=1.0, linestyle=":")
        values.append(limit)
    log_axis(ax, "y", [one / scale.factor for one in values])
    ax.set_xlim(left=0.0)
    ax.set_xlabel(table.scale.label)
    ax.set_ylabel(scale.label)
    grid_of(ax)


def _unit(values: list[float]) -> tuple[str, float]:
    """Of times from few milliseconds to minutes."""
    return ("s", 1.0) if float(np.median(values)) >= 0.3 else ("ms", 1e-3)
