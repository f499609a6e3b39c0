"""Options of ``scaleout run`` that draw energy and cost, and that ask for a whole training."""

import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from scaleout.errors import SpecError
from scaleout.report.files import figure_file, write_figure
from scaleout.result import Result
from scaleout.served import Served

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FootprintFile", "footprint_files", "parse_tokens", "tell_footprint", "write_footprint"]

_WORDS = {"energy": "what the machines draw", "cost": "what an hour costs"}
_THOUSANDS = {"": 1.0, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12}


class FootprintFile(NamedTuple):
    """A figure that an option asks for: its name, where it goes, and its kind of file."""

    option: str
    path: Path
    kind: str


def footprint_files(energy: Path | None, cost: Path | None) -> list[FootprintFile]:
    """The figures that were asked for.

    Raises
    ------
    SpecError
        A file that is no figure, or has no folder.
    """
    asked = {"energy": energy, "cost": cost}
    return [FootprintFile(name, path, figure_file(path)) for name, path in asked.items() if path is not None]


def write_footprint(files: list[FootprintFile], result: Result | Served, made: str) -> None:
    """Draw what was asked for.

    Raises
    ------
    SpecError
        The result has no energy, or no cost.
    """
    for file in files:
        if getattr(result, file.option) is None:
            why = {
                "energy": "what its chips draw is not known; a chip needs energy constants",
                "cost": "there is no facility that says what things cost",
            }
            raise SpecError(f"--{file.option}: nothing to draw of {result.name}: {why[file.option]}")
        write_figure(file.path, file.kind, partial(_draw, file.option, result, made))


def tell_footprint(files: list[FootprintFile]) -> None:
    """Say what was written."""
    for file in files:
        click.echo(f"wrote {file.path}  ({_WORDS[file.option]})")


def _draw(option: str, result: Result | Served, made: str) -> "Figure":
    from scaleout.report.footprint import cost_stack, draw_cost, draw_energy, energy_stack

    label = f"{result.chips:,} chips" if result.chips > 1 else "1 chip"
    if option == "energy" and result.energy is not None:
        return draw_energy(energy_stack([(label, result.chips, result.energy)], result.name, made))
    assert result.cost is not None  # noqa: S101  (the caller sees to it)
    title = f"{result.name}, facility {result.cost.facility}"
    return draw_cost(cost_stack([(label, result.chips, result.cost)], title, made))


def parse_tokens(text: str) -> float:
    """A number of tokens such as ``15T``, ``300B`` or ``1e12``.

    Raises
    ------
    SpecError
        It is none.

    >>> parse_tokens("15T")
    15000000000000.0
    """
    match = re.fullmatch(r"([0-9]+\.?[0-9]*(?:e[+]?[0-9]{1,2})?)([kmbgt]?)", text.strip().replace("_", "").lower())
    count = float(match[1]) * _THOUSANDS[match[2]] if match else 0.0
    if not 0.0 < count <= 1e18:
        raise SpecError(
            f"--tokens: {text[:40]!r} is not a number of tokens up to 1e18; expected one such as 300B or 15T"
        )
    return count
