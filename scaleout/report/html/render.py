"""The page of a sweep, written."""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaleout.report.html.markup import Html, element, join, script_data
from scaleout.report.html.reasons import Reason
from scaleout.report.html.rests import Rests
from scaleout.report.html.story import STATUSES, Story
from scaleout.report.html.vector import inline_svg
from scaleout.result import Assumption

__all__ = ["Drawn", "Made", "assumption_list", "document", "figure", "section", "sweep_page"]

_HERE = Path(__file__).parent
_MOST_REASONS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure of the page.

    Parameters
    ----------
    title, caption
        What it is, and what one sees.
    svg
        As a file; None where it could not be drawn.
    problem
        Why not.
    """

    title: str
    caption: str
    svg: bytes | None = None
    problem: str = ""


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


def document(title: str, body: Html, *, script: bool) -> bytes:
    """A whole page: its style, its script, and the order to load nothing.

    Parameters
    ----------
    script
        Whether there is a table for it.
    """
    code = (_HERE / "page.js").read_text(encoding="utf-8") if script else ""
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    allowed = f"'sha256-{digest}'" if script else "'none'"
    policy = (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = join(
        [
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", title),
            element("link", rel="icon", href="data:,"),
            Html(f"<style>\n{(_HERE / 'page.css').read_text(encoding='utf-8')}</style>"),
        ]
    )
    tail = Html(f"<script>{code}</script>") if script else Html("")
    page = element("html", element("head", head), element("body", body, tail), lang="en")
    return f"<!doctype html>\n{page}\n".encode("utf-8", "replace")


def section(name: str, title: str, *children: str) -> Html:
    """A part of the page, with its heading."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def figure(drawn: Drawn, number: int) -> Html:
    """A figure with its caption; what is wider than the screen scrolls in its box."""
    caption = element("figcaption", element("strong", f"{drawn.title}."), f" {drawn.caption}")
    if drawn.svg is None:
        return element("figure", element("p", drawn.problem, class_="none"), caption)
    ink, width = inline_svg(drawn.svg, f"f{number}-", drawn.title)
    # letters stay large enough to be read
    least = min(width, 560.0)
    box = element("div", ink, class_="paper", tabindex="0", role="group", aria_label=f"figure: {drawn.title}",
                  style=f"--least:{least:.0f}px;--most:{max(width * 1.6, least):.0f}px")  # fmt: skip
    return element("figure", box, caption)


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
    parts = {name: row for name, row in parts.items() if row[1]}
    links = join(element("li", element("a", title, href=f"#{name}")) for name, (title, _) in parts.items())
    body = join(
        [
            element("header", element("h1", story.title), element("p", story.answer, class_="lead")),
            element("nav", element("ul", links), aria_label="parts of this page"),
            element("main", *(section(name, title, content) for name, (title, content) in parts.items())),
        ]
    )
    return document(story.title, body, script=True)


def _pairs(rows: Iterable[tuple[str, str]], class_: str = "pairs") -> Html:
    return element("dl", *(element("div", element("dt", name), element("dd", text)) for name, text in rows),
                   class_=class_)  # fmt: skip


def _answer(story: Story) -> Html:
    best = story.best
    if best is None:
        return element("p", "There is no best point.")
    parts = [element("h3", f"Point {best.point:,}, by the {best.evaluator} evaluator")]
    if best.settings:
        parts.append(_pairs(best.settings.items(), "pairs keys"))
    parts += [element("h3", "What comes out"), _pairs(best.outcomes)]
    if best.parts:
        parts += [element("h3", "Where the step goes"), _pairs(best.parts)]
    if best.command is not None:
        parts += [element("h3", "This point alone"), _code(best.command, "command of the best point")]
    return join(parts)


def _points(story: Story) -> Html:
    known = [(f"{name}: {STATUSES[name]}" if name in STATUSES else name, many) for name, many in story.counts.items()]
    known += [(f"no points: left out by {rule}", many) for rule, many in story.left_out.items() if many]
    return _pairs([("all points", f"{story.total:,}"), *((name, f"{many:,}") for name, many in known)])


def _code(text: str, label: str) -> Html:
    return element("pre", element("code", text), tabindex="0", role="group", aria_label=label)


def _table(story: Story) -> Html:
    data = {"rows": story.rows, "columns": [column.packed() for column in story.columns]}
    words = [
        f"At first the best are on top: {story.objective}. A heading sorts, again it reverses. Numbers are in the units "
        "of their headings, to four digits; an export has them in full.",
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


def _grid(label: str, heads: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> Html:
    """A table of words; heads say which columns are numbers."""
    head = element("tr", *(element("th", name, scope="col", **({"class_": "number"} if right else {}))
                           for name, right in heads))  # fmt: skip
    body = [
        element("tr", *(element("td", cell, **({"class_": "number"} if right else {}))
                        for cell, (_, right) in zip(row, heads, strict=True)))
        for row in rows
    ]  # fmt: skip
    table = element("table", element("thead", head), element("tbody", *body))
    return element("div", table, class_="scroll", tabindex="0", role="region", aria_label=label)


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
        _grid("reasons of infeasible points", (("points", True), ("reason", False), ("such as", False)), rows),
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
        _grid("errors of failed points", heads, rows),
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
            f"over all points with outcomes it is {least} to {most}, {middle} in the middle.",
        )
    ]
    if not story.tied:
        parts.append(element("p", "No other point is within the band of the best."))
        return join(parts)
    one = story.tied == 1
    parts.append(
        element(
            "p",
            f"{story.tied:,} other {'point is' if one else 'points are'} within that band of the best and cannot be "
            f"told apart from it{'' if story.tied <= len(story.ties) else f'; the nearest {len(story.ties)}'}:",
        )
    )
    heads = (("point", True), (story.objective, True), ("settings", False))
    rows = [(f"{row.point:,}", row.value, row.settings) for row in story.ties]
    parts.append(_grid("points that cannot be told apart from the best", heads, rows))
    return join(parts)


def assumption_list(rows: Iterable[Assumption]) -> Html:
    """What is assumed, each with its source; those that nobody checked are marked."""
    items = []
    for row in rows:
        mark = [] if row.verified else [element("strong", "!", class_="mark", title="unverified"), " "]
        doubt = [] if row.verified else [element("span", " Unverified.", class_="doubt")]
        items.append(
            element("li", *mark, element("b", row.name), ": ", row.value, *doubt,
                    element("div", row.source, class_="source"))
        )  # fmt: skip
    return element("ul", *items, class_="rests")


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
            _pairs(made.rows),
            element("h3", "The sweep, as a file"),
            element("p", "Saved as sweep.yaml, scaleout sweep sweep.yaml makes these results again."),
            _code(made.spec, "the sweep as YAML"),
        ]
    )
