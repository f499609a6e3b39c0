"""What a design takes of silicon and what it costs to make; equations, sources and errors in ``docs/silicon.md``."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from scaleout.errors import SpecError, near
from scaleout.hardware.yields import die_yield, dies_per_wafer, rates
from scaleout.specs import Design, Interface, KnownDie, MemoryKind, Process, Silicon

__all__ = [
    "AreaError", "DieArea", "SiliconEstimate", "area_error", "die_area", "estimate", "known_die", "memory_of",
    "process_of",
]  # fmt: skip

_T = TypeVar("_T")
_OWN = "fp64"
"""The dtype whose multipliers serve no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DieArea:
    """One compute die.

    Parameters
    ----------
    core
        Of one core, the overhead around it included [m2].
    parts
        What the die is made of by the estimate [m2]; they sum to `total` where that is estimated.
    total
        As the design says it, else the sum of what is estimated [m2].
    estimated
        Whether it is.
    """

    core: float
    parts: Mapping[str, float]
    total: float
    estimated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaError:
    """How far estimates are from dies that were built.

    Parameters
    ----------
    dies
        How many are known to the square millimetre.
    mean, worst
        Of the absolute error over the area [1].
    held_out
        Mean of those to which nothing was fitted [1]; 0 where there is none.
    """

    dies: int
    mean: float
    worst: float
    held_out: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiliconEstimate:
    """Area, yield and cost of a design.

    Parameters
    ----------
    process
        The node.
    area
        Of one compute die.
    dies
        Of a package.
    per_wafer, yield_
        Dies of a wafer, and the share of them on which enough cores work [1].
    costs
        Of one good chip, by what it goes for [USD].
    unit_cost
        Their sum [USD].
    nre
        Masks and design, once [USD].
    volume
        Chips over which that is spread.
    nre_share
        Of one of them [USD].
    warnings
        What a reader has to know.
    """

    process: str
    area: DieArea
    dies: int
    per_wafer: float
    yield_: float
    costs: Mapping[str, float]
    unit_cost: float
    nre: Mapping[str, float]
    volume: int
    nre_share: float
    warnings: tuple[str, ...]


def _named(table: Mapping[str, _T], name: str, field: str) -> _T:
    if name not in table:
        raise SpecError(f"{field}: {name!r:.60} is not known to the estimate of silicon; {near(name, table)}")
    return table[name]


def process_of(design: Design, silicon: Silicon) -> Process:
    """The node of a design, or a `SpecError` with near matches."""
    return _named(silicon.processes, design.process, "design.process")


def memory_of(design: Design, silicon: Silicon) -> MemoryKind:
    """The memory of a design, or a `SpecError` with near matches."""
    return _named(silicon.memories, design.memory.kind, "design.memory.kind")


def _interface(piece: Interface, logic: float) -> float:
    return piece.analog + logic * piece.logic


def die_area(design: Design, silicon: Silicon) -> DieArea:
    """Area of one compute die, part by part.

    Raises
    ------
    SpecError
        The estimate does not know the process, the memory or a dtype.
    """
    process, memory, unit = process_of(design, silicon), memory_of(design, silicon), design.tensor
    shape = _named(silicon.cores, unit.kind, "design.tensor.kind")
    macs = dict(unit.macs) or {"bf16": float((unit.rows or 0) * (unit.columns or 0))}
    each = {dtype: count * _named(silicon.mac, dtype, "design.tensor.macs") for dtype, count in macs.items()}
    # narrow products run on parts of the multipliers of wide ones: the widest demand decides
    matrix = unit.count * (
        max((area for dtype, area in each.items() if dtype != _OWN), default=0.0) + each.get(_OWN, 0)
    )
    mebibyte = process.sram / 2.0**20
    logic, dies = process.logic, design.dies
    core = {
        "matrix units": logic * matrix,
        "vector lanes": logic * silicon.lane * design.vector_lanes,
        "registers and scratchpads": mebibyte * shape.sram * design.sram,
    }
    cores = math.ceil((design.cores + design.spare_cores) / dies)
    parts = {name: cores * area for name, area in core.items()}
    parts["shared cache"] = mebibyte * shape.shared * design.l2 / dies
    parts["memory interface"] = design.memory.stacks / dies * _interface(memory.interface, logic)
    if design.links and design.link_bandwidth:
        rate = design.links * design.link_bandwidth / (silicon.link.bandwidth or 1.0)
        parts["links"] = rate / dies * _interface(silicon.link, logic)
    parts["host interface"] = _interface(silicon.host, logic) / dies
    counted = sum(parts.values())
    parts["clocks, control, seams"] = (silicon.overhead - 1.0) * counted
    total = silicon.overhead * counted
    return DieArea(
        core=silicon.overhead * sum(core.values()) * (1.0 if design.area is None else design.area / total),
        parts=parts,
        total=total if design.area is None else design.area,
        estimated=design.area is None,
    )


