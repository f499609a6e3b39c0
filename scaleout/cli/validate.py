"""``scaleout validate``: a table of measurements against the simulator."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from scaleout.errors import SpecError
from scaleout.io.table import Watch
from scaleout.validation.agreement import Agreement
from scaleout.validation.kinds import KINDS, kind_module, validate

__all__ = ["command", "progress"]

_FORMATS = (".png", ".svg")


@click.command(epilog=f"Kinds: {', '.join(KINDS)}.")
@click.argument("kind")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (errors as fractions) instead of tables.")
@click.option("--plot", type=click.Path(path_type=Path), help="Draw simulated against measured into a .png or .svg.")
@click.option("--rows", type=click.IntRange(0), default=10, show_default=True, help="Rows furthest off to list.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes for training steps.")
@click.option(
    "--like", "donor", default="", metavar="CHIP", help="Kernels: every other chip from its data sheet alone."
)
@click.option("--all", "everything", is_flag=True, help="List every line left out; with --json also every row.")
def command(
    kind: str, file: Path, as_json: bool, plot: Path | None, rows: int, jobs: int, donor: str, everything: bool
) -> None:
    """Compare every row of FILE, a CSV table of measurements of one KIND, with the simulator.

    Errors are simulated / measured - 1. Rows that cannot be simulated are left out, with the reason;
    a malformed row ends the command with exit status 2. docs/validation.md lists the columns of each kind.
    --like CHIP gives all other chips of a table of kernels the constants of that one, by their data sheets
    (docs/transfer.md), and prints which share of the rows lies inside the band that is stated for them.

    \b
    Examples:
      scaleout validate gemm gemm.csv
      scaleout validate gemm gemm.csv --plot gemm.svg --rows 30
      scaleout validate gemm gemm.csv --json > gemm.json
      scaleout validate gemm gemm.csv --like h100-sxm-80gb
      scaleout validate training training.csv --jobs 2
    """
    kind_module(kind)
    if plot is not None and plot.suffix.lower() not in _FORMATS:
        raise SpecError(f"--plot {plot}: a figure is written as {' or '.join(_FORMATS)}")
    with _output(plot):
        with progress(f"{kind} {file.name}") as watch:
            agreement = validate(kind, file, watch, jobs=jobs, donor=donor)
        drawn = _draw(agreement, plot)
    if as_json:
        click.echo(json.dumps(agreement.summary() | (_rows(agreement) if everything else {}), indent=2))
    else:
        from rich.console import Console

        from scaleout.report.agreement import agreement_tables

        Console(highlight=False).print(agreement_tables(agreement, rows=rows, all_lines=everything))
    for words in drawn:
        click.echo(words, err=as_json)


def _output(plot: Path | None) -> Any:
    """The figure's folder is made, or found wanting, before the work."""
    if plot is None:
        return nullcontext()
    from scaleout.report.files import output_folder

    return output_folder(plot.parent)


def _draw(agreement: Agreement, plot: Path | None) -> list[str]:
    """Write the figure; what became of it."""
    if plot is None:
        return []
    if not agreement.compared:
        return [f"no figure: no row of {agreement.kind} was compared"]
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.agreement import draw_scatter, scatter_table
    from scaleout.report.files import write_atomically
    from scaleout.report.style import render

    files = render(draw_scatter(scatter_table(agreement)), "figure")
    path = write_atomically(plot, files[f"figure{plot.suffix.lower()}"])
    return [f"wrote {path}  (simulated against measured)"]


def _rows(agreement: Agreement) -> dict[str, Any]:
    """Every row, for those who count for themselves."""
    compared = [{**asdict(row), "error": row.error} for row in agreement.compared]
    return {"unit": agreement.unit, "rows": compared, "skipped_rows": [asdict(row) for row in agreement.skipped]}


@contextmanager
def progress(words: str) -> Iterator[Watch | None]:
    """A bar on the error stream, where that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)
