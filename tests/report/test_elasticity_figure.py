"""Tables and tornado of elasticities, from rows that are made up."""

import math
from dataclasses import replace

from rich.console import Console

from scaleout.architect import Effect, Elasticities
from scaleout.report.elasticity import draw_tornado, elasticity_tables, tornado
from scaleout.report.style import render_as


def row(job: str, outcome: str, unit: str, knob: str, change: float) -> Effect:
    return Effect(
        job=job, outcome=outcome, unit=unit, knob=knob, words=f"more of {knob}", before=0.25, after=0.25 * (1 + change),
        change=change, elasticity=math.log1p(change) / math.log(1.1),
    )  # fmt: skip


JOB = "a job on 8 made-up (a system)"
OUTCOMES = (("step time", "s"), ("TTFT p99", "s"), ("TPOT p99", "s"), ("energy", "J/token"), ("cost", "USD/Mtoken"))
FOUND = Elasticities(
    chip="made-up",
    factor=1.1,
    effects=tuple(
        row(JOB, name, unit, f"knob-{at}", 0.0 if name == "energy" else 0.07 / (at + 1) ** 4)
        for name, unit in OUTCOMES for at in range(12)
    ),
    problems=("a job: knob-3: does not fit",),
)  # fmt: skip


def test_tables_show_what_moves_and_say_what_does_not() -> None:
    console = Console(width=140, highlight=False)
    with console.capture() as caught:
        console.print(elasticity_tables(FOUND))
    text = caught.get()
    assert "cost, 0.25 USD/Mtoken" in text
    assert "step time, 250 ms" in text
    assert "energy, 0.25 J/token: no knob moves it by 0.05%" in text
    assert "+7.00%" in text
    assert "less than 0.05%: knob-10, knob-11, knob-3" in text
    assert "! a job: knob-3: does not fit" in text


def test_a_tornado_has_a_panel_for_each_outcome_that_moves() -> None:
    picture = tornado(FOUND)
    assert [panel.outcome for panel in picture.panels] == ["step time", "TTFT p99", "TPOT p99", "cost"]
    assert picture.still == ("energy of a job on 8 made-up (a system)",)
    assert picture.panels[0].knobs == ("knob-0", "knob-1", "knob-2")
    assert picture.panels[0].job == "a job on 8 chips (a system)"
    assert "+10%" in picture.title


def test_the_same_rows_give_the_same_bytes() -> None:
    few = replace(FOUND, effects=tuple(row for row in FOUND.effects if row.outcome == "cost"))
    one, other = (render_as(draw_tornado(tornado(few)), "svg") for _ in range(2))
    assert one == other
    nothing = Elasticities(chip="made-up", factor=2.0, effects=(), problems=())
    assert render_as(draw_tornado(tornado(nothing)), "png").startswith(b"\x89PNG")
