"""``scaleout schema``: JSON Schema of a spec file, for editors that check while one types."""

import json

import click

from scaleout.io.catalogue import FOLDERS, schema

__all__ = ["command"]


@click.command()
@click.argument("kind", type=click.Choice(list(FOLDERS)))
def command(kind: str) -> None:
    """Print the JSON Schema of files of this KIND.

    \b
    Examples:
      scaleout schema training > training.schema.json
    """
    if kind == "sweep":
        from scaleout.sweep.files import sweep_schema

        found = sweep_schema()
    else:
        found = schema(kind)
    click.echo(json.dumps(found, indent=2))
