"""``scaleout run``: simulate one experiment, print it, draw it."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from scaleout.evaluate.event import Recording
from scaleout.io.catalogue import experiment
from scaleout.report.files import output_folder, write_all
from scaleout.result import Result
from scaleout.simulate import record

__all__ = ["command"]

_DEFAULT = "llama-3.1-405b-16k"
_WHAT = {
    "breakdown.png": "where the step goes",
    "breakdown.svg": "the same for print",
    "timeline.json": "open in https://ui.perfetto.dev",
    "result.json": "everything, in SI units",
}


@click.command()
@click.argument("file", default=_DEFAULT)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, such as layout.pp=4; may be repeated.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for figure, timeline and result. [default: results/NAME; none with --json]",
)
@click.option("--no-fold", is_flag=True, help="Simulate every rank; the result is the same.")
def command(file: str, settings: tuple[str, ...], as_json: bool, out: Path | None, no_fold: bool) -> None:
    """Simulate one training step of FILE: a YAML file or the name of a shipped experiment.

    Without FILE: Llama-3.1 405B on 16,384 H100.

    \b
    Examples:
      scaleout run
      scaleout run --set batch.global=4096 --set recompute=[full]
      scaleout run my.yaml --set layout.pp=4 --set chips=128 --json
      scaleout run --set stack=megatron-lm --out plans/megatron
    """
    spec = experiment(file, settings)
    folder = out or (None if as_json else Path("results") / Path(file).name.removesuffix(".yaml").removesuffix(".yml"))
    with output_folder(folder) if folder is not None else nullcontext():
        begun = time.perf_counter()
        with _progress(f"simulating {spec.chips:,} chips" if no_fold else "simulating"):
            result, recording = record(spec, fold=not no_fold)
        run: dict[str, Any] = {
            "wall_time": time.perf_counter() - begun,  # building and simulating [s]
            "events": recording.timeline.events,
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        text = json.dumps({**result.to_dict(), "run": run}, indent=2)
        files = write_all(folder, _files(text, result, recording)) if folder is not None else []
    if as_json:
        click.echo(text)
        return
    from rich.console import Console

    from scaleout.report.table import result_tables

    console = Console(highlight=False)
    console.print(result_tables(result, run["wall_time"], run["events"]))
    console.print()
    for path in files:
        click.echo(f"wrote {path}  ({_WHAT[path.name]})")


@contextmanager
def _progress(words: str) -> Iterator[None]:
    """A sign of life on the error stream, where that is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(words):
        yield


def _files(text: str, result: Result, recording: Recording) -> dict[str, bytes]:
    """Figure, timeline and result, by file name."""
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.breakdown import breakdown_table, draw_breakdown
    from scaleout.report.style import render
    from scaleout.report.trace import trace_json

    figure = draw_breakdown(breakdown_table(result, recording))
    return {
        **render(figure, "breakdown"),
        "timeline.json": trace_json(recording),
        "result.json": (text + "\n").encode(),
    }
