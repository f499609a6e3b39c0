"""Kernels beside transfers on one chip: with some of its cores held, and some of its HBM's rate taken.

A matrix product is cut into the same tiles, which go in waves over fewer cores; attention alike. What
HBM bounds runs at the rate that is left of it. Equations and sources are in ``docs/contention.md``.
"""

from scaleout.arrays import Floats
from scaleout.hardware.attention import attention_beside
from scaleout.hardware.gemm import gemm_beside
from scaleout.hardware.rates import Rates
from scaleout.specs import Chip

__all__ = ["LARGEST_SHARE", "beside", "hbm_passes", "in_switch", "left"]

LARGEST_SHARE = 0.5
"""Share of HBM that transfers take at most [1]: kernels and transfers share it fairly."""
_PASSES = {"reduce_scatter": 3.0, "all_reduce": 2.5}
_COPIES = 2.0
"""HBM traffic of a byte on the wire: what is sent is read, what comes is written; a sum reads what is
here once more. An all-reduce is half a reduce-scatter, half an all-gather."""
_IN_SWITCH = ("nvls", "nvls-tree", "sharp")


def in_switch(algorithm: str) -> bool:
    """Whether the switch adds, in an algorithm and protocol such as ``nvls/NVLS``."""
    return algorithm.partition("/")[0].partition(" ")[0] in _IN_SWITCH


def hbm_passes(operation: str, algorithm: str) -> float:
    """Bytes that a chip reads and writes for a byte that it puts on the wire [1].

    Parameters
    ----------
    algorithm
        Algorithm and protocol, such as ``ring/Simple``; where the switch adds, nothing is read for sums.
    """
    return 1.0 if in_switch(algorithm) else _PASSES.get(operation, _COPIES)


def left(chip: Chip, cores: float, traffic: float) -> tuple[float, float]:
    """Share of the cores and of HBM's rate that kernels have left [1], with so many held and so much taken [byte/s].

    One core at least is left, and half of HBM.
    """
    return max(1.0, chip.cores - cores) / chip.cores, 1.0 - min(LARGEST_SHARE, traffic / chip.hbm_bandwidth)


def beside(rates: Rates, cores: float, hbm: float) -> Rates:
    """Rates of kernels that have these shares of the cores and of HBM's rate left [1]."""
    quantise: Floats = rates.quantise.copy()
    quantise[1:] /= hbm
    return rates._replace(
        linear=gemm_beside(rates.linear, cores, hbm),
        plain=gemm_beside(rates.plain, cores, hbm),
        attention=attention_beside(rates.attention, cores, hbm) if rates.fused else rates.attention,
        quantise=quantise,
        elementwise=rates.elementwise * hbm,
        vector=rates.vector * cores,
    )
