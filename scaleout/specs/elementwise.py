"""Constants of an elementwise kernel on one chip; the equations are in ``docs/elementwise.md``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Fraction, NotNegative, Positive, Seconds

__all__ = ["ElementwiseConstants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElementwiseConstants:
    """One elementwise operation: it moves bytes, a row of elements to a block of threads.

    Parameters
    ----------
    launch
        Fixed time of a kernel [s].
    efficiency
        Reached share of HBM bandwidth [1].
    l2_ratio
        Rate at which operands that stay in L2 are read and written, as a multiple of HBM
        bandwidth [1]; None where they are not faster.
    rows_per_core
        Rows (tokens) that a core works on at a time; 0 where the work is not cut into rows.
    row_overhead
        Time of a block of threads [s].
    element_overhead
        Time of each of its elements, one after another as far as the block is too small [s].
    residual
        Mean absolute error on measurements held out of the fit [1]; None where nothing was fitted.
    calibrated
        Lowest and highest value of each quantity in the measurements.
    fitted
        Date of the fit.
    """

    launch: Seconds
    efficiency: Fraction
    l2_ratio: Positive | None = None
    rows_per_core: NotNegative = 0.0
    row_overhead: Seconds = 0.0
    element_overhead: Seconds = 0.0
    residual: NotNegative | None = None
    calibrated: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    fitted: str = ""
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "calibrated")
