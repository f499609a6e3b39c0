"""A chip on one page: tables for the terminal, and its roofline with reference kernels on it as a figure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.chip_report import ChipReport, KernelRow, OnChip
from scaleout.hardware.silicon import SiliconEstimate
from scaleout.report.style import GROUP_COLOURS, OTHER_COLOUR, house_style, new_figure
from scaleout.specs import Chip, Design
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Point", "Roof", "Roofline", "chip_tables", "draw_roofline", "roofline"]

_MARK = "[bold yellow]![/]"


def chip_tables(report: ChipReport) -> RenderableType:
    """Data sheet, ridges, reference kernels, silicon, cost, power, and what it rests on."""
    chip = report.chip
    parts: dict[str, RenderableType] = {chip.name: _sheet(report)}
    parts["Dense rates, and where they overtake memory"] = _ridges(report)
    parts["Reference kernels: time, and share of the dense peak or of HBM bandwidth, whichever is nearer"] = _kernels(
        report
    )
    if report.silicon is not None:
        made = report.silicon
        title = f"One compute die of {made.dies}" if made.dies > 1 else "The die"
        parts[f"{title} in {made.process}"] = _area(report, made)
        parts["What one costs to make"] = _cost(report, made)
    parts["Power"] = _power(chip)
    rows: list[RenderableType] = []
    for title, table in parts.items():
        rows += [Text(title, style="bold"), table, ""]
        if title == chip.name and report.warnings:
            rows += [Text("Mind", style="bold yellow"), _warnings(report), ""]
    return Group(
        *rows, Text("Rests on (! marks what is unverified; the source below each)", style="bold"), _rests(report)
    )


def _grid(*columns: str, right: int = 0) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(columns))
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if right and at >= right else "left")
    return table


def _sheet(report: ChipReport) -> Table:
    chip, table = report.chip, _grid()
    rows = {
        "from": ", ".join(str(word) for word in (escape(chip.vendor), chip.year) if word),
        "process": escape(chip.process),
        "cores": f"{chip.cores:,}",
        **({} if chip.design is None else _design(chip.design, report.links or 0.0)),
        "memory": f"{describe(chip.hbm_bytes, 'byte')} at {describe(chip.hbm_bandwidth, 'byte/s')}",
        "L2": describe(chip.l2_bytes, "byte") if chip.l2_bytes else "",
        "power limit": describe(chip.power, "W")
        + (f", held to {describe(chip.power_limit, 'W')}" if chip.power_limit else ""),
        "price": "" if chip.price is None else f"{chip.price:,.0f} USD",
        "kernels": f"{_MARK} constants of {escape(chip.like)}" if chip.like else "",
    }
    for name, value in rows.items():
        if value:
            table.add_row(f"[dim]{name}[/]", value)
    return table


def _design(design: Design, links: float) -> Mapping[str, str]:
    unit = design.tensor
    sides = f" of {unit.rows} x {unit.columns}" if unit.rows and unit.columns else ""
    macs = ", ".join(f"{each:,.6g} {dtype}" for dtype, each in unit.macs.items())
    macs = f", multiply-adds a clock: {macs}" if macs else ""
    memory = design.memory
    return {
        "clock": describe(design.clock, "Hz"),
        "spare cores": f"{design.spare_cores:,}" if design.spare_cores else "",
        "matrix units": f"{unit.count} {unit.kind}{sides} a core{macs}",
        "vector lanes": f"{design.vector_lanes:,.6g} fp32 a core",
        "SRAM": f"{describe(design.sram, 'byte')} a core, {describe(design.sram * design.cores, 'byte')} in all",
        "memory kind": f"{memory.stacks} x {escape(memory.kind)}, {describe(memory.capacity, 'byte')} at "
        f"{describe(memory.bandwidth, 'byte/s')} each",
        "links": f"{design.links} x {describe(design.link_bandwidth or 0.0, 'byte/s')} in one direction, "
        f"{describe(links, 'byte/s')} in all"
        if design.links
        else "",
    }


def _warnings(report: ChipReport) -> Table:
    table = _grid()
    for line in report.warnings:
        table.add_row(_MARK, escape(line))
    return table


def _ridges(report: ChipReport) -> Table:
    table = _grid("dtype", "dense", r"ridge \[flop/byte]", r"power limit over it \[pJ/flop]", right=1)
    by_rate = sorted(report.ridges, key=lambda dtype: (-report.chip.flops(dtype), dtype))
    for dtype in by_rate:
        rate = report.chip.flops(dtype)
        limit = (report.chip.power_limit or report.chip.power) / rate * 1e12
        table.add_row(escape(dtype), describe(rate, "flop/s"), f"{report.ridges[dtype]:,.0f}", f"{limit:.3g}")
    return table


def _kernels(report: ChipReport) -> Table:
    names = [report.chip.name, *(chip.name for chip in report.beside)]
    table = _grid("kernel", "bound", *(escape(name) for name in names), right=1)
    for row in report.kernels:
        bound = row.chips[report.chip.name].bound
        cells = [_cell(row.chips[name]) for name in names]
        table.add_row(escape(row.name), "-" if bound is None else describe(bound, "s"), *cells)
    return table


def _cell(found: OnChip) -> str:
    if found.time is None:
        return "-"
    share, of = max((found.flops, "peak"), (found.bandwidth, "HBM"))
    mark = "" if found.verified else f"{_MARK} "
    return f"{mark}{describe(found.time, 's')} ±{found.band:.0%}, {share:.0%} {of}"


def _area(report: ChipReport, made: SiliconEstimate) -> Table:
    table = _grid("part", "mm2", "share", right=1)
    whole = sum(made.area.parts.values())
    for name, area in made.area.parts.items():
        if area:
            table.add_row(name, f"{area * 1e6:,.1f}", f"{area / whole:.1%}")
    error = f"±{report.area_error.held_out:.0%}"
    if made.area.estimated:
        table.add_row("[bold]sum[/]", f"{_MARK} [bold]{made.area.total * 1e6:,.0f}[/]", error)
    else:
        table.add_row("[dim]sum of what is estimated[/]", f"{whole * 1e6:,.0f}", error)
        table.add_row("[bold]as it is given[/]", f"[bold]{made.area.total * 1e6:,.0f}[/]", "")
    return table


def _cost(report: ChipReport, made: SiliconEstimate) -> Table:
    table = _grid("", "", right=1)
    table.show_header = False
    table.add_row("dies of a wafer", f"{made.per_wafer:,.0f}")
    table.add_row("of which enough works", f"{made.yield_:.1%}")
    for name, cost in made.costs.items():
        table.add_row(name, f"{cost:,.0f} USD")
    table.add_row("[bold]to make one[/]", f"{_MARK} [bold]{made.unit_cost:,.0f} USD[/]")
    words = " and ".join(f"{name} {cost / 1e6:,.0f} MUSD" for name, cost in made.nre.items())
    table.add_row(f"{words}, over {made.volume:,}", f"{_MARK} {made.nre_share:,.0f} USD")
    table.add_row("[bold]with its share[/]", f"{_MARK} [bold]{made.unit_cost + made.nre_share:,.0f} USD[/]")
    if report.published_cost is not None:
        cost, source = report.published_cost
        table.add_row(f"[dim]others say, to make one ({escape(source)})[/]", f"{cost:,.0f} USD")
    return table


def _power(chip: Chip) -> RenderableType:
    if chip.energy is None:
        return Text("limit " + describe(chip.power, "W") + "; what it draws by what it does is not known (energy)")
    table, energy = _grid(), chip.energy
    mark = f"{_MARK} " if energy.unverified else ""
    table.add_row("[dim]idle inside a job[/]", f"{mark}{describe(energy.idle, 'W')}")
    for dtype, joules in energy.flop.items():
        at_peak = joules * chip.peak_flops.get(dtype, 0.0)
        words = f", {describe(at_peak, 'W')} at its dense peak" if at_peak else ""
        table.add_row(f"[dim]{escape(dtype)}[/]", f"{mark}{joules * 1e12:.3g} pJ/flop{words}")
    table.add_row(
        "[dim]memory[/]",
        f"{mark}{energy.hbm * 1e12:.3g} pJ/B, {describe(energy.hbm * chip.hbm_bandwidth, 'W')} at full bandwidth",
    )
    if energy.link:
        table.add_row("[dim]links[/]", f"{mark}{energy.link * 1e12:.3g} pJ/B")
    return table


def _rests(report: ChipReport) -> Table:
    table = _grid()
    for row in report.assumptions:
        mark = " " if row.verified else _MARK
        table.add_row(mark, f"{escape(row.name)}: {escape(row.value)}\n[dim]{escape(row.source)}[/]")
    return table


@dataclass(frozen=True, slots=True)
class Roof:
    """What a chip can attain in one rate.

    Parameters
    ----------
    label
        Its dtypes.
    peak, bandwidth
        [flop/s, byte/s]
    own
        Of the chip that the report is of.
    """

    label: str
    peak: float
    bandwidth: float
    own: bool


@dataclass(frozen=True, slots=True)
class Point:
    """A reference kernel on the chip: intensity [flop/byte], what it reaches [flop/s], its roof's place or -1, and
    whether all that it rests on was checked."""

    number: int
    label: str
    intensity: float
    reached: float
    roof: int
    verified: bool


@dataclass(frozen=True, slots=True)
class Roofline:
    """What the figure shows."""

    title: str
    roofs: tuple[Roof, ...]
    points: tuple[Point, ...]


def roofline(report: ChipReport) -> Roofline:
    """Roofs of the chip by rate, the fastest first, of others in the dtype of most rows, and the chip's kernels."""
    chip = report.chip
    used = {row.rate for row in report.kernels if row.rate} or set(chip.peak_flops)
    by_rate: dict[float, list[str]] = {}
    for dtype in sorted(used):
        by_rate.setdefault(chip.flops(dtype), []).append(dtype)
    rates = sorted(by_rate, reverse=True)
    roofs = [Roof(", ".join(by_rate[rate]), rate, chip.hbm_bandwidth, True) for rate in rates]
    plain = "bf16" if "bf16" in used else min(used)
    roofs += [
        Roof(f"{other.name}, {plain}", other.flops(plain), other.hbm_bandwidth, False)
        for other in report.beside
        if plain in other.peak_flops
    ]
    return Roofline(
        title=f"{chip.name}: roofline and reference kernels",
        roofs=tuple(roofs),
        points=tuple(_points(report.kernels, chip, rates)),
    )


