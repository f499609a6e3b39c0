"""``scaleout report``: a sweep as one page that needs nothing else."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.yaml import as_yaml
from scaleout.report.html.layout import Drawn
from scaleout.report.html.render import Made, sweep_page
from scaleout.report.html.story import story_of
from scaleout.sweep.identity import catalogue_digest, code_version
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep, thawed

__all__ = ["page_file", "report_page", "write_report"]

_SEEN = {
    "scaling": "The best at each number of chips, beside the ideal line through the fewest. Where a line leaves the "
    "ideal, more chips buy less.",
    "heatmap": "Each cell is the best over all keys that are not on the axes; empty ones say why nothing runs there. "
    "The frame is the best of all.",
    "pareto": "Each dot is a point; lines join those that no other beats in both. Numbers name points of the front.",
    "breakdown": "Each bar is a point, the best on top, cut into where its step's time goes: what is longest beside "
    "compute is what a better layout could win.",
    "latency": "Time to the first token and of each further one as the rate of requests rises. Where a line bends up, "
    "the system is full.",
    "topologies": "Each bar is a system or a network at its best.",
    "cost": "What a million tokens cost, and the energy of one, at the best of each value.",
    "energy": "The energy of a token, and what the machines draw, at the best of each value.",
    "tornado": "How much is lost where one key leaves the best point's value: bars with all other keys chosen anew, "
    "circles with nothing else changed. The longest bars are the keys that matter.",
}
"""What one sees in each kind of figure."""


def report_page(results: SweepResults, *, title: str | None = None) -> bytes:
    """One page of HTML: the best point, figures, a table to sort and filter, what it rests on, how it was made.

    The page has no address of anything outside, and forbids the browser to load any. Equal results give equal bytes.

    Parameters
    ----------
    title
        On top of it; None for the name of the sweep.
    """
    return sweep_page(story_of(results, title), figures(results), _made(results))


def write_report(results: SweepResults, path: str | Path, *, title: str | None = None) -> Path:
    """Write the page of `report_page` into a file, whole or not at all.

    Parameters
    ----------
    path
        Of the file, which ends in .html.

    Raises
    ------
    SpecError
        Another ending, or no folder to write into.
    """
    from scaleout.report.files import write_atomically

    return write_atomically(page_file(path), report_page(results, title=title))


def page_file(path: str | Path) -> Path:
    """A path that a page can be written to.

    Raises
    ------
    SpecError
        Another ending than .html, or no folder to write into.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise SpecError(f"{path}: a page ends in .html")
    if not path.parent.is_dir():
        raise SpecError(f"{path}: there is no folder {path.parent}")
    if path.is_dir():
        raise SpecError(f"{path}: is a folder")
    return path


def figures(results: SweepResults) -> tuple[Drawn, ...]:
    """Figures that fit the sweep; what cannot be drawn is told of."""
    from scaleout.report.style import render_as
    from scaleout.report.sweep_figures import KINDS, figures_of

    found = []
    for one in figures_of(results):
        caption = _SEEN.get(one.name) or f"It shows {KINDS[one.name].words}."
        try:
            found.append(Drawn(title=one.title, caption=caption, svg=render_as(one.draw(), "svg")))
        except ScaleoutError as error:
            found.append(Drawn(title=one.title, caption=caption, problem=f"It cannot be drawn: {error}"))
    return tuple(found)


def _made(results: SweepResults) -> Made:
    """Versions of what the results rest on, and the sweep as a file."""
    stored = results.stored
    rows = [("code", f"scaleout {stored.code}"), ("catalogue", stored.catalogue), ("context", stored.context)]
    now = (code_version(), catalogue_digest())
    if now != (stored.code, stored.catalogue):
        rows.append(("what the best point rests on is by", f"scaleout {now[0]}, catalogue {now[1]}"))
    return Made(rows=tuple(rows), spec=as_yaml(_document(results.sweep)))


def _document(sweep: Sweep) -> dict[str, Any]:
    """A sweep as a file has it: what is not as it would be anyway."""
    found: dict[str, Any] = {}
    for one in fields(Sweep):
        value = getattr(sweep, one.name)
        usual = one.default_factory() if one.default_factory is not MISSING else one.default
        if value != usual:
            found[one.name] = value
    found["stages"] = [
        stage.evaluator if stage.within is None else {"evaluator": stage.evaluator, "within": stage.within}
        for stage in sweep.stages
    ]
    plain: dict[str, Any] = thawed(found)
    return plain
