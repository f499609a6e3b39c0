"""``scaleout run``: simulate one experiment, print it, draw it."""

import json
import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from scaleout.cli.evaluator import evaluator_option
from scaleout.cli.footprint import footprint_files, parse_tokens, tell_footprint, write_footprint
from scaleout.cli.printed import print_json, print_tables, run_block
from scaleout.cli.progress import progress
from scaleout.errors import SpecError
from scaleout.io.experiments import any_experiment
from scaleout.report.files import figure_file, output_folder, write_all, write_figure
from scaleout.specs import NetExperiment, ServingExperiment, StreamExperiment
from scaleout.specs.fields import plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from scaleout.evaluate.event import Recording
    from scaleout.result import Result

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
@click.option(
    "--chips",
    metavar="N,N,...",
    help="Simulate on each of these numbers of chips, such as 1k,2k,4k, and print a scaling table: dp is "
    "chips / (tp x pp), the global batch stays.",
)
@click.option("--weak", is_flag=True, help="With --chips: the batch of a dp rank stays, the global batch grows.")
@click.option(
    "--links",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw how busy each link is over the step into a .png or .svg file.",
)
@click.option(
    "--memory",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw what fills the HBM over the step, by kind and stage, into a .png or .svg file.",
)
@click.option(
    "--pipeline",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the passes of every pipeline stage over the step into a .png or .svg file.",
)
@click.option(
    "--gantt",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of serving: draw the first requests one by one into a .png or .svg file.",
)
@click.option(
    "--energy",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw what the machines draw, by component and over time, into a .png or .svg file.",
)
@click.option(
    "--cost",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw what an hour costs, by part, into a .png or .svg file.",
)
@click.option(
    "--tokens",
    metavar="N",
    help="Of training: print time, energy and cost of a whole training on so many tokens, such as 15T.",
)
@click.option(
    "--goodput",
    type=click.FloatRange(0.0, 1.0, min_open=True),
    help="With --tokens: share of the time that is not lost to failures, restarts and checkpoints. [default: 1]",
)
@click.option("--no-fold", is_flag=True, help="Simulate every rank; the result is the same.")
@evaluator_option
def command(
    file: str,
    settings: tuple[str, ...],
    as_json: bool,
    out: Path | None,
    chips: str | None,
    weak: bool,
    links: Path | None,
    memory: Path | None,
    pipeline: Path | None,
    gantt: Path | None,
    energy: Path | None,
    cost: Path | None,
    tokens: str | None,
    goodput: float | None,
    no_fold: bool,
    evaluator: str,
) -> None:
    """Simulate FILE: a YAML file or the name of a shipped experiment.

    Of training one step, of serving a stream of requests, of other nets (docs/nets.md) a batch. Without FILE:
    Llama-3.1 405B on 16,384 H100.

    \b
    Examples:
      scaleout run
      scaleout run --set batch.global=4096 --set recompute=[full]
      scaleout run my.yaml --set layout.pp=4 --set chips=128 --json
      scaleout run --set stack=megatron-lm --out plans/megatron
      scaleout run --chips 2k,4k,8k,16k
      scaleout run --evaluator analytic
      scaleout run --links links.png --memory memory.svg
      scaleout run --set layout.schedule=zb-v --set layout.vpp=2 --pipeline pipeline.svg
      scaleout run --tokens 15T --goodput 0.9 --cost cost.png
      scaleout run --set facility=hyperscaler --set facility.electricity='0.05 USD/kWh'
      scaleout run llama3-70b-poisson --set requests.arrivals.rate=4
      scaleout run resnet-50-h200 --set batch=256
      scaleout run driving-stack --set sources.0.count=12
    """
    spec = any_experiment(file, settings)
    name = Path(file).name.removesuffix(".yaml").removesuffix(".yml")
    training_only = {
        "--chips": chips is not None, "--weak": weak, "--links": links is not None, "--memory": memory is not None,
        "--pipeline": pipeline is not None, "--tokens": tokens is not None, "--goodput": goodput is not None,
        "--no-fold": no_fold, "--evaluator analytic": evaluator == "analytic",
    }  # fmt: skip
    asked = [option for option, there in training_only.items() if there]
    if isinstance(spec, NetExperiment | StreamExperiment):
        from scaleout.cli.nets import run_nets
        from scaleout.cli.streams import run_streams

        asked += [f"--{option}" for option, path in (("gantt", gantt), ("energy", energy), ("cost", cost)) if path]
        if asked:
            raise SpecError(f"{asked[0]}: is for training or serving, and {file} is of kind {spec.kind}; leave it out")
        folder = out or (None if as_json else Path("results") / name)
        if isinstance(spec, StreamExperiment):
            run_streams(spec, folder, as_json)
        else:
            run_nets(spec, folder, as_json)
        return
    if isinstance(spec, ServingExperiment):
        from scaleout.cli.serving import run_serving

        if asked:
            raise SpecError(f"{asked[0]}: is for training, and {file} is a serving experiment; leave it out")
        run_serving(spec, out or (None if as_json else Path("results") / name), as_json, gantt, energy, cost)
        return
    if gantt is not None:
        raise SpecError(f"--gantt: is for serving, and {file} is a training experiment; leave it out")
    drawn = _drawn(links, memory, pipeline)
    if drawn and (chips is not None or evaluator == "analytic"):
        raise SpecError(
            f"--{drawn[0].option}: draws one step of the event evaluator; leave out --chips and --evaluator analytic"
        )
    footprint = footprint_files(energy, cost)
    if chips is not None and (footprint or tokens is not None):
        raise SpecError(f"--{footprint[0][0] if footprint else 'tokens'}: of one number of chips; leave out --chips")
    if goodput is not None and tokens is None:
        raise SpecError("--goodput: goes with --tokens, whose time it stretches")
    whole = None if tokens is None else parse_tokens(tokens)
    if weak and chips is None:
        raise SpecError("--weak: goes with --chips, whose rows it changes")
    if no_fold and evaluator == "analytic":
        raise SpecError("--no-fold: the analytic evaluator has no ranks that it could unfold; take --evaluator event")
    from scaleout.cli.chips import parse_chips, print_scaling
    from scaleout.evaluate.cost import run_of
    from scaleout.simulate import record, simulate

    counts = None if chips is None else parse_chips(chips)
    # beside a figure and a timeline of the other evaluator it would be taken for theirs
    name += "-analytic" if evaluator == "analytic" else ""
    folder = out or (None if as_json else Path("results") / name)
    if counts is not None:
        print_scaling(spec, counts, weak=weak, fold=not no_fold, evaluator=evaluator, folder=folder, as_json=as_json)
        return
    with output_folder(folder) if folder is not None else nullcontext():
        begun = time.perf_counter()
        with progress(f"simulating {spec.chips:,} chips" if no_fold else "simulating"):
            recording: Recording | None = None
            if evaluator == "event":
                result, recording = record(spec, fold=not no_fold)
            else:
                result = simulate(spec, evaluator=evaluator)
        run = run_block(begun, recording.timeline.events if recording else None)
        training = None if whole is None else run_of(result, whole, goodput or 1.0)
        more = {} if training is None else {"training": plain(training)}
        text = json.dumps({**result.to_dict(), **more, "run": run}, indent=2)
        files = write_all(folder, _files(text, result, recording)) if folder is not None else []
        if recording is not None:
            for figure in drawn:
                write_figure(figure.path, figure.kind, partial(figure.draw, result, recording))
        write_footprint(footprint, result, "trained")
    if as_json:
        print_json(text, result.warnings)
        return
    from scaleout.report.table import result_tables

    print_tables(result_tables(result, run["wall_time"], run["events"], training), files, _WHAT)
    for figure in drawn:
        click.echo(f"wrote {figure.path}  ({figure.words})")
    tell_footprint(footprint)
    if files and recording is None:
        click.echo("no figure and no timeline, for which it takes --evaluator event")


