"""How many requests a second eight H100 serve with Llama-3.1 70B, as one replica, as two, and as four.

Chats come at random, two seconds to the first token and 50 ms a token are promised. Run it as
``python plots/throughput_latency.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_latency import draw_sweep_latency, latency_table_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "throughput_latency"
SWEEP = Sweep(
    base={
        "kind": "serving",
        "system": "dgx-h100",
        "model": "llama-3.1-70b",
        "engine": "vllm-0.19",
        "precision": "fp8",
        "pools": [{"tp": 8}],
        "requests": {"trace": "chat-1000", "count": 600, "arrivals": {"process": "poisson", "rate": 2}},
        "slo": {"ttft": "2 s", "tpot": "50 ms"},
    },
    axes={"requests.arrivals.rate": (1, 2, 4, 6, 8, 10, 12, 16, 24)},
    zipped=({"pools.0.tp": (8, 4, 2), "pools.0.replicas": (1, 2, 4)},),
    name="Llama-3.1 70B in fp8 on eight H100",
)


def measure() -> SweepResults:
    """Every rate with every division of the node, simulated."""
    return SWEEP.run()


def draw(results: SweepResults) -> "Figure":
    """TTFT and TPOT over requests a second."""
    return draw_sweep_latency(latency_table_of(results))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
