"""``scaleout chip``: one chip on a page, built or not, beside others."""

import json
from pathlib import Path

import click

from scaleout.chip_report import BESIDE, chip_report
from scaleout.errors import SpecError
from scaleout.report.files import figure_file, write_figure

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
def command(
    chip: str,
    settings: tuple[str, ...],
    beside: tuple[str, ...],
    volume: int | None,
    silicon: str,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Print what is known of a chip: data sheet, roofline, area, yield, cost, power, reference kernels.

    FILE_OR_NAME is a chip of the catalogue (scaleout show chips) or a .yaml file; a file may give a `design`
    (cores, clock, units, SRAM, memory, links, process) from which the rest follows (docs/design.md).

    \b
    Examples:
      scaleout chip example-training-chip
      scaleout chip my-chip.yaml --set design.clock='2 GHz' --set design.memory.stacks=6
      scaleout chip example-inference-asic --beside l40s --beside tpu-v6e --plot roofline.png
      scaleout chip h100-sxm-80gb --beside none --volume 1000000
      scaleout chip example-training-chip --json
      scaleout run --set system.chip=my-chip.yaml --set system.scale_up.bandwidth='900 GB/s'
    """
    plot = None if plot is None else Path(plot)
    kind = None if plot is None else figure_file(plot)
    if "none" in beside and len(beside) > 1:
        raise SpecError("--beside: 'none' goes with no other name")
    others = None if not beside else () if beside == ("none",) else beside
    report = chip_report(chip, others, settings=settings, volume=volume, silicon=silicon)
    if plot is not None and kind is not None:
        from scaleout.report.chip import draw_roofline, roofline

        write_figure(plot, kind, lambda: draw_roofline(roofline(report)))
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
        return
    from rich.console import Console

    from scaleout.report.chip import chip_tables

    console = Console(highlight=False)
    console.width = max(console.width, _WIDTH)
    console.print(chip_tables(report))
    if plot is not None:
        click.echo(f"wrote {plot}  (attainable rate over intensity)")
