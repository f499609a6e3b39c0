"""What a million trained tokens of Llama-3.1 70B cost, and how much energy each takes, on 64 chips of several machines.

On each machine the best of a few layouts is taken. Prices of chips are list and street prices; ``docs/cost.md`` says
how far they may be off. Run it as ``python plots/cost_per_token.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_bars import cost_table_of, draw_sweep_bars
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "cost_per_token"
SWEEP = Sweep(
    base="llama-3.1-70b-64",
    axes={"layout.tp": (4, 8), "layout.pp": (2, 4, 8)},
    zipped=(
        {
            "system": ("dgx-a100", "dgx-h100", "hgx-h200", "dgx-b200", "gb200-nvl72", "mi300x-8"),
            # each has constants for kernels of its own
            "stack.attention": ("flash-attention-2", "cudnn", "cudnn", "cudnn", "cudnn", "flash-attention-2"),
        },
    ),
    rules=("fill-dp",),
    name="Llama-3.1 70B on 64 chips",
)


def measure() -> SweepResults:
    """Every layout on every machine, simulated."""
    return SWEEP.run()


def draw(results: SweepResults) -> "Figure":
    """Cost beside energy."""
    return draw_sweep_bars(cost_table_of(results, x="system"))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
