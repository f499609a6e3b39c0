"""A chip from its design: rates and capacities that follow from units, clocks and memories; ``docs/design.md``."""

from dataclasses import replace
from typing import Any

from scaleout.hardware.formats import FORMATS
from scaleout.hardware.systolic import systolic_constants
from scaleout.specs import Chip, Design, SystolicConstants

__all__ = ["chip_fields", "kernel_constants", "link_bandwidth", "peak_flops", "redesigned"]


def peak_flops(design: Design) -> dict[str, float]:
    """Dense rate per dtype [flop/s]: multiply-adds of all units in a clock, and of the vector lanes in fp32.

    A systolic array that says nothing of dtypes multiplies bf16, each of its multipliers once a clock.
    """
    unit = design.tensor
    macs = {dtype: unit.count * each for dtype, each in unit.macs.items()}
    if not macs:
        macs = {"bf16": float(unit.count * (unit.rows or 0) * (unit.columns or 0))}
    macs["fp32"] = max(design.vector_lanes, macs.get("fp32", 0.0))
    rate = 2.0 * design.cores * design.clock
    return {dtype: rate * each for dtype, each in macs.items()}


def kernel_constants(design: Design) -> dict[str, SystolicConstants]:
    """Constants of products that follow from a design, by dtype: arrays have them, tensor cores take another chip's.

    For every format of which both operands flow in the dtype of a rate; casts are not among them.
    """
    if design.tensor.kind != "systolic":
        return {}
    made, rates = systolic_constants(design), set(design.tensor.macs) or {"bf16"}
    return {name: made for name, shape in sorted(FORMATS.items()) if shape.rate in rates and shape.left == shape.right}


def link_bandwidth(design: Design) -> float:
    """Of all links together, in one direction [byte/s]; a system says itself what its chips' links carry."""
    return design.links * (design.link_bandwidth or 0.0)


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
    """The chip with another design: what follows from it is worked out anew; constants of kernels that are shares
    of those figures stay."""
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
        gemm={**chip.gemm, **kernel_constants(design)},
    )
