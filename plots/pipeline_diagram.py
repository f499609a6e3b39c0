"""One step of one job under five pipeline schedules, on one axis of time: what fills the bubble, and what is left.

Llama-3.1 70B on 32 H100, eight micro-batches through four stages of eight tensor-parallel chips. Run it as
``python plots/pipeline_diagram.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.pipeline import PipelineTable, draw_pipelines, pipeline_table
from scaleout.report.style import render
from scaleout.simulate import record
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "pipeline_diagram"
JOB = {
    "kind": "training", "system": "dgx-h100", "chips": 32, "model": "llama-3.1-70b",
    "layout": {"tp": 8, "pp": 4, "dp": 1, "sequence_parallel": True, "zero": 1},
    "batch": {"global": 8, "micro": 1, "sequence": 4096},
}  # fmt: skip
SCHEDULES = {
    "1F1B": ("1f1b", 1), "interleaved, two chunks a stage": ("interleaved", 2), "ZB-H1": ("zb-h1", 1),
    "ZB-V": ("zb-v", 2), "DualPipe": ("dualpipe", 1),
}  # fmt: skip
"""In words -> its name, and chunks of a stage."""


def measure() -> list[PipelineTable]:
    """A step under each schedule."""
    tables = []
    for words, (name, chunks) in SCHEDULES.items():
        result, recording = record(experiment(JOB, (f"layout.schedule={name}", f"layout.vpp={chunks}")))
        table = pipeline_table(recording)
        title = (
            f"{words}: {describe(result.step_time, 's')}, nothing runs in {table.bubble:.1%} of it, "
            f"HBM up to {result.memory.total / 1e9:.0f} GB"
        )
        tables.append(pipeline_table(recording, title))
    return tables


def draw(found: list[PipelineTable]) -> "Figure":
    """A panel for each schedule."""
    return draw_pipelines(found, "Llama-3.1 70B on 32 H100, four stages, eight micro-batches")


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
