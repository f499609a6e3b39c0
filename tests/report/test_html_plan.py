"""The page of a plan: what was found, how surely, and what else was close."""

from html import unescape

import pytest
from made_up_plan import made_up_plan

from scaleout.report.html.plan_page import plan_page


def test_a_plan_says_what_is_best_and_how_surely() -> None:
    page = plan_page(made_up_plan()).decode()
    for words in (
        "dgx-h100, tp 8, pp 4, dp 32: the time is 47.5\u00a0days ± 7\u00a0%, the least of the whole space, proven.",
        "No way in the space is better", "13,646", "1 of them cannot be told apart", "+3.2\u00a0%, a tie", "1.56",
        "Fewer bubbles", "-6.2\u00a0%", "torchrun --nnodes 128", "15,000,000,000,000", "dgx-h100, hgx-h200",
        "cost against time", "from memory", "Unverified.", "outside of what was measured", "layout.tp=8\nlayout.pp=4",
    ):  # fmt: skip
        assert words in page, words
    assert "<script" not in page and "script-src 'none'" in unescape(page) and "&lt;dp&gt;" in page


def test_a_gap_is_told() -> None:
    page = plan_page(made_up_plan(gap=0.013)).decode()
    assert "at most 1.3\u00a0% above the least" in page and "better by at most 1.3\u00a0%" in page


def test_equal_plans_give_equal_bytes() -> None:
    assert plan_page(made_up_plan()) == plan_page(made_up_plan())


@pytest.mark.parametrize("alone", [True, False])
def test_a_plan_without_neighbours_or_without_an_answer_is_whole(alone: bool) -> None:
    nothing = {"runners": (), "ties": (), "pareto": (), "why": (), "inputs": (), "launch": {}}
    changes = nothing if alone else {**nothing, "best": None, "problems": ("25 MW feed 1,024 chips & no more",)}
    page = plan_page(made_up_plan(**changes), title="A <plan>").decode()
    assert "<h1>A &lt;plan&gt;</h1>" in page and "<figure>" not in page
    assert alone or "Nothing in this space does it: 25 MW feed 1,024 chips &amp; no more." in page