def _points(rows: tuple[KernelRow, ...], chip: Chip, rates: list[float]) -> list[Point]:
    found: list[Point] = []
    for row in rows:
        here = row.chips[chip.name]
        if here.time is not None:
            roof = rates.index(chip.flops(row.rate)) if row.rate else -1
            intensity, reached = row.flops / row.traffic, row.flops / here.time
            found.append(Point(len(found) + 1, row.name, intensity, reached, roof, here.verified))
    return found


def draw_roofline(picture: Roofline) -> "Figure":
    """Attainable rate over intensity, both on logarithmic axes; numbers stand for kernels."""
    with house_style():
        figure = new_figure(9.0, 4.8)
        ax = figure.add_subplot()
        ridges = [roof.peak / roof.bandwidth for roof in picture.roofs]
        low = min([0.5, *(point.intensity / 1.5 for point in picture.points)])
        high = 4.0 * max([*ridges, *(point.intensity for point in picture.points)])
        x = np.geomspace(low, high, 400)
        others = 0
        for at, roof in enumerate(picture.roofs):
            y = np.minimum(roof.peak, x * roof.bandwidth)
            if roof.own:
                colour, style, width = GROUP_COLOURS[at % len(GROUP_COLOURS)], "-", 1.8
            else:
                colour, style, width = OTHER_COLOUR, ("--", ":", "-.")[others % 3], 1.1
                others += 1
            label = f"{roof.label}: {describe(roof.peak, 'flop/s')}, ridge {roof.peak / roof.bandwidth:,.0f}"
            ax.plot(x, y, color=colour, linestyle=style, linewidth=width, label=label, zorder=2)
        for point in picture.points:
            colour = GROUP_COLOURS[point.roof % len(GROUP_COLOURS)] if point.roof >= 0 else OTHER_COLOUR
            face, ink = (colour, "white") if point.verified else ("white", colour)
            ax.plot(
                [point.intensity], [point.reached], "o", markerfacecolor=face, markeredgecolor=colour, markersize=9,
                zorder=3,
            )  # fmt: skip
            ax.annotate(
                str(point.number), (point.intensity, point.reached), ha="center", va="center", fontsize=6.5,
                color=ink, fontweight="bold", zorder=4,
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_xlim(low, high)
        ax.set_xlabel("arithmetic intensity [flop/byte]")
        ax.set_ylabel("rate [flop/s]")
        ax.grid(visible=True, which="major", color="#E5E5E5", linewidth=0.6)
        ax.set_axisbelow(True)
        ax.set_title(picture.title)
        legend = ax.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=7.5, title="attainable", alignment="left"
        )
        legend.get_title().set_fontweight("bold")
        lines = [f"{point.number}  {point.label}" for point in picture.points]
        if not all(point.verified for point in picture.points):
            lines.append("hollow: rests on unverified constants")
        words = "\n".join(lines)
        if words:
            ax.text(1.03, 0.0, words, transform=ax.transAxes, fontsize=7.5, va="bottom", linespacing=1.5)
        return figure
