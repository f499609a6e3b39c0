"""``scaleout accuracy``: every table of a folder against the simulator, as a page with figures."""

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path

import click

from scaleout.cli.validate import progress
from scaleout.errors import MeasurementError
from scaleout.io.yaml import read_mapping
from scaleout.validation.kinds import TABLES, tables_in, validate

__all__ = ["command"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--write", "page", type=click.Path(path_type=Path), required=True, help="Markdown file to write.")
@click.option("--figures", type=click.Path(path_type=Path), help="Folder of the figures. [default: figures/ beside it]")
@click.option("--notes", type=click.Path(path_type=Path), help="YAML file: name of table -> what is off and why.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes for training steps.")
@click.option("--date", default=None, help="Date on the page. [default: today]")
def command(folder: Path, page: Path, figures: Path | None, notes: Path | None, jobs: int, date: str | None) -> None:
    """Compare every table of FOLDER with the simulator, and write a page with figures.

    Tables are known by their names, such as gemm.csv, and runs of serving engines lie in a folder serving; those that
    are not there are passed over.

    \b
    Examples:
      scaleout accuracy measurements --write accuracy.md
    """
    kinds = tables_in(folder)
    if not kinds:
        raise MeasurementError(f"{folder}: holds no table; expected some of {', '.join(TABLES)}")
    words = {name: str(text) for name, text in read_mapping(notes).items()} if notes else {}
    os.environ["MPLBACKEND"] = "agg"
    from scaleout import __version__
    from scaleout.report.accuracy import Measured, accuracy_figures, accuracy_page
    from scaleout.report.files import output_folder, write_all, write_atomically

    drawings = figures or page.parent / "figures"
    with output_folder(page.parent), output_folder(drawings):
        tables = {}
        for path, kind in kinds.items():
            with progress(path.name) as watch:
                agreement = validate(kind, path, watch, jobs=jobs)
            digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
            tables[path.stem] = Measured(path.name, digest, agreement)
        head = f"scaleout {__version__}, {date or datetime.now(UTC).date().isoformat()}"
        seen = Path(os.path.relpath(drawings, page.parent)).as_posix()
        text = accuracy_page(tables, words, head=head, figures=seen)
        written = write_all(drawings, accuracy_figures(tables))
        written.append(write_atomically(page, text.encode()))
    for path in written:
        click.echo(f"wrote {path}")
