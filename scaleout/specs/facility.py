"""Where chips stand: power and cooling, prices, money. Every figure has a source with its date."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import (
    Dollars,
    DollarsPerJoule,
    DollarsPerWatt,
    Fraction,
    Joules,
    NotNegative,
    Number,
    Seconds,
    Watts,
)

__all__ = ["Facility", "NodeCosts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCosts:
    """What a node of a system draws and costs beside its chips.

    Parameters
    ----------
    idle, busy
        Processors, fans, network cards and losses of power supplies: at rest and at work [W].
    price
        Without its chips [USD].
    source
        Of these figures, with its date.
    """

    idle: Watts
    busy: Watts
    price: Dollars | None = None
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facility:
    """A data centre, or a vehicle, and what things cost there.

    Parameters
    ----------
    pue
        Power of the building over that of the machines in it [1].
    electricity
        [USD/J]
    interest
        A year [1].
    life
        Of machines, over which they are paid off [s].
    facility_life
        Of the building [s].
    maintenance
        A year, over the price of the machines [1].
    building
        Price of the building and its power, a watt of machines [USD/W].
    staff
        A year, over the price of the machines [1].
    utilisation
        Share of the time in which bought chips do paid work [1].
    switch_power, switch_price, switch_ports
        Of a switch of the network between nodes [W, USD], and its ports.
    optics_power, optics_price
        Of a pluggable optical module at one end of a cable [W, USD].
    nic_price
        Of a network port of a node, where the node's price does not have it [USD].
    chip_price
        A watt of a chip's power limit, for chips whose price nobody knows [USD/W].
    rack_power, hall_power
        Limits; None for none [W].
    battery
        Of an edge device, that runs it; None for none [J].
    sources
        Field -> where its figure comes from, with its date. A figure without a source is refused.
    """

    name: str
    pue: Annotated[float, Number(low=1, high=3, above=False)]
    electricity: DollarsPerJoule
    interest: Annotated[float, Number(high=1, above=False)]
    life: Seconds
    facility_life: Seconds
    maintenance: NotNegative
    building: DollarsPerWatt
    staff: NotNegative = 0.0
    utilisation: Fraction = 1.0
    switch_power: Watts
    switch_price: Dollars
    switch_ports: Annotated[int, Number(low=1, high=4096, above=False, integer=True)] = 64
    optics_power: Watts
    optics_price: Dollars
    nic_price: Dollars
    chip_price: DollarsPerWatt
    rack_power: Watts | None = None
    hall_power: Watts | None = None
    battery: Joules | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "sources")
        if not self.life or not self.facility_life:
            raise SpecError("facility.life: 0 s is not a life; expected a value such as '4 year'")
