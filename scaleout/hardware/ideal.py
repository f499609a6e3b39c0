"""Chips on which times are counts: how much work a kernel has, by the same code that times it.

On a chip of one operation a second, with memory that takes no time, the seconds of a kernel are its
operations; with arithmetic that takes no time and a memory of one byte a second they are its bytes.
So whatever is timed is counted, and there is no second table of formulas that could disagree.
"""

from dataclasses import replace

from scaleout.hardware.formats import FORMATS
from scaleout.specs import (
    AttentionConstants,
    Chip,
    DecodeConstants,
    GemmConstants,
    GroupedConstants,
    PrefillConstants,
    QuantiseConstants,
)
from scaleout.specs.gemm import SparseConstants

__all__ = ["ALL", "BYTES", "FREE", "counting"]

ALL, BYTES = "all", "bytes"
"""Operations in whatever dtype; bytes of memory."""
FREE = 1e60
"""A rate at which nothing takes time [flop/s, byte/s]."""

_SOURCE = "a chip that counts"
_GROUPED = GroupedConstants(work=1.0, traffic=1.0, launch=0.0, source=_SOURCE)
_SPARSE = SparseConstants(gain=1.0, source=_SOURCE)
"""What pruned weights multiply counts in full: nobody measured what it saves."""
_GEMM = GemmConstants(
    compute_efficiency=1.0, hbm_efficiency=1.0, launch=0.0, tile_overhead=0.0, halo=0.0, wave_tail=0.0, norm=1.0,
    idle_cores=0.0, tiles=("1x1",), splits=(1,), grouped=_GROUPED, sparse=_SPARSE, source=_SOURCE,
)  # fmt: skip
_PREFILL = PrefillConstants(tile=1, efficiency=1.0, backward=1.0, launch=0.0, hbm_efficiency=1.0)
_DECODE = DecodeConstants(
    tile=1, blocks_per_core=1, group_split=1, single_split=1, smallest_group=1, largest_group=1_000_000_000,
    launch=0.0, group_overhead=0.0, head_overhead=0.0, group_tile=0.0, single_overhead=0.0, single_tile=0.0,
    reduction=0.0, part_overhead=0.0, wave_tail=0.0, hbm_efficiency=1.0, l2_ratio=FREE,
)  # fmt: skip


def counting(chip: Chip, unit: str, *, casts: bool = False) -> Chip:
    """A chip whose seconds are counts of what `chip` does.

    Parameters
    ----------
    chip
        Whose formats and attention kernels it has.
    unit
        A dtype of `Chip.peak_flops`: operations of the matrix units in it [flop]; `ALL`: in any; `BYTES`: of
        main memory [byte].
    casts
        It has a kernel that casts activations, of the bytes that are read and written; otherwise a cast is a pass.
    """
    # products off the grid of the matrix units count as theirs
    rates = {dtype: 1.0 if unit in (dtype, ALL) else FREE for dtype in chip.peak_flops if dtype != "fp32"}
    quantise = QuantiseConstants(hbm_efficiency=1.0, launch=0.0) if casts else None
    plain, cast = _GEMM, replace(_GEMM, quantise=quantise)
    return Chip(
        name=f"counts {unit}",
        vendor="none",
        cores=1,
        peak_flops=rates,
        hbm_bytes=FREE,
        hbm_bandwidth=1.0 if unit == BYTES else FREE,
        power=1.0,
        gemm={name: cast if shape.cast else plain for name, shape in FORMATS.items()},
        attention={
            name: AttentionConstants(
                prefill={dtype: replace(_PREFILL, products=c.products) for dtype, c in one.prefill.items()},
                decode=dict.fromkeys(one.decode, _DECODE),
                source=_SOURCE,
            )
            for name, one in chip.attention.items()
        },
        source=_SOURCE,
    )
