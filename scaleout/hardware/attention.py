"""Time of causal attention on one chip, forward and backward; see ``docs/attention.md``."""

import math
from collections.abc import Mapping
from itertools import pairwise

from scaleout.specs import AttentionConstants, Chip

__all__ = ["attention_seconds", "efficiency_at"]

_TILE = 128
_BACKWARD_WORK = 2.5
"""Five matrix products backward (one of them recomputed) for two forward."""


def attention_seconds(
    chip: Chip,
    constants: AttentionConstants,
    peak: float,
    batch: int,
    sequence: int,
    heads: int,
    kv_heads: int,
    head_size: int,
    backward: bool,
) -> float:
    """Time of causal self-attention over whole sequences [s].

    Parameters
    ----------
    batch, sequence, heads, kv_heads, head_size
        Sequences, tokens of each, query heads and key/value heads on this chip, their size.
    peak
        Dense rate of the chip for the dtype, which is two bytes wide [flop/s].
    """
    c = constants
    rate = peak * efficiency_at(c.efficiency, head_size) * (c.backward if backward else 1.0)
    rows = math.ceil(sequence / _TILE)
    work = _BACKWARD_WORK if backward else 1.0
    tile = 4.0 * _TILE * _TILE * head_size * work
    compute = batch * heads * rows * (rows + 1) / 2 * tile / rate
    longest = rows * tile / (rate / chip.cores)
    passes = 3 if backward else 1
    elements = batch * sequence * head_size * (2 * heads + 2 * kv_heads) * passes
    hbm = 2.0 * elements / (chip.hbm_bandwidth * c.hbm_efficiency)
    waves = math.ceil(batch * heads * rows / chip.cores)
    joined: float = (max(compute, longest) ** 3 + hbm**3) ** (1 / 3)
    return c.launch + c.wave_overhead * waves + joined


def efficiency_at(table: Mapping[int, float], size: int) -> float:
    """Efficiency at a head size, linear between the listed sizes and level outside."""
    points = sorted(table.items())
    if size <= points[0][0]:
        return float(points[0][1])
    for (low, a), (high, b) in pairwise(points):
        if size <= high:
            return float(a + (b - a) * (size - low) / (high - low))
    return float(points[-1][1])
