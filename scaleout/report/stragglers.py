"""What slow chips cost, as a table for the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scaleout.stragglers import Stragglers
from scaleout.units import describe

__all__ = ["straggler_rows"]


def straggler_rows(stragglers: Stragglers) -> RenderableType:
    """One row a place, the most costly first."""
    table = Table(box=None, pad_edge=False)
    for name, justify in (
        ("stage", "right"), ("rank", "right"), ("alike", "right"), ("rate", "right"), ("step", "right"),
        ("costs", "right"), ("passed on", "right"),
    ):  # fmt: skip
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for row in stragglers.rows:
        table.add_row(
            str(row.stage), f"{row.rank:,}", f"{row.like_it:,}", f"{row.rate:.1%}", describe(row.step_time, "s"),
            f"{row.cost:+.2%}", f"{row.passed_on:.0%}",
        )  # fmt: skip
    if stragglers.rate is None:
        words = "each slow chip against the same step with it at its nominal rate"
    else:
        words = f"one chip at {stragglers.rate:.1%} of its nominal rate, in each place of the job"
    note = "passed on: of what the chip itself takes longer for all it does, what the job takes longer"
    return Group(
        Text(f"{stragglers.name}: step {describe(stragglers.step_time, 's')}", style="bold"),
        Text(words, style="dim"), table, Text(note, style="dim"),
    )  # fmt: skip
