"""Bus bandwidth of all-reduces by size, simulated and measured, on one node and on several of three machines.

Points were published, lines are `scaleout.collective_table`, with what the benchmark's host adds where the system knows
it. Of 2,048 nodes nothing was measured. Constants inside nodes were fitted to other tables (docs/collectives.md), those
of four P6-B200 to two thirds of the table that is shown; no fit saw the two nodes of H200. A collective alone has no
error band: the legend has the median of how far each line is off. Run it as
``python plots/busbw_measured.py [folder]``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats
from scaleout.collective import bus_factor, collective_table, sizes_between
from scaleout.io.catalogue import load
from scaleout.network import machine
from scaleout.report.collective import size_words
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import GROUP_COLOURS, PRINT_WIDTH, headline, house_style, new_figure, render
from scaleout.specs import System

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "busbw_measured"
KIB, MIB, GIB = 2**10, 2**20, 2**30
LOW, HIGH = 32 * KIB, 16 * GIB
"""Sizes that are shown [byte]."""
MLE_A100 = 'stas00/ml-engineering 744d01e, network/README.md, "Real network throughput": nccl-tests, out of place'
DGXC = "NVIDIA/dgxc-benchmarking 46e4201, nccl/README.md: nccl-tests, out of place"
SPC_X = (
    "sdambo-git/spc-x-host-configuration caea84c, README.md: two Dell XE9680 with 8 H200 each and 8 x 400 Gb/s of "
    "Spectrum-X, NCCL 2.30.4, nccl-tests, out of place"
)
MLE_B200 = "stas00/ml-engineering 744d01e, network/README.md, P6-B200: NCCL 2.27.7, all_reduce_bench of PyTorch, on EFA"
NCCL, BENCH = "NCCL", "NCCL 2.27.7 (torch all_reduce_bench)"
"""Libraries, by which a system knows what the host adds."""
MEASURED: dict[tuple[str, int], tuple[str, str, dict[int, float]]] = {
    ("dgx-a100", 8): (MLE_A100, NCCL, {
        32 * KIB: 43.83, 128 * KIB: 51.76, 512 * KIB: 80.4, 2 * MIB: 101.4, 8 * MIB: 133.5, 32 * MIB: 424.0,
        128 * MIB: 1327.6, 512 * MIB: 4218.4, 2 * GIB: 16240.0, 8 * GIB: 64074.0,
    }),
    ("dgx-h100", 8): (DGXC, NCCL, {
        32 * KIB: 19.33, 128 * KIB: 19.89, 512 * KIB: 20.66, 2 * MIB: 42.21, 8 * MIB: 83.04, 32 * MIB: 199.3,
        128 * MIB: 586.4, 512 * MIB: 2151.0, 2 * GIB: 7939.1, 8 * GIB: 31307.0,
    }),
    ("hgx-h200", 16): (SPC_X, NCCL, {
        32 * KIB: 64.93, 128 * KIB: 81.24, 512 * KIB: 80.78, 2 * MIB: 86.37, 8 * MIB: 149.76, 32 * MIB: 276.88,
        128 * MIB: 742.13, 512 * MIB: 2327.12, 2 * GIB: 8497.37, 8 * GIB: 33169.3,
    }),
    ("aws-p6-b200", 8): (MLE_B200, BENCH, {
        32 * KIB: 47.787, 128 * KIB: 47.197, 512 * KIB: 49.038, 2 * MIB: 58.171, 8 * MIB: 116.057, 32 * MIB: 180.14,
        128 * MIB: 413.246, 512 * MIB: 1363.625, 2 * GIB: 5113.265, 8 * GIB: 17915.532,
    }),
    ("aws-p6-b200", 32): (MLE_B200, BENCH, {
        128 * KIB: 564.338, 512 * KIB: 357.679, 2 * MIB: 391.448, 8 * MIB: 462.783, 32 * MIB: 712.926,
        128 * MIB: 1313.766, 512 * MIB: 3181.974, 2 * GIB: 11172.197, 8 * GIB: 43752.46,
    }),
}  # fmt: skip
"""System and chips -> source, library, and size [byte] -> time [us]."""
FITTED = {("aws-p6-b200", 32)}
"""Of `MEASURED`, what constants of the system were fitted to."""
PANELS = {
    "A100": (("dgx-a100", 8),), "H100 and H200": (("dgx-h100", 8), ("hgx-h200", 16), ("dgx-h100", 16_384)),
    "B200 on AWS": (("aws-p6-b200", 8), ("aws-p6-b200", 32)),
}  # fmt: skip
"""Title -> systems and numbers of chips."""
CHIPS = {"dgx-a100": "A100", "dgx-h100": "H100", "hgx-h200": "H200", "aws-p6-b200": "B200"}
STYLES = (("-", "o"), ("--", "s"), (":", ""))
"""How the lines of a panel go, and marks of their points."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """One machine at one size.

    Parameters
    ----------
    size, busbw
        Of the line [byte], [byte/s].
    points
        Sizes [byte] and bus bandwidths [byte/s] as they were measured, shape (points, 2).
    off
        Simulated over measured time, less one, at each point [1].
    """

    panel: str
    system: str
    chips: int
    nodes: int
    size: Floats
    busbw: Floats
    points: Floats
    off: Floats


def curve(panel: str, name: str, chips: int) -> Curve:
    """A line with its points."""
    system: System = load("system", name)
    fabric = machine(system, chips)
    _, library, found = MEASURED.get((name, chips), ("", NCCL, {}))
    launch = system.launch_of(library)

    def seconds(sizes: list[float]) -> Floats:
        alone = [row.time for row in collective_table("all_reduce", fabric, sizes).rows]
        return np.array([launch.seconds(time, "all_reduce") for time in alone] if launch else alone)

    factor = bus_factor("all_reduce", chips)
    sizes, measured = np.array([*found], dtype=float), np.array([*found.values()]) * 1e-6
    line = np.array(sizes_between(LOW, HIGH))
    return Curve(
        panel=panel, system=name, chips=chips, nodes=-(-chips // system.chips_per_node), size=line,
        busbw=line / seconds(line.tolist()) * factor, points=np.column_stack((sizes, sizes / measured * factor)),
        off=seconds(sizes.tolist()) / measured - 1.0 if found else np.zeros(0),
    )  # fmt: skip


def measure() -> list[Curve]:
    """Every panel's curves."""
    return [curve(panel, name, chips) for panel, machines in PANELS.items() for name, chips in machines]


