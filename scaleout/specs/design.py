"""The design of a chip that need not exist: units, clocks, memories, links, process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Area, Bytes, BytesPerSecond, Count, Hertz, Number, Positive, Watts

__all__ = ["Design", "Memory", "TensorUnit"]

_MOST_SPARES = 10_000
_Some = Annotated[int, Number(low=0, high=1e12, above=False, integer=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorUnit:
    """The unit of a core that multiplies matrices.

    Parameters
    ----------
    kind
        "tensor-core" multiplies small tiles out of registers and shared memory; "systolic" keeps one operand in
        an array of multipliers that the other flows through.
    rows, columns
        Of a systolic array: multipliers.
    count
        Units of a core.
    macs
        Multiply-adds of a unit in a clock, per dtype; of a systolic array rows x columns where it says nothing.
    """

    kind: Literal["tensor-core", "systolic"] = "tensor-core"
    rows: Count | None = None
    columns: Count | None = None
    count: Count = 1
    macs: Mapping[str, Positive] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "macs")
        if self.kind == "systolic" and not (self.rows and self.columns):
            raise SpecError("design.tensor: a systolic array needs rows and columns")
        if self.kind == "tensor-core" and (self.rows or self.columns):
            raise SpecError("design.tensor: rows and columns are of a systolic array; say kind: systolic, or macs")
        if self.kind == "tensor-core" and not self.macs:
            raise SpecError("design.tensor.macs: missing; multiply-adds a clock, such as {bf16: 1024, fp8: 2048}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """The chip's main memory.

    Parameters
    ----------
    kind
        A generation, such as "hbm3e" or "lpddr5x"; it decides price, area and power of the interface.
    stacks
        Stacks of HBM, or packages of LPDDR, GDDR or DDR.
    capacity, bandwidth
        Of one of them [byte, byte/s].
    """

    kind: str
    stacks: Count
    capacity: Bytes
    bandwidth: BytesPerSecond

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What an architect decides; `scaleout.hardware.design` makes a chip of it.

    Parameters
    ----------
    process
        A node of `scaleout.hardware.silicon`, such as "N4".
    cores, clock
        Cores that are switched on, and the clock that they hold in bursts [Hz].
    spare_cores
        Cores on the die beyond those, which make up for defects.
    tensor
        The matrix unit of a core.
    vector_lanes
        Fused multiply-adds in fp32 of a core in a clock.
    exponentials
        Exponentials of a core in a clock.
    sram
        Shared memory, registers and scratchpads of a core [byte].
    l2
        Cache or memory that all cores share [byte].
    memory
        HBM, LPDDR, GDDR or DDR.
    link_bandwidth, links
        Rate of one link to other chips in one direction [byte/s], and how many there are.
    dies
        Compute dies of the package, on which cores, L2 and interfaces are spread evenly.
    area
        Of one compute die, where a floor plan says it; None lets it be estimated [m2].
    power
        Limit of the board [W].
    """

    process: str
    cores: Count
    spare_cores: _Some = 0
    clock: Hertz
    tensor: TensorUnit
    vector_lanes: Positive
    exponentials: Positive | None = None
    sram: Bytes
    l2: Bytes
    memory: Memory
    link_bandwidth: BytesPerSecond | None = None
    links: _Some = 0
    dies: Annotated[int, Number(low=1, high=1000, above=False, integer=True)] = 1
    area: Area | None = None
    power: Watts

    def __post_init__(self) -> None:
        check_fields(self)
        if self.links and self.link_bandwidth is None:
            raise SpecError("design.link_bandwidth: missing; links need a rate")
        if self.spare_cores > min(self.cores, _MOST_SPARES):
            raise SpecError(
                f"design.spare_cores: {self.spare_cores:,} is not accepted; expected at most as many as cores, "
                f"and {_MOST_SPARES:,}"
            )
        if self.dies > self.cores:
            raise SpecError(
                f"design.dies: {self.dies} is not accepted; {self.cores} cores are on no more dies than that"
            )
