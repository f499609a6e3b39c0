"""How far training of Llama-3.1 70B scales on H100, with one batch for all and with a batch that grows.

The layout of a replica stays (tp 4, cp 2, pp 4, five chunks a stage); replicas are added. Run it as
``python plots/strong_weak_scaling.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_scaling import draw_sweep_scaling, scaling_table_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "strong_weak_scaling"
SWEEP = Sweep(
    base="llama-3.1-70b-64",
    axes={"chips": (64, 128, 256, 512, 1024, 2048), "batch.global": (128, 256, 512, 1024, 2048)},
    rules=("fill-dp", "divides"),
    name="Llama-3.1 70B on H100",
)


def measure() -> SweepResults:
    """Every number of chips with every batch that it divides, simulated."""
    return SWEEP.run()


def draw(results: SweepResults) -> "Figure":
    """Throughput and efficiency."""
    return draw_sweep_scaling(scaling_table_of(results))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
