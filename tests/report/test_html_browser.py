"""Pages in a real browser: sorted, filtered, on a phone, in the dark, on paper; nothing loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import NAMES, Browser, browser, find_browser
from made_up_plan import made_up_plan
from made_up_report import EVIL, analytic, made_up, many

from scaleout.report.html import page
from scaleout.report.html.layout import Drawn
from scaleout.report.html.page import write_report
from scaleout.report.html.plan_page import plan_page
from scaleout.report.style import house_style, new_figure, render_as
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

PROGRAM = find_browser()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"no browser: none of {', '.join(NAMES)} is on the path")

BUTTON = "[...document.querySelectorAll('#table-root thead button')].find((one) => one.textContent.startsWith('%s'))"
CELLS = (
    "(() => {{ const at = [...document.querySelectorAll('#table-root thead th')].findIndex((one) => "
    "one.textContent.startsWith('{}')); return [...document.querySelectorAll('#table-root tbody tr')].map((row) => "
    "row.cells[at].textContent) }})()"
)
TOLD = "document.querySelector('#table-root [role=status]').textContent"
WIDER = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


def drawn(results: SweepResults) -> tuple[Drawn, ...]:
    """Two figures with the same names inside, and a label that is not one."""
    with house_style():
        figure = new_figure(7.0, 3.0)
        ax = figure.add_subplot()
        ax.plot([1, 2, 3], [2, 1, 3], label=EVIL.replace("$", ""))
        ax.set_xlabel("time [s]")
        ax.legend()
        svg = render_as(figure, "svg")
    return tuple(Drawn(title=f"Figure {at}", caption="What one sees.", svg=svg) for at in (1, 2))


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.fixture(autouse=True)
def _few_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "figures", drawn)


@pytest.fixture(name="shown")
def _shown(chromium: Browser, tmp_path: Path) -> Browser:
    """A page of a small sweep."""
    chromium.open(write_report(made_up(), tmp_path / "page.html"))
    return chromium


def column(shown: Browser, name: str) -> list[str]:
    found: list[str] = shown.run(CELLS.format(name))
    return found


def filtered(shown: Browser, text: str) -> int:
    """Rows that are left by a filter, which is typed."""
    shown.run("(() => { const field = document.getElementById('table-search'); field.value = ''; field.focus() })()")
    shown.write(text)
    shown.run("new Promise((done) => setTimeout(done, 250))")
    return len(column(shown, "point"))


def test_a_page_loads_nothing_and_complains_of_nothing(shown: Browser) -> None:
    assert shown.told == []
    assert [address[:5] for address in shown.asked] == ["file:"]
    assert shown.run("document.querySelectorAll('figure svg').length") == 2
    names = shown.run("[...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(names) == len(set(names))
    lost = "[...document.querySelectorAll('use')].filter((one) => !document.querySelector(one.getAttribute('href')))"
    assert shown.run(f"{lost}.length") == 0


def test_a_heading_sorts_and_again_reverses_by_mouse_and_by_keyboard(shown: Browser) -> None:
    results = made_up()
    done = results.column("step_time")[results.column("status") == "done"]
    wanted = [f"{value * 1e3:.4g}" for value in sorted(done)]
    gone = [""] * (len(results) - len(wanted))

    def numbers() -> list[str]:
        return [f"{float(cell.replace(',', '')):.4g}" if cell else "" for cell in column(shown, "step_time")]

    assert shown.run(f"{BUTTON % 'step_time'}.parentElement.getAttribute('aria-sort')") == "none"
    shown.run(f"{BUTTON % 'step_time'}.click()")
    assert numbers() == wanted + gone
    assert shown.run(f"{BUTTON % 'step_time'}.parentElement.getAttribute('aria-sort')") == "ascending"
    # the heading that was pressed keeps the focus: return reverses
    shown.press("Enter", 13, "\r")
    assert numbers() == wanted[::-1] + gone
    assert "by step_time, falling" in shown.run(TOLD)
    shown.run(f"{BUTTON % 'layout.tp'}.click()")
    assert column(shown, "layout.tp") == sorted(column(shown, "layout.tp"), key=int)


def test_rows_are_filtered_by_words_values_and_status(shown: Browser) -> None:
    results = made_up()
    rows = [results.row(at) for at in range(len(results))]

    def count(fits: object) -> int:
        return sum(1 for row in rows if fits(row))  # type: ignore[operator]

    assert filtered(shown, "megatron") == count(lambda row: row["stack"] == "megatron-lm")
    assert filtered(shown, "tp=8") == count(lambda row: row["layout.tp"] == 8)
    assert filtered(shown, "layout.tp>2 micro<=2") == count(
        lambda row: row["layout.tp"] > 2 and row["batch.micro"] <= 2
    )
    # in the unit of the heading
    assert filtered(shown, "step_time<900") == count(lambda row: row["step_time"] and row["step_time"] < 0.9)
    assert filtered(shown, "ZeroDivision") == count(lambda row: row["status"] == "failed")
    assert filtered(shown, "nothing-of-the-kind") == 0 and shown.run(TOLD) == "no row fits"
    filtered(shown, "")
    shown.run("document.querySelector('#table-root input[value=done]').click()")
    assert set(column(shown, "status")) == {"infeasible", "failed"}


def test_columns_are_chosen(shown: Browser) -> None:
    heads = "[...document.querySelectorAll('#table-root thead button')].map((one) => one.textContent)"
    assert not [name for name in shown.run(heads) if name.startswith("time.")]
    shown.run("document.querySelector('#table-root details').open = true")
    pick = "[...document.querySelectorAll('.picks label')].find((one) => one.textContent.includes('time.compute'))"
    shown.run(f"{pick}.firstChild.click()")
    assert [name for name in shown.run(heads) if name.startswith("time.compute")]


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_scrolls_no_page_sideways(chromium: Browser, tmp_path: Path, dark: bool) -> None:
    chromium.open(write_report(made_up(), tmp_path / "page.html"), width=360, height=740, dark=dark)
    assert chromium.run("innerWidth") == 360 and chromium.run(WIDER) == 0
    chromium.run("document.querySelector('#table-root details').open = true")
    assert chromium.run(WIDER) == 0
    # what is wide scrolls in its box
    assert chromium.run(
        "(() => { const box = document.querySelector('.tall'); return box.scrollWidth > box.clientWidth })()"
    )
    assert chromium.run("document.querySelector('svg').getBoundingClientRect().width") > 400


@pytest.mark.parametrize("dark", [False, True])
def test_words_stand_out_from_what_is_behind_them(chromium: Browser, tmp_path: Path, dark: bool) -> None:
    # its best point has assumptions, of which some are marked
    results = made_up(Sweep(base="llama-3.1-8b-1k", axes={"batch.micro": (1,)}), status="done")
    chromium.open(write_report(results, tmp_path / "page.html"), dark=dark)
    behind = chromium.run("getComputedStyle(document.body).backgroundColor")
    assert behind == ("rgb(22, 24, 28)" if dark else "rgb(255, 255, 255)")
    found = chromium.run(CONTRAST)
    assert len(found) > 4 and min(found) >= 4.5, found


CONTRAST = """(() => {
  const parts = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (text) => {
    const even = (one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(text).map((one) => even(one / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const colour = getComputedStyle(node).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
  };
  const seen = new Set();
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (own && !node.closest("svg, script, :disabled")) seen.add(getComputedStyle(node).color + "|" + behind(node));
  }
  return [...seen].map((pair) => {
    const [low, high] = pair.split("|").map(light).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  });
})()"""


def test_what_a_store_holds_stays_text(chromium: Browser, tmp_path: Path) -> None:
    sweep = Sweep(base="llama-3.1-8b-1k", axes={"stack": (EVIL, "<b>bold</b>"), "layout.tp": (1, 2)}, name=EVIL)
    chromium.open(write_report(made_up(sweep, status="done"), tmp_path / "page.html", title=EVIL))
    assert chromium.told == [] and [address[:5] for address in chromium.asked] == ["file:"]
    assert chromium.run("document.title") == EVIL
    assert chromium.run("document.querySelectorAll('img, b:not(.rests b)').length") == 0
    assert EVIL in column(chromium, "stack")


def test_a_script_that_got_in_would_not_run(chromium: Browser, tmp_path: Path) -> None:
    path = write_report(made_up(), tmp_path / "page.html")
    evil = "<script>document.title='evil'</script><img src=x onerror=document.title='evil'>"
    text = path.read_text().replace("<main>", f"<main>{evil}")
    path.write_text(text)
    chromium.open(path)
    assert chromium.run("document.title") == "Sweep small"
    assert any("Content Security Policy" in line for line in chromium.told)


@pytest.mark.parametrize("status", ["infeasible", "failed", "done"])
def test_sweeps_of_one_fate_and_of_one_point_are_shown(chromium: Browser, tmp_path: Path, status: str) -> None:
    sweep = Sweep(base="llama-3.1-8b-1k") if status == "done" else analytic()
    results = made_up(sweep, status=status)
    chromium.open(write_report(results, tmp_path / "page.html"))
    assert chromium.told == [] and len(column(chromium, "point")) == len(results)


def test_a_hundred_thousand_rows_sort_and_filter_at_once(chromium: Browser, tmp_path: Path) -> None:
    results = many(100_000)
    chromium.open(write_report(results, tmp_path / "page.html"))
    assert "of 100,000 rows" in chromium.run(TOLD) and len(column(chromium, "point")) == 50
    took = chromium.run(
        f"(() => {{ const from = performance.now(); {BUTTON % 'step_time'}.click(); "
        "return performance.now() - from })()"
    )
    # a second on a machine that nobody shares
    assert took < 5000.0
    found = [float(cell) for cell in column(chromium, "step_time")]
    assert found == sorted(found)
    filtered(chromium, "tp=4 step_time<400")
    tp, step = results.column("layout.tp"), results.column("step_time")
    assert f"of {((tp == 4) & (step < 0.4)).sum():,} rows" in chromium.run(TOLD)
    chromium.run("[...document.querySelectorAll('.pager button')].find((one) => one.textContent === 'Last').click()")
    assert chromium.run(TOLD).split(" of ")[0].split(" to ")[1] == f"{((tp == 4) & (step < 0.4)).sum():,}"


def test_a_printed_page_has_all_of_it(chromium: Browser, tmp_path: Path) -> None:
    chromium.open(write_report(made_up(), tmp_path / "page.html"), width=1015, dark=True, media="print")
    assert chromium.run(WIDER) == 0
    assert chromium.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert chromium.run("getComputedStyle(document.querySelector('.tall')).overflow") == "visible"
    assert chromium.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_plan_loads_nothing_and_scrolls_no_page_sideways(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "plan.html"
    path.write_bytes(plan_page(made_up_plan()))
    chromium.open(path, width=360, height=740)
    assert chromium.told == [] and [address[:5] for address in chromium.asked] == ["file:"]
    assert chromium.run(WIDER) == 0 and chromium.run("document.querySelectorAll('figure svg').length") == 1
