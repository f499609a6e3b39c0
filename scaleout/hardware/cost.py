"""What machines cost: prices of what a job occupies, and an hour of it; equations in ``docs/cost.md``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import expm1, hypot, log1p

from scaleout.specs import Chip, Facility, NodeCosts

__all__ = ["Bill", "Group", "Hour", "Ports", "bill", "hour_of", "recovery"]

YEAR = 31_557_600.0
"""[s]"""
HOUR = 3600.0
"""[s]"""


@dataclass(frozen=True, slots=True)
class Group:
    """Chips of one kind.

    Parameters
    ----------
    count
        How many of them.
    per_node
        Chips of a node.
    node
        What such a node draws and costs beside its chips; None where unknown.
    """

    chip: Chip
    count: int
    per_node: int
    node: NodeCosts | None = None


@dataclass(frozen=True, slots=True)
class Ports:
    """A network between nodes.

    Parameters
    ----------
    ends
        Ends of cables.
    switch
        Ports of switches.
    rate
        Of a port [byte/s, per direction].
    """

    ends: int = 0
    switch: int = 0
    rate: float = 0.0


@dataclass(frozen=True, slots=True)
class Bill:
    """Prices of what a job occupies.

    Parameters
    ----------
    capex
        By "chips", "nodes", "network", "building" [USD]; of none where chips are rented.
    doubt
        How far chips, nodes and network together, and the building, may be off [USD].
    draw
        What chips, nodes, and network may draw, without the building's share [W].
    rent
        Of all chips, where they are rented [USD/s].
    """

    capex: Mapping[str, float]
    doubt: tuple[float, float]
    draw: float
    rent: float = 0.0

    @property
    def machines(self) -> float:
        """Of all but the building [USD]."""
        return sum(price for part, price in self.capex.items() if part != "building")


@dataclass(frozen=True, slots=True)
class Hour:
    """An hour of a job.

    Parameters
    ----------
    parts
        By what for [USD/h].
    doubt
        How far their sum may be off [USD/h].
    """

    parts: Mapping[str, float]
    doubt: float

    @property
    def total(self) -> float:
        """[USD/h]"""
        return sum(self.parts.values())


def recovery(interest: float, life: float) -> float:
    """Share of a price that is paid each year, so that price and interest are paid when the life ends.

    Parameters
    ----------
    interest
        A year [1].
    life
        [s]

    Returns
    -------
    float
        [1/year]: r (1 + r)^y / ((1 + r)^y - 1), which becomes 1 / y without interest.
    """
    years = life / YEAR
    # without the loss of digits that (1 + r)^y - 1 has where r is small
    return interest / -expm1(-years * log1p(interest)) if interest else 1.0 / years


def bill(facility: Facility, groups: Sequence[Group], ports: Ports) -> Bill:
    """Prices of chips with their nodes and network in a facility.

    A price that nobody knows follows from another: chips by the watt, nodes from their chips.

    Raises
    ------
    SpecError
        A facility that rents chips has no rent for one.
    """
    scale = ports.rate / facility.port_rate
    switches = ports.switch / facility.switch_ports
    draw = scale * (switches * facility.switch_power + ports.ends * facility.optics_power)
    chips = nodes = known = by_watt = by_share = rent = 0.0
    for group in groups:
        chip, count = group.chip, group.count
        price = count * (facility.chip_price * chip.power if chip.price is None else chip.price)
        quoted = group.node.price if group.node else None
        follows = quoted is None
        beside = price * facility.node_price if quoted is None else quoted * count / group.per_node
        chips, nodes = chips + price, nodes + beside
        # where a price follows from another, it is off as that one is, and then some
        if chip.price is None:
            by_watt += price + follows * beside
            known += (not follows) * beside
        else:
            known += price + beside
        by_share += follows * beside
        draw += count * (chip.power_limit or chip.power)
        draw += count * (facility.node_power * chip.power if group.node is None else group.node.busy / group.per_node)
        rent += count * facility.rent_of(chip.name)
    if facility.rent:
        return Bill({}, (0.0, 0.0), draw, rent)
    network = scale * (switches * facility.switch_price + ports.ends * facility.optics_price)
    building = facility.building * draw
    doubt = facility.doubt
    machines = hypot(
        doubt["price"] * known, doubt["chip"] * by_watt, doubt["node"] * by_share, doubt["network"] * network
    )
    capex = {"chips": chips, "nodes": nodes, "network": network, "building": building}
    return Bill(capex, (machines, doubt["building"] * building), draw)


def hour_of(facility: Facility, bill: Bill, power: float, doubt: float) -> Hour:
    """An hour of a job.

    Parameters
    ----------
    power
        Mean, with the building's share [W].
    doubt
        How far it may be off [1].
    """
    if facility.rent:
        rent = bill.rent * HOUR
        return Hour({"rent": rent}, facility.doubt["price"] * rent)
    # what is paid while chips wait for work is borne by the hours in which they have some
    hours = YEAR / HOUR * facility.utilisation
    machines, building = (recovery(facility.interest, life) for life in (facility.life, facility.facility_life))
    parts = {part: price * (building if part == "building" else machines) / hours for part, price in bill.capex.items()}
    kept = {"maintenance": facility.maintenance, "staff": facility.staff}
    parts |= {part: share * bill.machines / hours for part, share in kept.items()}
    parts["electricity"] = power * facility.electricity * HOUR
    off = (
        bill.doubt[0] * (machines + sum(kept.values())) / hours,
        bill.doubt[1] * building / hours,
        doubt * parts["electricity"],
    )
    return Hour(parts, hypot(*off))
