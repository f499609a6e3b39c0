"""What silicon takes and costs: processes, memories, packages, and dies whose area is known.

Equations and the error of the estimate are in ``docs/silicon.md``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.design import Design
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import (
    Area,
    BytesPerSecond,
    Count,
    Dollars,
    DollarsPerByte,
    DollarsPerWatt,
    Fraction,
    Metres,
    Number,
    PerArea,
    Positive,
)

__all__ = ["Assembly", "CoreShape", "Interface", "KnownDie", "MemoryKind", "Process", "Silicon"]

_AreaOrNone = Annotated[float, Number("m2", above=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A node of a foundry.

    Parameters
    ----------
    logic
        Area of a circuit over its area in N7 [1].
    sram
        Of a mebibyte of dense SRAM, its periphery included [m2].
    wafer
        Price of a finished wafer of 300 mm [USD].
    defects
        That kill what they hit [1/m2].
    masks, design
        Price of a set of masks, and of the design of a large chip with verification and first software [USD].
    source
        Of these figures, with dates.
    """

    logic: Positive
    sram: Area
    wafer: Dollars
    defects: PerArea
    masks: Dollars
    design: Dollars
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Transceivers and controllers at the edge of a die.

    Parameters
    ----------
    analog
        Area that does not shrink with the process [m2].
    logic
        Area in N7 of what does [m2].
    bandwidth
        In one direction, that this area is for [byte/s]; None where it is for one piece, whatever its rate.
    """

    analog: _AreaOrNone
    logic: _AreaOrNone = 0.0
    bandwidth: BytesPerSecond | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryKind:
    """A generation of memory.

    Parameters
    ----------
    interface
        Of a stack or package.
    fastest
        Rate of the fastest grade of one [byte/s].
    price
        [USD/byte]
    footprint
        Of a stack on the interposer [m2]; None for memory that stands on the board.
    """

    interface: Interface
    fastest: BytesPerSecond
    price: DollarsPerByte
    footprint: Area | None = None
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreShape:
    """What memory takes beyond dense SRAM, where cores are built in one way.

    Parameters
    ----------
    sram, shared
        Area of a core's registers and memories, and of what all cores share with its network, over that of as much
        dense SRAM [1].
    """

    sram: Positive
    shared: Positive

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembly:
    """From dies to a board.

    Parameters
    ----------
    interposer
        Price of a wafer of 300 mm of interposers, with the work of placing dies on them [USD].
    margin
        Area of an interposer over that of what stands on it [1].
    substrate
        Price of the organic substrate, lid and work of a package [USD].
    placed
        Share of placed dies and stacks that survive [1]; where one does not, the package is lost.
    test
        Price of testing a package [USD].
    board
        Regulators, cooler and board, a watt of the limit [USD/W].
    """

    interposer: Dollars
    margin: Positive
    substrate: Dollars
    placed: Fraction
    test: Dollars
    board: DollarsPerWatt
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDie:
    """A die that was built, as a design, and its area.

    Parameters
    ----------
    design
        Cores that the product uses and those that it does not are `cores` and `spare_cores`.
    area
        Of one compute die [m2].
    at_most
        The area is a bound that its maker gave, and no measure.
    fitted
        The constants of the estimate were fitted to it.
    chips
        Products with it, by their names in the catalogue.
    cost
        What somebody else estimates that the first of `chips` costs to make [USD], and who.
    """

    design: Design
    area: Area
    at_most: bool = False
    fitted: bool = False
    chips: tuple[str, ...] = ()
    cost: Dollars | None = None
    cost_source: str = ""
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Silicon:
    """All that the estimate of area, yield and cost rests on.

    Parameters
    ----------
    mac
        Area in N7 of a multiply-add of a matrix unit with its operands' wires, by dtype [m2]. Dtypes up to
        32 bits share one unit's multipliers, fp64 has its own.
    lane
        Area in N7 of a fp32 lane with issue, address units and its port to the network on the die [m2].
    cores
        By kind of matrix unit.
    overhead
        Area of a die over that of what is counted: clocks, control, spare rows, seams [1].
    link, host
        Links to other chips, and the one interface to a host.
    reticle
        Largest die that a scanner prints [m2].
    edge, scribe
        Rim of a wafer that no die may reach, and saw street between dies [m].
    model
        Which distribution defects have over wafers.
    clustering
        How evenly, where that is negative binomial: small for clusters, infinite for Poisson [1].
    dies
        What was built, to judge the estimate by.
    sources
        Field -> where its figure comes from.
    """

    name: str
    processes: Mapping[str, Process]
    memories: Mapping[str, MemoryKind]
    mac: Mapping[str, Area]
    lane: Area
    cores: Mapping[str, CoreShape]
    overhead: Annotated[float, Number(low=1, high=10, above=False)]
    link: Interface
    host: Interface
    reticle: Area
    edge: Annotated[float, Number("m", high=0.1, above=False)]
    scribe: Metres
    model: Literal["negative-binomial", "murphy", "poisson"] = "negative-binomial"
    clustering: Positive
    assembly: Assembly
    volume: Count
    dies: Mapping[str, KnownDie] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "processes", "memories", "mac", "cores", "dies", "sources")
        if self.link.bandwidth is None:
            raise SpecError("silicon.link.bandwidth: missing; the area of links grows with their rate")

    def checked(self, name: str) -> bool:
        """Whether a field was checked against a source: neither it nor a part of it is listed as unverified."""
        return not any(item == name or item.startswith(f"{name}.") for item in self.unverified)
