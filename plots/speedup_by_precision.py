"""What narrow numbers gain over bf16: the products of a Llama-3 70B layer by batch, with the casts that they need.

Lines are the model of kernels in short runs; dashed ones rest on constants that stand in for kernels nobody measured.
Points are medians over measured products with weights of 4 to 20 thousand rows and columns, smaller than most of
this layer's: tables of TensorRT-LLM in ai-dynamo/aiconfigurator 095f58a (Apache-2.0), the product in bf16 over the
narrow one with its cast. Crosses are what the model gives for weights of these sizes, the median too. Run it as
``python plots/speedup_by_precision.py [folder]``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleout.hardware.formats import format_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.io.catalogue import load
from scaleout.parallel.inference_kernels import able
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, PRINT_WIDTH, headline, house_style, new_figure, render
from scaleout.specs import Chip, Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "speedup_by_precision"
CHIPS = {"H100 SXM": "h100-sxm-80gb", "B200 SXM": "b200-sxm-180gb"}
PRECISIONS = ("fp8", "fp8_block", "int8", "nvfp4", "w8a16", "w4a16")
MARKS = dict(zip(PRECISIONS, "os^Dv<", strict=True))
BATCHES = tuple(2**power for power in range(15))
MEASURED = {
    ("H100 SXM", "fp8"): {1: 1.35, 64: 1.29, 256: 1.21, 1024: 1.43, 4096: 1.49, 16384: 1.55},
    ("H100 SXM", "fp8_block"): {1: 1.68, 64: 1.61, 256: 1.35, 1024: 1.39, 4096: 1.39, 16384: 1.41},
    ("B200 SXM", "fp8_block"): {1: 1.51, 64: 1.30, 256: 1.35, 1024: 1.70, 4096: 1.82, 16384: 1.76},
    ("B200 SXM", "nvfp4"): {1: 1.11, 64: 1.09, 256: 1.26, 1024: 1.93, 4096: 2.38, 16384: 2.33},
}
"""Chip and precision -> rows of the product -> speedup [1]."""
SIDES = (4096, 6144, 8192, 12288, 16384, 20480)
"""Rows and columns of weights as they were measured, spread over their range."""
WIDTH = 2.0
"""Of an element of what a product gives [byte]."""


@dataclass(frozen=True, slots=True)
class Line:
    """Speedup over bf16 by batch [1].

    Parameters
    ----------
    own
        The chip has constants for the precision itself.
    square
        The median over weights of `SIDES`, at the batches that were measured [1].
    """

    chip: str
    precision: str
    speedup: tuple[float, ...]
    own: bool
    square: dict[int, float]


def layer() -> tuple[tuple[int, int], ...]:
    """Columns of the output and of the input of a layer's products."""
    model: Model = load("model", "llama-3.1-70b")
    queries, cached = model.heads * model.head_size, model.kv_heads * model.head_size
    return (
        (queries + 2 * cached, model.hidden), (model.hidden, queries), (2 * model.ffn, model.hidden),
        (model.hidden, model.ffn),
    )  # fmt: skip


def seconds(chip: Chip, precision: str, tokens: int, shapes: tuple[tuple[int, int], ...]) -> float:
    """Of products one after another, with casts of their inputs [s]."""
    vector = gemm_vector(chip, precision)
    found = sum(gemm_seconds(tokens, n, k, WIDTH, vector) for n, k in shapes)
    if format_of(precision).cast:
        cast = quantise_vector(chip, precision)
        found += sum(quantise_seconds(tokens * k, cast) for _, k in shapes)
    return float(found)


def measure() -> list[Line]:
    """A line for each chip and precision that it has units for."""
    lines, shapes = [], layer()
    for name, where in CHIPS.items():
        chip: Chip = load("chip", where)
        for precision in PRECISIONS:
            if format_of(precision).rate not in chip.peak_flops:
                continue
            other = able(chip, precision)
            gains = [seconds(chip, "bf16", m, shapes) / seconds(other, precision, m, shapes) for m in BATCHES]
            square = {
                m: float(
                    np.median(
                        [seconds(chip, "bf16", m, ((n, k),)) / seconds(other, precision, m, ((n, k),))
                         for n in SIDES for k in SIDES]
                    )
                )
                for m in MEASURED.get((name, precision), ())
            }  # fmt: skip
            lines.append(Line(name, precision, tuple(gains), precision in chip.gemm, square))
    return lines


def draw(lines: list[Line]) -> "Figure":
    """A panel for each chip."""
    with house_style():
        figure = new_figure(PRINT_WIDTH, 4.0)
        headline(figure, "Products of a Llama-3 70B layer: speedup over bf16, casts included")
        panels = figure.subplots(1, len(CHIPS), sharey=True)
        colours = dict(zip(PRECISIONS, GROUP_COLOURS, strict=False))
        for ax, name in zip(panels, CHIPS, strict=True):
            for line in lines:
                if line.chip == name:
                    ax.plot(
                        BATCHES, line.speedup, color=colours[line.precision], linestyle="-" if line.own else "--",
                        linewidth=(3.0 if line.precision == "fp8" else 1.8) if line.own else 1.2,
                        marker=MARKS[line.precision], markevery=[1 + PRECISIONS.index(line.precision)], markersize=4.5,
                    )  # fmt: skip
                    ax.plot(
                        list(line.square), list(line.square.values()), "x", color=colours[line.precision],
                        markersize=6, markeredgewidth=1.6, zorder=3,
                    )  # fmt: skip
            for (chip, precision), points in MEASURED.items():
                if chip == name:
                    ax.plot(
                        list(points), list(points.values()), MARKS[precision], color=colours[precision],
                        markeredgecolor="black", markeredgewidth=0.7, markersize=6, zorder=3,
                    )  # fmt: skip
            ax.axhline(1.0, color=OTHER_COLOUR, linewidth=0.8)
            ax.set_xscale("log", base=2)
            ax.set_xticks(BATCHES[::2], [f"{tokens:,}" for tokens in BATCHES[::2]], fontsize=7)
            ax.set_xlabel("tokens of a batch, rows of the product [1]")
            ax.set_title(name)
            ax.grid(visible=True, axis="y", color="#E5E5E5", linewidth=0.6)
            ax.set_axisbelow(True)
        panels[0].set_ylabel("time in bf16 over time [1]")
        panels[0].set_ylim(0.0, None)
        handles = [
            *(
                panels[0].plot([], [], color=colours[name], marker=MARKS[name], markersize=4.5, label=name)[0]
                for name in PRECISIONS
            ),
            panels[0].plot([], [], color="black", linestyle="--", label="constants stand in")[0],
            panels[0].plot([], [], "o", color="#CCCCCC", markeredgecolor="black", label="outlined: measured, median")[
                0
            ],
            panels[0].plot([], [], "x", color="black", label="model, such shapes")[0],
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=5, fontsize=7.5, columnspacing=1.2)
    return figure


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
