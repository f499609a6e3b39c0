"""``scaleout plot``: a figure of a sweep."""

import json
from pathlib import Path

import click

from scaleout.cli.printed import tell_missing
from scaleout.errors import SpecError, SweepError, near
from scaleout.report.files import figure_file, write_figure
from scaleout.report.sweep_figures import KINDS, draw_table, fitting, table_as_dict, table_of
from scaleout.sweep.results import SweepResults, results_of

__all__ = ["command"]

_KINDS = "\n".join(f"      {name:<11} {kind.words}" for name, kind in KINDS.items())


@click.command(
    help=f"""Draw the results of a sweep as a figure of some KIND; without one, say which kinds fit.

    STORE is the folder in which scaleout sweep keeps them.

    \b
    Kinds:
{_KINDS}

    \b
    Examples:
      scaleout plot layouts
      scaleout plot layouts heatmap
      scaleout plot layouts heatmap --x layout.tp --by layout.dp --y mfu -o tp-dp.svg
      scaleout plot layouts pareto --x step_time --y memory_share
      scaleout plot layouts tornado --json
    """
)
@click.argument("store", type=click.Path(path_type=Path))
@click.argument("kind", required=False)
@click.option(
    "-o", "--out", type=click.Path(path_type=Path), metavar="FILE", help="A .png or .svg file; KIND.png here."
)
@click.option("--x", metavar="NAME", help="Key or outcome across: columns, bars, an outcome of pareto.")
@click.option("--y", metavar="OUTCOME", help="What is shown; otherwise the objective of the sweep.")
@click.option("--by", metavar="KEY", help="Key that makes lines, rows or fronts.")
@click.option("--sweep", "name", metavar="NAME", help="Which of the sweeps in the store; otherwise the latest.")
@click.option("--json", "as_json", is_flag=True, help="Print the table that the figure shows (SI units), draw nothing.")
def command(
    store: Path,
    kind: str | None,
    out: Path | None,
    x: str | None,
    y: str | None,
    by: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """See ``help``, which lists the kinds."""
    _check(kind, out, {"--x": x, "--y": y, "--by": by}, as_json)
    results = results_of(store, int(name) if name and name.isdigit() else name)
    tell_missing(results)
    if kind is None:
        _list(results, store, as_json)
        return
    table = table_of(results, kind, x=x, y=y, by=by)
    if as_json:
        click.echo(json.dumps(table_as_dict(kind, table), indent=2))
        return
    path = out or Path(f"{kind}.png")
    write_figure(path, figure_file(path), lambda: draw_table(kind, table))
    click.echo(f"wrote {path}  ({table.title})")


def _check(kind: str | None, out: Path | None, asked: dict[str, str | None], as_json: bool) -> None:
    """Refuse what no store could answer, before one is read."""
    given = [name for name, value in asked.items() if value is not None]
    if kind is None:
        if out is not None or given:
            raise SpecError(f"{'--out' if out is not None else given[0]}: of which KIND? {near('', KINDS)}")
        return
    if kind not in KINDS:
        raise SweepError(f"{kind!r:.60} is no kind of figure; {near(kind, KINDS)}")
    for name, words in zip(asked, KINDS[kind].options, strict=True):
        if name in given and not words:
            raise SpecError(f"{name}: {kind} has no choice there; leave it out")
    if out is not None:
        if as_json:
            raise SpecError("--json prints the table instead of drawing it; leave --out or --json out")
        figure_file(out)


def _list(results: SweepResults, store: Path, as_json: bool) -> None:
    """Kinds that fit, and why the others do not."""
    fits, misfits = fitting(results)
    if not fits and len(set(misfits.values())) == 1:
        raise SweepError(misfits[next(iter(misfits))])
    if as_json:
        rows = [{"kind": one.name, "title": one.title} for one in fits]
        click.echo(json.dumps({"sweep": results.name, "fit": rows, "do_not_fit": misfits}, indent=2))
        return
    click.echo(f"{results.name}: {len(results):,} points of {results.kind}\n")
    for one in fits:
        click.echo(f"  {one.name:<11} {KINDS[one.name].words}")
    if misfits:
        click.echo("\nDo not fit:" if fits else "Do not fit:")
        for kind, why in misfits.items():
            click.echo(f"  {kind:<11} {why.splitlines()[0]}")
    if fits:
        click.echo(f"\nscaleout plot {store} {fits[0].name}  draws one")
