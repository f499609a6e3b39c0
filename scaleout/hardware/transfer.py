"""Constants of kernels on a chip that nobody measured, from one that somebody did."""

from dataclasses import replace

from scaleout.specs import Chip

__all__ = ["transfer"]


def transfer(chip: Chip, donor: Chip) -> Chip:
    """The chip of a data sheet with the constants of another's kernels, where it has none of its own.

    Constants are shares of rates of the data sheet, and times of launches; both are taken as they are.
    """
    return replace(
        chip,
        like=donor.name,
        gemm={**donor.gemm, **chip.gemm},
        attention={**donor.attention, **chip.attention},
        elementwise={**donor.elementwise, **chip.elementwise},
    )
