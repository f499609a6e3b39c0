"""The pipeline diagram: a row for each stage, a box for each pass of a micro-batch, grey where nothing runs."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from scaleout.engine.program import COMPUTE, RECEIVE, SEND, STREAMS, TICKS_PER_SECOND
from scaleout.errors import SpecError
from scaleout.evaluate.event import Recording
from scaleout.report.style import COLOURS, PASS_COLOURS, house_style, new_figure
from scaleout.training.schedules import KINDS_OF_PASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Box", "PipelineTable", "draw_pipeline", "pipeline_table"]

_PASS = re.compile(r"([FBIW])(\d+)(?:\.(\d+))?")
_DP = STREAMS.index("dp")
_WIDTHS = (9.0, 24.0)
"""Of the figure, at least and at most [inch]."""
_LETTER = 0.62
"""Width of a digit over the size of its font [1]."""
_SIZES = (4.0, 8.0)
"""Of the font in boxes, at least and at most [point]."""
_MOST_WORDS = 8000


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
    with house_style():
        return _draw(table)


def _draw(table: PipelineTable) -> "Figure":
    from matplotlib.collections import PolyCollection
    from matplotlib.patches import Patch

    scale, unit = (1.0, "s") if table.end >= 1.0 else (1e3, "ms")
    longest = max(sum(box.row == row for box in table.boxes) for row in range(table.rows))
    width = float(np.clip(0.14 * longest, *_WIDTHS))
    row_height = 0.3 if table.rows <= 16 else 0.2
    figure = new_figure(width, 1.3 + row_height * table.rows)
    ax = figure.subplots()
    if table.title:
        figure.suptitle(table.title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    end = table.end * scale
    ax.barh(range(table.rows), end, height=0.86, color=COLOURS["bubble"], linewidth=0)
    corners, colours = [], []
    for box in table.boxes:
        top, bottom = (box.row - 0.43, box.row + 0.43) if not box.half else (box.row - 0.43, box.row)
        if box.half == 2:
            top, bottom = box.row, box.row + 0.43
        left, right = box.start * scale, box.end * scale
        corners.append([(left, top), (right, top), (right, bottom), (left, bottom)])
        colours.append(_colour(box, table.chunks))
    ax.add_collection(PolyCollection(corners, facecolors=colours, edgecolors="white", linewidths=0.3))
    _number(ax, table, scale, (width - 1.0) / end)
    ax.set_xlim(0, end)
    ax.set_ylim(table.rows - 0.5, -0.5)
    ax.set_yticks(range(table.rows), [str(row) for row in range(table.rows)])
    ax.tick_params(axis="y", length=0)
    ax.set_ylabel("pipeline stage")
    ax.set_xlabel(f"time [{unit}]")
    ax.spines["left"].set_visible(False)
    used = {box.kind for box in table.boxes}
    entries = [Patch(color=PASS_COLOURS[kind], label=words) for kind, words in KINDS_OF_PASS.items() if kind in used]
    entries.append(Patch(color=PASS_COLOURS[""], label="optimizer"))
    idle = sum(table.idle(row) for row in range(table.rows)) / table.rows
    entries.append(Patch(color=COLOURS["bubble"], label=f"nothing runs ({idle:.1%})"))
    words = "paler: later chunks" if table.chunks > 1 else None
    ax.legend(
        handles=entries, title=words, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=6, fontsize=8, title_fontsize=8,
        handlelength=1.0, columnspacing=1.0, alignment="left",
    )  # fmt: skip
    return figure


def _colour(box: Box, chunks: int) -> tuple[float, ...]:
    """Of its kind; later chunks are paler."""
    from matplotlib.colors import to_rgb

    if not box.kind:
        return to_rgb(PASS_COLOURS[""])
    pale = 0.6 * box.chunk / max(1, chunks - 1)
    return tuple(part + (1.0 - part) * pale for part in to_rgb(PASS_COLOURS[box.kind]))


def _number(ax: "Axes", table: PipelineTable, scale: float, inches: float) -> None:
    """Numbers of micro-batches where they can be read, in the size that half of the boxes have room for."""
    shown = [box for box in table.boxes if box.kind]
    # 72 points an inch; room for one letter more than there is
    room = [(box.end - box.start) * scale * inches * 72 / (len(str(box.micro_batch)) + 0.6) / _LETTER for box in shown]
    size = float(np.clip(np.median(room), *_SIZES))
    if len(shown) > _MOST_WORDS:
        return
    for box, most in zip(shown, room, strict=True):
        if most < _SIZES[0]:
            continue
        middle = box.row + (0.0, -0.215, 0.215)[box.half]
        dark = sum(_colour(box, table.chunks)) < 1.5
        ax.text(
            (box.start + box.end) / 2 * scale, middle, str(box.micro_batch), ha="center", va="center_baseline",
            fontsize=min(size, most, 6.0 if box.half else size), color="white" if dark else "black", clip_on=True,
        )  # fmt: skip
