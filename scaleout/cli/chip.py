"""``scaleout chip``: one chip on a page, built or not, beside others."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scaleout.chip_report import BESIDE, chip_report
from scaleout.cli.evaluator import evaluator_option
from scaleout.cli.progress import counting
from scaleout.errors import SpecError
from scaleout.report.files import figure_file, write_figure
from scaleout.specs import Chip, TrainingExperiment

if TYPE_CHECKING:
    from scaleout.architect import Elasticities

__all__ = ["command"]

_WIDTH = 150
"""Characters of a line; columns of chips are better wrapped by the terminal than cut."""


@click.command()
@click.argument("chip", metavar="FILE_OR_NAME")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key, such as design.clock='2 GHz'; may be repeated.",
)
@click.option(
    "--beside",
    multiple=True,
    metavar="NAME",
    help=f"A chip to stand beside; may be repeated, or 'none'. [default: {', '.join(BESIDE)}]",
)
@click.option("--volume", type=int, metavar="N", help="Chips over which masks and design are spread. [default: 100000]")
@click.option("--silicon", default="default", metavar="NAME", help="Prices and areas: a name or a .yaml file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    is_flag=False,
    flag_value="roofline.png",
    metavar="[FILE]",
    help="Draw the roofline with the kernels on it into a .png or .svg file. [default: roofline.png]",
)
@click.option(
    "--on",
    "jobs",
    multiple=True,
    metavar="EXPERIMENT",
    help="Turn each knob under this job, of training or serving, whose system gets the chip; may be repeated.",
)
@click.option("--factor", type=float, default=1.1, show_default=True, help="With --on: so many times each knob.")
@click.option(
    "--knob", "knobs", multiple=True, metavar="NAME", help="With --on: this knob; may be repeated. [default: all]"
)
@evaluator_option
@click.option(
    "--tornado",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="With --on: draw what the knobs do into a .png or .svg file.",
)
def command(
    chip: str,
    settings: tuple[str, ...],
    beside: tuple[str, ...],
    volume: int | None,
    silicon: str,
    as_json: bool,
    plot: Path | None,
    jobs: tuple[str, ...],
    factor: float,
    knobs: tuple[str, ...],
    evaluator: str,
    tornado: Path | None,
) -> None:
    """Print what is known of a chip: data sheet, roofline, area, yield, cost, power, reference kernels.

    With --on, also what a turn of each of its knobs does to a job: time, tail, energy and cost (docs/architect.md).

    FILE_OR_NAME is a chip of the catalogue (scaleout show chips) or a .yaml file; a file may give a `design`
    (cores, clock, units, SRAM, memory, links, process) from which the rest follows (docs/design.md).

    \b
    Examples:
      scaleout chip example-training-chip
      scaleout chip my-chip.yaml --set design.clock='2 GHz' --set design.memory.stacks=6
      scaleout chip example-inference-asic --beside l40s --beside tpu-v6e --plot roofline.png
      scaleout chip h100-sxm-80gb --beside none --volume 1000000
      scaleout chip example-training-chip --json
      scaleout chip my-chip.yaml --on llama-3.1-70b-64 --on llama3-70b-poisson --tornado knobs.png
      scaleout chip h100-sxm-80gb --on llama3-70b-poisson --knob hbm-bandwidth --knob power-limit --factor 1.5
      scaleout run --set system.chip=my-chip.yaml --set system.scale_up.bandwidth='900 GB/s'
    """
    plot = None if plot is None else Path(plot)
    kind = None if plot is None else figure_file(plot)
    picture = None if tornado is None else figure_file(tornado)
    if not jobs and (knobs or tornado is not None or factor != 1.1):
        raise SpecError(
            "--on: missing; --factor, --knob and --tornado say what knobs do to a job, such as llama3-70b-poisson"
        )
    if "none" in beside and len(beside) > 1:
        raise SpecError("--beside: 'none' goes with no other name")
    others = None if not beside else () if beside == ("none",) else beside
    report = chip_report(chip, others, settings=settings, volume=volume, silicon=silicon)
    turned = (
        _turned(
            report.chip, jobs, factor=factor, knobs=knobs or None, evaluator=evaluator, silicon=silicon, volume=volume
        )
        if jobs
        else None
    )
    if tornado is not None and picture is not None and turned is not None:
        from scaleout.report.elasticity import draw_tornado
        from scaleout.report.elasticity import tornado as bars

        write_figure(tornado, picture, lambda: draw_tornado(bars(turned)))
    if plot is not None and kind is not None:
        from scaleout.report.chip import draw_roofline, roofline

        write_figure(plot, kind, lambda: draw_roofline(roofline(report)))
    if as_json:
        rows = {} if turned is None else {"elasticities": turned.to_dict()}
        click.echo(json.dumps({**report.to_dict(), **rows}, indent=2))
        return
    from rich.console import Console

    from scaleout.report.chip import chip_tables

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(chip_tables(report))
    if turned is not None:
        from scaleout.report.elasticity import elasticity_tables

        console.print("")
        console.print(elasticity_tables(turned))
    if plot is not None:
        click.echo(f"wrote {plot}  (attainable rate over intensity)")
    if tornado is not None:
        click.echo(f"wrote {tornado}  (what each knob does)")


def _turned(chip: Chip, names: tuple[str, ...], **options: Any) -> "Elasticities":
    """Elasticities of jobs on the chip, with a sign of life."""
    from scaleout.architect import elasticities, on_chip
    from scaleout.io.experiments import any_experiment

    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise SpecError(f"--on: {doubled[0]!r} is there twice; give each job once")
    wanted = [any_experiment(name) for name in names]
    jobs = [on_chip(job, chip) for job in wanted]
    notes = [
        f"{name}: attention by {job.stack.attention}, as the chip has no constants for {other.stack.attention}"
        for name, other, job in zip(names, wanted, jobs, strict=True)
        if isinstance(job, TrainingExperiment)
        and isinstance(other, TrainingExperiment)
        and job.stack.attention != other.stack.attention
    ]
    with counting("simulations") as said:
        found = elasticities(jobs, watch=None if said is None else lambda done, _: said(done), **options)
    return replace(found, problems=(*notes, *found.problems))
