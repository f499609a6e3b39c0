"""A collective over sizes: the table of nccl-tests with what bounds each row, and bus bandwidth as a figure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.arrays import Floats
from scaleout.collective import CollectiveTable, bus_factor
from scaleout.report.style import GROUP_COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))

__all__ = ["BandwidthCurves", "bandwidth_curves", "collective_tables", "draw_bandwidth", "size_words"]


def size_words(nbytes: float) -> str:
    """A size by powers of 1,024.

    >>> size_words(8.0), size_words(65536.0), size_words(1e9)
    ('8 B', '64 KiB', '953.7 MiB')
    """
    power = min(4, int(np.log2(nbytes) / 10)) if nbytes >= 1 else 0
    return f"{nbytes / 1024**power:.4g} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"


def collective_tables(table: CollectiveTable, wall_time: float) -> RenderableType:
    """A row a size: size, time, both bandwidths, algorithm, bottleneck; then every candidate where asked for."""
    shown = Table(box=None, pad_edge=False)
    for name in ("size", "time", "algbw [GB/s]", "busbw [GB/s]"):
        shown.add_column(name, justify="right", no_wrap=True)
    for name in ("algorithm", "bound by", "bottleneck link"):
        shown.add_column(name, no_wrap=True)
    phases = any(row.phases is not None for row in table.rows)
    if phases:
        shown.add_column("by phases", justify="right", no_wrap=True)
    for row in table.rows:
        shown.add_row(
            size_words(row.bytes),
            describe(row.time, "s"),
            f"{row.algbw / 1e9:.2f}",
            f"{row.busbw / 1e9:.2f}",
            row.algorithm,
            row.bound_by,
            escape(row.bottleneck),
            *([describe(row.phases or 0.0, "s")] if phases else []),
        )
    parts: list[RenderableType] = [Text(table.name, style="bold"), shown]
    if table.rows[0].candidates:
        title = "Time of every candidate" + (" (what NCCL's tuner takes it for)" if table.rows[0].tuner else "")
        parts += ["", Text(title, style="bold"), _candidates(table)]
    parts += [
        "",
        *(escape(note) for note in table.notes),
        f"evaluator {table.evaluator}, simulated in {describe(wall_time, 's')}",
    ]
    return Group(*parts)


def _candidates(table: CollectiveTable) -> Table:
    """A column a candidate; the chosen one of each size in bold."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("size", justify="right", no_wrap=True)
    names = list(table.rows[0].candidates)
    for name in names:
        shown.add_column(name, justify="right", no_wrap=True)
    for row in table.rows:
        cells = []
        for name in names:
            words = describe(row.candidates[name], "s")
            words = f"[bold]{words}[/]" if name == row.algorithm else words
            cells.append(words + (f" ({describe(row.tuner[name], 's')})" if name in row.tuner else ""))
        shown.add_row(size_words(row.bytes), *cells)
    return shown


@dataclass(frozen=True, slots=True)
class BandwidthCurves:
    """What the figure shows.

    Parameters
    ----------
    title
        Above it.
    size
        Of each row [byte], shape (rows,).
    chosen
        Bus bandwidth of what was chosen [byte/s], shape (rows,).
    others
        Of every candidate, by name [byte/s].
    measured
        Sizes [byte] and bus bandwidths [byte/s] by source, shape (points, 2).
    """

    title: str
    size: Floats
    chosen: Floats
    others: dict[str, Floats]
    measured: dict[str, Floats]


def bandwidth_curves(table: CollectiveTable, measured: Sequence[tuple[str, int, float, float]] = ()) -> BandwidthCurves:
    """Bus bandwidth by size.

    Parameters
    ----------
    measured
        Source, chips, size [byte] and time [s] of measurements; those on as many chips are laid over.
    """
    rows = [row for row in table.rows if row.bytes]
    factor = bus_factor(table.operation, table.chips)
    points: dict[str, list[tuple[float, float]]] = {}
    for source, chips, size, seconds in measured:
        if chips != table.chips:
            continue
        points.setdefault(source, []).append((size, size / seconds * factor))
    names = list(rows[0].candidates) if rows else []
    return BandwidthCurves(
        title=f"{table.name}, {table.evaluator}",
        size=np.array([row.bytes for row in rows]),
        chosen=np.array([row.busbw for row in rows]),
        others={name: np.array([row.bytes / row.candidates[name] * factor for row in rows]) for name in names},
        measured={source: np.array(sorted(found)) for source, found in sorted(points.items())},
    )


def draw_bandwidth(curves: BandwidthCurves) -> "Figure":
    """Bus bandwidth [GB/s] over size; candidates thin, the chosen one thick, measured points on top."""
    with house_style():
        figure = new_figure(PRINT_WIDTH, 4.2)
        ax = figure.subplots()
        # a line through one point would not be seen
        dot = "o" if len(curves.size) == 1 else None
        for index, (name, values) in enumerate(curves.others.items()):
            # dashes change faster than colours do, for print in black and white
            style, colour = _DASHES[index % len(_DASHES)], GROUP_COLOURS[index % len(GROUP_COLOURS)]
            ax.plot(curves.size, values / 1e9, marker=dot, linestyle=style, color=colour, linewidth=1.0, label=name)
        ax.plot(
            curves.size, curves.chosen / 1e9, marker=dot, color="black", linewidth=2.0, label="simulated", zorder=3
        )  # fmt: skip
        for index, (source, points) in enumerate(curves.measured.items()):
            marker = "os^Dv<>p"[index % 8]
            ax.plot(
                points[:, 0], points[:, 1] / 1e9, marker, color=GROUP_COLOURS[(index + 1) % len(GROUP_COLOURS)],
                markersize=4.5, markerfacecolor="none", label=f"measured: {source}", zorder=4,
            )  # fmt: skip
        ax.set_xscale("log", base=2)
        ticks = curves.size[:: max(1, len(curves.size) // 9)]
        ax.set_xticks(ticks, [size_words(size) for size in ticks.tolist()], rotation=30, ha="right")
        ax.minorticks_off()
        ax.set_ylim(0)
        ax.set_xlabel("size of the buffer [byte]")
        ax.set_ylabel("bus bandwidth [GB/s]")
        headline(figure, curves.title)
        figure.legend(loc="outside right upper", fontsize=7.5)
        return figure
