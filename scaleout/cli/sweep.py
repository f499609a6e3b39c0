"""``scaleout sweep``: many points of one experiment, recorded as they are computed."""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from scaleout.cli.printed import run_block

if TYPE_CHECKING:
    from scaleout.sweep.points import Points
    from scaleout.sweep.progress import Progress
    from scaleout.sweep.spec import Sweep

__all__ = ["command"]

FORMAT = 1
"""Version of the JSON form."""
_SHOWN = 10
"""Points of the table."""
_LINES = 5.0
"""Between looks at the progress [s]."""
_QUIET = 4
"""Looks that found nothing new after which that is said, and then again [1]."""
_MANY_SLOW = 100
"""Points beyond the closed form from which on it is worth a word."""
_SLOW = "about {:,} points are beyond the closed form: one by one, 0.05 to 1 s each (docs/sweeps.md, Stages)"
_INTERRUPTED = {signal.SIGINT: "Interrupted", signal.SIGTERM: "Terminated"}


@click.command()
@click.argument("file")
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a key of the sweep, such as axes.layout.tp=[4,8] or base.chips=64; may be repeated.",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Compute on Ray: 'local' starts one on this machine, 'auto' or HOST:PORT joins a cluster. [default: one core]",
)
@click.option("--workers", type=click.IntRange(1), help="Batches at a time. [default: all cores of the Ray]")
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder in which points are kept, and found again. [default: results/NAME]",
)
@click.option("--dry-run", is_flag=True, help="Say how many points there are, and compute and write nothing.")
@click.option("--retry-failed", is_flag=True, help="Compute points that failed once more.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object (SI units) instead of tables.")
def command(
    file: str,
    settings: tuple[str, ...],
    ray: str | None,
    workers: int | None,
    store: Path | None,
    dry_run: bool,
    retry_failed: bool,
    as_json: bool,
) -> None:
    """Compute every point of FILE: a YAML file or the name of a shipped sweep (docs/sweeps.md).

    Points are kept in a folder as they are computed. Whatever ends the command, Ctrl-C, a full disk or a power cut, the
    same command goes on from there; points that are there are not computed again.

    \b
    Examples:
      scaleout sweep layouts --dry-run
      scaleout sweep layouts
      scaleout sweep my.yaml --workers 4
      scaleout sweep my.yaml --store stores/mine --retry-failed --json
      scaleout sweep my.yaml --set 'axes.layout.tp=[4, 8]'
      ray job submit --working-dir . -- scaleout sweep my.yaml --ray auto --store /mnt/stores/mine
    """
    from scaleout.sweep.execute.address import host_and_port
    from scaleout.sweep.files import load_sweep

    sweep = load_sweep(file, settings)
    folder = store or Path("results") / sweep.name
    if ray not in (None, "local", "auto"):
        host_and_port(ray)
    if dry_run:
        _dry_run(sweep, folder, as_json)
        return
    _compute(sweep, folder, ray, workers, retry_failed, as_json)


def _compute(
    sweep: "Sweep", folder: Path, ray: str | None, workers: int | None, retry_failed: bool, as_json: bool
) -> None:
    from scaleout.sweep.points import points_of
    from scaleout.sweep.run import run_sweep

    watch = _Watch()
    begun = time.perf_counter()
    if (slow := _slow(sweep, points_of(sweep))) >= _MANY_SLOW:
        click.echo(_SLOW.format(slow), err=True)
    try:
        with _terminable(), watch.shown(sweep) as told, _silent():
            results = run_sweep(sweep, store=folder, ray=ray, workers=workers, told=told, retry_failed=retry_failed)
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, _Stopped) else signal.SIGINT
        click.echo(f"{_INTERRUPTED[number]}. {watch.kept()}", err=True)
        sys.exit(128 + number)
    from scaleout.report.sweep_table import best_rows, counts_of, sweep_tables

    rows = best_rows(results, _SHOWN)
    if as_json:
        run = run_block(begun, None)
        told_run = {"wall_time": run["wall_time"], "date": run["date"], "computed": watch.computed}
        head = {name: value for name, value in results.head().items() if name in ("sweep", "columns")}
        document = {"format": FORMAT, **head, "counts": counts_of(results), "best": [results.row(row) for row in rows]}
        click.echo(json.dumps({**document, "store": str(folder), "run": told_run}, indent=2))
        return
    from rich.console import Console

    console = Console(highlight=False)
    console.print(sweep_tables(results, rows, console.width))
    seconds = time.perf_counter() - begun
    found = f", {watch.found:,} found in the store" if watch.found else ""
    click.echo(f"\n{watch.computed:,} evaluated in {seconds:.3g} s{found}; kept in {folder}")
    if counts_of(results)["failed"] and not retry_failed:
        click.echo("--retry-failed computes those that failed once more")
    click.echo(f"next: scaleout export {folder} -o {sweep.name}.csv, scaleout plot {folder}, "
               f"scaleout report {folder} -o {sweep.name}.html")  # fmt: skip


def _slow(sweep: "Sweep", points: "Points") -> int:
    """About how many points of the analytic stages the closed form does not know."""
    from scaleout.sweep.points import slow_points

    return slow_points(sweep, points) if any(stage.evaluator == "analytic" for stage in sweep.stages) else 0


