"""``scaleout compare``: two experiments or results side by side."""

import json
from pathlib import Path

import click

from scaleout.cli.evaluator import evaluator_option
from scaleout.cli.progress import progress
from scaleout.comparison import compare
from scaleout.errors import SpecError
from scaleout.io.experiments import experiment
from scaleout.io.results import read_result
from scaleout.report.files import figure_file, write_figure
from scaleout.result import Result
from scaleout.specs import TrainingExperiment

__all__ = ["command"]


@click.command()
@click.argument("a")
@click.argument("b")
@click.option("--set", "both", multiple=True, metavar="KEY=VALUE", help="Override a key of both; may be repeated.")
@click.option("--set-a", multiple=True, metavar="KEY=VALUE", help="Override a key of A alone.")
@click.option("--set-b", multiple=True, metavar="KEY=VALUE", help="Override a key of B alone.")
@evaluator_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw two bars into a .png or .svg file.")
def command(
    a: str,
    b: str,
    both: tuple[str, ...],
    set_a: tuple[str, ...],
    set_b: tuple[str, ...],
    evaluator: str,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Compare B with A: what differs, and which part of the step explains the difference.

    A and B are experiments (files or names), which are simulated, or files result.json that
    scaleout run wrote.

    \b
    Examples:
      scaleout compare llama-3.1-405b-16k llama-3.1-405b-16k --set-b stack=megatron-lm
      scaleout compare before.yaml after.yaml --plot difference.svg
      scaleout compare before.yaml after.yaml --evaluator analytic
      scaleout compare results/before/result.json after.yaml --json
    """
    kind = figure_file(plot) if plot else None
    one, other = _read(a, (*both, *set_a)), _read(b, (*both, *set_b))
    with progress("simulating"):
        comparison = compare(one, other, evaluator=evaluator)
    if plot and kind:
        from scaleout.report.comparison import draw_comparison

        write_figure(plot, kind, lambda: draw_comparison(comparison, a, b))
    if as_json:
        click.echo(json.dumps(comparison.to_dict(), indent=2))
        return
    from rich.console import Console

    from scaleout.report.comparison import comparison_tables

    Console(highlight=False).print(comparison_tables(comparison, a, b))
    if plot:
        click.echo(f"\nwrote {plot}  (the same as a figure)")


def _read(name: str, settings: tuple[str, ...]) -> TrainingExperiment | Result:
    """An experiment with its overrides, or a result, which has none."""
    if not name.lower().endswith(".json"):
        return experiment(name, settings)
    if settings:
        raise SpecError(f"--set {settings[0]!r:.60}: {name} is a result, in which nothing can be overridden")
    return read_result(name)
