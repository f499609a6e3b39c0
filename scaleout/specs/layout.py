"""A layout: how one model is cut over the chips."""

from dataclasses import dataclass
from typing import Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count

__all__ = ["Batch", "Layout"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Degrees of parallelism. Ranks count tp first, then dp, then pp.

    Parameters
    ----------
    tp, pp, dp
        Tensor-, pipeline- and data-parallel degree; their product is the number of chips.
    vpp
        Model chunks a pipeline stage holds (interleaved schedule); 1 is plain 1F1B.
    sequence_parallel
        Norms and residuals are cut along the sequence inside the tp group.
    zero
        0: every dp rank keeps the whole optimizer state; 1: each keeps 1/dp of it.
    """

    tp: Count = 1
    pp: Count = 1
    dp: Count = 1
    vpp: Count = 1
    sequence_parallel: bool = False
    zero: Literal[0, 1] = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.vpp > 1 and self.pp == 1:
            raise SpecError(f"layout.vpp: {self.vpp} chunks need a pipeline (pp above 1), this one has pp = 1")

    @property
    def chips(self) -> int:
        """Chips that the layout takes."""
        return self.tp * self.pp * self.dp


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """One optimizer step's work.

    Parameters
    ----------
    global_, micro
        Sequences of a step over all ranks, and of one micro-batch on one dp rank
        (``global`` in files).
    sequence
        Tokens of a sequence.
    """

    global_: Count
    micro: Count = 1
    sequence: Count

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def tokens(self) -> int:
        """Tokens of a step."""
        return self.global_ * self.sequence
