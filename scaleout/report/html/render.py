"""The page of a sweep, written."""

from collections.abc import Sequence
from dataclasses import dataclass

from scaleout.report.html.layout import Drawn, assumption_list, code_block, contents, document, figure, pairs, table
from scaleout.report.html.markup import Html, element, join, script_data
from scaleout.report.html.reasons import Reason
from scaleout.report.html.rests import Rests
from scaleout.report.html.story import STATUSES, Story

__all__ = ["Made", "sweep_page"]

_MOST_REASONS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How the results were made.

    Parameters
    ----------
    rows
        Such as the version of the code: what, and which.
    spec
        The sweep, as a file that makes it again.
    """

    rows: tuple[tuple[str, str], ...]
    spec: str


def sweep_page(story: Story, figures: Sequence[Drawn], made: Made) -> bytes:
    """The page of a sweep."""
    parts = {
        "answer": ("Answer", _answer(story)),
        "points": ("Points", _points(story)),
        "figures": ("Figures", join(figure(drawn, at) for at, drawn in enumerate(figures, 1))),
        "table": ("Table", _table(story)),
        "infeasible": ("Infeasible points", _infeasible(story.infeasible)),
        "failed": ("Failed points", _failed(story)),
        "errors": ("Error bands", _errors(story)),
        "assumptions": ("What the best point rests on", _rests(story.rests)),
        "made": ("How it was made", _made(made)),
    }
    return document(story.title, contents(story.title, story.answer, parts), script=True)


def _answer(story: Story) -> Html:
    best = story.best
    if best is None:
        return element("p", "There is no best point.")
    parts = [element("h3", f"Point {best.point:,}, by the {best.evaluator} evaluator")]
    if story.tied:
        others = "1 other point is" if story.tied == 1 else f"{story.tied:,} other points are"
        parts.append(element("p", f"{others} within ", element("a", "its error band", href="#errors"), "."))
    if best.settings:
        parts.append(pairs(best.settings.items(), "pairs keys"))
    parts += [element("h3", "What comes out"), pairs(best.outcomes)]
    if best.parts:
        parts += [element("h3", "Where the step goes"), pairs(best.parts)]
    if best.command is not None:
        parts += [element("h3", "This point alone"), code_block(best.command, "command of the best point")]
    return join(parts)


def _points(story: Story) -> Html:
    known = [(f"{name}: {STATUSES[name]}" if name in STATUSES else name, many) for name, many in story.counts.items()]
    known += [(f"no points: left out by {rule}", many) for rule, many in story.left_out.items() if many]
    return pairs([("all points", f"{story.total:,}"), *((name, f"{many:,}") for name, many in known)])


def _table(story: Story) -> Html:
    data = {"rows": story.rows, "columns": [column.packed() for column in story.columns]}
    words = [
        f"At first the best are on top: {story.objective}. A heading sorts, again it reverses. Numbers are in the "
        "units of their headings, to four digits; an export has them in full.",
        *story.notes,
    ]
    return join(
        [
            *(element("p", line) for line in words),
            element("noscript", element("p", "The table needs JavaScript; scaleout export writes it as a file.")),
            element("div", id="table-root"),
            script_data("table-data", data),
        ]
    )


def _infeasible(reasons: Sequence[Reason]) -> Html:
    if not reasons:
        return Html("")
    shown = reasons[:_MOST_REASONS]
    rows = [
        (f"{reason.count:,}", reason.pattern, element("span", reason.example, class_="message")) for reason in shown
    ]
    rest = reasons[_MOST_REASONS:]
    parts = [
        element("p", "By the first line of what is said of them; “…” stands for numbers that differ."),
        table("reasons of infeasible points", (("points", True), ("reason", False), ("such as", False)), rows),
    ]
    if rest:
        points = sum(reason.count for reason in rest)
        parts.append(element("p", f"And {len(rest):,} further reasons of {points:,} points, which the table has."))
    return join(parts)


def _failed(story: Story) -> Html:
    if not story.failed:
        return Html("")
    rows = [
        (f"{row.count:,}", element("span", row.message, class_="message"), f"{row.point:,}", row.settings)
        for row in story.failed[:_MOST_REASONS]
    ]
    heads = (("points", True), ("error", False), ("such as point", True), ("its settings", False))
    parts = [
        element("p", "These are errors of the program, not of the points: please report them."),
        table("errors of failed points", heads, rows),
    ]
    if len(story.failed) > _MOST_REASONS:
        points = sum(row.count for row in story.failed[_MOST_REASONS:])
        parts.append(element("p", f"And {points:,} further points, which the table has."))
    return join(parts)


def _errors(story: Story) -> Html:
    if story.best is None:
        return Html("")
    if story.error is None or story.errors is None:
        reason = (
            "The closed form gives a bound and states no error band; the event evaluator does."
            if story.best.evaluator == "analytic"
            else "No error band is stated of such points."
        )
        return element("p", reason)
    least, middle, most = (f"{100 * value:.2g} %" for value in story.errors)
    parts = [
        element(
            "p",
            f"The best point is off by about {100 * story.error:.2g} % on the average, in either direction; "
            f"over all points that state one it is {least} to {most}, {middle} in the middle.",
        )
    ]
    if not story.tied:
        parts.append(element("p", "No other point is within the band of the best."))
        return join(parts)
    others = "1 other point is" if story.tied == 1 else f"{story.tied:,} other points are"
    first = "" if story.tied <= len(story.ties) else f" The nearest {len(story.ties)}:"
    parts.append(
        element(
            "p",
            f"{others} within that band of the best. Where two points share what is off, such as the rate of a kernel, "
            f"their order is surer than the band says.{first}",
        )
    )
    heads = (("point", True), (story.objective, True), ("settings", False))
    rows = [(f"{row.point:,}", row.value, row.settings) for row in story.ties]
    parts.append(table("points within the error band of the best", heads, rows))
    return join(parts)


def _rests(rests: Rests) -> Html:
    if rests.problem:
        return element("p", rests.problem)
    parts: list[Html] = []
    if rests.warnings:
        parts += [
            element("h3", "Beyond what was calibrated"),
            element("ul", *(element("li", line) for line in rests.warnings)),
        ]
    doubtful = sum(not row.verified for row in rests.assumptions)
    parts += [
        element("h3", "Assumptions and their sources"),
        element("p", f"{len(rests.assumptions)} in all; {doubtful} of them, marked !, nobody has verified in full."),
        assumption_list(rests.assumptions),
    ]
    return join(parts)


def _made(made: Made) -> Html:
    return join(
        [
            pairs(made.rows),
            element("h3", "The sweep, as a file"),
            element("p", "Saved as sweep.yaml, scaleout sweep sweep.yaml makes these results again."),
            code_block(made.spec, "the sweep as YAML"),
        ]
    )
