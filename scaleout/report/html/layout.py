"""Parts that all pages are made of."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scaleout.errors import ScaleoutError
from scaleout.report.html.markup import Html, element, join
from scaleout.report.html.vector import inline_svg
from scaleout.result import Assumption

__all__ = [
    "Drawn", "assumption_list", "code_block", "contents", "document", "figure", "pairs", "section", "table",
]  # fmt: skip

_HERE = Path(__file__).parent
_RIGHT = {"class": "number"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A figure of the page.

    Parameters
    ----------
    title, caption
        What it is, which the figure says itself, and what one sees.
    svg
        As a file; None where it could not be drawn.
    problem
        Why not.
    """

    title: str
    caption: str
    svg: bytes | None = None
    problem: str = ""


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


def contents(title: str, lead: str, parts: Mapping[str, tuple[str, Html]]) -> Html:
    """The body of a page: title, one sentence, links, and the parts that have anything."""
    there = {name: row for name, row in parts.items() if row[1]}
    links = join(element("li", element("a", words, href=f"#{name}")) for name, (words, _) in there.items())
    return join(
        [
            element("header", element("h1", title), element("p", lead, class_="lead")),
            element("nav", element("ul", links), aria_label="parts of this page"),
            element("main", *(section(name, words, content) for name, (words, content) in there.items())),
        ]
    )


def section(name: str, title: str, *children: str) -> Html:
    """A part of the page, with its heading."""
    heading = element("h2", title, id=f"{name}-title")
    return element("section", heading, *children, id=name, aria_labelledby=f"{name}-title")


def figure(drawn: Drawn, number: int) -> Html:
    """A figure with its caption; what is wider than the screen scrolls in its box."""
    problem = drawn.problem
    if drawn.svg is not None:
        try:
            ink, width = inline_svg(drawn.svg, f"f{number}-", drawn.title)
        except ScaleoutError as error:
            # a name with a control character in it is no XML
            problem = f"It cannot be drawn: {error}"
    if problem:
        title = element("figcaption", element("strong", f"{drawn.title}."), f" {drawn.caption}")
        return element("figure", element("p", problem, class_="none"), title)
    # letters stay large enough to be read
    least = min(width, 560.0)
    box = element("div", ink, class_="paper", tabindex="0", role="group", aria_label=f"figure: {drawn.title}",
                  style=f"--least:{least:.0f}px;--most:{max(width * 1.6, least):.0f}px")  # fmt: skip
    return element("figure", box, element("figcaption", drawn.caption))


def pairs(rows: Iterable[tuple[str, str]], class_: str = "pairs") -> Html:
    """Names and what they are."""
    return element("dl", *(element("div", element("dt", name), element("dd", text)) for name, text in rows),
                   class_=class_)  # fmt: skip


def code_block(text: str, label: str) -> Html:
    """Text to be copied; one click selects it all."""
    return element("pre", element("code", text), tabindex="0", role="group", aria_label=label)


def table(label: str, heads: Sequence[tuple[str, bool]], rows: Iterable[Sequence[str]]) -> Html:
    """A table of words; heads say which columns are numbers."""
    head = element("tr", *(element("th", name, scope="col", attributes=_RIGHT if right else None)
                           for name, right in heads))  # fmt: skip
    body = [
        element("tr", *(element("td", cell, attributes=_RIGHT if right else None)
                        for cell, (_, right) in zip(row, heads, strict=True)))
        for row in rows
    ]  # fmt: skip
    found = element("table", element("thead", head), element("tbody", *body), class_="words")
    return element("div", found, class_="scroll", tabindex="0", role="region", aria_label=label)


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
