"""A result of serving as tables for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.report.footprint_table import footprint_tables
from scaleout.served import Served, Share, Spread
from scaleout.units import describe

__all__ = ["served_tables"]

_STABILITY = {
    "stable": "[bold green]stable[/]: requests hardly wait",
    "backlogged": "[bold yellow]backlogged[/]: requests wait or pile up, but not ever more for all that is seen",
    "overloaded": "[bold red]overloaded[/]: more come than are served, and times grow with the length of the stream",
    "offline": "[bold]offline[/]: all came at once; throughput counts, times say how long the queue was",
}
_STEP = {
    "matmul": "matrix multiplications",
    "attention": "attention",
    "elementwise": "elementwise passes",
    "launch": "gaps between kernels",
    "host": "host, padding of graphs",
    "tp": "tensor-parallel messages",
    "ep": "messages to and from experts",
    "pp": "pipeline messages",
}
_ROWS = 12
"""Replicas that are listed; of more, the extremes."""


def served_tables(result: Served, wall_time: float, events: int) -> RenderableType:
    """Headline, times, replicas, HBM, energy, cost, and assumptions of a result."""
    parts: dict[str, RenderableType] = {
        result.name: _headline(result, wall_time, events),
        "Times": _times(result),
        "Replicas (over time: mean and most)": _replicas(result),
        "Where the time of steps goes": _step(result),
        "HBM of a chip": _memory(result),
        **footprint_tables(result.energy, result.cost, result.chips, "the run", "put out", result.attainment),
        "Rests on (! marks what is unverified; the source below each)": _assumptions(result.assumptions),
    }
    rows: list[RenderableType] = []
    for title, table in parts.items():
        rows += [Text(title, style="bold"), table, ""]
        if table is parts[result.name]:
            for line in result.warnings:
                rows.append(Text.from_markup(f"[bold yellow]![/] {escape(line)}"))
            rows += [""] if result.warnings else []
    return Group(*rows[:-1])


def _grid(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, show_header=bool(columns), collapse_padding=True)
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at and columns else "left", no_wrap=bool(columns))
    return table


def _headline(result: Served, wall_time: float, events: int) -> Table:
    table = _grid()
    setting, counts, slo = result.experiment, result.requests, result.experiment["slo"]
    ended = ", ".join(f"{counts[name]:,} {name}" for name in ("served", "rejected", "failed") if counts[name])
    rows = {
        "pools": escape("; ".join(_pool(pool) for pool in setting["pools"])),
        "engine": escape(
            f"{setting['engine']}, {setting['policy']}, up to {setting['max_sequences']:,} sequences and "
            f"{setting['max_batched_tokens']:,} tokens a step; {setting['precision']}, cache {setting['cache']}"
        ),
        "requests": escape(f"{_stream(setting)}: {counts['came']:,} came, {ended or 'none ended'}"),
        **({"overridden": escape("; ".join(setting["settings"]))} if setting["settings"] else {}),
        "duration": f"{describe(result.duration, 's')} simulated",
        "throughput": (
            f"[bold]{result.requests_per_second:,.3g} requests/s[/], {result.output_tokens_per_second:,.0f} tokens/s "
            f"out, {result.tokens_per_second:,.0f} in and out; {result.output_tokens_per_second / result.chips:,.0f} "
            "out of a chip"
        ),
        **({"goodput": _goodput(result, slo)} if result.goodput is not None else {}),
        "floor": (
            f"TTFT {_short(result.floor.ttft)} (prompt of {result.floor.prompt:,}), TPOT "
            f"{_short(result.floor.tpot)}, alone in an empty system"
        ),
        "stability": _STABILITY[result.stability],
        **({"sensitivity": _sensitivity(result)} if result.sensitivity else {}),
        "error band": f"+- {result.error_band:.0%} of the time of a step",
        "preemptions": f"{result.preemptions:,}",
        **({"retries": f"{result.retries:,}, after the loss of a replica"} if result.retries else {}),
        **({"prefix cache": f"{result.hit_rate:.1%} of the prompts' tokens found"} if setting["prefix"] else {}),
        **({"host memory": _host(result)} if any(result.host.values()) else {}),
        **({"KV transfers": _transfers(result)} if result.transfers["count"] else {}),
        **({"busiest links": _links(result)} if result.links else {}),
        "simulated in": f"{describe(wall_time, 's')}, {events:,} changes of batches",
    }
    for name, value in rows.items():
        table.add_row(f"[dim]{name}[/]", value)
    return table


def _pool(pool: Mapping[str, Any]) -> str:
    degrees = ", ".join(f"{name} {pool[name]}" for name in ("tp", "pp", "dp", "ep") if pool[name] > 1 or name == "tp")
    role = "" if pool["role"] == "both" else f" for {pool['role']}"
    many = "replica" if pool["replicas"] == 1 else "replicas"
    return f"{pool['replicas']} {many}{role} of {degrees} on {pool['chip']}"


def _stream(setting: Mapping[str, Any]) -> str:
    rate = f" at {setting['rate']:g}/s" if setting["rate"] else ""
    lengths = f"lengths of {setting['trace']}" if setting["trace"] else "lengths drawn"
    return f"{setting['arrivals']}{rate}, {lengths}"


def _goodput(result: Served, slo: Mapping[str, Any]) -> str:
    promises = ", ".join(
        f"{name.upper() if name != 'latency' else name} {describe(slo[name], 's')}"
        for name in ("ttft", "tpot", "latency")
        if slo[name]
    )
    kept, colour = result.attainment or 0.0, "green" if (result.attainment or 0.0) >= slo["share"] else "red"
    missed = ", ".join(f"{share:.1%} missed {name}" for name, share in result.missed.items() if share)
    return (
        f"[bold]{result.goodput:,.3g} requests/s[/] keep {promises}: [bold {colour}]{kept:.1%}[/] of them, "
        f"promised {slo['share']:.0%}" + (f" ({missed})" if missed else "")
    )


def _sensitivity(result: Served) -> str:
    found = result.sensitivity
    assert found is not None  # noqa: S101  (the caller sees to it)
    return (
        f"steps {found.slower:.0%} longer: TTFT p99 {describe(result.ttft.p99, 's')} -> "
        f"{describe(found.ttft_p99, 's')}, TPOT p99 {describe(result.tpot.p99, 's')} -> "
        f"{describe(found.tpot_p99, 's')}, {found.stability}"
    )


def _links(result: Served) -> str:
    row = max(result.links, key=lambda row: row.busiest_utilisation)
    return (
        f"{row.kind}: {row.busiest_utilisation:.1%} of the time on {escape(row.busiest)}, {row.utilisation:.1%} over "
        f"all {row.count:,}; without what replicas send inside themselves alone"
    )


def _host(result: Served) -> str:
    host = result.host
    return (
        f"{host['swaps']:,} caches swapped out, {host['loads']:,} loaded; {host['out']:,} blocks out, {host['in']:,} in"
    )


def _transfers(result: Served) -> str:
    found = result.transfers
    return (
        f"{found['count']:,}, {describe(found['bytes'] / found['count'], 'byte')} and "
        f"{describe(found['mean_time'], 's')} each on average"
    )


def _times(result: Served) -> Table:
    table = _grid("", "mean", "p50", "p90", "p99", "most")
    rows: dict[str, Spread] = {
        "TTFT, to the first token": result.ttft,
        "TPOT, of a token after it": result.tpot,
        "ITL, between two tokens": result.gap,
        "end to end": result.latency,
        "queue, before a seat": result.queue,
    }
    for name, spread in rows.items():
        figures = (spread.mean, spread.p50, spread.p90, spread.p99, spread.max)
        table.add_row(name, *(_short(value) if spread.count else "-" for value in figures))
    return table


def _short(seconds: float) -> str:
    """Three digits of a time."""
    return describe(float(f"{seconds:.3g}"), "s")


def _replicas(result: Served) -> Table:
    table = _grid("replica", "requests", "steps", "busy", "decodes a step", "running", "waiting", "KV in use")
    rows = list(enumerate(result.replicas))
    left = 0
    if len(rows) > _ROWS:
        # those that worked the least and the most
        order = sorted(rows, key=lambda row: (row[1].busy, row[0]))
        rows, left = sorted(order[: _ROWS // 2] + order[-_ROWS // 2 :], key=lambda row: row[0]), len(rows) - _ROWS
    for number, share in rows:
        table.add_row(
            f"{number}" + ("" if share.role == "both" else f" ({share.role})"),
            f"{share.requests:,}",
            f"{share.steps:,}",
            f"{share.busy:.0%}",
            f"{share.batch:.1f}",
            *(_level(share, name) for name in ("running", "waiting")),
            f"{share.cache.mean:.0%}, {share.cache.max:.0%}",
        )
    if left:
        table.add_row(f"and {left:,} between")
    return table


def _level(share: Share, name: str) -> str:
    level = getattr(share, name)
    return f"{level.mean:.1f}, {level.max:,.0f}"


def _step(result: Served) -> Table:
    table = _grid("kind", "share", "error")
    for kind, share in sorted(result.step.items(), key=lambda row: -row[1]):
        error = result.error_parts.get(kind, 0.0) / share if share else 0.0
        table.add_row(_STEP.get(kind, kind), f"{share:.1%}", f"+- {error:.0%}")
    return table


def _memory(result: Served) -> Table:
    pools, sizes = result.experiment["pools"], result.experiment["hbm"]
    table = _grid(
        "kind", *(f"pool {at} ({pool['role']})" if len(pools) > 1 else "size" for at, pool in enumerate(pools))
    )
    for kind in result.memory[0]:
        table.add_row(kind if kind != "cache" else "KV cache", *(_size(one[kind], hbm) for one, hbm in _pairs(result)))
    table.add_row("[dim]capacity[/]", *(describe(size, "byte") for size in sizes))
    return table


def _pairs(result: Served) -> Sequence[tuple[Mapping[str, float], float]]:
    return list(zip(result.memory, result.experiment["hbm"], strict=True))


def _size(size: float, capacity: float) -> str:
    return f"{describe(size, 'byte')} {size / capacity:6.1%}"


def _assumptions(assumptions: Sequence[Mapping[str, Any]]) -> Table:
    table = _grid()
    for row in assumptions:
        mark = " " if row["verified"] else "[bold yellow]![/]"
        table.add_row(mark, f"{escape(row['name'])}: {escape(row['value'])}\n[dim]{escape(row['source'])}[/]")
    return table
