"""The scaling table of ``scaleout run --chips``."""

import json
import os
import re
from contextlib import nullcontext
from pathlib import Path

import click

from scaleout.cli.progress import progress
from scaleout.errors import SpecError
from scaleout.report.files import output_folder, write_all
from scaleout.scaling import MOST_ROWS, Scaling, scaling_table
from scaleout.specs import TrainingExperiment
from scaleout.specs.experiment import LARGEST_MACHINE

__all__ = ["parse_chips", "print_scaling"]


def parse_chips(text: str) -> list[int]:
    """Numbers of chips from ``1k,2k,4096``; k is 1,024.

    Raises
    ------
    SpecError
        What is no such number, or too large, or too many of them.
    """
    words = [word.strip() for word in text.split(",")]
    if len(words) > MOST_ROWS:
        raise SpecError(f"--chips: {len(words)} numbers; expected at most {MOST_ROWS}")
    return [_count(word) for word in words]


def _count(word: str) -> int:
    match = re.fullmatch(r"([0-9]{1,9})([kK]?)", word)
    count = int(match[1]) * (1024 if match[2] else 1) if match else 0
    if not 1 <= count <= LARGEST_MACHINE:
        raise SpecError(
            f"--chips: {word[:40]!r} is not a number of chips from 1 to {LARGEST_MACHINE:,}; "
            "expected whole numbers such as 512,1k,16k (k is 1,024)"
        )
    return count


def print_scaling(
    spec: TrainingExperiment,
    chips: list[int],
    *,
    weak: bool,
    fold: bool,
    evaluator: str,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Simulate, print the table, and write it with its figure into a folder."""
    files: list[Path] = []
    with output_folder(folder) if folder is not None else nullcontext():
        with progress(f"simulating {len(chips)} numbers of chips"):
            scaling = scaling_table(spec, chips, weak=weak, fold=fold, evaluator=evaluator)
        text = json.dumps(scaling.to_dict(), indent=2)
        if folder is not None:
            files = write_all(folder, _files(scaling, text))
    if as_json:
        click.echo(text)
        return
    from rich.console import Console

    from scaleout.report.scaling import scaling_tables

    Console(highlight=False).print(scaling_tables(scaling))
    for path in files:
        click.echo(f"wrote {path}")


def _files(scaling: Scaling, text: str) -> dict[str, bytes]:
    """Figure and table, by file name."""
    os.environ["MPLBACKEND"] = "agg"
    from scaleout.report.scaling import draw_scaling
    from scaleout.report.style import render

    return {**render(draw_scaling(scaling), "scaling"), "scaling.json": (text + "\n").encode()}
