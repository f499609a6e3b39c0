"""Pages as text: whole, alone, the same each time, and small enough."""

import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_up_report import EVIL, SMALL, analytic, made_up, many
from made_up_sweep import made_up as made_sweep

from scaleout.errors import ScaleoutError, SpecError
from scaleout.report.html import page, story
from scaleout.report.html.page import report_page, write_report
from scaleout.sweep.files import load_sweep
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

FIGURES = page.figures
VOID = {"br", "hr", "input", "link", "meta", "wbr"}


class Page(HTMLParser):
    """Elements of a page; refuses those that are not closed in the order in which they were opened."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(data.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), (tag, names)
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & {*self._open}:
            self.text += data

    def all(self, name: str) -> list[str]:
        """Values of an attribute."""
        return [attributes[name] for _, attributes in self.found if name in attributes]


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have tests of their own, and take seconds."""
    monkeypatch.setattr(page, "figures", lambda results: ())


def of(results: SweepResults, **options: str) -> Page:
    return Page(report_page(results, **options))


def test_a_page_says_what_a_planner_asks() -> None:
    found = of(made_up())
    best = made_up().row(made_up().best or 0)
    for words in (
        "The most tokens per second is", "with outcomes", f"layout.tp = {best['layout.tp']}", "Error bands",
        "ZeroDivisionError: division by zero", "stage … needs …, but a chip has …", "What the best point rests on",
        "base: llama-3.1-8b-1k", "scaleout 0.1.0+", "MFU",
    ):  # fmt: skip
        assert words in found.text, words


def test_the_best_point_tells_its_assumptions_with_sources() -> None:
    # only one layout of these is one; its outcomes are made up, what it rests on is not
    found = of(made_up(Sweep(base="llama-3.1-8b-1k", axes={"batch.micro": (1,)}), status="done"))
    assert "scaleout run llama-3.1-8b-1k --set batch.micro=1" in found.text
    assert "h100-sxm-80gb: bf16 peak" in found.text and "NVIDIA H100 SXM5 data sheet" in found.text
    assert "Unverified." in found.text and "the only point with outcomes" in found.text


@pytest.mark.parametrize(
    "make",
    [
        made_up,
        lambda: made_up(status="infeasible"),
        lambda: made_up(status="failed"),
        lambda: made_up(compute=0),
        lambda: made_up(compute=5),
        lambda: made_up(analytic()),
        lambda: made_up(Sweep(base="llama-3.1-8b-1k"), status="done"),
        lambda: made_up(Sweep(base="llama-3.1-8b-1k", axes={"stack": (EVIL, "a\nb", "\u2028")}, name=EVIL)),
    ],
    ids=["some", "infeasible", "failed", "none", "begun", "bounds", "one", "evil"],
)
def test_a_page_needs_nothing_else_and_is_whole(make: Callable[[], SweepResults]) -> None:
    found = of(make())
    ids = found.all("id")
    assert len(set(ids)) == len(ids)
    assert {link[1:] for link in found.all("href") if link.startswith("#")} <= {*ids}
    assert {*found.all("aria-labelledby")} <= {*ids}
    assert all(link.startswith("#") or link == "data:," for link in found.all("href"))
    assert not found.all("src") and not [name for _, names in found.found for name in names if name.startswith("on")]
    (policy,) = [names["content"] for tag, names in found.found if names.get("http-equiv")]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy
    assert [tag for tag, _ in found.found].count("h1") == 1


def test_the_figures_of_a_sweep_are_on_its_page(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "figures", FIGURES)
    text = r"a & $\frac{ <b>--!></svg>"
    sweep = Sweep(base="llama-3.1-8b-1k", axes={"layout.tp": (1, 2), "stack": (text, "b")}, name=text)
    data = report_page(made_up(sweep, status="done"))
    found = Page(data)
    assert [tag for tag, _ in found.found].count("figure") >= 4
    ids = found.all("id")
    assert len(set(ids)) == len(ids) and "It cannot be drawn" not in found.text
    assert {link for link in found.all("href") if not link.startswith("data:")} <= {f"#{name}" for name in ids}
    assert data == report_page(made_up(sweep, status="done"))


def test_equal_results_give_equal_bytes_without_clock_or_host() -> None:
    first, again = report_page(made_up()), report_page(made_up())
    assert first == again
    assert not re.search(rb"\b20[2-9]\d-\d\d-\d\dT|localhost|/home/|/tmp/", first)


def test_the_sweep_of_the_page_is_the_sweep(tmp_path: Path) -> None:
    sweep = Sweep(
        base={"kind": "training", "system": "dgx-h100", "model": "llama-3.1-8b", "chips": 64,
              "layout": {"tp": 8, "dp": 8}, "batch": {"global": 64, "sequence": 2048}},
        axes={"system.scale_up.bandwidth": ("400 Gb/s", "1e9", "12:30"), "recompute": ((), ("full",))},
        zipped=({"batch.global": (64, 128), "chips": (64, 128)},),
        name="links",
    )  # fmt: skip
    file = tmp_path / "sweep.yaml"
    file.write_text(page._made(made_up(sweep, compute=0)).spec)
    assert load_sweep(file) == sweep


