"""Time of one matrix multiplication on one chip: tiles, waves, HBM and L2.

The library's choice of tile and split is stood in for by the best of a small menu. Equations
and validity are in ``docs/gemm.md``.
"""

import numpy as np

from scaleout.specs import Chip, GemmConstants

__all__ = ["gemm_seconds"]

_SIDES = (64, 128, 256)
_SPLITS = (1, 2, 4, 8, 16)
_MENU = np.array([(m, n, s) for m in _SIDES for n in _SIDES for s in _SPLITS], dtype=np.float64).T


def gemm_seconds(
    chip: Chip, constants: GemmConstants, peak: float, m: int, n: int, k: int, width: float, out_bytes: float
) -> float:
    """Time of C[m, n] = A[m, k] B[k, n] [s], in a long run of such kernels.

    Parameters
    ----------
    peak
        Dense rate of the chip for this dtype [flop/s].
    width
        Bytes of one element of A and of B [byte].
    out_bytes
        Traffic of one element of C [byte]: 2 for bf16, 8 for an fp32 sum read and written.
    """
    c = constants
    tile_m, tile_n, split = _MENU
    depth = np.ceil(k / split)
    tiles = np.ceil(m / tile_m) * np.ceil(n / tile_n) * split
    full = np.floor(tiles / chip.cores)
    rest = tiles - full * chip.cores
    waves = np.maximum(1.0, full + (rest > 0) * (c.wave_tail + (1 - c.wave_tail) * rest / chip.cores))

    core_rate = peak * c.compute_efficiency / chip.cores
    edge = 1 + c.halo * 64 * (1 / tile_m + 1 / tile_n)
    compute = chip.sustained * waves * 2 * tile_m * tile_n * depth / core_rate * edge

    traffic = float(m * k + k * n) * width + float(m * n) * out_bytes
    few = 1 + c.idle_cores * np.maximum(0.0, chip.cores / tiles - 1)
    hbm = traffic / (chip.hbm_bandwidth * c.hbm_efficiency) * few

    terms = [compute, hbm]
    if c.l2_ratio is not None:
        terms.append(tiles * (tile_m + tile_n) * depth * width / (chip.hbm_bandwidth * c.l2_ratio))
    longest = np.maximum.reduce(terms)
    joined = longest * sum((term / longest) ** c.norm for term in terms) ** (1 / c.norm)
    times = joined + (split > 1) * c.split_overhead
    return float(c.launch + c.tile_overhead + times.min())
