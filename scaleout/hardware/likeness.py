"""How unlike two chips are by their data sheets, and how far constants of one may be off on the other.

The rule, what it was derived from and how well it holds is in ``docs/transfer.md``.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from scaleout.specs import Chip

__all__ = [
    "BAND", "DERIVED", "GROWTH", "KINDS", "UNFITTED", "Distance", "Growth", "band", "clock", "distance",
    "expected_error", "nearest",
]  # fmt: skip

_SPECIAL = 16.0
"""Exponentials of a core in a clock (CUDA C++ programming guide, compute capability 7.0 to 10.0): by them the rate of
a data sheet tells the clock."""
_UNKNOWN = 1.0
"""Distance of memories where a data sheet leaves the L2 out: a factor of e."""

UNFITTED = 0.12
"""Error of constants that nobody fitted on their chip; `scaleout.evaluate.uncertainty` says why."""
BAND = 1.6
"""A band over the mean absolute error: four of five errors lie inside where they are spread normally
(1.2816 standard deviations over 0.7979), and on the pairs of measured chips."""


class Growth(NamedTuple):
    """How an expected error grows.

    Parameters
    ----------
    another
        On any other chip: of another maker of boards, another build of the library [1].
    generation
        For each doubling of what a core multiplies in a clock; squares add up, as one redesign knows nothing of the
        next [1].
    memory
        For each factor of e in the clocks that it takes to fill L2 from memory [1].
    """

    another: float = 0.05
    generation: float = 0.10
    memory: float = 0.09


GROWTH = Growth()
"""Derived from pairs of measured chips: `scaleout.calibration.transfer`."""
KINDS = {"gemm": 1.0, "narrow": 1.3, "elementwise": 1.5, "attention": 2.0, "experts": 2.0}
"""Kind of kernel -> what its error grows by, over that of products in 16 bits: kernels of narrow formats, and more so
those of attention and experts, are written anew for a generation of chips."""
DERIVED = 0.10
"""Error of constants of a narrow format that are made of those of 16 bits, beside the others [1]."""


class Distance(NamedTuple):
    """What two data sheets differ by.

    Parameters
    ----------
    generations
        Doublings of what a core multiplies in a clock, up or down [1].
    memory
        Logarithm of the ratio of the clocks that it takes to fill L2 from memory [1].
    """

    generations: float
    memory: float


def clock(chip: Chip) -> float | None:
    """Clock of the cores in bursts [Hz]; None where the data sheet does not tell."""
    if chip.design is not None:
        return chip.design.clock
    return None if chip.exponentials is None else chip.exponentials / (_SPECIAL * chip.cores)


def distance(chip: Chip, donor: Chip) -> Distance:
    """Between the data sheets of two chips; the same both ways, and 0 for equal ones."""
    mine, other = clock(chip), clock(donor)
    slower = other / mine if mine and other else 1.0
    shared = sorted(chip.peak_flops.keys() & donor.peak_flops.keys(), key=lambda name: (name != "bf16", name))
    work = 2.0
    if shared:
        rates = [one.peak_flops[shared[0]] / one.cores for one in (chip, donor)]
        work = rates[0] / rates[1] * slower
    memory = _UNKNOWN
    if chip.l2_bytes and donor.l2_bytes:
        fill = [one.l2_bytes / one.hbm_bandwidth for one in (chip, donor) if one.l2_bytes]
        memory = abs(math.log(fill[0] / fill[1] / slower))
    elif chip.l2_bytes == donor.l2_bytes and chip.hbm_bandwidth == donor.hbm_bandwidth:
        memory = 0.0
    return Distance(abs(math.log2(work)), memory)


def expected_error(
    residual: float | None, apart: Distance, kind: str, *, derived: bool = False, growth: Growth = GROWTH
) -> float:
    """Mean absolute error of constants on a chip at a distance from the one where they were measured [1].

    Parameters
    ----------
    residual
        Of the constants on the donor, on shapes held out of their fit; None where nothing was fitted.
    kind
        One of `KINDS`.
    derived
        The constants are of a narrow format and were made of those of 16 bits.
    growth
        Another rule than the one that was derived.
    """
    own = UNFITTED if residual is None else residual
    more = KINDS[kind]
    parts = (
        own,
        more * growth.another,
        more * growth.generation * math.sqrt(apart.generations),
        more * growth.memory * apart.memory,
        DERIVED if derived else 0.0,
    )
    return math.hypot(*parts)


def band(error: float) -> float:
    """Half width of the band |simulated / measured - 1| in which four of five kernels lie [1]."""
    return BAND * error


def nearest(chip: Chip, donors: Iterable[Chip]) -> Chip | None:
    """The measured chip whose constants of products are to be expected least far off; None where there is none."""
    found = [donor for donor in donors if donor.gemm and not donor.like]

    def error(donor: Chip) -> float:
        known = donor.gemm.get("bf16") or next(iter(donor.gemm.values()))
        return expected_error(known.residual, distance(chip, donor), "gemm")

    return min(found, key=lambda donor: (error(donor), donor.name), default=None)
