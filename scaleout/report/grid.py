"""Tables of numbers for the terminal, and what a result rests on."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.markup import escape
from rich.table import Table

__all__ = ["grid", "resting_on"]


def grid(*columns: str) -> Table:
    """A table without lines: words in its first column, numbers in the others; without names no head."""
    table = Table(box=None, pad_edge=False, show_header=bool(columns), collapse_padding=True)
    for at, name in enumerate(columns):
        table.add_column(name, justify="right" if at else "left", no_wrap=True)
    return table


def resting_on(assumptions: Iterable[Mapping[str, Any]]) -> Table:
    """What a result rests on, each with its source below; ! marks what is unverified."""
    table = grid()
    for row in assumptions:
        mark = " " if row["verified"] else "[bold yellow]![/]"
        table.add_row(mark, escape(str(row["name"])), escape(str(row["value"])))
        table.add_row("", "", f"[dim]{escape(str(row['source']))}[/]")
    return table
