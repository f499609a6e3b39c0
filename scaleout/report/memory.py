"""Memory figures: what fills the HBM of pipeline stages over a step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.hbm import ledger
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import SpecError
from scaleout.evaluate.event import Recording
from scaleout.report.style import HATCHES, MEMORY_COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.result import Result
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MemoryTable", "StageMemory", "draw_memories", "draw_memory", "memory_table"]

_MOST_STAGES = 4
_MOST_STEPS = 2000


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


def memory_table(
    result: Result,
    recording: Recording,
    *,
    stages: Sequence[int] | None = None,
    title: str | None = None,
    most: int = _MOST_STEPS,
) -> MemoryTable:
    """HBM over time of some stages.

    Of a stage whose ranks are not all alike, the class of its lowest rank is shown.

    Parameters
    ----------
    stages
        By number, negative ones from the last; None is the fullest, the first, the last, and one between.
    title
        Instead of the name of the result.
    most
        Changes that a curve shows; beyond, the largest of each bin.

    Raises
    ------
    SpecError
        A stage that there is not.
    """
    job, wiring = recording.job, recording.wiring
    programs = [recording.class_program(cls) for cls in range(wiring.classes)]
    known = sorted(set(programs))
    if stages is None:
        chosen = {result.memory.stage, known[0], known[-1], known[len(known) // 2]} & set(known)
    elif wrong := [stage for stage in stages if not -len(known) <= stage < len(known)]:
        raise SpecError(f"memory: there is no stage {wrong[0]}; stages are 0 to {len(known) - 1}")
    else:
        chosen = {known[stage] for stage in stages}
    rows = []
    for program in sorted(chosen)[:_MOST_STAGES]:
        cls = programs.index(program)
        book = ledger(job.programs[program], job.static[program], job.memory_kinds, recording.timeline.classes[cls])
        end = recording.timeline.end
        time, held = _thinned(book.time / TICKS_PER_SECOND, book.held, end / TICKS_PER_SECOND, most)
        rows.append(StageMemory(f"stage {program} ({recording.class_words(cls)})", time, held))
    return MemoryTable(
        title=f"{result.name}: HBM of one chip over a step of {describe(result.step_time, 's')}"
        if title is None
        else title,
        kinds=tuple(job.memory_kinds),
        capacity=result.memory.capacity,
        stages=tuple(rows),
    )


def _thinned(time: Floats, held: Floats, end: float, most: int) -> tuple[Floats, Floats]:
    """Changes at distinct times, the fullest of each bin where there are too many; then the end."""
    last = np.append(np.diff(time) > 0, True)
    time, held = time[last], held[last]
    if len(time) > most:
        bins = np.minimum((time / end * most).astype(int), most - 1) if end else np.zeros(len(time), int)
        total = held.sum(axis=1)
        order = np.lexsort((-total, bins))
        first = order[np.append(True, np.diff(bins[order]) > 0)]
        time, held = time[np.sort(first)], held[np.sort(first)]
    return np.append(time, end), np.concatenate((held, held[-1:]))


def draw_memory(table: MemoryTable) -> "Figure":
    """One panel a stage: kinds of memory stacked [GB] over time [s or ms], and the capacity of the chip."""
    return _draw([table], 1.6 + 1.4 * len(table.stages), table.title)


def draw_memories(tables: Sequence[MemoryTable], title: str) -> "Figure":
    """A column a step, a row a stage, all on the same axes.

    Raises
    ------
    SpecError
        There is no step, or they differ in how many stages are shown.
    """
    if len({len(table.stages) for table in tables}) != 1:
        raise SpecError("memory: give at least one step, and the same number of stages of each")
    return _draw(tables, 1.4 + 1.5 * len(tables[0].stages), title)


def _draw(tables: Sequence[MemoryTable], height: float, title: str) -> "Figure":
    rows, columns = len(tables[0].stages), len(tables)
    stages = [stage for table in tables for stage in table.stages]
    end = max(float(stage.time[-1]) for stage in stages)
    scale, unit = (1.0, "s") if end >= 1.0 or not end else (1e3, "ms")
    shown = _shown(tables)
    with house_style():
        figure = new_figure(PRINT_WIDTH, height)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        headline(figure, title)
        for column, table in enumerate(tables):
            for row, stage in enumerate(table.stages):
                ax = axes[row, column]
                _stack(ax, stage, table, shown, scale)
                head = f"{table.title}\n" if columns > 1 and not row else ""
                ax.set_title(f"{head}{_words(stage, table, columns > 1)}", fontsize=8)
        for ax in axes[:, 0]:
            ax.set_ylabel("HBM [GB]", fontsize=8)
        for ax in axes[-1]:
            ax.set_xlabel(f"time [{unit}]", fontsize=8)
        for ax in axes.ravel():
            ax.tick_params(labelsize=7.5)
        top = max(*(table.capacity for table in tables), *(stage.peak for stage in stages)) / 1e9
        axes[0, 0].set_ylim(0, top * 1.12)
        axes[0, 0].set_xlim(0, end * scale or 1.0)
        handles, names = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles[::-1], names[::-1], loc="outside lower left", ncols=min(8, len(names)), fontsize=7.5,
            handlelength=1.4, columnspacing=1.2,
        )  # fmt: skip
        return figure


def _words(stage: StageMemory, table: MemoryTable, short: bool) -> str:
    """Above a panel."""
    name = stage.label.split(" (")[0] if short else stage.label
    return f"{name}: peak {stage.peak / 1e9:.1f} of {table.capacity / 1e9:.0f} GB"


def _shown(tables: Sequence[MemoryTable]) -> list[str]:
    """Kinds that hold something anywhere, what stays at the bottom."""
    moving: dict[str, bool] = {}
    for table in tables:
        for at, kind in enumerate(table.kinds):
            held = [stage.held[:, at] for stage in table.stages]
            if any(part.any() for part in held):
                moving[kind] = moving.get(kind, False) or any(float(np.ptp(part)) > 0.0 for part in held)
    return sorted(moving, key=lambda kind: moving[kind])


def _stack(ax: "Axes", stage: StageMemory, table: MemoryTable, shown: Sequence[str], scale: float) -> None:
    """The panel of one stage."""
    time, floor = stage.time * scale, np.zeros(len(stage.time))
    for kind in shown:
        top = floor + (stage.held[:, table.kinds.index(kind)] / 1e9 if kind in table.kinds else 0.0)
        colour = MEMORY_COLOURS[kind]
        # what stays is two corners; a file with every one of them would be large
        turns = (np.diff(floor, prepend=-1.0) != 0.0) | (np.diff(top, prepend=-1.0) != 0.0)
        turns[-1] = True
        ax.fill_between(
            time[turns], floor[turns], top[turns], step="post", facecolor=colour, hatch=HATCHES.get(colour),
            linewidth=0, label=kind,
        )  # fmt: skip
        floor = top
    ax.axhline(table.capacity / 1e9, color="black", linestyle="--", linewidth=1.0, label="capacity")
    at = int(stage.held.sum(axis=1).argmax())
    ax.plot(time[at], stage.peak / 1e9, marker="v", color="black", markersize=5, linestyle="", label="peak")
