"""A result of streams as tables for the terminal."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.report.footprint_table import footprint_tables
from scaleout.report.grid import grid, resting_on
from scaleout.streamed import SourceResult, StreamResult
from scaleout.units import describe

__all__ = ["stream_tables"]


def stream_tables(result: StreamResult) -> RenderableType:
    """Promises, sources, where their time goes, stages, chips, energy, and assumptions of a result."""
    rows: list[RenderableType] = [Text(result.name, style="bold"), _headline(result), ""]
    rows += [Text.from_markup(f"[bold yellow]![/] {escape(line)}") for line in result.warnings]
    rows += [""] if result.warnings else []
    tables: dict[str, RenderableType] = {
        "Latency, from coming to the end of the last stage": _sources(result),
        "Where the mean latency goes": _parts(result),
        "Stages": _stages(result),
        "Chips": _chips(result),
        "Power": _energy(result),
        **footprint_tables(result.energy, result.cost, len(result.chips), "the run", ""),
        "Rests on (! marks what is unverified; the source below each)": resting_on(result.assumptions),
    }
    for title, table in tables.items():
        if not isinstance(table, Table) or table.row_count:
            rows += [Text(title, style="bold"), table, ""]
    return Group(*rows[:-1])


def _time(seconds: float) -> str:
    """Three digits."""
    return describe(float(f"{seconds:.3g}"), "s")


def _headline(result: StreamResult) -> Table:
    table = grid()
    if result.experiment["settings"]:
        table.add_row("overridden", escape("; ".join(result.experiment["settings"])))
    for source in result.sources:
        if source.deadline is not None:
            table.add_row(escape(source.name), _promise(source))
    table.add_row("simulated", f"{_time(result.duration)} of items, seed {result.experiment['seed']}")
    return table


def _promise(source: SourceResult) -> str:
    colour = "green" if source.kept else "red"
    share = f"{source.share:.4g} of the items"
    needed = f"{share} within {_time(source.needed)}" if source.needed is not None else f"less than {share} ever done"
    missed = f"{source.missed:,} of {source.came:,} missed" if source.missed else f"none of {source.came:,} missed"
    return (
        f"[bold {colour}]{needed}[/], deadline {_time(source.deadline or 0.0)}; "
        f"{missed}; most of it: {escape(source.bound_by)}"
    )


def _sources(result: StreamResult) -> Table:
    table = grid("source", "came", "done", "dropped", "left", "mean", "p50", "p90", "p99", "max")
    for source in result.sources:
        one = source.latency
        counts = (f"{count:,}" for count in (source.came, source.done, source.dropped, source.left))
        table.add_row(escape(source.name), *counts, *map(_time, (one.mean, one.p50, one.p90, one.p99, one.max)))
    return table


def _parts(result: StreamResult) -> Table:
    table = grid("source", "stage", "time", "share")
    for source in result.sources:
        for name, seconds in sorted(source.parts.items(), key=lambda row: -row[1]):
            table.add_row(escape(source.name), escape(name), _time(seconds), f"{seconds / source.latency.mean:.1%}")
    return table


def _stages(result: StreamResult) -> Table:
    table = grid("stage", "chip", "jobs", "items each", "wait p99", "work mean", "p50", "p99", "of the chip")
    for stage in result.stages:
        table.add_row(
            escape(stage.name), str(stage.chip), f"{stage.jobs:,}", f"{stage.items:.3g}", _time(stage.wait.p99),
            _time(stage.work.mean), _time(stage.latency.p50), _time(stage.latency.p99), f"{stage.chip_share:.1%}",
        )  # fmt: skip
    return table


def _chips(result: StreamResult) -> Table:
    table = grid("chip", "busy", "memory", "")
    for at, chip in enumerate(result.chips):
        first = (str(at), f"{chip.busy:.1%}")
        for name, nbytes in chip.memory.items():
            if nbytes:
                table.add_row(*first, escape(name), describe(nbytes, "byte"))
                first = ("", "")
    return table


def _energy(result: StreamResult) -> Table:
    table = grid()
    energy = result.energy
    if energy is None:
        return table
    watts = f"{energy.power:.3g} W on the average, {energy.chip_power:.3g} W of it a chip"
    table.add_row("power", f"{watts}; {100 * energy.error:.0f} % off on the average")
    for source in result.sources:
        if source.done:
            each = describe(float(f"{source.joules:.3g}"), "J")
            table.add_row(escape(source.name), f"{each} of the chips each, beside what they draw at rest")
    if result.battery is not None:
        table.add_row("battery", f"{result.battery / 3600:.3g} h at this power alone")
    return table
