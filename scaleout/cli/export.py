"""``scaleout export``."""

from pathlib import Path

import click

from scaleout.cli.printed import tell_missing
from scaleout.errors import SweepError

__all__ = ["command"]


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write: .parquet, .csv or .json.")
@click.option("--sweep", help="Name or number of a sweep; without it the one that ran last.")
@click.option("--json", "as_json", is_flag=True, help="Print the table as JSON.")
def command(store: Path, output: Path | None, sweep: str | None, as_json: bool) -> None:
    """The table of a sweep, as Parquet, CSV or JSON.

    STORE is the folder that `scaleout sweep --store` wrote. A row is a point, in the order of the sweep: what it sets,
    how it ended, what came out, in SI units. Equal sweeps give equal files. A sweep that still runs may be exported.

    \b
    Examples:
      scaleout export results/layouts -o layouts.csv
      scaleout export results/layouts -o layouts.parquet
      scaleout export results/layouts --sweep nightly --json
    """
    from scaleout.sweep.export import check_export, json_pieces
    from scaleout.sweep.results import results_of

    if output is not None:
        check_export(output)
    elif not as_json:
        raise SweepError("give a file with -o, such as -o table.csv, or --json")
    results = results_of(store, sweep)
    if output is not None:
        results.export(output)
    tell_missing(results)
    if as_json:
        for piece in json_pieces(results):
            click.echo(piece, nl=False)
        click.echo()
    else:
        click.echo(
            f"wrote {output}  ({len(results):,} points of sweep {results.name!r}, {len(results.columns)} columns)"
        )
