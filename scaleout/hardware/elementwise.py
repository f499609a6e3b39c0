"""Time of one elementwise kernel: bytes through HBM or L2, rows over cores; see ``docs/elementwise.md``."""

import math

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError, near
from scaleout.specs import Chip, ElementwiseConstants

__all__ = ["PASSES", "elementwise_seconds", "elementwise_vector", "kept_in_l2", "operation_vector"]


PASSES = {
    "rmsnorm": 2.0, "rope": 2.0, "silu_mul": 3.0, "add": 3.0, "embedding": 2.0, "add_rmsnorm": 4.0, "qk_norm": 2.0,
    "sampler": 3.0,
}  # fmt: skip
"""Arrays of tokens x width that an operation reads or writes: norm and rotation read and write one,
the gated activation reads two of the width it writes, an add reads two, a lookup reads and writes rows.
An add with the norm after it reads two and writes both; norms of queries and keys take every head as a row;
a sampler widens logits of 16 bits to 32, and finds the largest in what L2 still has."""


def elementwise_vector(chip: Chip, operation: str) -> Floats:
    """Constants of an operation on a chip for `elementwise_seconds`.

    Raises
    ------
    SpecError
        The chip has no constants for the operation.
    """
    if operation not in chip.elementwise or operation not in PASSES:
        raise SpecError(
            f"chip {chip.name!r} has no elementwise constants for {operation!r}; {near(operation, chip.elementwise)}"
        )
    return operation_vector(chip, chip.elementwise[operation], PASSES[operation])


def operation_vector(chip: Chip, c: ElementwiseConstants, passes: float) -> Floats:
    """Constants as `elementwise_seconds` takes them, rates in SI units."""
    return np.array([
        c.launch,
        passes,
        chip.hbm_bandwidth * c.efficiency,
        chip.hbm_bandwidth * (c.l2_ratio or c.efficiency),
        chip.l2_bytes or 0.0,
        chip.cores * c.rows_per_core,
        c.row_overhead,
        c.element_overhead,
    ])  # fmt: skip


@compilable
def kept_in_l2(nbytes: float, l2_bytes: float) -> float:
    """Share of so many bytes that is still in L2 when it is read again [1]: all up to half of the capacity,
    nothing from one and a half times the capacity on."""
    return min(1.0, max(0.0, 1.5 - nbytes / l2_bytes)) if l2_bytes > 0.0 else 0.0


@compilable
def elementwise_seconds(tokens: float, width: float, element: float, c: Floats) -> float:
    """Time of an operation on `tokens` rows of `width` elements [s].

    Parameters
    ----------
    element
        Bytes of an element [byte].
    c
        From `elementwise_vector`.
    """
    launch, passes, hbm, l2, l2_bytes, slots = c[0], c[1], c[2], c[3], c[4], c[5]
    moved = passes * tokens * width * element
    kept = kept_in_l2(moved, l2_bytes)
    seconds = moved * (kept / l2 + (1.0 - kept) / hbm)
    if slots > 0.0:
        row = c[6] + c[7] * width
        seconds = (seconds**3.0 + (math.ceil(tokens / slots) * row) ** 3.0) ** (1.0 / 3.0)
    total: float = launch + seconds
    return total
