"""The page on accuracy: tables of measurements against the simulator, in Markdown with figures.

The same tables, notes and head give the same bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaleout.report.agreement import draw_scatter, line_ranges, percent, scatter_table
from scaleout.report.style import render
from scaleout.units import describe
from scaleout.validation.agreement import Agreement

__all__ = ["Measured", "accuracy_figures", "accuracy_page"]

_WORST = 5
"""Rows that are listed for each table."""
_FEW_LINES = 50
"""Characters of line numbers that are shown for a reason."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A table that was compared.

    Parameters
    ----------
    file
        Its name.
    digest
        First digits of its SHA-256, so that a reader knows which table it was.
    agreement
        Its rows.
    """

    file: str
    digest: str
    agreement: Agreement


def accuracy_figures(tables: Mapping[str, Measured]) -> dict[str, bytes]:
    """Simulated against measured of every table that has rows, as SVG by file name."""
    drawn = {
        name: render(draw_scatter(scatter_table(table.agreement)), name)[f"{name}.svg"]
        for name, table in tables.items()
        if table.agreement.compared
    }
    return {f"accuracy-{name}.svg": data for name, data in drawn.items()}


def accuracy_page(tables: Mapping[str, Measured], notes: Mapping[str, str], *, head: str, figures: str) -> str:
    """The page.

    Parameters
    ----------
    tables
        By name.
    notes
        What is furthest off and why, by name of table; ``about`` opens the page.
    head
        Version and date.
    figures
        Folder of the figures, as seen from the page.
    """
    parts = [
        "# Accuracy",
        f"Written by `make accuracy`: {head}. Errors are simulated / measured - 1; MAPE is the mean of their sizes, "
        "p90 the size that nine rows in ten do not exceed, bias the mean with sign.",
    ]
    if "about" in notes:
        parts.append(notes["about"].strip())
    parts.append(_table(("table", "kind", "n", "left out", "MAPE", "median", "p90", "bias"), _overview(tables)))
    for name, table in tables.items():
        parts += _section(name, table, notes.get(name, ""), figures)
    return "\n\n".join(parts) + "\n"


def _overview(tables: Mapping[str, Measured]) -> list[tuple[str, ...]]:
    rows = []
    for name, table in tables.items():
        summary = table.agreement.summary()
        # headings are linked to without dots and capitals
        link = f"[{name}](#{name.lower().replace('.', '')})"
        rows.append((link, summary["kind"], f"{summary['n']:,}", f"{summary['skipped']:,}", *_errors(summary)))
    return rows


def _errors(values: Mapping[str, float | None]) -> tuple[str, ...]:
    return *(percent(values[key]) for key in ("mape", "median", "p90")), percent(values["bias"], sign=True)


def _section(name: str, table: Measured, note: str, figures: str) -> list[str]:
    agreement = table.agreement
    groups = agreement.summary()["groups"]
    parts = [f"## {name}", f"`{table.file}`, SHA-256 {table.digest}, {_count(len(agreement.compared))} compared."]
    if note:
        parts.append(note.strip())
    if agreement.compared:
        parts.append(f"![{name}: simulated against measured]({figures}/accuracy-{name}.svg)")
        rows = [(group, f"{values['n']:,}", *_errors(values)) for group, values in groups.items()]
        parts.append(_table(("rows of", "n", "MAPE", "median", "p90", "bias"), rows))
        parts.append("Furthest off:")
        parts.append(_table(("line", "measured", "simulated", "error", "row"), _worst(agreement)))
    if agreement.skipped:
        parts.append(f"Left out, {_count(len(agreement.skipped))}:")
        reasons = [(f"{len(lines):,}", reason, _lines(lines)) for reason, lines in agreement.reasons().items()]
        parts.append(_table(("n", "reason", "lines"), reasons))
    return parts


def _worst(agreement: Agreement) -> list[tuple[str, ...]]:
    unit = agreement.unit
    rows: list[tuple[str, ...]] = []
    for row in agreement.worst(_WORST):
        words = [row.label, *(f"{key} {value}" for key, value in row.keys.items() if value and key != "source")]
        sizes = describe(row.measured, unit), describe(row.simulated, unit), percent(row.error, sign=True)
        rows.append((f"{row.line:,}", *sizes, ", ".join(word for word in words if word)))
    return rows


def _lines(lines: list[int]) -> str:
    text = line_ranges(lines)
    return text if len(text) <= _FEW_LINES else f"{text[:_FEW_LINES].rpartition(', ')[0]}, ..."


def _count(rows: int) -> str:
    return f"{rows:,} row{'' if rows == 1 else 's'}"


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """A table in Markdown; a bar inside a cell would end it."""
    lines = [columns, tuple("---" for _ in columns), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
