"""Figures of a result of serving: how its times are distributed, and what goes on over time."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, house_style, new_figure
from scaleout.served import CURVE, Band, Course, Served, Spread
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Curves", "draw_course", "draw_latency", "latency_curves"]

_PROMISE = "#000000"
_TOGETHER = 4
"""Stretches of a course over which rates are averaged."""
_SHORTEST = 1e-6
"""What is shorter is drawn as this, since the axis is logarithmic [s]."""


class Curves(NamedTuple):
    """One panel: distributions of times [s] at the shares of `CURVE`, and what is promised.

    Parameters
    ----------
    title
        Of the axis.
    curves
        Name -> times.
    limit, kept
        What is promised [s], and the share that kept it [1]; None without a promise.
    """

    title: str
    curves: dict[str, Floats]
    limit: float | None
    kept: float | None


def latency_curves(result: Served) -> list[Curves]:
    """Panels of the figure of times; what there is none of is left out."""
    slo = result.experiment["slo"]

    def panel(title: str, name: str, spreads: dict[str, Spread]) -> Curves:
        curves = {
            words: np.maximum(np.array(spread.curve), _SHORTEST) for words, spread in spreads.items() if spread.count
        }
        kept = 1.0 - result.missed[name] if name in result.missed else None
        return Curves(title, curves, slo.get(name), kept)

    return [
        panel("time to the first token [s]", "ttft", {"TTFT": result.ttft, "of which queue": result.queue}),
        panel("time of a token [s]", "tpot", {"TPOT, of a request": result.tpot, "ITL, between two": result.gap}),
    ]


def draw_latency(result: Served) -> "Figure":
    """Cumulative distributions of TTFT and TPOT, with what is promised."""
    panels = latency_curves(result)
    share = result.experiment["slo"]["share"]
    with house_style():
        figure = new_figure(8.0, 3.6)
        _place(figure, left=0.075, right=0.985, bottom=0.13, top=0.74, wspace=0.06)
        axes = figure.subplots(1, 2, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            for at, (name, times) in enumerate(panel.curves.items()):
                # nobody is below the least; it is not known, so the curve begins at its first share
                ax.step(
                    times, np.array(CURVE) * 100.0, where="post", color=GROUP_COLOURS[0] if not at else OTHER_COLOUR,
                    linestyle="-" if not at else "--", label=name, zorder=3 - at,
                )  # fmt: skip
            if panel.limit is not None:
                ax.axvline(panel.limit, color=_PROMISE, linewidth=1.2, label=f"promised: {describe(panel.limit, 's')}")
                ax.axhline(share * 100.0, color=_PROMISE, linewidth=0.8, linestyle=":", label=f"for {share:.0%}")
                ax.set_title(f"{panel.kept:.1%} of all keep it", color=_PROMISE, loc="right", fontweight="normal")
            ax.set_xscale("log")
            _log_limits(ax, panel)
            ax.set_xlabel(panel.title)
            ax.grid(visible=True, which="major", color="#EEEEEE", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.08), ncols=2, fontsize=8)
        axes[0].set_ylim(0.0, 101.0)
        axes[0].set_ylabel("requests or tokens [%]")
        figure.suptitle(_title(result), fontsize=10, fontweight="bold", x=0.01, y=0.99, ha="left", va="top")
        return figure


def _log_limits(ax: "Axes", panel: Curves) -> None:
    """From the bulk of the times to the last of them and the promise."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    times = [times for times in panel.curves.values() if len(times)]
    if not times:
        ax.set_xlim(1e-3, 1.0)
        return
    low, high = times[0][0] / 1.5, max(one[-1] for one in times) * 1.3
    if panel.limit is not None:
        low, high = min(low, panel.limit / 1.5), max(high, panel.limit * 1.3)
    low = min(low, high / 3.0)
    ax.set_xlim(low, high)
    # 1, 2 and 5 of each decade, or the decades alone
    steps = (1.0, 2.0, 5.0) if high / low < 300.0 else (1.0,)
    ax.xaxis.set_major_locator(LogLocator(subs=steps))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.xaxis.set_minor_locator(NullLocator())


def _place(figure: "Figure", **edges: float) -> None:
    """Panels at fixed places: labels of these figures are of known size, and finding out takes half a second."""
    figure.set_layout_engine(None)
    figure.subplots_adjust(**edges)


