"""What an hour of a chip costs, and of what: one chip and 16,384, bought and rented.

Llama-3.1 405B is trained on 16,384 H100 in several places, a GPT-3 of 1.3 billion on one H100. The mark is what
DeepSeek-V3's own account takes for an hour of an H800 (arXiv 2412.19437). Run it as
``python plots/cost_stack.py [folder]``.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.io.catalogue import load
from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.footprint import CostStack, cost_stack, draw_cost
from scaleout.report.style import render
from scaleout.simulate import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "cost_stack"
ONE = {
    "kind": "training", "system": "dgx-h100", "chips": 1, "model": "gpt3-1.3b",
    "layout": {"tp": 1, "dp": 1}, "batch": {"global": 1, "sequence": 2048},
}  # fmt: skip
RENT = {"rent of an H800": 2.0}


def measure() -> CostStack:
    """Steps by the analytic evaluator, and their costs."""
    many = experiment("llama-3.1-405b-16k")
    place = many.facility
    assert place is not None  # noqa: S101  (what is meant where none is named)
    cases = {
        "1 H100": experiment(ONE),
        "16,384 H100": many,
        "16,384, hyperscaler": replace(many, facility=load("facility", "hyperscaler")),
        "16,384, idle half the time": replace(many, facility=replace(place, utilisation=0.5)),
        "16,384, rented": replace(many, facility=load("facility", "cloud")),
    }
    rows = []
    for label, spec in cases.items():
        cost = simulate(spec, evaluator="analytic").cost
        assert cost is not None  # noqa: S101  (each of them has a facility)
        rows.append((label, spec.chips, cost))
    title = "An hour of an H100, bought and rented"
    return cost_stack(rows, title, "trained", {1: RENT})


def draw(found: CostStack) -> "Figure":
    """Bars by part."""
    return draw_cost(found)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