def test_an_export_of_what_the_page_cannot_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "MOST_ROWS", 20)
    monkeypatch.setattr(story, "_KEPT", 10)
    found = story.story_of(made_up())
    assert found.rows == 10 and found.total == 24
    assert "The table has 10 of 24 points, the best first; an export has all of them." in found.notes


def test_points_within_the_error_band_are_told() -> None:
    results = made_up(status="done")
    found = story.story_of(results)
    values, best = results.column("tokens_per_second"), results.best
    assert best is not None and found.error is not None
    near = abs(values / values[best] - 1.0) <= found.error
    assert found.tied == near.sum() - 1
    assert found.best is not None and found.best.point == results.column("position")[best]


def test_a_bound_is_no_rival_of_what_was_simulated() -> None:
    results = made_up(status="done")
    rate = results.column("tokens_per_second")
    last = rate < np.median(rate)
    columns = {**results.columns, "stage": last.astype(np.int64), "evaluator": np.where(last, "event", "analytic")}
    found = story.story_of(replace(results, columns=columns))
    assert "the best of 12 points with outcomes of the last stage; earlier stages left out 12." in found.answer
    assert found.best is not None and last[found.best.point] and found.best.evaluator == "event"
    halfway = story.story_of(replace(results, columns=columns, missing=5)).answer
    assert "of the last stage; earlier stages left out 7, 5 are still to come." in halfway
    # in the table, what went the furthest stands on top
    assert [column.name for column in found.columns if column.name in ("stage", "evaluator")] == ["stage", "evaluator"]


def test_an_objective_that_is_a_key_too_is_told() -> None:
    results = made_sweep(
        "training", {"chips": [8, 16, 18]}, lambda row: {"mfu": 0.5, "error": 0.2} if row["chips"] > 8 else "refused",
        objective="chips",
    )  # fmt: skip
    told = story.story_of(results)
    assert told.answer.startswith("The least chips is 16 ± 20\u00a0%, at chips = 16: the best of 2 points")
    assert [one.point for one in told.ties] == [2]
    assert report_page(results)


def test_the_best_of_several_seeds_tells_their_mean() -> None:
    rates = {(8, 0): 9.0, (8, 1): 1.0, (16, 0): 6.0, (16, 1): 7.0}
    results = made_sweep(
        "training", {"chips": [8, 16]}, lambda row: {"tokens_per_second": rates[row["chips"], row["seed"]]}, seeds=2
    )
    said = "The most tokens per second is 6 (6.5 in the mean of its seeds), at chips = 16, seed = 0"
    assert story.story_of(results).answer.startswith(said)


def test_there_is_no_best_point_for_one_of_several_reasons() -> None:
    known = {"mfu": 0.5}
    unsaid = made_sweep("training", {"chips": [8, 16]}, lambda row: known, objective="power")
    assert story.story_of(unsaid).answer == "No point of this sweep tells its power: 2 done."
    late = made_sweep(
        "training", {"chips": [8, 16]}, lambda row: known if row["chips"] == 8 else "refused",
        stage=lambda row: int(row["chips"] == 16),
    )  # fmt: skip
    said = "No point of this sweep has outcomes of its last stage: 1 done, 1 infeasible."
    assert story.story_of(late).answer == said


def test_a_hundred_thousand_points_fit() -> None:
    data = report_page(many(100_000))
    assert len(data) < 20e6


@pytest.mark.parametrize("name", ["page.pdf", "page", "none/page.html"])
def test_only_pages_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="page"):
        write_report(made_up(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_a_page_is_written_whole(tmp_path: Path) -> None:
    path = write_report(made_up(), tmp_path / "a.html", title="A & B")
    assert path.read_bytes() == report_page(made_up(), title="A & B") and b"<h1>A &amp; B</h1>" in path.read_bytes()


def test_a_figure_that_cannot_be_drawn_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(results: SweepResults) -> tuple[page.Drawn, ...]:
        return (page.Drawn(title="Front", caption="What one sees.", problem="it has no point"),)

    monkeypatch.setattr(page, "figures", broken)
    assert "it has no point" in of(made_up()).text


def test_sweeps_of_other_code_are_still_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(sweep: Sweep) -> None:
        raise ScaleoutError("there is no such file")

    results = made_up(SMALL, status="done")
    monkeypatch.setattr(story, "points_of", gone)
    assert f"layout.tp = {results.row(results.best or 0)['layout.tp']}" in of(results).text
