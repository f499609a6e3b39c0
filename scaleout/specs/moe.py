"""Kernels that take tokens to their experts and back: what each costs beside the links."""

from dataclasses import dataclass
from typing import Literal

from scaleout.specs.fields import check_fields
from scaleout.units import BytesPerSecond, Fraction, NotNegative, Seconds

__all__ = ["MoeKernel", "MoeLibrary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeKernel:
    """One kernel of an expert exchange; equations in ``docs/experts.md``.

    Parameters
    ----------
    launch, step
        Once, and once for each doubling of the ranks [s].
    token
        Work on a token in the chip, however few ranks it goes to [s].
    local
        Rate at which the chip goes over a token's payload besides [byte/s]; None costs nothing.
    overhead
        A token's share of what does not run beside its transfer [s].
    element
        Bytes of an element that moves [byte]; None is that of the table's dtype.
    scale_up_rate, network_rate
        Share of the payload rate of a link in the node and of a port that the kernel drives [1].
    copies
        A token is sent once to each rank that holds experts of its choice, or once to each expert,
        or once to each node, to the rank there that is the sender's like and hands it on.
    """

    launch: Seconds
    step: Seconds = 0.0
    token: Seconds = 0.0
    local: BytesPerSecond | None = None
    overhead: Seconds = 0.0
    element: NotNegative | None = None
    scale_up_rate: Fraction = 1.0
    network_rate: Fraction = 1.0
    copies: Literal["rank", "expert", "node"] = "rank"

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeLibrary:
    """Kernels of one library for expert exchanges.

    Parameters
    ----------
    dispatch, combine
        To the experts, and back with a sum.
    prepare
        Exchange of who gets how many tokens; None where it is part of `dispatch`.
    combine_low_precision
        Back, quantised on the way; None where there is none.
    cores
        Cores of a chip that its kernels hold [1].
    residual
        Mean absolute error on rows held out of the fit [1]; None where nothing was fitted.
    """

    dispatch: MoeKernel
    combine: MoeKernel
    prepare: MoeKernel | None = None
    combine_low_precision: MoeKernel | None = None
    cores: NotNegative = 0
    residual: NotNegative | None = None
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
