"""What 10 % more of each knob of an H100 does: to a serving job's tail, to a training step, to energy and cost.

Llama-3.1 70B is served on half a DGX under two requests a second, and trained on 64 chips. The step is that of the
analytic evaluator; requests are simulated. Run it as ``python plots/tornado.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.architect import elasticities
from scaleout.io.experiments import any_experiment
from scaleout.report.elasticity import Tornado, draw_tornado, tornado
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "tornado"
JOBS = ("llama3-70b-poisson", "llama-3.1-70b-64")


def measure() -> Tornado:
    """Every knob under both jobs."""
    return tornado(elasticities([any_experiment(name) for name in JOBS], evaluator="analytic"))


def draw(found: Tornado) -> "Figure":
    """A panel for each outcome."""
    return draw_tornado(found)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
