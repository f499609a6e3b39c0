"""``scaleout collective``: one collective operation over a range of sizes, as nccl-tests prints it."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from scaleout.cli.progress import progress
from scaleout.cli.topology import fabric_of
from scaleout.collective import collective_table, sizes_between
from scaleout.collectives import Algorithm
from scaleout.errors import SpecError
from scaleout.evaluate.chunks import load_compiled
from scaleout.io.catalogue import load
from scaleout.report.files import figure_file, write_figure
from scaleout.units import parse

__all__ = ["command", "parse_size"]

_WIDTH = 220
"""Characters of a line; a table of many columns is better wrapped by the terminal than cut."""
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}


def parse_size(text: str, option: str) -> float:
    """A size [byte]: ``8``, ``64K``, ``8G`` (powers of 1,024, as nccl-tests reads them), or with a unit, ``8 GB``.

    Raises
    ------
    SpecError
        No such size.
    """
    if match := re.fullmatch(r"\s*(\d{1,15})\s*([kKmMgGtT]?)\s*", text):
        return float(int(match[1]) * 1024 ** _POWERS[match[2].upper()])
    try:
        return parse(text, "byte")
    except SpecError:
        raise SpecError(
            f"{option}: {text[:40]!r} is no size; expected bytes such as 8, 64K, 8G (powers of 1,024) or '1 GB'"
        ) from None


@click.command()
@click.argument("operation")
@click.option("--system", metavar="NAME", help="System: a name (scaleout show systems) or a .yaml file.")
@click.option("--topology", metavar="NAME", help="Topology in place of a system: a name or a file (docs/graphs.md).")
@click.option("--nodes", type=click.IntRange(1), help="Nodes of the system. [default: 1]")
@click.option("--chips", type=click.IntRange(2), help="Chips, in place of --nodes.")
@click.option("--min", "low", default="8", metavar="SIZE", show_default=True, help="Smallest size.")
@click.option("--max", "high", default="8G", metavar="SIZE", show_default=True, help="Largest size.")
@click.option("--factor", type=float, default=2.0, show_default=True, help="From one size to the next.")
@click.option(
    "--algorithm",
    metavar="NAME",
    help="Take this one, such as ring, ring/LL128 or an MSCCL program.xml. [default: the library's choice]",
)
@click.option("--explain", is_flag=True, help="Print the time of every candidate, size by size.")
@click.option("--by-tuner", is_flag=True, help="Take what NCCL's tuner would, in place of the fastest.")
@click.option(
    "--measured",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --plot: lay over the measurements of a table of collectives (docs/validation.md) on so many chips.",
)
@click.option("--no-fold", is_flag=True, help="Simulate every send of every rank, chunk by chunk.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value="busbw.png",
    metavar="[FILE]",
    help="Draw bus bandwidth over size into a .png or .svg file. [default: busbw.png]",
)
@click.option(
    "--links",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value="links.png",
    metavar="[FILE]",
    help="Draw how busy each link is at the largest size. [default: links.png]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of a table.")
def command(
    operation: str,
    system: str | None,
    topology: str | None,
    nodes: int | None,
    chips: int | None,
    low: str,
    high: str,
    factor: float,
    algorithm: str | None,
    explain: bool,
    by_tuner: bool,
    measured: Path | None,
    no_fold: bool,
    plot: Path | None,
    links: Path | None,
    as_json: bool,
) -> None:
    """Time OPERATION on a machine that does nothing else.

    OPERATION is all_reduce, all_gather, reduce_scatter, all_to_all, broadcast, reduce, gather, scatter,
    barrier, or send (from the first chip to the last). Sizes are those of the whole buffer, as
    nccl-tests counts them.

    \b
    Examples:
      scaleout collective all_reduce --system dgx-h100
      scaleout collective all_reduce --system dgx-h100 --nodes 2 --min 8 --max 8G --explain
      scaleout collective all_gather --system dgx-b200 --chips 4 --algorithm ring --json
      scaleout collective all_reduce --system dgx-h100 --nodes 512 --plot busbw.png --links links.png
    """
    plot, links = (None if path is None else Path(path) for path in (plot, links))
    if (system is None) == (topology is None):
        raise SpecError("--system, --topology: give one of them; scaleout show systems lists names")
    if measured is not None and (plot is None or system is None):
        raise SpecError("--measured: lays points over the figure of --plot, for a --system")
    if plot is not None and links is not None and plot.resolve() == links.resolve():
        raise SpecError(f"--plot, --links: both are to be written to {plot}; give two files")
    kinds = {path: figure_file(path) for path in (plot, links) if path is not None}
    sizes = sizes_between(parse_size(low, "--min"), parse_size(high, "--max"), factor)
    points = _points(measured, operation, system)
    started = time.perf_counter()
    with progress(f"simulating {operation}"):
        if no_fold:
            load_compiled()
        begun = time.perf_counter()
        fabric = fabric_of(system or topology or "", nodes, chips)
        tuner = load("system", system).tuner if system and (explain or by_tuner) else None
        if by_tuner and tuner is None:
            raise SpecError(f"--by-tuner: {system or topology} has no tuner of NCCL's; leave it out for the fastest")
        table = collective_table(
            operation,
            fabric,
            sizes,
            algorithm=_algorithm(algorithm),
            explain=explain,
            tuner=tuner,
            by_tuner=by_tuner,
            fold=not no_fold,
        )
    run: dict[str, Any] = {
        "wall_time": time.perf_counter() - begun,  # building and simulating [s]
        "load_time": begun - started,  # of machine code, once a process [s]
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    if plot is not None:
        from scaleout.report.collective import bandwidth_curves, draw_bandwidth

        write_figure(plot, kinds[plot], lambda: draw_bandwidth(bandwidth_curves(table, points)))
    if links is not None:
        from scaleout.report.links import draw_links, link_panels

        title = f"{table.name}: {table.rows[-1].algorithm}, largest size"
        write_figure(links, kinds[links], lambda: draw_links(link_panels(fabric.topology, table.link_use), title))
    if as_json:
        click.echo(json.dumps({**table.to_dict(), "run": run}, indent=2))
        return
    from rich.console import Console

    from scaleout.report.collective import collective_tables

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(collective_tables(table, run["wall_time"]))
    for path, what in ((plot, "bus bandwidth over size"), (links, "how busy each link is")):
        if path is not None:
            click.echo(f"wrote {path}  ({what})")


def _algorithm(name: str | None) -> str | Algorithm | None:
    """A name as it is; the algorithm of an MSCCL program."""
    if name is None or not name.lower().endswith(".xml"):
        return name
    from scaleout.io.msccl import msccl_algorithm, read_msccl

    return msccl_algorithm(read_msccl(Path(name)))


def _points(path: Path | None, operation: str, system: str | None) -> list[tuple[str, int, float, float]]:
    """Source, chips, size [byte] and time [s] of the measurements of an operation on a system."""
    if path is None or system is None:
        return []
    from scaleout.io.table import Row, take_rows
    from scaleout.validation.collective import COLUMNS, measured, system_of

    found: list[tuple[str, int, float, float]] = []

    def take(row: Row) -> None:
        one = measured(row)
        if one is None or one.operation != operation or one.seconds is None:
            return
        if system_of(row.optional("system"), row.text("library")) == system:
            found.append((row.text("library"), one.ranks, one.nbytes, one.seconds))

    take_rows(path, COLUMNS, take)
    return found
