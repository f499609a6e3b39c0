"""Where chips stand: power and cooling, prices, money. Every figure has a source with its date."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Annotated

from scaleout.errors import SpecError, near
from scaleout.specs.fields import check_fields, freeze
from scaleout.units import (
    BytesPerSecond,
    Dollars,
    DollarsPerJoule,
    DollarsPerSecond,
    DollarsPerWatt,
    Fraction,
    Joules,
    NotNegative,
    Number,
    Seconds,
    Watts,
)

__all__ = ["DOUBTS", "Facility", "NodeCosts"]

DOUBTS = ("price", "chip", "node", "network", "building", "power")
"""What prices may be off by: see `Facility.doubt`."""
_LIMITS = ("utilisation", "rack_power", "hall_power", "battery")
"""Fields that say what a place is for, and are nobody's claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCosts:
    """What a node of a system draws and costs beside its chips.

    Parameters
    ----------
    idle, busy
        Processors, fans, network cards and losses of power supplies: at rest and at work [W].
    price
        Without its chips, with its network ports and the links between its chips [USD].
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
    """A data centre, a cloud, or a vehicle, and what things cost there.

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
    rent
        Chip -> price of an hour of one, for chips that are rented: all that they cost [USD/s]. Empty: they are bought.
    port_rate
        Of the ports that prices and powers of switches and optics are of; others are in proportion [byte/s].
    switch_power, switch_price, switch_ports
        Of a switch of the network between nodes, without optics [W, USD], and its ports.
    optics_power, optics_price
        Of what is at one end of a cable, and half of the cable [W, USD].
    chip_price
        A watt of a chip's power limit, for chips whose price nobody knows [USD/W].
    node_price
        Of a node without its chips, over that of its chips, where it is not known [1].
    node_power
        Of a node without its chips, over the power limits of its chips, where it is not known [1].
    load
        Mean power of machines over what they may draw, where their energy is not known [1].
    doubt
        How far figures may be off [1], about as far as on the average: "price" one that is known, "chip" one by the
        watt, "node" one by the chips' price, "network", "building", and "power" by `load`.
    rack_power, hall_power
        Limits; None for none [W].
    battery
        Of an edge device, that runs it; None for none [J].
    sources
        Field -> where its figure comes from, with its date. A figure without a source is refused, but for what says
        what the place is for: utilisation, limits and battery.
    unverified
        Fields that nobody has checked against a source.
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
    rent: Mapping[str, DollarsPerSecond] = field(default_factory=dict)
    port_rate: BytesPerSecond = 50e9
    switch_power: Watts
    switch_price: Dollars
    switch_ports: Annotated[int, Number(low=1, high=4096, above=False, integer=True)] = 64
    optics_power: Watts
    optics_price: Dollars
    chip_price: DollarsPerWatt
    node_price: NotNegative
    node_power: NotNegative
    load: Fraction
    doubt: Mapping[str, NotNegative]
    rack_power: Watts | None = None
    hall_power: Watts | None = None
    battery: Joules | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "sources", "rent", "doubt")
        mistakes = [
            f"facility.{name}: 0 s is not a life; expected a value such as '4 year'"
            for name in ("life", "facility_life")
            if not getattr(self, name)
        ]
        mistakes += [
            f"facility.doubt: missing {name!r}; expected {', '.join(DOUBTS)}"
            for name in DOUBTS
            if name not in self.doubt
        ]
        mistakes += [
            f"facility.doubt.{name}: unknown; {near(name, DOUBTS)}" for name in self.doubt if name not in DOUBTS
        ]
        known = {f.name for f in fields(self)}
        mistakes += [
            f"facility.{where}.{name}: no field of a facility; {near(name, known)}"
            for where in ("sources", "unverified")
            for name in getattr(self, where)
            if name.split(".")[0] not in known
        ]
        mistakes += [
            f"facility.{name}: has no source; name one under sources, with its date, or list it under unverified"
            for name in self._figures()
            if not self.sources.get(name, "").strip() and name not in self.unverified
        ]
        if mistakes:
            raise SpecError("\n".join(mistakes))

    def _figures(self) -> list[str]:
        """Fields with figures that somebody gave."""
        return [
            f.name
            for f in fields(self)
            if f.name not in ("name", "sources", "unverified", *_LIMITS)
            and (f.default is MISSING or getattr(self, f.name) != f.default)
            and (f.name != "rent" or self.rent)
        ]

    def rent_of(self, chip: str) -> float:
        """What one is rented for [USD/s]; 0 where chips are bought.

        Raises
        ------
        SpecError
            There are rents, and none for this one.
        """
        if self.rent and chip not in self.rent:
            raise SpecError(f"facility.rent: {self.name} rents no {chip}; {near(chip, self.rent)}; or give it a rent")
        return self.rent.get(chip, 0.0)

    def verified(self, *names: str) -> bool:
        """Whether somebody checked these fields."""
        return not any(item.split(".")[0] in names for item in self.unverified)

    def source(self, *names: str) -> str:
        """Where figures come from, in words."""
        found = dict.fromkeys(" ".join(self.sources.get(name, "").split()) or "no source" for name in names)
        return "; ".join(found)
