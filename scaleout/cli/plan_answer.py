"""What both kinds of plans have in common on the command line: their limits, how far they are, and their answers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from scaleout.errors import SpecError
from scaleout.report.files import output_folder, write_all
from scaleout.units import parse

if TYPE_CHECKING:
    from scaleout.planning.plan import Plan

__all__ = ["check_limits", "give", "quantity"]


def check_limits(gap: float, limit: float | None) -> None:
    """Refuse limits of a search that are none.

    Raises
    ------
    SpecError
        Which, and what is accepted.
    """
    if not 0.0 <= gap < 1.0:
        raise SpecError(f"--gap: {gap:g} is not accepted; expected a number from 0 up to 1, such as 0.02")
    if limit is not None and not 0.0 < limit < 1e9:
        raise SpecError(f"--limit: {limit:g} is not accepted; expected seconds above 0")


def quantity(option: str, text: str | None, unit: str) -> float | None:
    """The value of an option, in SI.

    Raises
    ------
    SpecError
        It is none; the message names the option.
    """
    if text is None:
        return None
    try:
        return parse(text, unit)
    except SpecError as error:
        raise SpecError(f"{option}: {error}") from None


def give(make: Callable[[Callable[[str], None]], "Plan"], *, as_json: bool, out: Path | None) -> None:
    """Make a plan, write its files, print it; the exit status is 1 where nothing was found.

    Parameters
    ----------
    make
        Takes whom to tell how far it is.
    """
    with output_folder(out) if out is not None else nullcontext():
        with _told() as told:
            plan = make(told)
        written = write_all(out, _files(plan)) if out is not None else []
    if as_json:
        click.echo(plan.to_json())
    else:
        from rich.console import Console

        from scaleout.report.plan_table import plan_tables

        console = Console(highlight=False)
        console.print(plan_tables(plan, console.width))
        for kind, text in plan.launch.items():
            # as it is, whatever the width: to be pasted
            click.echo(f"\nStart it with {kind}:\n{text.rstrip()}")
        for path in written:
            click.echo(f"wrote {path}")
    if plan.best is None:
        raise SystemExit(1)


@contextmanager
def _told() -> Iterator[Callable[[str], None]]:
    """Somebody who says how far the search is, on the error stream, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda words: None
        return
    from rich.console import Console

    with Console(stderr=True).status("planning") as status:
        yield lambda words: status.update(f"planning: {words}")


def _files(plan: "Plan") -> dict[str, bytes]:
    """What is written, by file name."""
    from scaleout.io.yaml import as_yaml
    from scaleout.report.html.plan_page import plan_page
    from scaleout.report.plan_front import front_of
    from scaleout.report.style import render_as
    from scaleout.report.sweep_pareto import draw_sweep_pareto

    found = {"plan.json": f"{plan.to_json()}\n".encode(), "plan.html": plan_page(plan)}
    if plan.best is not None:
        found["plan.yaml"] = as_yaml(plan.to_dict()["experiment"]).encode()
        found["launch.sh"] = next(iter(plan.launch.values())).encode()
    if (front := front_of(plan)) is not None:
        found |= {f"front.{kind}": render_as(draw_sweep_pareto(front), kind) for kind in ("svg", "png")}
    return found
