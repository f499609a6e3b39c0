"""``scaleout plan train``."""

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Is to come."""
