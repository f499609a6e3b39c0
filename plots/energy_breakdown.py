"""Where the energy of training goes: one H100 by itself, and 16,384 with their network and building.

Bars are power over the number of chips, by component; below, the power of chips and nodes over one step. A GPT-3 of
1.3 billion on one chip, Llama-3.1 405B on all. Run it as ``python plots/energy_breakdown.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.errors import SpecError
from scaleout.io.experiments import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.report.footprint import EnergyStack, draw_energy, energy_stack
from scaleout.report.style import render
from scaleout.simulate import simulate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "energy_breakdown"
ONE = {
    "kind": "training", "system": "dgx-h100", "chips": 1, "model": "gpt3-1.3b", "layout": {"tp": 1, "dp": 1},
    "batch": {"global": 1, "sequence": 2048},
}  # fmt: skip


def measure() -> EnergyStack:
    """Two steps, and what they draw."""
    rows = []
    for label, spec in {"1 H100": experiment(ONE), "16,384 H100": experiment("llama-3.1-405b-16k")}.items():
        energy = simulate(spec).energy
        if energy is None:
            raise SpecError(f"what {spec.system.chip.name} draws is not known; a chip needs energy constants")
        rows.append((label, spec.chips, energy))
    return energy_stack(rows, "Where the energy of training goes", "trained")


def draw(found: EnergyStack) -> "Figure":
    """Bars by component, and power over time."""
    return draw_energy(found)


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
