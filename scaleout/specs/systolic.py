"""Constants of matrix multiplication on systolic arrays, per chip and dtype."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields, freeze
from scaleout.specs.gemm import GroupedConstants, QuantiseConstants, check_range
from scaleout.units import Bytes, Count, Fraction, NotNegative, Number, Seconds, Share

__all__ = ["SystolicConstants"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SystolicConstants:
    """Arrays of multipliers that one operand flows through; see ``docs/backends.md``.

    Parameters
    ----------
    kind
        Tells these constants from those of tiles.
    rows, columns, arrays
        Multipliers of an array along its two sides, and arrays of the whole chip. The clock follows from the
        data sheet's rate: 2 x rows x columns x arrays flop in a cycle.
    dataflow
        What stays in the array while the rest flows: the weights (rows along k, columns along n), or the sums
        (rows along m, columns along n).
    overlap
        Share of the filling and draining of an array that the next pass hides [1].
    compute_efficiency, hbm_efficiency
        Reached share of the data sheet's dense rate by an array that never waits, and of HBM bandwidth [1].
    buffer
        On-chip memory for operands and sums, half of it being filled while the other half is used [byte]; operands
        that do not fit are read again. None: all are read once.
    norm
        Exponent that joins compute and HBM time [1].
    launch
        Fixed time of a kernel [s].
    quantise, grouped, residual, range, library, fitted
        As in `GemmConstants`.
    """

    kind: Literal["systolic"] = "systolic"
    rows: Count
    columns: Count
    arrays: Count
    dataflow: Literal["weight-stationary", "output-stationary"] = "weight-stationary"
    overlap: Share = 0.0
    compute_efficiency: Fraction = 1.0
    hbm_efficiency: Fraction
    buffer: Bytes | None = None
    norm: Annotated[float, Number(low=1, high=100, above=False)] = 8.0
    launch: Seconds = 0.0
    quantise: QuantiseConstants | None = None
    grouped: GroupedConstants | None = None
    residual: NotNegative | None = None
    range: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    library: str = ""
    fitted: str = ""
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "range")
        check_range(self.range)
        if self.buffer == 0.0:
            raise SpecError("gemm.buffer: 0 is not accepted; leave it out where operands are read once")
