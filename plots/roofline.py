"""Operators of a Llama-3 70B layer on the rooflines of a chip that is sold and of one that is a design.

Products are drawn from 1 to 16,384 tokens, in bf16 and in fp8 (with the cast); attention and a norm at the sizes of the
page of a chip. The design's kernels take the constants of another chip as shares of its own rates. Run it as
``python plots/roofline.py [folder]``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.hardware.reference import KernelTime, reference_kernels, time_of
from scaleout.io.catalogue import load
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, PRINT_WIDTH, headline, house_style, new_figure, render
from scaleout.specs import Chip, Model
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "roofline"
CHIPS = ("h100-sxm-80gb", "example-training-chip")
MODEL = "llama-3.1-70b"
DTYPES = {"bf16": "-", "fp8": ":"}
BATCHES = tuple(2**power for power in range(15))
MARKED = {1: "o", 64: "s", 4096: "D"}
"""Batches with a mark."""
WIDTHS = (0.7, 1.1, 1.6, 2.2)
"""Of the lines of products [point]; print in black and white tells them apart by these."""
PLACES = "*PX"
"""Marks of other kernels."""
WIDTH = 2.0
"""Of an element of what a product gives [byte]."""


@dataclass(frozen=True, slots=True)
class Track:
    """A product from few to many tokens: intensity [flop/byte] and rate [flop/s]."""

    operator: str
    dtype: str
    intensity: tuple[float, ...]
    rate: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Another kernel at one size: intensity [flop/byte] and rate [flop/s]."""

    name: str
    intensity: float
    rate: float


@dataclass(frozen=True, slots=True)
class Panel:
    """A chip with what runs on it.

    Parameters
    ----------
    roofs
        Dense rates by dtype [flop/s].
    bandwidth
        Of main memory [byte/s].
    """

    chip: str
    roofs: dict[str, float]
    bandwidth: float
    tracks: tuple[Track, ...]
    places: tuple[Place, ...]


def products(model: Model) -> dict[str, tuple[int, int]]:
    """Columns of the output and of the input of a layer's products."""
    queries, cached = model.heads * model.head_size, model.kv_heads * model.head_size
    return {
        "queries, keys, values": (queries + 2 * cached, model.hidden),
        "output of attention": (model.hidden, queries),
        "gate and up": (2 * model.ffn, model.hidden),
        "down": (model.hidden, model.ffn),
    }


def track(chip: Chip, operator: str, n: int, k: int, dtype: str) -> Track:
    """One product by batch."""
    shape, vector = format_of(dtype), gemm_vector(chip, dtype)
    intensity, rate = [], []
    for m in BATCHES:
        seconds = gemm_seconds(m, n, k, WIDTH, vector)
        if shape.cast:
            seconds += quantise_seconds(m * k, quantise_vector(chip, dtype))
        flops = 2.0 * m * n * k
        intensity.append(flops / (m * k * shape.left + n * k * shape.right + m * n * WIDTH))
        rate.append(float(flops / seconds))
    return Track(operator, dtype, tuple(intensity), tuple(rate))


def measure() -> list[Panel]:
    """Both chips."""
    model: Model = load("model", MODEL)
    panels = []
    for name in CHIPS:
        chip: Chip = load("chip", name)
        places = []
        for kernel in reference_kernels(model)[-3:]:  # attention over a prompt and in decode, a norm
            found = time_of(kernel, chip)
            if isinstance(found, KernelTime):
                places.append(Place(kernel.name.removesuffix(", bf16"), kernel.intensity(), kernel.flops / found.time))
        panels.append(
            Panel(
                chip=name,
                roofs={dtype: chip.flops(dtype) for dtype in DTYPES},
                bandwidth=chip.hbm_bandwidth,
                tracks=tuple(track(chip, op, n, k, t) for t in DTYPES for op, (n, k) in products(model).items()),
                places=tuple(places),
            )
        )
    return panels


def draw(panels: list[Panel]) -> "Figure":
    """A panel for each chip, on the same axes."""
    with house_style():
        figure = new_figure(PRINT_WIDTH, 4.6)
        headline(figure, "Operators of a Llama-3 70B layer on two rooflines")
        axes = figure.subplots(1, len(panels), sharex=True, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            _panel(ax, panel)
        axes[0].set_ylabel("rate [flop/s]")
        legend(figure, axes[0], panels[0])
    return figure


def _panel(ax: "Axes", panel: Panel) -> None:
    x = np.geomspace(0.4, 2e4, 400)
    for dtype, style in DTYPES.items():
        roof = np.minimum(panel.roofs[dtype], x * panel.bandwidth)
        ax.plot(x, roof, color=OTHER_COLOUR, linestyle=style, linewidth=1.4, zorder=1)
    words = [
        f"{dtype}: {describe(rate, 'flop/s')}, ridge {rate / panel.bandwidth:,.0f} flop/byte"
        for dtype, rate in sorted(panel.roofs.items(), key=lambda row: -row[1])
    ]
    words.append(f"memory: {describe(panel.bandwidth, 'byte/s')}")
    ax.text(
        0.98,
        0.03,
        "\n".join(words),
        transform=ax.transAxes,
        va="bottom",
        ha="right",
        fontsize=7,
        color="#555555",
        linespacing=1.3,
    )
    names = list(dict.fromkeys(one.operator for one in panel.tracks))
    for one in panel.tracks:
        colour = GROUP_COLOURS[names.index(one.operator)]
        ax.plot(
            one.intensity,
            one.rate,
            color=colour,
            linestyle=DTYPES[one.dtype],
            linewidth=WIDTHS[names.index(one.operator)],
            zorder=2,
        )
        for batch, marker in MARKED.items():
            at = BATCHES.index(batch)
            ax.plot(
                [one.intensity[at]], [one.rate[at]], marker, markersize=4.5, markeredgecolor=colour, zorder=3,
                markerfacecolor=colour if one.dtype == "bf16" else "white",
            )  # fmt: skip
    for at, place in enumerate(panel.places):
        colour = GROUP_COLOURS[len(names) + at]
        ax.plot([place.intensity], [place.rate], PLACES[at], color=colour, markersize=9, markeredgewidth=0, zorder=4)
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlim(0.4, 2e4)
    # exponents are 0.7 times as large
    ax.tick_params(labelsize=10)
    ax.set_xlabel("arithmetic intensity [flop/byte]")
    ax.set_title(panel.chip)
    ax.grid(visible=True, which="major", color="#E5E5E5", linewidth=0.6)
    ax.set_axisbelow(True)


def legend(figure: "Figure", ax: "Axes", panel: Panel) -> None:
    """Below the panels: operators, batches, numbers."""
    names = list(dict.fromkeys(one.operator for one in panel.tracks))
    handles = [
        ax.plot([], [], color=GROUP_COLOURS[at], linewidth=WIDTHS[at], label=name)[0] for at, name in enumerate(names)
    ]
    handles += [
        ax.plot(
            [], [], PLACES[at], color=GROUP_COLOURS[len(names) + at], markersize=9, markeredgewidth=0, label=place.name
        )[0]
        for at, place in enumerate(panel.places)
    ]
    handles += [
        ax.plot([], [], marker, color="#555555", markersize=4.5, label=f"{batch:,} token{'s' * (batch > 1)}")[0]
        for batch, marker in MARKED.items()
    ]
    handles += [
        ax.plot([], [], color="#555555", linestyle=style, marker="o", markersize=4.5, label=dtype,
                markerfacecolor="#555555" if dtype == "bf16" else "white")[0]
        for dtype, style in DTYPES.items()
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside lower center", ncols=3, fontsize=7, columnspacing=1.2)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
