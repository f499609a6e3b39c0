"""Chips of a table as their data sheets alone tell them, with the constants of one that was measured."""

from dataclasses import replace

from scaleout.errors import SpecError, near
from scaleout.hardware.likeness import band
from scaleout.hardware.transfer import transfer
from scaleout.io.catalogue import known_chips
from scaleout.specs import Chip

__all__ = ["OWN", "chips_of", "stated"]

OWN = "its constants were measured on this chip: no transfer"
"""Why a row of the donor is left out."""


def chips_of(donor: str = "") -> dict[str, Chip]:
    """Chips of the catalogue by name and alias; all but the donor with the donor's constants in place of theirs.

    Raises
    ------
    SpecError
        There is no such donor, or its constants are those of another chip.
    """
    chips = known_chips()
    if not donor:
        return chips
    if donor not in chips:
        raise SpecError(f"unknown chip {donor!r}; {near(donor, chips)}")
    measured = chips[donor]
    if measured.like:
        raise SpecError(f"chip {donor!r} has the constants of {measured.like!r} itself; name one that was measured")
    made = {chip.name: transfer(_data_sheet(chip), measured) for chip in set(chips.values())}
    return {name: made[chip.name] for name, chip in chips.items()}


def _data_sheet(chip: Chip) -> Chip:
    """Without constants of kernels; what its file says of them is of no matter then."""
    sections = ("gemm", "attention", "elementwise")
    doubts = tuple(item for item in chip.unverified if item.partition(".")[0] not in sections)
    return replace(chip, gemm={}, attention={}, elementwise={}, best={}, like="", unverified=doubts)


def stated(chip: Chip, residual: float | None) -> float | None:
    """The band in which four of five rows should lie [1]; None for constants of the chip's own."""
    return None if not chip.like or residual is None else band(residual)
