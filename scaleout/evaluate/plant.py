"""What stands beside chips and draws power with them: nodes, switches, optics, the building."""

from dataclasses import replace
from typing import NamedTuple

from scaleout.footprint import Energy
from scaleout.hardware.power import energy_of, limit_of, throttled
from scaleout.network.inventory import inventory
from scaleout.specs import Chip, Facility, System
from scaleout.units import describe

__all__ = ["BINS", "MEASURED", "RULED", "energy_over", "node_draw", "power_words"]

MEASURED, RULED = 0.11, 0.32
"""Mean absolute error of the mean power of a job [1]: of models whose constants were measured on the chip, 11.4 %;
of those that go by its power limit, 27 to 37 % (arXiv 2506.14551, against eight-H100 nodes)."""
_NODE_IDLE, _NODE_BUSY = 0.32, 0.5
"""A node beside its chips, over the limits of their power [1]. Idle: 2.37 kW of eight H200 (MLPerf inference v4.1)
less 8 x 75 W. Busy: 8.4 kW at most of eight H100 (arXiv 2412.08602), which are rated 10.2 kW, 1.82 times their
limits."""
_DAY = 86_400.0
BINS = 100
"""Parts of a span in which power is told."""


class Words(NamedTuple):
    """What the power of a result rests on, for its reader: as `Assumption`."""

    name: str
    value: str
    source: str
    verified: bool


def power_words(chip: Chip, system: System) -> list[Words]:
    """Of a chip and the nodes that it stands in."""
    c = energy_of(chip)
    flops = ", ".join(f"{joules * 1e12:.3g} pJ a flop in {dtype}" for dtype, joules in sorted(c.flop.items()))
    doubts = f" (unverified: {', '.join(c.unverified)})" if c.unverified else ""
    rows = [
        Words(
            f"{chip.name}: power",
            f"{describe(c.idle, 'W')} at rest, {flops}, {c.hbm * 1e12:.3g} pJ a byte of memory, at most "
            f"{describe(limit_of(chip), 'W')}{doubts}",
            c.source,
            not c.unverified,
        )
    ]
    slow = throttled(chip)
    if slow is not chip:
        rates = [dtype for dtype in sorted(c.flop) if dtype in slow.sustained]
        left = ", ".join(f"{describe(slow.sustained[dtype], 'flop/s')} in {dtype}" for dtype in rates)
        words = f"{describe(slow.power, 'W')} of {describe(chip.power, 'W')}: long products at most {left}"
        rows.append(Words(f"{chip.name}: power limit", words, "docs/energy.md", False))
    idle, busy = node_draw(system)
    by_rule = "docs/energy.md: by rule from the power limits of the chips"
    rows.append(
        Words(
            f"{system.name}: node beside its chips",
            f"{describe(idle, 'W')} at rest, {describe(busy, 'W')} at work",
            by_rule if system.node is None else system.node.source,
            system.node is not None and not system.node.unverified,
        )
    )
    return rows


def node_draw(system: System) -> tuple[float, float]:
    """A node beside its chips, at rest and at work [W]; by rule where its file has no figures."""
    if system.node is not None:
        return system.node.idle, system.node.busy
    chips = system.chips_per_node * system.chip.power
    return _NODE_IDLE * chips, _NODE_BUSY * chips


def energy_over(
    system: System,
    facility: Facility | None,
    chips: int,
    span: float,
    parts: dict[str, float],
    tokens: float,
    *,
    capped: float = 0.0,
    over_time: tuple[float, ...] = (),
    power: float | None = None,
) -> Energy:
    """Energy of a job from that of its chips.

    Parameters
    ----------
    span
        [s]
    parts
        Of all chips: "idle", "compute", "vector", "hbm", "links" [J].
    over_time
        Of the same, beside idle power, in equal parts of the span [W].
    power
        Limit of all chips together, where it is not that of the system's own [W].
    """
    nodes = chips / system.chips_per_node
    idle, busy = node_draw(system)
    rest = parts["idle"]
    moving = sum(parts.values()) - rest
    most = (power if power is not None else chips * system.chip.power) * span - rest
    # processors and fans follow what the chips draw
    slope = (busy - idle) * nodes * span / most if most > 0.0 else 0.0
    parts = {**parts, "nodes": idle * nodes * span + slope * moving, "switches": 0.0, "optics": 0.0, "cooling": 0.0}
    if facility is not None:
        net = inventory(system, chips)
        # ports and modules of another rate draw in proportion
        rate = net.rate / facility.port_rate
        parts["switches"] = facility.switch_power * net.switch_ports / facility.switch_ports * rate * span
        parts["optics"] = facility.optics_power * net.ends * rate * span
        parts["cooling"] = (facility.pue - 1.0) * sum(parts.values())
    seconds = span or 1.0
    of_chips, of_nodes = rest + moving, rest + moving + parts["nodes"]
    constants = energy_of(system.chip)
    # constants of others, or of a rule, say no more than a power limit does
    ruled = system.chip.energy is None or bool({"flop", "hbm"} & set(constants.unverified))
    still = (rest / seconds + idle * nodes) if over_time else 0.0
    found = Energy(
        span=span,
        parts=parts,
        chip_power=of_chips / chips / seconds,
        node_power=of_nodes / nodes / seconds,
        power=sum(parts.values()) / seconds,
        tokens=tokens,
        error=RULED if ruled else constants.residual if constants.residual is not None else MEASURED,
        over_time=tuple(still + watts * (1.0 + slope) for watts in over_time),
        capped=capped,
    )
    return _with_warnings(found, facility, nodes)


def _with_warnings(energy: Energy, facility: Facility | None, nodes: float) -> Energy:
    if facility is None:
        return energy
    warnings = []
    machines = energy.power / facility.pue
    # in the hundredth of the span that draws most
    peak = max((*energy.over_time, 0.0)) + machines - energy.node_power * nodes
    most = max(machines, peak)
    node = max((*energy.over_time, energy.node_power * nodes)) / nodes
    if facility.rack_power is not None and node > facility.rack_power:
        warnings.append(
            f"a node draws {describe(node, 'W')}, more than the {describe(facility.rack_power, 'W')} of a rack "
            f"of {facility.name}"
        )
    if facility.hall_power is not None and most > facility.hall_power:
        warnings.append(
            f"machines draw {describe(most, 'W')}, more than the {describe(facility.hall_power, 'W')} of the hall "
            f"of {facility.name}"
        )
    if facility.battery is not None and energy.power:
        # with what converters lose on the way from it
        hours = facility.battery / energy.power / 3600.0
        warnings.append(
            f"a battery of {facility.battery / 3.6e6:.4g} kWh lasts {hours:.3g} h at {describe(energy.power, 'W')}; "
            f"a day of it takes {energy.power * _DAY / 3.6e6:.3g} kWh"
        )
    return replace(energy, warnings=tuple(warnings))
