"""``scaleout report``."""

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Is to come."""
