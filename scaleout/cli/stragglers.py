"""``scaleout stragglers``: what a slow chip costs the whole job."""

import json

import click

from scaleout.cli.progress import progress
from scaleout.io.experiments import experiment
from scaleout.stragglers import straggler_table

__all__ = ["command"]


@click.command()
@click.argument("file", default="llama-3.1-8b-1k")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key; may be repeated.")
@click.option(
    "--rate",
    type=float,
    metavar="SHARE",
    help="Slow one chip of each place to this share of its nominal rate, such as 0.9. Without it: what each slow "
    "chip of FILE (slow.chips) costs, against the same step with that chip at its nominal rate.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of a table.")
def command(file: str, settings: tuple[str, ...], rate: float | None, as_json: bool) -> None:
    """Simulate FILE once for each place that a slow chip can have, and print what it costs.

    \b
    Examples:
      scaleout stragglers llama-3.1-405b-16k --rate 0.9
      scaleout stragglers my.yaml --set 'slow.chips={3: 0.8, 70: 0.95}'
    """
    spec = experiment(file, settings)
    with progress("simulating one place after the other"):
        table = straggler_table(spec, rate)
    if as_json:
        click.echo(json.dumps(table.to_dict(), indent=2))
        return
    from rich.console import Console

    from scaleout.report.stragglers import straggler_rows

    Console(highlight=False).print(straggler_rows(table))
