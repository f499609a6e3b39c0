"""What fills the HBM of the first and the last pipeline stage over a step: 1F1B, interleaved, and with recomputation.

Llama-3.1 70B on 64 H100, sixteen micro-batches of two sequences through eight stages of eight tensor-parallel chips.
Early stages hold the activations of more micro-batches; chunks hold more of them still, and recomputation keeps but
the inputs of layers. Run it as ``python plots/memory_over_time.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.memory import MemoryTable, draw_memories, memory_table
from scaleout.report.style import render
from scaleout.simulate import record
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "memory_over_time"
JOB = {
    "kind": "training", "system": "dgx-h100", "chips": 64, "model": "llama-3.1-70b",
    "layout": {"tp": 8, "pp": 8, "dp": 1, "sequence_parallel": True, "zero": 1},
    "batch": {"global": 32, "micro": 2, "sequence": 8192},
}  # fmt: skip
WAYS = {
    "1F1B": (),
    "interleaved, 5 chunks": ("layout.vpp=5",),
    "1F1B, recomputing": ("recompute=[full]",),
}
"""In words -> what is set otherwise than in `JOB`."""
STEPS = 400
"""Of a curve; a panel is no more pixels wide."""


def measure() -> list[MemoryTable]:
    """HBM of the first and the last stage, each way."""
    tables = []
    for words, settings in WAYS.items():
        result, recording = record(experiment(JOB, settings))
        title = f"{words}: {describe(result.step_time, 's')}"
        tables.append(memory_table(result, recording, stages=(0, -1), title=title, most=STEPS))
    return tables


def draw(found: list[MemoryTable]) -> "Figure":
    """A column for each way, a row for each stage."""
    return draw_memories(found, "HBM of one chip over a step: Llama-3.1 70B on 64 H100, eight stages")


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
