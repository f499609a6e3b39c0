"""What a job costs: prices of its chips, nodes, network and building, brought to an hour, a step and a token."""

import math
from collections.abc import Sequence

from scaleout.errors import SpecError, TopologyError
from scaleout.footprint import Cost, Energy, Run
from scaleout.hardware.cost import HOUR, YEAR, Bill, Group, Ports, bill, hour_of
from scaleout.network.inventory import Inventory, inventory
from scaleout.result import Assumption, Result
from scaleout.specs import Facility, NetExperiment, ServingExperiment, StreamExperiment, TrainingExperiment
from scaleout.units import describe

__all__ = ["cost_assumptions", "cost_of", "groups_of", "run_of"]

_MOST_TOKENS = 1e18
Job = TrainingExperiment | ServingExperiment | NetExperiment | StreamExperiment
"""What has chips of a system, and stands in a facility."""


def cost_of(spec: Job, span: float, tokens: float, energy: Energy | None) -> Cost | None:
    """What a job costs over a span; None without a facility.

    Parameters
    ----------
    span
        A step, or a run of serving [s].
    tokens
        That it made: trained, or put out.
    energy
        Of the same span; None where it is not known: then machines draw a share of what they may.

    Raises
    ------
    SpecError
        A facility that rents chips has no rent for one of these.
    """
    facility = spec.facility
    if facility is None:
        return None
    bought = _bill(spec, facility)
    if energy is None:
        power, doubt = facility.load * bought.draw * facility.pue, facility.doubt["power"]
    else:
        power, doubt = energy.power, energy.error
    hour = hour_of(facility, bought, power, doubt)
    whole = hour.total * span / HOUR
    return Cost(
        facility=facility.name,
        capex=bought.capex,
        hour=hour.parts,
        chip_hour=hour.total / spec.chips,
        span=whole,
        per_million_tokens=1e6 * whole / tokens if tokens else 0.0,
        utilisation=1.0 if facility.rent else facility.utilisation,
        error=hour.doubt / hour.total if hour.total else 0.0,
    )


def groups_of(spec: Job) -> list[Group]:
    """Chips of a job by kind; those of a training job beside a serving one are not its own."""
    system = spec.system
    if isinstance(spec, ServingExperiment):
        rows = [(pool.chip or system.chip, pool.chips) for pool in spec.pools]
    else:
        others = spec.others if isinstance(spec, TrainingExperiment) else ()
        rows = [(other.chip, other.count) for other in others]
        rows.insert(0, (system.chip, spec.chips - sum(count for _, count in rows)))
    return [Group(chip, count, system.chips_per_node, system.node) for chip, count in rows if count]


def _bill(spec: Job, facility: Facility) -> Bill:
    net, _ = _parts(spec)
    return bill(facility, groups_of(spec), Ports(net.ends, net.switch_ports, net.rate))


