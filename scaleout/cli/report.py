"""``scaleout report``: the results of a sweep as one page for a browser."""

import json
from pathlib import Path

import click

from scaleout.cli.printed import tell_missing

__all__ = ["command"]


@click.command()
@click.argument("store", type=click.Path(path_type=Path), metavar="STORE")
@click.option(
    "-o",
    "--out",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    metavar="FILE",
    help="Page to write, which ends in .html.",
)
@click.option(
    "--sweep",
    "name",
    metavar="NAME",
    help="Name or number of a sweep; without it the one that ran last.",
)
@click.option("--title", metavar="TEXT", help="Title of the page. [default: the sweep's name]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the page instead of a line.")
def command(store: Path, out: Path, name: str | None, title: str | None, as_json: bool) -> None:
    """Write the results in STORE, the folder of a sweep, as one page of HTML.

    The page has the best point and what it rests on, figures, a table to sort and filter, and the sweep to run it
    again. It needs no network and no other file: send it as it is (docs/report.md).

    \b
    Examples:
      scaleout report results/layouts
      scaleout report results/layouts -o layouts.html --title 'Layouts of Llama-3.1 8B'
      scaleout report results/all --sweep layouts -o layouts.html --json
    """
    from scaleout.report.files import write_atomically
    from scaleout.report.html.page import page_file, report_page
    from scaleout.sweep.results import results_of

    out = page_file(out)
    results = results_of(store, name)
    tell_missing(results)
    page = report_page(results, title=title)
    write_atomically(out, page)
    best = None if results.best is None else int(results.column("position")[results.best])
    if as_json:
        told = {
            "file": str(out), "bytes": len(page), "sweep": results.sweep.name, "points": len(results), "best": best,
        }  # fmt: skip
        click.echo(json.dumps(told, indent=2))
        return
    of = "1 point" if len(results) == 1 else f"{len(results):,} points"
    click.echo(
        f"wrote {out}  ({of}, {len(page) / 1e6:,.1f} MB; the best is {'none' if best is None else f'point {best:,}'})"
    )
