"""The memory figure: what fills the HBM of pipeline stages over a step."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.hbm import ledger
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.event import Recording
from scaleout.report.style import MEMORY_COLOURS, house_style, new_figure
from scaleout.result import Result
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MemoryTable", "StageMemory", "draw_memory", "memory_table"]

_MOST_STAGES = 4
_MOST_STEPS = 2000
"""Changes that a curve shows; beyond, the largest of each bin."""


@dataclass(frozen=True, slots=True, eq=False)
class StageMemory:
    """HBM of one chip of a stage over time.

    Parameters
    ----------
    label
        The stage, and the rank that stands for it.
    time
        From when on [s], shape (changes,); the last is the end of the step.
    held
        By kind from then on [byte], shape (changes, kinds).
    """

    label: str
    time: Floats
    held: Floats

    @property
    def peak(self) -> float:
        """Largest sum of all kinds [byte]."""
        return float(self.held.sum(axis=1).max())


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTable:
    """What the figure shows: kinds of memory, capacity of a chip [byte], and a row a stage."""

    title: str
    kinds: tuple[str, ...]
    capacity: float
    stages: tuple[StageMemory, ...]


def memory_table(result: Result, recording: Recording) -> MemoryTable:
    """HBM over time of the fullest stage, the first, the last, and one between.

    Of a stage whose ranks are not all alike, the class of its lowest rank is shown.
    """
    job, wiring = recording.job, recording.wiring
    programs = [recording.class_program(cls) for cls in range(wiring.classes)]
    known = sorted(set(programs))
    chosen = {result.memory.stage, known[0], known[-1], known[len(known) // 2]} & set(known)
    rows = []
    for program in sorted(chosen)[:_MOST_STAGES]:
        cls = programs.index(program)
        book = ledger(job.programs[program], job.static[program], job.memory_kinds, recording.timeline.classes[cls])
        end = recording.timeline.end
        time, held = _thinned(book.time / TICKS_PER_SECOND, book.held, end / TICKS_PER_SECOND)
        rows.append(StageMemory(f"stage {program} ({recording.class_words(cls)})", time, held))
    return MemoryTable(
        title=f"{result.name}: HBM of one chip over a step of {describe(result.step_time, 's')}",
        kinds=tuple(job.memory_kinds),
        capacity=result.memory.capacity,
        stages=tuple(rows),
    )


def _thinned(time: Floats, held: Floats, end: float) -> tuple[Floats, Floats]:
    """Changes at distinct times, the fullest of each bin where there are too many; then the end."""
    last = np.append(np.diff(time) > 0, True)
    time, held = time[last], held[last]
    if len(time) > _MOST_STEPS:
        bins = np.minimum((time / end * _MOST_STEPS).astype(int), _MOST_STEPS - 1) if end else np.zeros(len(time), int)
        total = held.sum(axis=1)
        order = np.lexsort((-total, bins))
        first = order[np.append(True, np.diff(bins[order]) > 0)]
        time, held = time[np.sort(first)], held[np.sort(first)]
    return np.append(time, end), np.concatenate((held, held[-1:]))


def draw_memory(table: MemoryTable) -> "Figure":
    """One panel a stage: kinds of memory stacked [GB] over time [s], and the capacity of the chip."""
    with house_style():
        rows = len(table.stages)
        figure = new_figure(11.0, 1.6 + 1.9 * rows)
        axes = figure.subplots(rows, 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        figure.suptitle(table.title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        for ax, stage in zip(axes, table.stages, strict=True):
            _stack(ax, stage, table)
        axes[-1].set_xlabel("time [s]")
        top = max(table.capacity, *(stage.peak for stage in table.stages)) / 1e9
        axes[0].set_ylim(0, top * 1.12)
        axes[0].set_xlim(0, max(float(stage.time[-1]) for stage in table.stages) or 1.0)
        handles, names = axes[0].get_legend_handles_labels()
        figure.legend(handles[::-1], names[::-1], loc="outside right upper", fontsize=9)
        return figure


def _stack(ax: "Axes", stage: StageMemory, table: MemoryTable) -> None:
    """The panel of one stage; kinds that hold nothing anywhere have no entry in the legend."""
    highest = np.max([other.held.max(axis=0) for other in table.stages], axis=0)
    moving = np.max([np.ptp(other.held, axis=0) for other in table.stages], axis=0) > 0
    floor = np.zeros(len(stage.time))
    # what stays lies at the bottom
    for at in np.argsort(moving, kind="stable").tolist():
        if not highest[at]:
            continue
        kind, top = table.kinds[at], floor + stage.held[:, at] / 1e9
        ax.fill_between(stage.time, floor, top, step="post", color=MEMORY_COLOURS[kind], linewidth=0, label=kind)
        floor = top
    ax.axhline(table.capacity / 1e9, color="black", linestyle="--", linewidth=1.0)
    at = int(stage.held.sum(axis=1).argmax())
    ax.plot(stage.time[at], stage.peak / 1e9, marker="v", color="black", markersize=5)
    ax.set_title(
        f"{stage.label}: peak {stage.peak / 1e9:.1f} of {table.capacity / 1e9:.0f} GB", loc="left", fontsize=10
    )
    ax.set_ylabel("HBM [GB]")
