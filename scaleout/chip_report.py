"""All that is known of a chip on one page: data sheet, roofline, silicon, power, reference kernels beside other chips.

    import scaleout

    report = scaleout.chip_report("my-chip.yaml", settings=("design.clock=2 GHz",), beside=("h100-sxm-80gb",))
    report.silicon.unit_cost

Numbers are in SI units.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError
from scaleout.evaluate.uncertainty import DEFAULTS
from scaleout.hardware.design import link_bandwidth
from scaleout.hardware.likeness import nearest
from scaleout.hardware.reference import Kernel, KernelTime, reference_kernels, time_of
from scaleout.hardware.silicon import (
    AreaError,
    SiliconEstimate,
    area_error,
    estimate,
    known_die,
    memory_of,
    process_of,
)
from scaleout.hardware.table import told_tables
from scaleout.io.catalogue import list_names, load, read
from scaleout.io.chips import chip as read_chip
from scaleout.result import Assumption
from scaleout.specs import Chip, Design, KnownDie, Silicon, SystolicConstants
from scaleout.specs.fields import plain
from scaleout.units import describe

__all__ = ["BESIDE", "FORMAT", "ChipReport", "KernelRow", "OnChip", "chip_report"]

FORMAT = 1
"""Of `ChipReport.to_dict`."""
BESIDE = ("h100-sxm-80gb", "a100-sxm-80gb")
"""Chips that stand beside where nobody is named."""
MOST_BESIDE = 8
LARGEST_VOLUME = 1_000_000_000
_MODEL = "llama-3.1-70b"
"""Whose layer the reference products are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OnChip:
    """A reference kernel on one chip.

    Parameters
    ----------
    time
        [s]; None where the chip has no constants for it.
    bound
        What no kernel there can beat [s]; None where its units do not know the dtype.
    flops, bandwidth
        Share of the dense peak, and of HBM bandwidth that the bytes which must move need [1].
    band
        Error to be expected of `time` [1].
    verified
        Whether all that it rests on was checked.
    note
        Which kernel was measured, or why there is no time.
    """

    time: float | None
    bound: float | None
    flops: float
    bandwidth: float
    band: float
    verified: bool
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """A reference kernel on all chips.

    Parameters
    ----------
    name, rate
        In words, and the key of `Chip.peak_flops` that it runs at, "" where only bytes count.
    flops, traffic
        Arithmetic [flop], and bytes that must move at least [byte].
    chips
        By name, in the order of the report.
    """

    name: str
    rate: str
    flops: float
    traffic: float
    chips: Mapping[str, OnChip]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipReport:
    """One chip, beside others.

    Parameters
    ----------
    chip
        What the report is of.
    beside
        Other chips, in their order.
    ridges
        Arithmetic intensity at which compute overtakes memory, by dtype [flop/byte].
    links
        Rate of a design's links together, in one direction [byte/s]; None where there is no design.
    kernels
        A row for each reference kernel.
    silicon
        Area, yield and cost; None where nobody knows how the chip was made.
    area_error
        Of the estimate, over dies whose area is known.
    published_cost
        What somebody else takes its making for [USD], and who.
    assumptions
        What the report rests on.
    warnings
        What a reader has to know.
    """

    chip: Chip
    beside: tuple[Chip, ...]
    ridges: Mapping[str, float]
    links: float | None
    kernels: tuple[KernelRow, ...]
    silicon: SiliconEstimate | None
    area_error: AreaError
    published_cost: tuple[float, str] | None
    assumptions: tuple[Assumption, ...]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        found: dict[str, Any] = plain(self)
        for row in (found["chip"], *found["beside"]):
            # pages of constants, which scaleout show prints
            for constants in ("gemm", "attention", "elementwise", "tables"):
                row.pop(constants)
        if self.silicon is not None:
            found["silicon"]["yield"] = found["silicon"].pop("yield_")
        return {"format": FORMAT, **found}


