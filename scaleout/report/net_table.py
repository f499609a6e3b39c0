"""A net's result as tables for the terminal."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.inferred import NetResult, OperatorTime
from scaleout.report.footprint_table import footprint_tables
from scaleout.report.grid import grid, resting_on
from scaleout.units import describe

__all__ = ["net_tables"]

_ROWS = 12
"""Operators that are listed; the rest are summed up."""


def net_tables(result: NetResult) -> RenderableType:
    """Headline, operators, HBM, and assumptions of a result."""
    rows: list[RenderableType] = [Text(result.name, style="bold"), _headline(result), ""]
    rows += [Text.from_markup(f"[bold yellow]![/] {escape(line)}") for line in result.warnings]
    rows += [""] if result.warnings else []
    for title, table in {
        "Where the time of a batch goes": _operators(result),
        "HBM of a chip": _memory(result),
        **footprint_tables(result.energy, result.cost, result.chips, "a batch", "", unit="sample"),
        "Rests on (! marks what is unverified; the source below each)": resting_on(result.assumptions),
    }.items():
        rows += [Text(title, style="bold"), table, ""]
    return Group(*rows[:-1])


def _headline(result: NetResult) -> Table:
    table, setting = grid(), result.experiment
    rows = {
        "engine": escape(f"{setting['engine']}, {setting['precision']}"),
        **({"overridden": escape("; ".join(setting["settings"]))} if setting["settings"] else {}),
        "throughput": (
            f"[bold]{_count(result.samples_per_second)} samples/s[/], each {escape(result.sample)}; {result.batch:,} "
            f"at a time on {'one chip' if result.chips == 1 else f'each of {result.chips:,} chips'}"
        ),
        "latency": describe(result.latency, "s"),
        **(
            {"reply": f"first token after {describe(result.first, 's')}, {describe(result.token, 's')} a token"}
            if result.token
            else {}
        ),
        "rate": f"{result.flops_share:.1%} of the chip's dense peak in {setting['precision']}",
        "bound by": ", ".join(
            f"{name} {share:.0%}" for name, share in sorted(result.bound.items(), key=lambda row: -row[1])
        ),
    }
    if "tables" in setting:
        rows["tables"] = f"{setting['tables']}, {setting['placement']}"
    if result.published and result.error is not None:
        told = result.published
        figure = describe(told["figure"], "s") if told["unit"] == "s" else f"{_count(told['figure'])} samples/s"
        rows["published"] = f"{figure}: {result.error:+.1%}  ({escape(told['source'])})"
    for name, words in rows.items():
        table.add_row(name, words)
    return table


def _operators(result: NetResult) -> Table:
    table = grid("operator", "time", "share", "runs", "flop/s", "byte/s", "bound")
    ordered = sorted(result.breakdown, key=lambda row: -row.seconds)
    for row in ordered[:_ROWS]:
        table.add_row(escape(row.name), *_cells(row, result.device))
    if rest := ordered[_ROWS:]:
        seconds = sum(row.seconds for row in rest)
        table.add_row(
            f"{len(rest)} more", _short(seconds, "s"), f"{seconds / result.device:.1%}",
            f"{sum(row.count for row in rest):,}", "", "", "",
        )  # fmt: skip
    return table


def _cells(row: OperatorTime, device: float) -> tuple[str, ...]:
    return (
        _short(row.seconds, "s"),
        f"{row.seconds / device:.1%}",
        f"{row.count:,}",
        _short(row.flop / row.seconds, "flop/s").removesuffix("FLOP/s") if row.flop else "",
        _short(row.bytes / row.seconds, "byte/s").removesuffix("B/s"),
        row.bound,
    )


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _short(value: float, dimension: str) -> str:
    """Three digits."""
    return describe(float(f"{value:.3g}"), dimension)


def _memory(result: NetResult) -> Table:
    table = grid()
    for name, value in result.memory.items():
        if value:
            table.add_row(name, describe(value, "byte"))
    return table
