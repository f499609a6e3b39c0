"""Pipeline diagrams: a row for each stage, a box for each pass of a micro-batch, grey where nothing runs."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS, TICKS_PER_SECOND
from scaleout.errors import SpecError
from scaleout.evaluate.event import Recording
from scaleout.report.style import COLOURS, LEAST_FONT, PASS_COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.training.schedules import KINDS_OF_PASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

__all__ = ["Box", "PipelineTable", "draw_pipeline", "draw_pipelines", "pipeline_table"]

_PASS = re.compile(r"([FBIW])(\d+)(?:\.(\d+))?")
_DP = STREAMS.index("dp")
_WIDTHS = (PRINT_WIDTH, 24.0)
"""Of the figure, at least and at most [inch]."""
_LETTER = 0.62
"""Width of a digit over the size of its font [1]."""
_SIZES = (4.0, 8.0)
"""Of the font in boxes, at least and at most [point]."""
_MOST_WORDS = 8000
_SPARSE = {"B": "//", "I": "...", "W": "xxx"}
"""Hatches that tell kinds of passes apart in black and white."""


class Box(NamedTuple):
    """A pass in time.

    Parameters
    ----------
    row
        Stage.
    start, end
        From its first kernel or collective to its last kernel [s].
    kind, micro_batch, chunk
        Of the pass; kind "" is the optimizer.
    half
        0, or 1 and 2 for the upper and the lower of two passes that are overlapped.
    """

    row: int
    start: float
    end: float
    kind: str
    micro_batch: int
    chunk: int
    half: int


@dataclass(frozen=True, slots=True)
class PipelineTable:
    """What the figure shows.

    Parameters
    ----------
    boxes
        Of all stages, in order of time within each.
    rows, chunks
        How many stages, and chunks a stage.
    end
        Of the step [s].
    """

    title: str
    boxes: tuple[Box, ...]
    rows: int
    chunks: int
    end: float

    def idle(self, row: int) -> float:
        """Share of the step in which a stage runs nothing [1]."""
        busy = sum(box.end - box.start for box in self.boxes if box.row == row and box.half < 2)
        return 1.0 - busy / self.end

    @property
    def bubble(self) -> float:
        """Share of the step in which nothing runs, in the mean of all stages [1]."""
        return sum(self.idle(row) for row in range(self.rows)) / self.rows


def pipeline_table(recording: Recording, title: str = "") -> PipelineTable:
    """Boxes of every stage; of the ranks of a stage, those of the lowest class.

    Raises
    ------
    SpecError
        The programs have no passes.
    """
    first: dict[int, int] = {}
    for cls in range(recording.wiring.classes):
        first.setdefault(recording.class_program(cls), cls)
    boxes = [box for stage in sorted(first) for box in _boxes(recording, stage, first[stage])]
    if not any(box.kind for box in boxes):
        raise SpecError("pipeline: the programs of this recording have no passes to draw")
    return PipelineTable(
        title=title,
        boxes=tuple(boxes),
        rows=len(first),
        chunks=1 + max(box.chunk for box in boxes),
        end=recording.timeline.end / TICKS_PER_SECOND,
    )


def _boxes(recording: Recording, stage: int, cls: int) -> Iterator[Box]:
    job, times = recording.job, recording.timeline.classes[cls]
    program = job.programs[stage]
    # messages between stages and sums of gradients run beside passes
    mine = (program.kind != SEND) & (program.kind != RECEIVE) & (program.stream != _DP)
    kernel = program.kind == COMPUTE
    free = 0
    spans = [(mark.name, mark.first, mark.last) for mark in program.marks]
    low, high = spans[0][1], spans[-1][2]
    for name, begin, end in (("", 0, low - 1), *spans, ("", high + 1, len(program) - 1)):
        here = slice(begin, end + 1)
        if not kernel[here].any():
            continue
        start = max(free, int(times.started[here][mine[here]].min()))
        free = int(times.ended[here][kernel[here]].max())
        found = [(kind, int(m), int(chunk or 0)) for kind, m, chunk in _PASS.findall(name)] or [("", 0, 0)]
        for half, (kind, m, chunk) in enumerate(found, start=len(found) > 1):
            yield Box(stage, start / TICKS_PER_SECOND, free / TICKS_PER_SECOND, kind, m, chunk, half)


def draw_pipeline(table: PipelineTable) -> "Figure":
    """Stages from top to bottom over time [s or ms], passes with the numbers of their micro-batches."""
    longest = max(sum(box.row == row for box in table.boxes) for row in range(table.rows))
    width = float(np.clip(0.14 * longest, *_WIDTHS))
    row_height = 0.3 if table.rows <= 16 else 0.2
    with house_style():
        figure = new_figure(width, 1.3 + row_height * table.rows)
        ax = figure.subplots()
        if table.title:
            headline(figure, table.title)
        _panel(ax, table, width, table.end, _SIZES)
        ax.set_xlabel(f"time [{_scale(table.end)[1]}]")
        ax.set_ylabel("pipeline stage" if table.rows > 2 else "stage")
        words = "paler: later chunks" if table.chunks > 1 else None
        ax.legend(
            handles=_entries([table], f" ({table.bubble:.1%})"), title=words, loc="lower left", bbox_to_anchor=(0, 1.0),
            ncols=6, fontsize=8, title_fontsize=8, handlelength=1.0, columnspacing=1.0, alignment="left",
        )  # fmt: skip
        return figure


def draw_pipelines(tables: Sequence[PipelineTable], title: str) -> "Figure":
    """Several steps below each other on one axis of time [s or ms], each with its title.

    Raises
    ------
    SpecError
        There is no step.
    """
    if not tables:
        raise SpecError("pipeline: there is no step to draw")
    end = max(table.end for table in tables)
    heights = [0.42 + 0.2 * table.rows for table in tables]
    with house_style():
        figure = new_figure(PRINT_WIDTH, 1.1 + sum(heights))
        headline(figure, title)
        axes = figure.subplots(len(tables), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        for ax, table in zip(axes, tables, strict=True):
            _panel(ax, table, PRINT_WIDTH, end, (LEAST_FONT, LEAST_FONT))
            ax.set_title(table.title, fontsize=8)
            ax.tick_params(labelsize=LEAST_FONT)
            ax.set_ylabel("stage", fontsize=8)
        axes[-1].set_xlabel(f"time [{_scale(end)[1]}]", fontsize=8)
        entries = _entries(tables, "")
        words = ", paler: later chunks" if any(table.chunks > 1 for table in tables) else ""
        figure.legend(
            handles=entries, title=f"numbers: micro-batches{words}", loc="outside lower left", ncols=len(entries),
            fontsize=7.5, title_fontsize=7.5, handlelength=1.4, columnspacing=1.2, alignment="left",
        )  # fmt: skip
        return figure


def _scale(end: float) -> tuple[float, str]:
    """What seconds are multiplied by, and the unit that comes of it."""
    return (1.0, "s") if end >= 1.0 else (1e3, "ms")


def _panel(ax: "Axes", table: PipelineTable, width: float, end: float, sizes: tuple[float, float]) -> None:
    """The boxes of a step on an axis that goes to `end` [s] on a figure of this width [inch]."""
    from matplotlib.collections import PolyCollection

    scale, _ = _scale(end)
    ax.barh(range(table.rows), table.end * scale, height=0.86, color=COLOURS["bubble"], linewidth=0)
    for kind in sorted({box.kind for box in table.boxes}):
        corners, colours = [], []
        for box in table.boxes:
            if box.kind != kind:
                continue
            top, bottom = (box.row - 0.43, box.row + 0.43) if not box.half else (box.row - 0.43, box.row)
            if box.half == 2:
                top, bottom = box.row, box.row + 0.43
            left, right = box.start * scale, box.end * scale
            corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
            colours.append(_colour(box, table.chunks))
        ax.add_collection(
            PolyCollection(corners, facecolors=colours, edgecolors="white", linewidths=0.3, hatch=_SPARSE.get(kind))
        )
    _number(ax, table, scale, (width - 1.0) / (end * scale), sizes)
    ax.set_xlim(0, end * scale)
    ax.set_ylim(table.rows - 0.5, -0.5)
    ax.set_yticks(range(table.rows), [str(row) for row in range(table.rows)])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)


def _entries(tables: Sequence[PipelineTable], idle: str) -> "list[Patch]":
    """Of the legend: kinds of passes that are drawn, the optimizer, what nothing runs in."""
    from matplotlib.patches import Patch

    used = {box.kind for table in tables for box in table.boxes}
    entries = [
        Patch(facecolor=PASS_COLOURS[kind], hatch=_SPARSE.get(kind), linewidth=0, label=words)
        for kind, words in KINDS_OF_PASS.items()
        if kind in used
    ]
    entries.append(Patch(color=PASS_COLOURS[""], label="optimizer"))
    entries.append(Patch(color=COLOURS["bubble"], label=f"nothing runs{idle}"))
    return entries


def _colour(box: Box, chunks: int) -> tuple[float, ...]:
    """Of its kind; later chunks are paler."""
    from matplotlib.colors import to_rgb

    if not box.kind:
        return to_rgb(PASS_COLOURS[""])
    pale = 0.6 * box.chunk / max(1, chunks - 1)
    return tuple(part + (1.0 - part) * pale for part in to_rgb(PASS_COLOURS[box.kind]))


def _number(ax: "Axes", table: PipelineTable, scale: float, inches: float, sizes: tuple[float, float]) -> None:
    """Numbers of micro-batches where they can be read, in the size that half of the boxes have room for."""
    shown = [box for box in table.boxes if box.kind]
    # 72 points an inch; room for one letter more than there is
    room = [(box.end - box.start) * scale * inches * 72 / (len(str(box.micro_batch)) + 0.6) / _LETTER for box in shown]
    size = float(np.clip(np.median(room), *sizes))
    if len(shown) > _MOST_WORDS:
        return
    for box, most in zip(shown, room, strict=True):
        if most < sizes[0]:
            continue
        middle = box.row + (0.0, -0.215, 0.215)[box.half]
        colour = _colour(box, table.chunks)
        dark = sum(colour) < 1.5
        # a plain ground: numbers are not to be read through hatches
        ground = (
            {"facecolor": colour, "edgecolor": "none", "pad": 0.4} if box.kind in _SPARSE and not box.half else None
        )
        ax.text(
            (box.start + box.end) / 2 * scale, middle, str(box.micro_batch), ha="center", va="center_baseline",
            fontsize=min(size, most, sizes[0] if box.half else size), color="white" if dark else "black",
            clip_on=True, bbox=ground,
        )  # fmt: skip