def _parts(spec: Job) -> tuple[Inventory, bool]:
    """Of the network, and whether it is all of it: replicas may stand where no tree of these switches joins them."""
    system = spec.system
    try:
        return inventory(system, spec.chips), True
    except TopologyError:
        ports = -(-spec.chips // system.chips_per_port)
        return Inventory(ports, 2 * ports, ports, system.network.bandwidth), False


def run_of(result: Result, tokens: float, goodput: float = 1.0) -> Run:
    """Time, energy and cost of a whole training, as equal steps of a result.

    Parameters
    ----------
    tokens
        To be trained on.
    goodput
        Share of the time that is not lost to failures, restarts and checkpoints [1]; chips draw and cost as much
        in the rest.

    Raises
    ------
    SpecError
        Tokens or goodput are out of range.
    """
    for name, value, high in (("tokens", tokens, _MOST_TOKENS), ("goodput", goodput, 1.0)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= high:
            raise SpecError(f"{name}: {value!r:.40} is not a number above 0, at most {high:g}")
    time = tokens / result.tokens_per_second / goodput
    band = result.error_band.relative
    error = {"time": band}
    if result.energy is not None:
        error["energy"] = math.hypot(band, result.energy.error)
    if result.cost is not None:
        error["cost"] = math.hypot(band, result.cost.error)
    return Run(
        tokens=tokens,
        goodput=goodput,
        steps=tokens / (result.tokens_per_second * result.step_time),
        time=time,
        chip_hours=result.chips * time / HOUR,
        energy=result.energy.power * time if result.energy is not None else None,
        cost=result.cost.hour_total * time / HOUR if result.cost is not None else None,
        error=error,
    )


def cost_assumptions(spec: Job, energy: Energy | None = None) -> tuple[Assumption, ...]:
    """What a cost rests on, with sources; nothing without a facility."""
    facility = spec.facility
    if facility is None:
        return ()
    where = f"facility {facility.name}"

    def row(name: str, value: str, *names: str) -> Assumption:
        return Assumption(f"{where}: {name}", value, facility.source(*names), facility.verified(*names))

    groups = groups_of(spec)
    if facility.rent:
        rents = {group.chip.name: facility.rent_of(group.chip.name) * HOUR for group in groups}
        words = ", ".join(f"{price:.4g} USD an hour of a {name}" for name, price in rents.items())
        return (row("rent", words, "rent"),)
    return (
        row("life", f"{_years(facility.life)}, the building {_years(facility.facility_life)}", "life", "facility_life"),
        row("interest", f"{facility.interest:.3g} a year", "interest"),
        row(
            "maintenance",
            f"{facility.maintenance:.1%} of the price of machines a year, staff {facility.staff:.1%}; "
            f"in paid use {facility.utilisation:.0%} of the time",
            "maintenance",
            *(["staff"] if facility.staff else []),
        ),
        row("electricity", f"{facility.electricity * 3.6e6:.4g} USD/kWh, PUE {facility.pue:g}", "electricity", "pue"),
        row("building", f"{facility.building:.4g} USD a watt that machines may draw", "building"),
        *_chips(facility, groups),
        *_nodes(spec, facility, groups),
        *_network(spec, facility),
        row("error", ", ".join(f"{name} {share:.0%}" for name, share in facility.doubt.items()), "doubt"),
        *(
            []
            if energy is not None
            else [
                Assumption(
                    f"{where}: power",
                    f"{facility.load:.0%} of what machines may draw, as the chip's energy is not known",
                    facility.source("load"),
                    verified=False,
                )
            ]
        ),
    )


def _years(seconds: float) -> str:
    return f"{seconds / YEAR:.3g} years"


def _chips(facility: Facility, groups: Sequence[Group]) -> list[Assumption]:
    """Prices of chips, each kind once."""
    rows = []
    for chip in {group.chip.name: group.chip for group in groups}.values():
        if chip.price is not None:
            checked = "price" not in chip.unverified
            rows.append(Assumption(f"{chip.name}: price", describe(chip.price, "USD"), chip.price_source, checked))
        else:
            price = describe(facility.chip_price * chip.power, "USD")
            words = f"{price}, {facility.chip_price:g} USD a watt, as nobody knows it"
            rows.append(Assumption(f"{chip.name}: price", words, facility.source("chip_price"), verified=False))
    return rows


def _nodes(spec: Job, facility: Facility, groups: Sequence[Group]) -> list[Assumption]:
    """Price of what a node has beside its chips."""
    node, name = spec.system.node, f"{spec.system.name}: node without chips"
    if node is not None and node.price is not None:
        return [Assumption(name, describe(node.price, "USD"), node.source, "price" not in node.unverified)]
    words = f"{facility.node_price:g} times the price of its chips"
    return [Assumption(name, words, facility.source("node_price"), verified=False)] if groups else []


def _network(spec: Job, facility: Facility) -> list[Assumption]:
    """Prices of cables and switches, where there are some."""
    net, whole = _parts(spec)
    if not net.cables:
        return []
    scale, prices, powers = (
        net.rate / facility.port_rate,
        ("switch_price", "optics_price"),
        ("switch_power", "optics_power"),
    )
    cable, port = 2 * scale * facility.optics_price, scale * facility.switch_price / facility.switch_ports
    words = f"{net.cables:,} cables at {cable:,.4g} USD, {net.switch_ports:,} ports of switches at {port:,.4g} USD"
    if not whole:
        words += "; those of nodes alone, as no such network joins so many"
    draw = (
        f"{describe(scale * facility.switch_power, 'W')} a switch of {facility.switch_ports} ports, "
        f"{describe(scale * facility.optics_power, 'W')} a module"
    )
    name = f"{spec.system.name}: network"
    other = "" if scale == 1.0 else f"; in proportion to the rate, {describe(net.rate, 'byte/s')} a port"
    return [
        Assumption(title, text, facility.source(*names) + other, facility.verified(*names) and scale == 1.0 and whole)
        for title, text, names in ((name, words, prices), (f"{name}, power", draw, powers))
    ]
