"""``scaleout capacity``: the highest rate of requests that keeps what is promised."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from scaleout.capacity import CAPACITY_FORMAT, Capacity, capacity
from scaleout.errors import SpecError
from scaleout.io.experiments import serving_experiment
from scaleout.report.files import output_folder, write_all

__all__ = ["command"]

_MOST = 8
"""Experiments of one figure."""
_RATES = 64


@click.command()
@click.argument("files", nargs=-1, required=True)
@click.option("--rates", metavar="A,B,...", help="More rates to simulate, for the curve, such as 1,2,4,8 [1/s].")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key in all FILES, such as slo.tpot=30ms; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for figures and table. [default: results/NAME-capacity; none with --json]",
)
def command(
    files: tuple[str, ...], rates: str | None, settings: tuple[str, ...], as_json: bool, out: Path | None
) -> None:
    """Find the highest rate of requests at which each of FILES keeps its `slo`.

    FILES are YAML files or names of shipped serving experiments; of several, curves are drawn into one figure.
    Lengths of requests stay as they are; the rate is found by bisection, to 2 %.

    \b
    Examples:
      scaleout capacity llama3-70b-poisson
      scaleout capacity llama3-70b-poisson --rates 1,2,4,8 --set slo.ttft=1s
      scaleout capacity llama3-70b-poisson llama3-70b-disaggregated
    """
    if len(files) > _MOST:
        raise SpecError(f"{len(files)} experiments; expected at most {_MOST}")
    asked = _numbers(rates) if rates is not None else []
    specs = [serving_experiment(file, settings) for file in files]
    names = [Path(file).name.removesuffix(".yaml").removesuffix(".yml") for file in files]
    folder = out or (None if as_json else Path("results") / f"{names[0]}-capacity")
    with output_folder(folder) if folder is not None else nullcontext():
        with _told() as told:
            found = [
                capacity(spec, asked, told=lambda words, name=name: told(f"{name}: {words}"))  # type: ignore[misc]
                for name, spec in zip(names, specs, strict=True)
            ]
        rows = [{"file": name, **one.to_dict()} for name, one in zip(names, found, strict=True)]
        text = json.dumps({"format": CAPACITY_FORMAT, "kind": "capacity", "experiments": rows}, indent=2)
        written = write_all(folder, _files(text, found, names)) if folder is not None else []
    if as_json:
        click.echo(text)
        return
    from rich.console import Console

    from scaleout.report.capacity import capacity_tables

    console = Console(highlight=False)
    for one in found:
        console.print(capacity_tables(one))
        console.print()
    for path in written:
        click.echo(f"wrote {path}")


@contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """Somebody who says what is simulated, on the error stream, where that is a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console

    with Console(stderr=True).status("simulating") as status:
        yield lambda words: status.update(f"simulating {words}")


def _numbers(text: str) -> list[float]:
    words = [word.strip() for word in text.split(",")]
    if len(words) > _RATES:
        raise SpecError(f"--rates: {len(words)} rates; expected at most {_RATES}")
    found = []
    for word in words:
        try:
            found.append(float(word))
        except ValueError:
            raise SpecError(f"--rates: {word[:40]!r} is not a number of requests a second; expected 1,2,4") from None
    return found


def _files(text: str, found: list[Capacity], names: list[str]) -> dict[str, bytes]:
    """Figures and table, by file name."""
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.capacity import draw_frontier, draw_rates
    from scaleout.report.style import render

    figures = {"rates": draw_rates(found, names), "frontier": draw_frontier(found, names)}
    drawn = {name: data for key, figure in figures.items() for name, data in render(figure, key).items()}
    return {**drawn, "capacity.json": (text + "\n").encode()}