def chip_report(
    chip: Chip | str | Path | Mapping[str, Any],
    beside: Sequence[Chip | str] | None = None,
    *,
    settings: tuple[str, ...] = (),
    volume: int | None = None,
    silicon: Silicon | str = "default",
) -> ChipReport:
    """Roofline, silicon, cost and reference kernels of a chip beside others.

    Parameters
    ----------
    chip
        A spec, a name of the catalogue, a file, or a mapping of a file's form.
    beside
        Other chips; None for `BESIDE`.
    settings
        Overrides of a chip that is not a spec yet, such as ``design.clock=2 GHz``.
    volume
        Chips over which masks and design are spread; None for what `silicon` says.
    silicon
        What silicon takes and costs: a spec, or a name or file of one.

    Raises
    ------
    SpecError
        A file or name is wrong, or the estimate does not know a process, a memory or a dtype.
    """
    if volume is not None and (isinstance(volume, bool) or not 1 <= volume <= LARGEST_VOLUME or volume != int(volume)):
        raise SpecError(f"volume: {volume!r:.40} is not accepted; expected a whole number from 1 to {LARGEST_VOLUME:,}")
    if isinstance(chip, Chip) and settings:
        raise SpecError("settings: go with a name, a file or a mapping, not with a spec; take dataclasses.replace")
    one = chip if isinstance(chip, Chip) else read_chip(chip, settings)
    others = [
        other if isinstance(other, Chip) else load("chip", other) for other in (BESIDE if beside is None else beside)
    ]
    if beside is None:
        others = [other for other in others if other.name != one.name]
    names = [one.name, *(other.name for other in others)]
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"beside: {doubled[0]!r} is there twice; give each chip once")
    if len(others) > MOST_BESIDE:
        raise SpecError(f"beside: {len(others)} chips; expected at most {MOST_BESIDE}")
    known: Silicon = load("silicon", silicon) if isinstance(silicon, str) else silicon
    chips = (one, *others)
    wide = "fp16" if "fp16" in one.peak_flops and "bf16" not in one.peak_flops else "bf16"
    kernels = [kernel for kernel in reference_kernels(load("model", _MODEL), wide) if kernel.suits(one)]
    rows = tuple(_row(kernel, chips) for kernel in kernels)
    die = known_die(one.name, known)
    design = one.design
    if design is None and die is not None and not settings:
        # products of one die differ in memory and power
        design = replace(
            die.design,
            area=die.design.area if die.at_most else die.area,
            memory=replace(die.design.memory, capacity=one.hbm_bytes / die.design.memory.stacks),
            power=one.power,
        )
    made = None if design is None else estimate(design, known, volume)
    return ChipReport(
        chip=one,
        beside=tuple(others),
        ridges={dtype: one.ridge(dtype) for dtype in sorted(one.peak_flops)},
        links=None if one.design is None else link_bandwidth(one.design),
        kernels=rows,
        silicon=made,
        area_error=area_error(known),
        published_cost=(
            (die.cost, die.cost_source)
            if die is not None and die.cost is not None and one.name == die.chips[0]
            else None
        ),
        assumptions=(
            *_of_chip(one),
            *(_of_silicon(design, known) if design is not None else ()),
            *(_of_die(die) if one.design is None and made is not None and die is not None else ()),
        ),
        warnings=tuple(_warnings(one, made, rows, changed=die is not None and bool(settings))),
    )


def _row(kernel: Kernel, chips: tuple[Chip, ...]) -> KernelRow:
    return KernelRow(
        name=kernel.name,
        rate=kernel.rate,
        flops=kernel.flops,
        traffic=kernel.traffic,
        chips={chip.name: _on(kernel, chip) for chip in chips},
    )


def _on(kernel: Kernel, chip: Chip) -> OnChip:
    found = time_of(kernel, chip)
    bound = kernel.bound(chip) if kernel.suits(chip) else None
    if not isinstance(found, KernelTime):
        return OnChip(time=None, bound=bound, flops=0.0, bandwidth=0.0, band=0.0, verified=True, note=found)
    carried = "from the design" if found.derived else f"constants of {chip.like}" if chip.like else ""
    listed = not _checked(chip, found.constants)
    return OnChip(
        time=found.time,
        bound=bound,
        flops=kernel.flops / found.time / chip.flops(kernel.rate) if kernel.rate else 0.0,
        bandwidth=kernel.traffic / found.time / chip.hbm_bandwidth,
        band=_band(found.residual, bool(carried), listed),
        verified=not carried and not listed and _checked(chip, "peak_flops"),
        note=", ".join(words for words in (found.kernel, carried) if words),
    )


def _band(residual: float | None, carried: bool, listed: bool) -> float:
    """Error to be expected [1]: what was measured, unless that was on another chip and nobody widened it."""
    unfitted = DEFAULTS["unfitted"].value
    if residual is None:
        return unfitted
    return max(residual, unfitted) if carried and not listed else residual


def _checked(chip: Chip, field: str) -> bool:
    """Whether neither a field nor a part of it, nor what it is a part of, is listed as unverified."""
    return not any(f"{item}.".startswith(f"{field}.") or field.startswith(f"{item}.") for item in chip.unverified)