def area_error(silicon: Silicon) -> AreaError:
    """Errors of `die_area` on the dies whose area is known, and not a bound."""
    errors = {
        name: abs(die_area(die.design, silicon).total / die.area - 1.0)
        for name, die in sorted(silicon.dies.items())
        if not die.at_most
    }
    held = [error for name, error in errors.items() if not silicon.dies[name].fitted]
    return AreaError(
        dies=len(errors),
        mean=sum(errors.values()) / max(1, len(errors)),
        worst=max(errors.values(), default=0.0),
        held_out=sum(held) / max(1, len(held)),
    )


def known_die(chip: str, silicon: Silicon) -> KnownDie | None:
    """The die of a product by the product's name, where it is known."""
    return next((die for _, die in sorted(silicon.dies.items()) if chip in die.chips), None)


def estimate(design: Design, silicon: Silicon, volume: int | None = None) -> SiliconEstimate:
    """Area, yield and cost of a design.

    Parameters
    ----------
    volume
        Chips over which masks and design are spread; None for what `silicon` says.

    Raises
    ------
    SpecError
        The estimate does not know the process, the memory or a dtype, or no such die fits on a wafer.
    """
    process, memory = process_of(design, silicon), memory_of(design, silicon)
    area, assembly = die_area(design, silicon), silicon.assembly
    per_wafer = dies_per_wafer(area.total, edge=silicon.edge, scribe=silicon.scribe)
    if not per_wafer:
        raise SpecError(
            f"design: a die of {area.total * 1e6:,.0f} mm2 does not fit on a wafer; take fewer cores, less SRAM, "
            "or more dies"
        )
    cores, spare = math.ceil(design.cores / design.dies), design.spare_cores // design.dies
    rest = max(0.0, area.total - (cores + spare) * area.core)
    good = die_yield(cores, spare, area.core, rest, process.defects, rates(silicon.model, silicon.clustering))
    if not good:
        raise SpecError(
            f"design: of dies of {area.total * 1e6:,.0f} mm2 in {design.process} none works; take smaller dies, or "
            "spare cores"
        )
    pieces = design.dies + (design.memory.stacks if memory.footprint else 0)
    costs = {
        "compute dies": design.dies * process.wafer / (per_wafer * good),
        "memory": design.memory.stacks * design.memory.capacity * memory.price,
        "package": assembly.substrate + _interposer(design, silicon, area.total, memory),
        "test": assembly.test,
    }
    costs["lost in assembly"] = sum(costs.values()) * (1.0 / assembly.placed**pieces - 1.0)
    costs["board and cooling"] = design.power * assembly.board
    count = silicon.volume if volume is None else volume
    nre = {"masks": process.masks, "design": process.design}
    return SiliconEstimate(
        process=design.process,
        area=area,
        dies=design.dies,
        per_wafer=per_wafer,
        yield_=good,
        costs=costs,
        unit_cost=sum(costs.values()),
        nre=nre,
        volume=count,
        nre_share=sum(nre.values()) / count,
        warnings=_warnings(design, silicon, area, good),
    )


def _interposer(design: Design, silicon: Silicon, die: float, memory: MemoryKind) -> float:
    """Of one package [USD]: nothing where one die stands on an organic substrate."""
    if memory.footprint is None and design.dies == 1:
        return 0.0
    area = silicon.assembly.margin * (design.dies * die + design.memory.stacks * (memory.footprint or 0.0))
    count = dies_per_wafer(area, edge=silicon.edge, scribe=silicon.scribe)
    if not count:
        raise SpecError(
            f"design: an interposer of {area * 1e6:,.0f} mm2 does not fit on a wafer; take fewer dies or stacks"
        )
    return silicon.assembly.interposer / count


def _warnings(design: Design, silicon: Silicon, area: DieArea, good: float) -> tuple[str, ...]:
    rows = []
    if area.total > silicon.reticle:
        enough = math.ceil(area.total * design.dies / silicon.reticle)
        rows.append(
            f"a die of {area.total * 1e6:,.0f} mm2 is larger than what a scanner prints "
            f"({silicon.reticle * 1e6:,.0f} mm2): spread it over {enough} dies (design.dies), or take fewer cores or "
            "less SRAM"
        )
    if good < 0.2:
        rows.append(f"only {good:.1%} of the dies work: spare cores, smaller dies or an older process would help")
    memory = memory_of(design, silicon)
    if design.memory.bandwidth > memory.fastest:
        rows.append(
            f"{design.memory.kind} of {design.memory.bandwidth / 1e9:,.6g} GB/s each: the fastest grade has "
            f"{memory.fastest / 1e9:,.6g} GB/s"
        )
    edge = design.memory.stacks / design.dies * _interface(memory.interface, 1.0)
    if edge > 0.5 * area.total:
        rows.append("memory interfaces take more than half of the die")
    return tuple(rows)
