"""Where a step goes under six layouts of one job: Llama-3.1 405B on 16,384 H100 of Meta's RoCE cluster.

The first is the layout that Meta published (arXiv 2407.21783, table 4). The batch is the same everywhere: 2,048
sequences of 8,192 tokens; what does not fit in HBM otherwise recomputes its layers. Run it as
``python plots/breakdown_stacks.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.stacks import StackTable, draw_stacks, stack_table
from scaleout.report.style import render
from scaleout.simulate import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "breakdown_stacks"
JOB = "llama-3.1-405b-16k"
LAYOUTS = {
    "tp 8, pp 16, vpp 8\nas published": (),
    "tp 8, pp 16\nwithout interleaving": ("layout.vpp=1",),
    "tp 8, pp 8, vpp 8\nrecomputes layers": ("layout.pp=8", "layout.dp=256", "recompute=[full]"),
    "tp 8, cp 2, pp 16, vpp 8": ("layout.cp=2", "layout.dp=64"),
    "tp 16, pp 8, vpp 8": ("layout.tp=16", "layout.pp=8"),
    "tp 8, ZeRO-3, no pipeline\nrecomputes layers": (
        "layout.pp=1", "layout.vpp=1", "layout.dp=2048", "layout.zero=3", "recompute=[full]",
    ),
}  # fmt: skip
"""Label -> what is set otherwise than in `JOB`."""


def measure() -> StackTable:
    """A step under each layout."""
    rows = [(label, simulate(experiment(JOB, settings))) for label, settings in LAYOUTS.items()]
    return stack_table(rows, "A step of Llama-3.1 405B on 16,384 H100: six layouts")


def draw(found: StackTable) -> "Figure":
    """Bars in seconds and in shares."""
    return draw_stacks(found)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
