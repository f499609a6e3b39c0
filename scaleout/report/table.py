"""A result as a table for the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.footprint import Run
from scaleout.report.footprint_table import count_words, footprint_tables, run_table
from scaleout.result import PART_WORDS, Beside, Result
from scaleout.units import describe

__all__ = ["result_tables"]

_BOUND = {
    "matmul": "matrix multiplications",
    "attention": "attention kernels",
    "elementwise": "elementwise passes (HBM)",
    "tp": "tensor-parallel communication",
    "pp": "pipeline communication",
    "dp": "data-parallel communication",
    "compute": "kernels",
}


def result_tables(result: Result, wall_time: float, events: int | None, run: Run | None = None) -> RenderableType:
    """Headline, breakdown, HBM, energy, cost, and assumptions of a result; of a whole training where one is given."""
    memory = result.memory
    shown = "stage that ends last" if result.critical_path else "first stage"
    parts = {
        result.name: _headline(result, wall_time, events),
        f"Where the step goes ({shown})": _breakdown(result),
        f"HBM at its peak (stage {memory.stage}, the fullest of {len(memory.stages)}), one chip": _memory(result),
        **footprint_tables(result.energy, result.cost, result.chips, "a step", "trained"),
        **({f"The whole training of {count_words(run.tokens)} tokens": run_table(run)} if run else {}),
        "Rests on (! marks what is unverified; the source below each)": _assumptions(result),
    }
    rows: list[RenderableType] = []
    for title, table in parts.items():
        rows += [Text(title, style="bold"), table, ""]
        if table is parts[result.name] and result.warnings:
            rows += [
                Text("Beyond what was calibrated (the error band is wider)", style="bold yellow"),
                _warnings(result),
                "",
            ]
    return Group(*rows[:-1])


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(columns))
    for name in columns:
        table.add_column(name)
    return table


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _headline(result: Result, wall_time: float, events: int | None) -> Table:
    table = _grid()
    setting = result.experiment
    rows = {
        "layout": (
            f"tp {setting['tp']}, {_cut(setting)}pp {setting['pp']}, vpp {setting['vpp']}, dp {setting['dp']}, "
            f"ZeRO-{setting['zero']}, sequence parallel {'on' if setting['sequence_parallel'] else 'off'}"
            + (f", schedule {escape(setting['schedule'])}" if setting.get("schedule") else "")
        ),
        "batch": (
            f"{setting['global_batch']:,} sequences of {setting['sequence']:,} tokens, micro-batch "
            f"{setting['micro_batch']}, {setting['precision']}, recompute {setting['recompute']}"
        ),
        **({"overridden": escape("; ".join(setting["settings"]))} if setting["settings"] else {}),
        "step time": f"[bold]{describe(result.step_time, 's')}[/] {result.error_band}",
        **({"published": _published(result.published)} if result.published else {}),
        "throughput": f"{result.tokens_per_second:,.0f} tokens/s",
        "model FLOP/s per chip": f"[bold]{describe(result.model_flops_per_chip, 'flop/s')}[/]",
        "MFU": f"[bold]{result.mfu:.1%}[/] (attention counted whole, as Megatron-LM does, though half is masked)",
        "bound by": _bound_by(result),
        **({"busiest links": _busiest(result)} if any(row.bytes for row in result.links) else {}),
        **({"faults": escape("; ".join(setting["faults"]))} if setting.get("faults") else {}),
        "evaluator": (
            f"{result.evaluator}: {_count(result.classes, 'class', 'classes')} "
            f"for {_count(result.chips, 'chip', 'chips')}, "
            + ("no contention for links: a lower bound" if events is None else f"{events:,} events")
        ),
        "simulated in": describe(wall_time, "s"),
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", value)
    return table


def _cut(setting: Mapping[str, Any]) -> str:
    """Degrees that most layouts have not."""
    return "".join(f"{name} {setting[name]}, " for name in ("cp", "ep", "etp") if setting.get(name, 1) > 1)


def _published(beside: Beside) -> str:
    return (
        f"{describe(beside.step_time, 's')}, of which the simulated step is {1 + beside.difference:.1%} "
        f"({escape(beside.source)})"
    )


def _bound_by(result: Result) -> str:
    bound, path = result.bound_by, result.critical_path
    share = path[bound] / sum(path.values()) if path else result.breakdown[bound] / result.step_time
    words = _BOUND.get(bound, PART_WORDS.get(bound, bound))
    return f"{words} ({share:.0%} of {'the longest chain' if path else 'the first stage'})"


def _busiest(result: Result) -> str:
    row = max(result.links, key=lambda row: row.busiest_utilisation)
    return (
        f"{row.kind}: {row.busiest_utilisation:.1%} of the step on {escape(row.busiest)}, "
        f"{row.utilisation:.1%} over all {row.count:,}, at most {row.peak:.0%} in a hundredth of the step"
    )


def _warnings(result: Result) -> Table:
    table = _grid()
    for line in result.warnings:
        table.add_row("[bold yellow]![/]", escape(line))
    return table


def _breakdown(result: Result) -> Table:
    table = _grid("part", "time", "share")
    table.columns[1].justify = table.columns[2].justify = "right"
    for name, seconds in result.breakdown.items():
        if seconds:
            table.add_row(PART_WORDS.get(name, name), describe(seconds, "s"), f"{seconds / result.step_time:.1%}")
    return table


def _memory(result: Result) -> Table:
    memory = result.memory
    table = _grid("kind", "size", "share")
    table.columns[1].justify = table.columns[2].justify = "right"
    for kind, size in memory.peak.items():
        if size:
            table.add_row(kind, describe(size, "byte"), f"{size / memory.capacity:.1%}")
    table.add_row(
        "[bold]sum[/]", f"[bold]{describe(memory.total, 'byte')}[/]", f"[bold]{memory.total / memory.capacity:.1%}[/]"
    )
    table.add_row("[dim]capacity[/]", describe(memory.capacity, "byte"), "")
    return table


def _assumptions(result: Result) -> Table:
    table = _grid()
    for row in result.assumptions:
        mark = " " if row.verified else "[bold yellow]![/]"
        table.add_row(mark, f"{escape(row.name)}: {escape(row.value)}\n[dim]{escape(row.source)}[/]")
    return table