def _dry_run(sweep: "Sweep", folder: Path, as_json: bool) -> None:
    """What would be computed."""
    from scaleout.sweep.execute import cores
    from scaleout.sweep.identity import context_of
    from scaleout.sweep.points import points_of
    from scaleout.sweep.run import stored_points
    from scaleout.sweep.store import FILE, Store

    points = points_of(sweep)
    context = context_of(sweep)
    stored = {}
    if (folder / FILE).exists():
        with Store.open(folder, write=False) as opened:
            stored = {
                evaluator: stored_points(opened, points, context, evaluator)
                for evaluator in sorted({stage.evaluator for stage in sweep.stages})
            }
    slow = _slow(sweep, points)
    combined = len(points) + sum(points.left_out.values())
    stages = [
        {"evaluator": stage.evaluator, "within": stage.within, "stored": stored.get(stage.evaluator, 0)}
        for stage in sweep.stages
    ]
    document: dict[str, Any] = {
        "format": FORMAT,
        "sweep": {
            "name": sweep.name,
            "combinations": combined,
            "points": len(points),
            "left_out": dict(points.left_out),
        },
        "stages": stages,
        "slow": slow,
        "first": points.settings(0),
        "last": points.settings(len(points) - 1),
        "store": str(folder),
    }
    if as_json:
        click.echo(json.dumps(document, indent=2, default=str))
        return
    click.echo(f"{sweep.name}: {combined:,} combinations, {len(points):,} points")
    for rule, count in points.left_out.items():
        if count:
            click.echo(f"  rule {rule} leaves out {count:,}")
    for at, stage in enumerate(sweep.stages):
        takes = f"all {len(points):,} points"
        if at:
            takes = "those that can be simulated"
            if stage.within is not None:
                takes = f"those within {stage.within:.1%} of the best"
        click.echo(f"  stage {at + 1}, {stage.evaluator}: {takes}; {stored.get(stage.evaluator, 0):,} are stored")
    if slow:
        click.echo(f"  {_SLOW.format(slow)}")
    for word, settings in (("first", document["first"]), ("last", document["last"])):
        given = (f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items())
        click.echo(f"  {word}: {', '.join(given)}")
    click.echo(f"nothing was computed; it would be kept in {folder}")
    if len(points) > 1000 and cores() > 1:
        click.echo("--workers N computes on several cores")


class _Stopped(KeyboardInterrupt):
    """Another signal than Ctrl-C's, which is to end the command as cleanly."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number)
        self.number = number


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, of a batch system or a container, is taken as an interrupt."""

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Stopped(signal.Signals(number))

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _silent() -> Iterator[None]:
    """Ray writes of workers that died to the output, where the result is to be alone; the table tells of them."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        yield


class _Watch:
    """Follows a sweep, and tells of it on the error stream."""

    def __init__(self) -> None:
        self._last: Progress | None = None
        self._before = self._found_before = 0
        self._told = 0
        self._units: dict[str, str] = {}

    @property
    def computed(self) -> int:
        """Points that were computed, of all stages [1]."""
        return self._before + (self._last.computed if self._last else 0)

    @property
    def found(self) -> int:
        """Points that were found in the store, of all stages [1]."""
        return self._found_before + (self._last.kept if self._last else 0)

    def kept(self) -> str:
        """What an interrupt leaves, in words."""
        last = self._last
        if last is None or not last.points:
            return "Nothing was computed yet."
        stage = f" of stage {last.stage}" if last.stages > 1 else ""
        count = f"{last.kept + last.computed:,} of {last.points:,} points{stage}"
        return f"{count} are kept; the same command goes on from there."

    @contextmanager
    def shown(self, sweep: "Sweep") -> "Iterator[Callable[[Progress], None]]":
        """A bar in a terminal, and otherwise a line now and then."""
        from scaleout.sweep.identity import kind_of
        from scaleout.sweep.outcomes import OUTCOMES

        self._units = OUTCOMES[kind_of(sweep)]
        if sys.stderr.isatty():
            with self._bar() as told:
                yield told
            return
        with self._looks(lambda words: click.echo(words, err=True)):
            yield self._follow
        click.echo(self._words(), err=True)

    def _follow(self, progress: "Progress") -> None:
        if self._last is not None and self._last.stage != progress.stage:
            self._before += self._last.computed
            self._found_before += self._last.kept
        self._last = progress
        self._told += 1

    def _words(self) -> str:
        from scaleout.report.sweep_table import progress_words

        return progress_words(self._last, self._units.get(self._last.objective, "")) if self._last else "begins"

    @contextmanager
    def _looks(self, say: "Callable[[str], None]") -> Iterator[None]:
        """Say how far it is now and then; where nothing comes for long, that."""
        ended = threading.Event()
        looks = threading.Thread(target=self._look, args=(ended, say), daemon=True)
        looks.start()
        try:
            yield
        finally:
            ended.set()
            looks.join()

    def _look(self, ended: threading.Event, say: "Callable[[str], None]") -> None:
        told, quiet = -1, 0
        while not ended.wait(_LINES):
            if self._told != told:
                told, quiet = self._told, 0
                say(self._words())
                continue
            quiet += 1
            if quiet % _QUIET == 0:
                # first, as the end of a line is cut off where the terminal is narrow
                say(f"nothing new for {quiet * _LINES:.0f} s{self._why()}; {self._words()}")

    def _why(self) -> str:
        if self._last is None or self._last.evaluator != "analytic":
            return ""
        return ", the closed form compiles once for good"

    @contextmanager
    def _bar(self) -> "Iterator[Callable[[Progress], None]]":
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars

        columns = (SpinnerColumn(), BarColumn(24), TextColumn("{task.description}", markup=False))
        console = Console(stderr=True)
        with Bars(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False) as bars:
            task = bars.add_task("begins")

            def told(progress: "Progress") -> None:
                self._follow(progress)
                ready = progress.kept + progress.computed
                bars.update(task, description=self._words(), total=progress.points, completed=ready)

            with self._looks(lambda words: bars.update(task, description=words)):
                yield told