def _title(result: Served) -> str:
    return f"{result.name}, {result.requests_per_second:,.3g} requests/s"


def draw_course(result: Served) -> "Figure":
    """Requests, batches, queue and KV cache over time; of several replicas the mean and the range."""
    course = result.course
    with house_style():
        figure = new_figure(8.0, 7.0)
        _place(figure, left=0.115, right=0.97, bottom=0.065, top=0.92, hspace=0.28)
        axes = figure.subplots(4, 1, sharex=True)
        scale, unit = _unit(course)
        time = np.array(course.time) / scale
        for label, values, colour in (("came", course.came, OTHER_COLOUR), ("ended", course.ended, GROUP_COLOURS[0])):
            _stairs(axes[0], time[::_TOGETHER], _joined(values), label, colour)
        axes[0].set_ylabel("requests\n[1/s]")
        _legend(axes[0], 2)
        _bands(axes[1], time, course, "running", 1.0)
        axes[1].set_ylabel("sequences in a\nreplica's batch")
        _stairs(axes[2], time, course.waiting, "without a seat, of all replicas", GROUP_COLOURS[4], fill=True)
        axes[2].set_ylabel("requests\nwaiting")
        axes[2].set_ylim(0.0, max(1.0, 1.1 * max(course.waiting, default=0.0)))
        _bands(axes[3], time, course, "cache", 100.0)
        axes[3].set_ylabel("KV cache in\nuse [%]")
        top = 100.0 * max((max(pool.cache.high, default=0.0) for pool in course.pools), default=0.0)
        axes[3].set_ylim(0.0, 105.0 if top > 50.0 else max(1.0, 1.15 * top))
        if top > 50.0:
            axes[3].axhline(100.0, color="#000000", linewidth=0.6)
        axes[3].set_xlabel(f"time since the first arrival [{unit}]")
        for ax in axes:
            ax.set_xlim(time[0], time[-1])
            ax.set_ylim(bottom=0.0)
            ax.grid(visible=True, color="#EEEEEE", linewidth=0.6)
            ax.set_axisbelow(True)
            ax.yaxis.set_label_coords(-0.075, 0.5)
        figure.suptitle(_title(result), fontsize=10, fontweight="bold", x=0.01, y=0.99, ha="left", va="top")
        return figure


def _unit(course: Course) -> tuple[float, str]:
    """A unit of time in which the axis has small numbers [s]."""
    end = course.time[-1]
    return next(((size, name) for size, name in ((3600.0, "h"), (60.0, "min")) if end > 10.0 * size), (1.0, "s"))


def _stairs(ax: "Axes", time: Floats, values: Sequence[float], label: str, colour: str, *, fill: bool = False) -> None:
    ax.stairs(values, time, color=colour, label=label, fill=fill, linewidth=1.2)


def _joined(values: Sequence[float]) -> list[float]:
    """Means over a few stretches each, as single requests make rates jump."""
    means: list[float] = np.array(values).reshape(-1, _TOGETHER).mean(axis=1).tolist()
    return means


def _bands(ax: "Axes", time: Floats, course: Course, name: str, factor: float) -> None:
    """Mean over the replicas of each pool, and the range of them."""
    for at, pool in enumerate(course.pools):
        band: Band = getattr(pool, name)
        colour = GROUP_COLOURS[at % len(GROUP_COLOURS)]
        words = {"both": "", "prefill": "prefill, ", "decode": "decode, "}[pool.role]
        words += f"mean of {pool.replicas}, least and most" if pool.replicas > 1 else "one replica"
        mean, low, high = (np.array(one) * factor for one in (band.mean, band.low, band.high))
        if pool.replicas > 1:
            ax.stairs(high, time, baseline=low, fill=True, color=colour, alpha=0.2, linewidth=0)
        ax.stairs(mean, time, color=colour, label=words, linewidth=1.2, baseline=None)
    _legend(ax, len(course.pools))


def _legend(ax: "Axes", columns: int) -> None:
    ax.legend(loc="lower right", bbox_to_anchor=(1.0, 0.97), ncols=min(columns, 3), fontsize=8, borderaxespad=0.0)
