"""The breakdown figure: where each pipeline stage's step goes, and what fills its HBM."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.breakdown import CATEGORIES, computing, per_class
from scaleout.evaluate.event import Recording
from scaleout.parallel import KINDS
from scaleout.report.style import COLOURS, HATCHES, MEMORY_COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.result import PART_WORDS, Result
from scaleout.training.memory import stage_peaks
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["BreakdownTable", "breakdown_table", "draw_breakdown", "stacked_bars"]

_MOST_BARS = 32
_WORDS = {name: PART_WORDS[name] for name in ("imbalance", "bubble")}


@dataclass(frozen=True, slots=True)
class BreakdownTable:
    """What the figure shows.

    Parameters
    ----------
    labels
        Of each bar.
    seconds
        Time by category [s], shape (bars, categories).
    memory
        HBM by kind at the peak [byte], shape (bars, kinds).
    capacity
        HBM of a chip [byte].
    band
        Error band of the step time, to either side [s].
    left_out
        Classes that have no bar.
    """

    title: str
    labels: tuple[str, ...]
    seconds: Floats
    memory: Floats
    capacity: float
    band: float
    left_out: int


def breakdown_table(result: Result, recording: Recording) -> BreakdownTable:
    """One bar a class of ranks, at most 32, evenly spread over the classes, the busiest among them."""
    wiring = recording.wiring
    shown = np.linspace(0, wiring.classes - 1, min(wiring.classes, _MOST_BARS)).round().astype(int)
    if wiring.classes > _MOST_BARS:
        # the busiest class is the one that the others wait for
        busiest = int(computing(recording).argmax())
        shown[np.abs(shown - busiest).argmin()] = busiest
    peaks = stage_peaks(recording.job)
    stages = [recording.class_stage(int(cls)) for cls in shown]
    several = len(set(stages)) < len(stages)
    labels = [
        f"{stage} ({recording.class_words(int(cls))})" if several else f"{stage}"
        for stage, cls in zip(stages, shown, strict=True)
    ]
    return BreakdownTable(
        title=f"{result.name}: {describe(result.step_time, 's')} {result.error_band} a step, MFU {result.mfu:.1%}",
        labels=tuple(labels),
        seconds=per_class(recording, shown.tolist()) / TICKS_PER_SECOND,
        memory=np.array([[peaks[stage][kind] for kind in KINDS] for stage in stages]),
        capacity=result.memory.capacity,
        band=result.error_band.relative * result.step_time,
        left_out=wiring.classes - len(shown),
    )


def draw_breakdown(table: BreakdownTable) -> "Figure":
    """Two panels that share their bars: time [s] and HBM [GB] of each pipeline stage."""
    with house_style():
        return _draw(table)


def _draw(table: BreakdownTable) -> "Figure":
    bars = len(table.labels)
    figure = new_figure(PRINT_WIDTH, 2.0 + 0.19 * bars)
    scale, unit = (1.0, "s") if table.seconds.sum(axis=1).max() >= 1.0 else (1e3, "ms")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1.0))
    headline(figure, table.title)
    stacked_bars(left, table.seconds * scale, CATEGORIES, COLOURS, f"time of one step [{unit}]", columns=3)
    step, band = table.seconds.sum(axis=1).max() * scale, table.band * scale
    left.errorbar(step, -0.75, xerr=band, fmt="none", ecolor="black", elinewidth=1.0, capsize=3)
    left.text(max(0.0, step - band), -0.75, "error band  ", ha="right", va="center", fontsize=7.5)
    stacked_bars(right, table.memory / 1e9, KINDS, MEMORY_COLOURS, "HBM at its peak, one chip [GB]", columns=2)
    right.axvline(table.capacity / 1e9, color="black", linestyle="--", linewidth=1.0)
    right.text(
        table.capacity / 1e9, -0.75, f"capacity {table.capacity / 1e9:.0f} GB ", ha="right", va="center", fontsize=7.5
    )
    right.set_xlim(0, max(table.capacity, table.memory.sum(axis=1).max()) / 1e9 * 1.04)
    left.set_yticks(range(bars), table.labels, fontsize=7.5)
    left.set_ylabel("pipeline stage")
    left.set_ylim(bars - 0.4, -1.1)
    if table.left_out:
        left.annotate(
            f"{table.left_out} more classes of ranks are not shown", (0, 0), xycoords="axes fraction",
            xytext=(0, -38), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    return figure


def stacked_bars(
    ax: "Axes",
    rows: Floats,
    names: tuple[str, ...],
    colours: dict[str, str],
    xlabel: str,
    band: Floats | None = None,
    columns: int = 4,
) -> None:
    """Stacked horizontal bars; parts that are nowhere to be seen get no entry in the legend.

    `band` is how far the end of each bar may be off, to either side; `columns` are those of the legend.
    """
    position, start = np.arange(len(rows)), np.zeros(len(rows))
    whole = rows.sum(axis=1).max()
    for index, name in enumerate(names):
        part = rows[:, index]
        if part.max() > whole * 1e-4:
            words = _WORDS.get(name, name.replace("exposed_", "waiting for "))
            ax.barh(
                position, part, left=start, height=0.82, color=colours[name], hatch=HATCHES.get(colours[name]),
                label=words, linewidth=0,
            )  # fmt: skip
        start = start + part
    if band is not None:
        ax.errorbar(start, position, xerr=band, fmt="none", ecolor="black", elinewidth=1.0, capsize=2.5)
    ax.set_xlabel(xlabel)
    ax.tick_params(axis="y", length=0)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=columns, fontsize=7.5, handlelength=1.4, columnspacing=1.0,
        borderpad=0.2,
    )  # fmt: skip
