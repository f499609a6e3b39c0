"""A sweep in the terminal: how far it is, and its best points."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scaleout.sweep.progress import Progress
from scaleout.sweep.results import SweepResults
from scaleout.units import describe

__all__ = ["best_rows", "counts_of", "progress_words", "sweep_tables"]

_SHOWN = {
    "training": ("step_time", "tokens_per_second", "mfu", "memory", "bound_by", "cost_per_mtoken"),
    "serving": ("ttft_p99", "tpot_p99", "requests_per_second", "chip_tokens", "user_tokens", "cost_per_mtoken"),
    "inference": ("samples_per_second", "latency", "memory", "power", "cost_per_msample"),
    "stream": ("missed", "dropped", "latency_p99", "power", "bound_by"),
}
"""Outcomes of the table by kind of experiment, after the objective."""
_SHARES = ("mfu", "memory_share", "flops_share", "attainment", "missed", "dropped", "busy", "error")
_WIDEST = 28
"""Of a cell [characters]."""


def best_rows(results: SweepResults, count: int) -> list[int]:
    """Rows of the best objective, the best first; see `SweepResults.best`."""
    return [int(row) for row in results.ranked()[:count]]


def counts_of(results: SweepResults) -> dict[str, int]:
    """Points, and what came of them [1]; "missing" have yet to be computed."""
    status = results.column("status")
    found = {name: int(np.count_nonzero(status == name)) for name in ("done", "infeasible", "failed")}
    return {"points": results.stored.points, **found, "missing": results.missing}


def sweep_tables(results: SweepResults, rows: Sequence[int], width: int = 100) -> RenderableType:
    """Counts, and some rows with what differs between points and the main outcomes, as many as the width has room for.

    Parameters
    ----------
    width
        Of the terminal [characters].
    """
    counts = counts_of(results)
    parts = [f"{counts[name]:,} {words}" for name, words in _COUNTS if counts[name]]
    points = f"{counts['points']:,} point{'s' * (counts['points'] != 1)}"
    title = Text(f"{results.name}: {points} of {results.kind}: {', '.join(parts)}", style="bold")
    if not rows:
        return Group(title, *_problems(results))
    values = [results.row(place) for place in rows]
    columns: list[tuple[str, list[str]]] = []
    alike = []
    for key in results.keys:
        cells = [_setting(value[key]) for value in values]
        if len(set(cells)) > 1:
            columns.append((_short(key, results.keys), cells))
        else:
            alike.append(f"{key} {cells[0]}")
    for name in dict.fromkeys((results.objective, *_SHOWN[results.kind])):
        if name in results.outcomes:
            cells = [cell(name, value[name], results.unit(name)) for value in values]
            columns.append((name.replace("_per_", "_/ ").replace("_", "\n", 1).replace("_", " "), cells))
    # the objective stays, whatever the width
    while len(columns) > 1 and sum(_width(column) + 1 for column in columns) > width:
        del columns[-1]
    table = Table(box=None, pad_edge=False, collapse_padding=True, header_style="bold")
    for head, _ in columns:
        table.add_column(escape(head), justify="right", no_wrap=True, vertical="bottom")
    for row in zip(*(cells for _, cells in columns), strict=True):
        table.add_row(*map(escape, row))
    evaluator = results.column("evaluator")[rows[0]]
    which = f"{len(rows)} best" if len(rows) > 1 else "best"
    words = f"the {which} by {results.objective.replace('_', ' ')}, evaluator {evaluator}"
    below = [Text(words + (f"; all of them: {', '.join(alike)}" if alike else ""))]
    return Group(title, "", table, "", *below, *_problems(results))


def _width(column: tuple[str, list[str]]) -> int:
    return max(len(line) for line in (*column[0].splitlines(), *column[1]))


_COUNTS = (
    ("done", "computed"), ("infeasible", "that the experiment refuses"), ("failed", "failed"),
    ("missing", "not computed yet"),
)  # fmt: skip


def _problems(results: SweepResults) -> list[RenderableType]:
    """The commonest reasons, so that a sweep in which nothing is possible says why."""
    status, problem = results.column("status"), results.column("problem")
    lines: list[RenderableType] = []
    for name, word in (("failed", "Failed"), ("infeasible", "Refused")):
        chosen = problem[status == name]
        if len(chosen) and (name == "failed" or len(chosen) == len(status)):
            first = str(chosen[0]).splitlines()[0]
            lines.append(Text(f"{word}, the first of {len(chosen):,}: {first[:300]}"))
    return lines


def cell(name: str, value: Any, unit: str) -> str:
    """An outcome for a person."""
    if value is None:
        return "-"
    if isinstance(value, str):
        return value if len(value) <= _WIDEST else f"{value[: _WIDEST - 3]}..."
    if name in _SHARES:
        return f"{value:.1%}"
    if unit in ("s", "byte", "W", "J", "USD"):
        return describe(value, unit)
    number = f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"
    return f"{number}{unit.removeprefix('1') if unit not in ('', '1') else ''}"


def _setting(value: Any) -> str:
    """A setting as a file has it."""
    text = "-" if value is None else value if isinstance(value, str) else json.dumps(value)
    if text.startswith("["):
        # of names, without the quotes of JSON
        text = text.replace('"', "").replace(", ", ",").replace(",", ", ")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _short(key: str, keys: Sequence[str]) -> str:
    """The last part of a key, where no other ends in the same."""
    last = key.rpartition(".")[2]
    return key if sum(other.rpartition(".")[2] == last for other in keys) > 1 or last.isdigit() else last


def progress_words(progress: Progress, unit: str) -> str:
    """How far a stage is, in one line."""
    stage = f"stage {progress.stage} of {progress.stages}, " if progress.stages > 1 else ""
    ready = progress.kept + progress.computed
    parts = [f"{stage}{progress.evaluator}: {ready:,} of {progress.points:,} points"]
    for count, words in (
        (progress.kept, "found in the store"),
        (progress.infeasible, "refused"),
        (progress.failed, "failed"),
    ):
        if count:
            parts.append(f"{count:,} {words}")
    if progress.rate and ready < progress.points:
        parts.append(f"{progress.rate:,.3g}/s" if progress.rate < 1000 else f"{progress.rate:,.0f}/s")
        parts.append(f"{_time(progress.left or 0.0)} left")
    if progress.best is not None and progress.settings is not None:
        settings = json.loads(progress.settings)
        given = ", ".join(f"{key.rpartition('.')[2]} {_setting(value)}" for key, value in settings.items())
        value = cell(progress.objective, progress.best, unit)
        # of points that were there it knows only how many
        best = "best of the new" if progress.kept else "best"
        parts.append(f"{best} {progress.objective.replace('_', ' ')} {value} ({given[:120]})")
    return ", ".join(parts)


def _time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
