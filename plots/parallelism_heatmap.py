"""How to lay out Llama-3.1 405B on 16,384 H100: throughput by tensor- and pipeline-parallel degree.

Each cell is the best over the chunks of a pipeline stage and over what is recomputed; the rest of the chips are
data-parallel. Meta trained it with tp 8 and pp 16. Run it as ``python plots/parallelism_heatmap.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_heat import draw_sweep_heat, heat_table_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "parallelism_heatmap"
SWEEP = Sweep(
    base="llama-3.1-405b-16k",
    axes={
        "layout.tp": (2, 4, 8, 16),
        "layout.pp": (4, 8, 16, 32),
        "layout.vpp": (1, 4, 8),
        "recompute": (["mlp_product"], ["full"]),
    },
    rules=("fill-dp", "sequence-parallel-with-tp"),
    name="Llama-3.1 405B on 16,384 H100",
)


def measure() -> SweepResults:
    """Every layout, simulated."""
    return SWEEP.run()


def draw(results: SweepResults) -> "Figure":
    """Model FLOPs that are reached, by tp and pp."""
    return draw_sweep_heat(heat_table_of(results, x="layout.tp", y="mfu", by="layout.pp"))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
