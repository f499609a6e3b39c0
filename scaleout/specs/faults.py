"""Faults: links, ports and switches that lose rate, or die, during a step."""

from dataclasses import dataclass
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Number, Seconds, Share

__all__ = ["Fault"]

Rank = Annotated[int, Number(low=0, above=False, integer=True)]
PARTS = ("port", "scale_up", "vertex", "link")
"""What may be struck; a fault names one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One part of the network below its rate, from one moment on.

    Parameters
    ----------
    at
        When it begins, from the start of the step [s].
    until
        When it is over; None is not within the step [s].
    port, scale_up
        Rank whose network port, or whose links into the node, are struck, both directions.
    vertex
        Name of a vertex of the topology, such as ``leaf 3``: all its links are struck.
    link
        Name of a link, ``chip 5 -> leaf 5``; with ``<->`` both directions.
    share
        Share of the rate that is left [1]; 0 is dead. Of k parallel switches in one vertex, one
        dead is (k - 1) / k. Faults on one link multiply.
    then
        What becomes of transfers over dead links: ``reroute`` moves what is left of them onto the
        shortest way around, ``stall`` leaves them until the link is back.
    """

    at: Seconds
    until: Seconds | None = None
    port: Rank | None = None
    scale_up: Rank | None = None
    vertex: str | None = None
    link: str | None = None
    share: Share
    then: Literal["reroute", "stall"] = "reroute"

    def __post_init__(self) -> None:
        check_fields(self)
        named = [part for part in PARTS if getattr(self, part) is not None]
        if len(named) != 1:
            what = " and ".join(named) if named else "nothing"
            raise SpecError(f"fault: {what} named; expected one of {', '.join(PARTS)}")
        if self.until is not None and self.until <= self.at:
            raise SpecError(f"fault.until: {self.until:g} s is not after its beginning at {self.at:g} s")

    @property
    def part(self) -> str:
        """What is struck: one of `PARTS`."""
        return next(part for part in PARTS if getattr(self, part) is not None)

    def __str__(self) -> str:
        end = "" if self.until is None else f" to {self.until:g} s"
        left = "dead" if not self.share else f"at {self.share:g} of its rate"
        return f"{self.part} {getattr(self, self.part)} {left} from {self.at:g} s{end}"
