"""What verbs print of a result, whatever was simulated."""

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from scaleout.sweep.results import SweepResults

__all__ = ["print_json", "print_tables", "run_block", "tell_missing"]


def run_block(begun: float, events: int | None) -> dict[str, Any]:
    """What the simulator took, beside a result.

    Parameters
    ----------
    begun
        When it began to build and to simulate, as `time.perf_counter` counts [s].
    events
        That it went through; None where it has none.
    """
    return {
        "wall_time": time.perf_counter() - begun,
        "events": events,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def print_json(text: str, warnings: Iterable[str]) -> None:
    """The result to the output, warnings to the error stream."""
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    click.echo(text)


def print_tables(tables: object, files: Iterable[Path], what: Mapping[str, str]) -> None:
    """Tables, and what was written with a few words for each file name."""
    from rich.console import Console

    console = Console(highlight=False)
    console.print(tables)
    console.print()
    for path in files:
        click.echo(f"wrote {path}  ({what[path.name]})")


def tell_missing(results: "SweepResults") -> None:
    """Say on the error stream how much of a sweep has yet to be computed, where that is so."""
    if results.missing:
        click.echo(f"{results.missing:,} of {results.stored.points:,} points are not computed yet", err=True)
