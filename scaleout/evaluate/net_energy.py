"""Energy of a net's batches; equations and constants are in ``docs/energy.md``."""

import numpy as np

from scaleout.evaluate.nets import BatchTime
from scaleout.evaluate.plant import energy_over
from scaleout.footprint import Energy
from scaleout.hardware.formats import format_of
from scaleout.hardware.power import drawn, energy_of
from scaleout.parallel.operators import PRECISIONS
from scaleout.specs import Chip, NetExperiment

__all__ = ["batch_joules", "batches_energy"]


def batch_joules(chip: Chip, precision: str, took: BatchTime) -> tuple[float, float, float]:
    """A batch on a chip, beside what that draws at rest: of matrix units, of passes, of memory [J]."""
    rows = took.breakdown
    linear = np.array([row.kind == "product" for row in rows])
    attention = np.array([row.kind == "attention" for row in rows])
    matrix, sent = linear | attention, np.array([row.kind == "exchange" for row in rows])
    flop, nbytes, seconds = (np.array([getattr(row, name) for row in rows]) for name in ("flop", "bytes", "seconds"))
    work = np.stack((flop * linear, flop * attention, nbytes * ~(matrix | sent), nbytes * matrix), axis=-1)
    # attention has 16 bits whatever the products have
    rates = format_of(PRECISIONS[precision].product).rate, "fp16" if precision == "fp16" else "bf16"
    found = drawn(chip, rates, work, seconds * matrix, seconds * ~matrix, seconds)
    return float(found.compute.sum()), float(found.vector.sum()), float(found.hbm.sum())


def batches_energy(experiment: NetExperiment, took: BatchTime, batch: int, span: float) -> Energy:
    """Of a batch on every chip, which takes so long [s]; samples stand for tokens."""
    chip, chips = experiment.system.chip, experiment.chips
    constants = energy_of(chip)
    compute, vector, hbm = batch_joules(chip, experiment.precision, took)
    sent = sum(row.bytes for row in took.breakdown if row.kind == "exchange")
    parts = {
        "idle": constants.idle * span, "compute": compute, "vector": vector, "hbm": hbm, "links": constants.link * sent,
    }  # fmt: skip
    return energy_over(
        experiment.system, experiment.facility, chips, span, {name: chips * one for name, one in parts.items()},
        float(chips * batch), power=chips * chip.power,
    )  # fmt: skip
