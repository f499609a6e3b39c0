"""The option ``--evaluator`` of the verbs that simulate."""

import click

from scaleout.result import EVALUATORS

__all__ = ["evaluator_option"]

evaluator_option = click.option(
    "--evaluator",
    type=click.Choice(EVALUATORS),
    default=EVALUATORS[0],
    show_default=True,
    help="event simulates; analytic gives a lower bound without contention for links, in milliseconds.",
)
