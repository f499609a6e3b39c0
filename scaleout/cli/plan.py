"""``scaleout plan``: the best way to train or to serve a model; one file for each."""

from importlib import import_module

import click

__all__ = ["command"]

_WAYS = {"train": "A training: tokens, days, power.", "serve": "A service: rate, latencies."}


class _Ways(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_WAYS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _WAYS:
            return None
        found: click.Command = import_module(f"scaleout.cli.plan_{name}").command
        return found


@click.group(cls=_Ways)
def command() -> None:
    """Find the best layout and machine for a job, and prove how close to the best it is.

    \b
    Examples:
      scaleout plan train --model llama-3.1-405b --tokens 15T --days 60 --max-power 25MW
      scaleout plan serve --model llama-3.1-70b --rate 50/s --ttft 2s --tpot 30ms
    """
