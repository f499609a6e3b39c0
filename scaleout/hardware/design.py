"""A chip from its design: rates and capacities that follow from units, clocks and memories."""

from dataclasses import replace
from typing import Any

from scaleout.specs import Chip, Design

__all__ = ["chip_fields", "peak_flops", "redesigned"]


def peak_flops(design: Design) -> dict[str, float]:
    """Dense rate per dtype [flop/s]: multiply-adds of all units in a clock, and of the vector lanes in fp32."""
    unit = design.tensor
    macs = dict(unit.macs)
    if not macs:
        macs = {"bf16": float((unit.rows or 0) * (unit.columns or 0))}
    rate = 2.0 * design.cores * design.clock
    return {dtype: rate * unit.count * each for dtype, each in macs.items()} | {"fp32": rate * design.vector_lanes}


def chip_fields(design: Design) -> dict[str, Any]:
    """Fields of a chip file that follow from a design, as the file would say them."""
    memory = design.memory
    fields: dict[str, Any] = {
        "vendor": "own design",
        "cores": design.cores,
        "peak_flops": {dtype: f"{rate!r} FLOP/s" for dtype, rate in peak_flops(design).items()},
        "hbm_bytes": f"{memory.stacks * memory.capacity!r} B",
        "hbm_bandwidth": f"{memory.stacks * memory.bandwidth!r} B/s",
        "l2_bytes": f"{design.l2!r} B",
        "power": f"{design.power!r} W",
        "process": design.process,
    }
    if design.exponentials is not None:
        fields["exponentials"] = design.exponentials * design.cores * design.clock
    return fields


def redesigned(chip: Chip, design: Design) -> Chip:
    """The chip with another design: what follows from it is worked out anew, constants of kernels stay."""
    memory = design.memory
    return replace(
        chip,
        design=design,
        cores=design.cores,
        peak_flops=peak_flops(design),
        hbm_bytes=memory.stacks * memory.capacity,
        hbm_bandwidth=memory.stacks * memory.bandwidth,
        l2_bytes=design.l2,
        exponentials=None if design.exponentials is None else design.exponentials * design.cores * design.clock,
        power=design.power,
        process=design.process,
    )