def _of_chip(chip: Chip) -> list[Assumption]:
    rows = [Assumption("figures of the chip", _sheet_words(chip), chip.source, not chip.unverified)]
    if chip.unverified:
        rows[0] = replace(rows[0], value=f"{rows[0].value}; unverified: {', '.join(chip.unverified)}")
    if chip.like:
        rows.append(
            Assumption(
                f"kernels of {chip.like}",
                "shares of rates and times in clocks carried over by data sheets, with the error beside each time",
                "docs/transfer.md: what was 7 to 25 % off, on the average, from one measured chip to another",
                verified=False,
            )
        )
    for name, words, digest in told_tables(chip):
        rows.append(Assumption(name, words, f"a table of the user's own, SHA-256 {digest[:12]}"))
    if chip.design is not None:
        arrays = {dtype: c for dtype, c in sorted(chip.gemm.items()) if isinstance(c, SystolicConstants)}
        for source in dict.fromkeys(c.source for c in arrays.values()):
            held = next(c for c in arrays.values() if c.source == source)
            rows.append(
                Assumption(
                    "products on arrays",
                    f"{held.compute_efficiency:.3g} of the dense rate, {held.hbm_efficiency:.2g} of HBM bandwidth",
                    source,
                    verified=False,
                )
            )
    if chip.price is not None:
        rows.append(Assumption("price", f"{chip.price:,.0f} USD", chip.price_source or "none", _checked(chip, "price")))
    if chip.energy is not None:
        energy = chip.energy
        rows.append(Assumption("energy", f"idle {describe(energy.idle, 'W')}", energy.source, not energy.unverified))
    return rows


def _sheet_words(chip: Chip) -> str:
    return (
        f"{chip.cores:,} cores, {describe(chip.hbm_bytes, 'byte')} at {describe(chip.hbm_bandwidth, 'byte/s')}, "
        f"{describe(chip.power, 'W')}"
    )


def _of_silicon(design: Design, silicon: Silicon) -> list[Assumption]:
    process, memory, kind = process_of(design, silicon), memory_of(design, silicon), design.memory.kind
    assembly, error = silicon.assembly, area_error(silicon)
    fitted = sum(die.fitted and not die.at_most for die in silicon.dies.values())
    return [
        Assumption(
            "area",
            f"of units, lanes, memories, interfaces; {error.mean:.0%} off on average, {error.worst:.0%} at most over "
            f"{error.dies} dies, {error.held_out:.0%} over the {error.dies - fitted} to which nothing was fitted",
            "; ".join(silicon.sources.get(name, "") for name in ("mac", "lane")),
            verified=design.area is not None,
        ),
        Assumption(
            f"process {design.process}",
            f"{process.wafer:,.0f} USD a wafer, {process.defects / 1e4:g} defects a cm2, masks "
            f"{process.masks / 1e6:g} and design {process.design / 1e6:g} MUSD" + _open(process.unverified),
            process.source,
            not process.unverified,
        ),
        Assumption(
            "yield",
            f"{silicon.model}, clustering {silicon.clustering:g}; dead cores up to the spare ones are allowed",
            silicon.sources.get("clustering", ""),
            silicon.checked("clustering"),
        ),
        Assumption(
            f"memory {kind}",
            f"{memory.price * 1e9:g} USD/GB" + _open(memory.unverified),
            memory.source,
            not memory.unverified,
        ),
        Assumption(
            "package and board",
            f"interposers {assembly.interposer:,.0f} USD a wafer, {assembly.placed:.1%} of placed pieces survive, "
            f"board {assembly.board:g} USD/W" + _open(assembly.unverified),
            assembly.source,
            not assembly.unverified,
        ),
    ]


def _of_die(die: KnownDie) -> list[Assumption]:
    words = f"{'less than ' if die.at_most else ''}{die.area * 1e6:,.4g} mm2, cores, SRAM and interfaces as published"
    return [Assumption("die", words, die.source, not die.unverified)]


def _open(names: tuple[str, ...]) -> str:
    return f"; unverified: {', '.join(names)}" if names else ""


def _warnings(chip: Chip, made: SiliconEstimate | None, rows: tuple[KernelRow, ...], *, changed: bool) -> list[str]:
    found = [] if made is None else list(made.warnings)
    missing = [row for row in rows if row.chips[chip.name].time is None]
    if missing:
        words = missing[0].chips[chip.name].note
        hint = ""
        if not chip.like and (not chip.gemm or chip.design is not None) and (near := _nearest(chip)):
            hint = f"; `like: {near}` in its file carries over the constants of the measured chip that is nearest"
        found.append(f"{len(missing)} of {len(rows)} reference kernels have no time: {words}{hint}")
    if made is None:
        why = "what is set makes it another chip than the one whose die is known" if changed else "nobody knows its die"
        found.append(f"no estimate of area, yield and cost: its file has no `design`, and {why}")
    if chip.design is not None and chip.design.links:
        rate = describe(link_bandwidth(chip.design), "byte/s")
        found.append(f"a system has links of its own: to give it this chip's, --set system.scale_up.bandwidth='{rate}'")
    return found


def _nearest(chip: Chip) -> str:
    """The measured chip whose constants would be the least off on this one; "" where none was measured."""
    donors = []
    for name in list_names("chip"):
        text = read("chip", name)
        # reading all of them whole would take seconds
        if "\ngemm:" in text and "\nlike:" not in text and name != chip.name:
            donors.append(load("chip", name))
    found = nearest(chip, donors)
    return found.name if found else ""
