"""Plans in the terminal."""

from made_up_plan import candidate, made_up_plan
from rich.console import Console

from scaleout.planning.plan import Plan
from scaleout.report.plan_table import headline, plan_tables


def printed(plan: Plan, width: int = 80) -> str:
    console = Console(width=width, highlight=False)
    with console.capture() as taken:
        console.print(plan_tables(plan, width))
    return taken.get()


def test_settings_that_all_have_in_common_are_said_once() -> None:
    other = candidate("dgx-h100, tp 4", 49.0, 1.4e6)
    other = type(other)(
        **{name: getattr(other, name) for name in other.__slots__} | {"layout": {**other.layout, "tp": 4}}
    )
    text = printed(made_up_plan(runners=(other,), ties=(other.name,)))
    rows = text.splitlines()
    assert max(map(len, rows)) <= 80
    assert any(row.split()[:2] == ["tp", "days"] for row in rows)
    assert any(row.startswith("= 4 49.0") or row.split()[:3] == ["=", "4", "49.0"] for row in rows)
    assert "all of them: system dgx-h100, chips 1,024, pp 4, dp 32, recompute core" in " ".join(text.split())
    assert "1 more assumptions, 1 of them unverified" in " ".join(text.split())


def test_nothing_found_is_no_proof_that_nothing_does() -> None:
    nothing = {"best": None, "runners": (), "ties": (), "pareto": (), "inputs": (), "launch": {}}
    assert headline(made_up_plan(**nothing)).endswith("nothing in the space does it.")
    assert headline(made_up_plan(**nothing, gap=float("inf"))).endswith("is not proven.")
