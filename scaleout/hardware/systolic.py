"""Time of one matrix multiplication on systolic arrays; and the constants of a design that has them.

An array of multipliers keeps one matrix in place, tile after tile, while another flows through. Equations
are in ``docs/backends.md``.
"""

import math

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError
from scaleout.hardware.formats import format_of
from scaleout.hardware.vector import (
    CAP,
    CORES,
    FREE,
    FREE_HBM,
    HBM,
    KIND,
    LAUNCH,
    LEFT,
    MENU,
    NORM,
    RIGHT,
    SYSTOLIC,
    joined,
)
from scaleout.specs import Chip, Design, SystolicConstants

__all__ = ["array_seconds", "array_vector", "expert_work", "systolic_constants"]

# slots after the ones that all back ends have
_ROWS, _COLUMNS, _CYCLE, _FILL, _ONCE, _LOAD, _MOVES, _BUFFER = (MENU + place for place in range(8))
_SUM = 4.0
"""Of a sum that is kept while others are added [byte]: fp32."""
_REACHED = 0.9
"""Share of HBM bandwidth that an unbuilt chip is given [1], as the TPUs of the catalogue have it (not measured)."""
_HELD = 0.949
"""Share of the dense rate that an unbuilt chip holds [1]: a product of 32768 x 8192 x 32768 takes 94.1 ms on a TPU v5e,
89.3 ms at its peak (topologies/chips/tpu-v5e.yaml)."""
_OVERLAP = 1.0
"""Of an unbuilt chip [1]: weights are loaded, and change place with those before, while rows flow; products of up
to 512 rows on a TPU v6e show no cost of filling (docs/backends.md)."""


def array_vector(chip: Chip, c: SystolicConstants, dtype: str, sustained: bool) -> Floats:
    """Constants of `array_seconds`, packed; the first slots are those of all back ends."""
    shape = format_of(dtype)
    packed = np.zeros(MENU + 8)
    packed[CORES], packed[HBM] = c.arrays, chip.hbm_bandwidth * c.hbm_efficiency
    packed[LEFT], packed[RIGHT] = shape.left, shape.right
    packed[NORM], packed[LAUNCH] = c.norm, c.launch
    packed[CAP] = chip.sustained.get(shape.rate, 0.0) if sustained else 0.0
    packed[FREE], packed[FREE_HBM], packed[KIND] = 1.0, 1.0, SYSTOLIC
    fill = c.rows + c.columns - 2.0
    still = c.dataflow == "weight-stationary"
    packed[_ROWS], packed[_COLUMNS] = c.rows, c.columns
    packed[_CYCLE] = 2.0 * c.rows * c.columns * c.arrays / (chip.flops(shape.rate) * c.compute_efficiency)
    packed[_FILL], packed[_ONCE] = fill * (1.0 - c.overlap), fill * c.overlap
    packed[_LOAD], packed[_MOVES] = (c.rows if still else 0.0), float(still)
    packed[_BUFFER] = 0.5 * (c.buffer or 0.0)
    return packed


@compilable
def array_seconds(m: float, n: float, k: float, out_bytes: float, c: Floats, groups: float = 1.0) -> float:
    """Time of C[m, n] = A[m, k] B[k, n] [s]; parameters as in `scaleout.hardware.gemm.gemm_seconds`."""
    arrays, fill, load = float(c[CORES]), float(c[_FILL]), float(c[_LOAD])
    flow = m if c[_MOVES] > 0.0 else k
    deep = k if c[_MOVES] > 0.0 else m
    passes = groups * math.ceil(deep / float(c[_ROWS])) * math.ceil(n / float(c[_COLUMNS]))
    # a pass to each array; the next weights are loaded meanwhile
    cycles = math.ceil(passes / arrays) * max(flow + fill, load)
    if c[_MOVES] > 0.0:
        # or a share of what flows to each, past the same weights
        cycles = min(cycles, passes * max(math.ceil(flow / arrays) + fill, load))
    work = (cycles + float(c[_ONCE])) * float(c[_CYCLE]) / float(c[FREE])
    traffic = groups * (operand_bytes(m, n, k, float(c[LEFT]), float(c[RIGHT]), float(c[_BUFFER])) + m * n * out_bytes)
    best = joined(work, traffic / float(c[HBM]) / float(c[FREE_HBM]), float(c[NORM]))
    if c[CAP] > 0.0:
        best = max(best, groups * 2.0 * m * n * k / float(c[CAP]))
    return float(c[LAUNCH]) + best


@compilable
def operand_bytes(m: float, n: float, k: float, left: float, right: float, room: float) -> float:
    """Traffic of A and B past a memory with so much room; all fits where `room` is 0 [byte]."""
    one, other = m * k * left, k * n * right
    least = one + other
    if room <= 0.0 or min(one, other) <= room:
        return least
    # a block of sums is kept, whole strips of A and B go past it
    side = max(1.0, math.floor(math.sqrt(room / _SUM)))
    best = one * math.ceil(n / side) + other * math.ceil(m / side)
    # or a strip of columns of B is kept, and all of A goes past it; or a strip of A
    strip = math.floor(room / (k * right))
    if strip >= 1.0:
        best = min(best, one * math.ceil(n / strip) + other)
    strip = math.floor(room / (k * left))
    if strip >= 1.0:
        best = min(best, one + other * math.ceil(m / strip))
    return max(least, best)


def expert_work(c: Floats, rows: Floats, taken: Floats, n: float, k: float) -> float:
    """Time of arithmetic of products of experts, `taken` of which have so many rows each, in one kernel [s]."""
    high, columns = float(c[_ROWS]), math.ceil(n / float(c[_COLUMNS]))
    if c[_MOVES] > 0.0:
        each = math.ceil(k / high) * columns * np.maximum(np.maximum(rows, 1.0) + float(c[_FILL]), float(c[_LOAD]))
    else:
        each = np.ceil(rows / high - 1e-9) * columns * (k + float(c[_FILL]))
    cycles = float((taken * each).sum()) / float(c[CORES]) + float(c[_ONCE])
    return cycles * float(c[_CYCLE])


def systolic_constants(design: Design) -> SystolicConstants:
    """Constants of a design's systolic arrays, from the design alone.

    Raises
    ------
    SpecError
        Its tensor unit is no systolic array.
    """
    unit = design.tensor
    if unit.kind != "systolic" or unit.rows is None or unit.columns is None:
        raise SpecError(f"design.tensor.kind: {unit.kind!r} is not accepted here; expected 'systolic'")
    return SystolicConstants(
        rows=unit.rows,
        columns=unit.columns,
        arrays=design.cores * unit.count,
        overlap=_OVERLAP,
        compute_efficiency=_HELD,
        hbm_efficiency=_REACHED,
        buffer=(design.cores * design.sram + design.l2) or None,
        source=(
            "from the design: shape and number of its arrays, its on-chip memory; share of the dense rate as on a "
            "TPU v5e, share of HBM bandwidth assumed"
        ),
    )
