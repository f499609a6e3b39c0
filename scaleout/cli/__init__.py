"""The command line: one file a verb, imported when it is called."""

from importlib import import_module
from typing import Any

import click

__all__ = ["main"]

_VERBS = {
    "run": "Simulate one experiment, of training or of serving.",
    "capacity": "The highest rate of requests that keeps what is promised.",
    "compare": "Two experiments or results side by side.",
    "collective": "Time one collective operation by size.",
    "stragglers": "What a slow chip costs, by its place in the job.",
    "sweep": "Thousands of points around an experiment, on one core or many.",
    "export": "The table of a sweep, as Parquet, CSV or JSON.",
    "plot": "A figure of a sweep.",
    "report": "A sweep as one page for a browser.",
    "plan": "The best layout and machine for a training or a service, proven.",
    "chip": "One chip on a page, built or not: roofline, silicon, cost, kernels.",
    "show": "What is known: chips, systems, models, stacks.",
    "validate": "Compare the simulator with a table of measurements.",
    "accuracy": "Compare every table of a folder, as a page with figures.",
    "schema": "JSON Schema of a spec file, for editors.",
}


class _Lazy(click.Group):
    """Finds a verb's module only when the verb is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in _VERBS:
            return None
        command: click.Command = import_module(f"scaleout.cli.{name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in _VERBS:
            from scaleout.errors import near

            ctx.fail(f"no verb {args[0]!r}; {near(args[0], _VERBS)}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """An interrupt ends with the status that shells give it; click's own is 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Interrupted", err=True)
            ctx.exit(130)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scaleout")
def cli() -> None:
    """Simulate LLM training and serving on many accelerators.

    \b
    Examples:
      scaleout run
      scaleout run experiment.yaml --set layout.pp=4 --set chips=128
      scaleout run llama3-70b-poisson
      scaleout capacity llama3-70b-poisson
      scaleout compare before.yaml after.yaml
      scaleout collective all_reduce --system dgx-h100 --nodes 2
      scaleout chip example-training-chip
      scaleout show systems
      scaleout validate gemm gemm.csv
      scaleout sweep layouts --dry-run
      scaleout plan train --model llama-3.1-8b --tokens 1T --chips 64
    """


def main() -> None:
    """Run the command line; bad input ends with one message and exit status 2."""
    import sys

    from scaleout.errors import ScaleoutError

    try:
        cli()
    except ScaleoutError as error:
        lines = [line if len(line) <= 1000 else line[:997] + "..." for line in str(error).splitlines()]
        click.echo("Error: " + "\n".join(lines), err=True)
        sys.exit(2)
    except OSError as error:
        # nothing of ours: a full disk behind the output, say
        click.echo(f"Error: {error.filename or 'output'}: {error.strerror}", err=True)
        sys.exit(2)