def draw(found: list[Curve]) -> "Figure":
    """A panel for each machine."""
    with house_style():
        figure = new_figure(PRINT_WIDTH, 4.6)
        headline(figure, "Bus bandwidth of all-reduces: lines simulated, points measured")
        above, below = figure.subplots(2, len(PANELS), height_ratios=(3.2, 1), sharey="row")
        for ax, words, panel in zip(above, below, PANELS, strict=True):
            _panel(ax, panel, [one for one in found if one.panel == panel])
            words.set_axis_off()
            words.legend(
                *ax.get_legend_handles_labels(), loc="upper left", fontsize=7.5, handlelength=2.6, borderpad=0.0
            )
        above[0].set_ylabel("bus bandwidth [GB/s]", fontsize=8)
    return figure


def _panel(ax: "Axes", panel: str, curves: list[Curve]) -> None:
    for one, (dash, marker), colour in zip(curves, STYLES, GROUP_COLOURS, strict=False):
        words = f"{one.chips:,} {CHIPS[one.system]}, {one.nodes:,} node{'s' if one.nodes > 1 else ''}"
        if len(one.off):
            fitted = ", fitted" if (one.system, one.chips) in FITTED else ""
            words += f"\nmedian |error| {np.median(np.abs(one.off)):.0%}{fitted}"
        else:
            words += "\nnot measured"
        ax.plot(one.size, one.busbw / 1e9, dash, color=colour, linewidth=1.4)
        ax.plot(*(one.points / (1.0, 1e9)).T, marker, color=colour, markersize=4.5, markerfacecolor="white", zorder=3)
        ax.plot([], [], dash, marker=marker, color=colour, markersize=4.5, markerfacecolor="white", label=words)
    ax.set(xscale="log", yscale="log", ylim=(0.1, 1500.0))
    ticks = [2**power for power in (15, 20, 25, 30, 34)]
    ax.set_xticks(ticks, [size_words(size) for size in ticks], rotation=30, ha="right")
    ax.set_xticks([], minor=True)
    ax.yaxis.set_major_formatter("{x:g}")
    ax.tick_params(labelsize=7.5)
    ax.set_xlabel("size of the buffer [byte]", fontsize=8)
    ax.set_title(panel, fontsize=9)
    ax.grid(visible=True, color="#E5E5E5", linewidth=0.6)
    ax.set_axisbelow(True)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