def _files(text: str, result: "Result", recording: "Recording | None") -> dict[str, bytes]:
    """Figure, timeline and result, by file name."""
    written = {"result.json": (text + "\n").encode()}
    if recording is None:
        return written
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.breakdown import breakdown_table, draw_breakdown
    from scaleout.report.style import render
    from scaleout.report.trace import trace_json

    figure = draw_breakdown(breakdown_table(result, recording))
    return {**render(figure, "breakdown"), "timeline.json": trace_json(recording), **written}


class _Figure(NamedTuple):
    """A figure that an option asks for: where it goes, its kind of file, what it shows, and who draws it."""

    option: str
    path: Path
    kind: str
    words: str
    draw: "Callable[[Result, Recording], Figure]"


def _drawn(links: Path | None, memory: Path | None, pipeline: Path | None) -> list[_Figure]:
    """The figures that were asked for."""
    asked = (
        ("links", links, "how busy each link is", _draw_links),
        ("memory", memory, "what fills the HBM over time", _draw_memory),
        ("pipeline", pipeline, "the passes of every stage", _draw_pipeline),
    )
    return [_Figure(name, path, figure_file(path), words, draw) for name, path, words, draw in asked if path]


def _draw_links(result: "Result", recording: "Recording") -> "Figure":
    from scaleout.report.links import draw_links, link_panels

    panels = link_panels(recording.topology, recording.busy_links())
    return draw_links(panels, f"{result.name}: links over the step")


def _draw_memory(result: "Result", recording: "Recording") -> "Figure":
    from scaleout.report.memory import draw_memory, memory_table

    return draw_memory(memory_table(result, recording))


def _draw_pipeline(result: "Result", recording: "Recording") -> "Figure":
    from scaleout.report.pipeline import draw_pipeline, pipeline_table

    return draw_pipeline(pipeline_table(recording, result.name))
