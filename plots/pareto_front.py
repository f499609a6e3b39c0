"""Speed of a user against throughput of a chip: Llama-3.1 70B in fp8 on H100, H200 and B200.

Each point is a number of chips a replica and a rate of requests; a front is what nothing beats in both. Run it as
``python plots/pareto_front.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_pareto import draw_sweep_pareto, pareto_table_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Stage, Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "pareto_front"
SWEEP = Sweep(
    base={
        "kind": "serving",
        "system": "dgx-h100",
        "model": "llama-3.1-70b",
        "engine": "vllm-0.19",
        "precision": "fp8",
        "pools": [{"tp": 4}],
        "requests": {
            "input": {"mean": 1000},
            "output": {"mean": 250},
            "count": 300,
            "arrivals": {"process": "poisson", "rate": 2},
        },
    },
    axes={
        "system": ("dgx-h100", "hgx-h200", "dgx-b200"),
        "pools.0.tp": (1, 2, 4, 8),
        "requests.arrivals.rate": tuple(round(2 ** (step / 2), 2) for step in range(14)),
    },
    stages=(Stage(evaluator="analytic"),),
    name="Llama-3.1 70B in fp8, prompts of 1,000 tokens, replies of 250",
)


def measure() -> SweepResults:
    """Every point in a steady state, in closed form."""
    return SWEEP.run()


def draw(results: SweepResults) -> "Figure":
    """A front for each machine."""
    return draw_sweep_pareto(pareto_table_of(results, x="user_tokens", y="chip_tokens"))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
