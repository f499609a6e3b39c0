"""Figures of sweeps, from results that are made up: what their tables say, which fit, that their bytes are the same."""

import itertools
import math
from typing import Any

import numpy as np
import pytest
from made_up_sweep import Made, made_up

from scaleout.errors import SweepError
from scaleout.report.style import render_as
from scaleout.report.sweep_figures import (
    KINDS,
    SweepFigure,
    draw_table,
    figures_of,
    fitting,
    misfits_of,
    table_as_dict,
    table_of,
)
from scaleout.report.sweep_pareto import front
from scaleout.sweep.results import SweepResults

LAYOUTS = {"layout.tp": (1, 2, 3, 4), "layout.pp": (1, 2, 4)}


def a_step(settings: dict[str, Any]) -> Made:
    """A step whose time has a closed form."""
    tp, pp, chips = (settings.get(key, 1) for key in ("layout.tp", "layout.pp", "chips"))
    if tp == 3:
        return "layout.tp: 3 does not divide the 32 attention heads"
    if tp * pp == 1:
        return "does not fit in HBM: stage 0 of 1 needs 90 GB"
    seconds = settings.get("batch.global", 64) / max(chips, 1) + 0.125 * (tp + 2.0 * pp)
    seconds *= {"slow": 2.0}.get(settings.get("system", ""), 1.0) * (1.0 + 0.1 * settings.get("seed", 0))
    return {
        "chips": chips, "step_time": seconds, "tokens_per_second": settings.get("batch.global", 64) * 1000.0 / seconds,
        "mfu": 0.4 / seconds, "memory": 60e9 / tp, "memory_share": 0.75 / tp, "time.compute": 0.75 * seconds,
        "time.exposed_tp": 0.25 * seconds, "error": 0.25, "bound_by": "matmul", "energy_per_token": 2.0 * seconds,
        "power": 1000.0 * chips, "cost_per_mtoken": 3.0 * seconds * chips, "cost_hour": 2.0 * chips,
    }  # fmt: skip


def a_service(settings: dict[str, Any]) -> Made:
    rate, most = settings["requests.arrivals.rate"], 4.0 * settings["pools.0.tp"]
    use = min(rate / most, 0.9)
    return {
        "chips": settings["pools.0.tp"], "ttft_p50": 0.1 / (1.0 - use), "ttft_p99": 0.4 / (1.0 - use),
        "tpot_p50": 0.02, "tpot_p99": 0.03, "requests_per_second": min(rate, most), "chip_tokens": 100.0 * use,
        "user_tokens": 50.0 - 40.0 * use, "stability": "overloaded" if rate > most else "stable",
    }  # fmt: skip


LAYOUT = made_up("training", LAYOUTS, a_step)
SCALED = made_up("training", {"chips": (8, 16, 32), "batch.global": (64, 128, 256), "layout.pp": (2, 4)}, a_step)
TINY = {
    "kind": "serving", "system": "dgx-h100", "model": "llama-3.2-1b", "engine": "vllm-0.19", "pools": ({"tp": 1},),
    "requests": {"input": {"mean": 8}, "output": {"mean": 8}, "count": 4, "arrivals": {"process": "poisson"}},
    "slo": {"tpot": "125 ms"},
}  # fmt: skip
SERVED = made_up(
    "serving", {"pools.0.tp": (1, 2), "requests.arrivals.rate": (8, 1, 4, 2)}, a_service, base="llama3-70b-poisson"
)


def test_a_heat_map_has_the_best_of_each_cell_and_why_others_are_empty() -> None:
    table = table_of(made_up("training", {**LAYOUTS, "system": ("slow", "fast")}, a_step), "heatmap")
    assert (table.x, table.y, table.columns, table.rows) == ("tp", "pp", ("1", "2", "3", "4"), ("1", "2", "4"))
    rates = [[a_step({"layout.tp": tp, "layout.pp": pp, "system": "fast"}) for tp in (1, 2, 3, 4)] for pp in (1, 2, 4)]
    expected = [[None if isinstance(one, str) else one["tokens_per_second"] for one in row] for row in rates]
    assert [list(row) for row in table.cells] == expected
    assert table.reasons[0] == ("does not fit", "", "does not divide", "")
    assert table.best == (0, 1)
    assert table.point == "tp 2, pp 1, fast"
    assert table.best_over == ("system",)
    turned = table_of(LAYOUT, "heatmap", x="layout.pp", by="tp", y="step_time")
    assert turned.least
    assert turned.cells[1][0] == min(cell for row in turned.cells for cell in row if cell is not None)


def test_what_an_earlier_stage_screened_out_is_no_rival() -> None:
    results = made_up("training", LAYOUTS, a_step, stage=lambda settings: int(settings["layout.tp"] == 4))
    table = table_of(results, "heatmap")
    assert table.columns[table.best[1]] == "4"
    # what a bound kept from being simulated is told of by that bound
    assert table.bounds[0] == (False, True, False, False)
    assert table.reasons[0] == ("does not fit", "", "does not divide", "")
    bound = a_step({"layout.tp": 2, "layout.pp": 1})
    assert not isinstance(bound, str)
    assert table.cells[0][1] == bound["tokens_per_second"] > (table.cells[0][3] or 0.0)
    assert table_of(results, "tornado").bounded == 5


def test_strong_lines_keep_the_batch_and_weak_ones_that_of_a_chip() -> None:
    table = table_of(SCALED, "scaling")
    strong, weak = table.panels
    assert (strong.way, weak.way) == ("strong", "weak")
    assert [line.label for line in strong.lines] == ["64 sequences", "128 sequences", "256 sequences"]
    # 2 and 32 of a chip are there once
    assert [line.label for line in weak.lines] == [f"{count} sequences a chip" for count in (4, 8, 16)]
    line = strong.lines[0]
    seconds = [64 / chips + 0.125 * 5.0 for chips in (8, 16, 32)]
    assert line.value == pytest.approx([64_000.0 / one for one in seconds])
    each = [1.0 / (chips * one) for chips, one in zip((8, 16, 32), seconds, strict=True)]
    assert line.efficiency == pytest.approx([one / each[0] for one in each])
    assert line.low[0] == pytest.approx(line.value[0] / 1.25)
    assert line.high[0] == pytest.approx(line.value[0] / 0.75)
    # a batch that grows with the chips takes as long
    assert weak.lines[1].efficiency == pytest.approx([1.0, 1.0, 1.0])
    times = table_of(SCALED, "scaling", y="step_time").panels
    assert times[0].lines[0].efficiency == pytest.approx(line.efficiency)
    assert times[1].lines[1].efficiency == pytest.approx([1.0, 1.0, 1.0])
    assert table.best_over == ("pp",)


def test_a_front_is_what_brute_force_finds() -> None:
    generator = np.random.default_rng(8)
    for least in itertools.product((True, False), repeat=2):
        x, y = generator.integers(0, 12, (2, 60)).astype(float)
        a, b = (one * (1 if less else -1) for one, less in zip((x, y), least, strict=True))
        beaten = [any((a <= a[i]) & (b <= b[i]) & ((a < a[i]) | (b < b[i]))) for i in range(60)]
        points = sorted({(x[i], y[i]) for i in range(60) if not beaten[i]})
        found = front(x, y, least=least)
        assert [(x[i], y[i]) for i in found] == points


def test_fronts_are_by_series_and_say_what_their_points_are() -> None:
    results = made_up("training", {**LAYOUTS, "system": ("slow", "fast")}, a_step)
    table = table_of(results, "pareto", x="step_time", y="memory")
    assert [one.label for one in table.series] == ["slow", "fast"]
    assert table.least == (True, True)
    fast = table.series[1]
    assert fast.points[0] == "tp 2, pp 1"
    assert fast.points[-1] == "tp 4, pp 1"
    assert len(fast.x) == len(LAYOUT.column("status")[LAYOUT.column("status") == "done"])
    assert sum(len(one.named) for one in table.series) <= 10
    usual = table_of(results, "pareto")
    assert usual.outcomes == ("tokens_per_second", "cost_per_mtoken")


def test_latency_runs_along_the_rate_and_knows_what_is_promised() -> None:
    table = table_of(SERVED, "latency")
    assert table.outcome == "chip_tokens"  # of machines of several sizes
    assert table.promised == (2.0, 0.05)
    one = table.lines[0]
    assert one.label == "tp 1"
    assert one.rate == (1.0, 2.0, 4.0, 8.0)
    assert one.kept_up == (True, True, True, False)
    assert one.times[1][0] == pytest.approx(0.4 / 0.75)
    same = made_up(
        "serving", {"requests.arrivals.rate": (1, 2)}, lambda s: a_service({"pools.0.tp": 1, **s}), base=TINY
    )
    assert table_of(same, "latency").outcome == "requests_per_second"
    assert table_of(same, "latency").promised == (None, 0.125)


def test_seeds_are_a_spread_and_no_axis() -> None:
    results = made_up("training", {"layout.tp": (2, 4), "layout.pp": (1,)}, a_step, seeds=3)
    table = table_of(results, "topologies", x="layout.tp", y="step_time")
    alone = a_step({"layout.tp": 2})
    assert not isinstance(alone, str)
    assert table.bars[0].values[0] == pytest.approx(1.1 * alone["step_time"])
    assert table.bars[0].low[0] == pytest.approx(0.75 * alone["step_time"])
    assert table.bars[0].high[0] == pytest.approx(1.25 * 1.2 * alone["step_time"])
    with pytest.raises(SweepError, match="seeds are drawn as a spread"):
        table_of(results, "topologies", x="seed")


def test_bars_are_over_the_best_and_the_best_is_first() -> None:
    results = made_up("training", {**LAYOUTS, "system": ("slow", "fast")}, a_step)
    table = table_of(results, "topologies")
    assert [bar.label for bar in table.bars] == ["fast", "slow"]
    assert [bar.relative for bar in table.bars] == pytest.approx([1.0, 2.0])
    assert table.bars[0].point == "tp 2, pp 1"
    cost = table_of(results, "cost", x="layout.pp")
    assert [bar.label for bar in cost.bars] == ["1", "2", "4"]
    assert cost.outcomes == ("cost_per_mtoken", "energy_per_token")
    assert cost.scales[0].label == "cost of a million tokens [USD/Mtoken]"
    assert table_of(results, "energy", by="system").outcomes == ("energy_per_token", "power")


def test_stacks_are_parts_of_the_best_points() -> None:
    table = table_of(LAYOUT, "breakdown")
    assert table.parts == ("compute", "exposed_tp")
    assert table.labels[0] == "tp 2, pp 1"
    assert [sum(row) for row in table.seconds] == pytest.approx(list(table.total))
    assert list(table.total) == sorted(table.total)
    by = table_of(LAYOUT, "breakdown", by="tp")
    assert by.labels == ("1", "2", "4")
    assert by.points[0] == "tp 1, pp 2"


def test_a_tornado_tells_turning_one_knob_from_turning_all() -> None:
    def outcomes(settings: dict[str, Any]) -> Made:
        a, b = settings["layout.tp"], settings["layout.pp"]
        return {"tokens_per_second": {(1, 1): 100.0, (2, 1): 10.0, (1, 2): 40.0, (2, 2): 80.0}[a, b]}

    table = table_of(
        made_up("training", {"layout.tp": (1, 2), "layout.pp": (1, 2), "stack": ("one",)}, outcomes), "tornado"
    )
    effects = {effect.key: effect for effect in table.effects}
    assert effects["tp"].alone == pytest.approx((1.0, 10.0))
    assert effects["tp"].retuned == pytest.approx((1.0, 1.25))
    assert effects["pp"].alone == pytest.approx((1.0, 2.5))
    assert (table.best, table.point) == (100.0, "tp 1, pp 1")
    lost = {effect.key: effect for effect in table_of(LAYOUT, "tornado").effects}["tp"]
    assert lost.without == 1
    assert math.isnan(lost.alone[2])


def test_zipped_keys_are_one_axis_of_a_tornado() -> None:
    def together(settings: dict[str, Any]) -> dict[str, Any]:
        return {"layout.dp": 8 // settings["layout.tp"]}

    table = table_of(
        made_up("training", {"layout.tp": (2, 4), "layout.pp": (1, 2)}, a_step, derived=together), "tornado"
    )
    # dp follows from tp, so that turning tp alone turns dp too
    assert [effect.key for effect in table.effects] == ["pp", "tp"]
    assert not any(math.isnan(one) for effect in table.effects for one in effect.alone)


def names(figures: list[SweepFigure]) -> list[str]:
    return [one.name for one in figures]


def test_figures_that_fit_and_why_the_others_do_not() -> None:
    assert names(figures_of(LAYOUT)) == ["heatmap", "pareto", "breakdown", "cost", "energy", "tornado"]
    assert names(figures_of(SCALED)) == ["scaling", "heatmap", "pareto", "breakdown", "cost", "energy", "tornado"]
    assert names(figures_of(SERVED)) == ["heatmap", "pareto", "latency", "tornado"]
    assert "sweep over chips" in misfits_of(LAYOUT)["scaling"]
    assert "is of serving" in misfits_of(SERVED)["scaling"]
    assert "--x" in misfits_of(LAYOUT)["topologies"]
    fits, misfits = fitting(LAYOUT)
    assert {*names(fits), *misfits} == set(KINDS)
    assert all(one.title.startswith("made-up: ") for one in fits)


def test_few_outcomes_make_few_figures() -> None:
    layouts = {"layout.tp": (1, 2), "layout.pp": (1, 2)}
    results = made_up("training", layouts, lambda settings: {"tokens_per_second": 1.0 + settings["layout.tp"]})
    assert names(figures_of(results)) == ["heatmap", "tornado"]
    constant = made_up("training", layouts, lambda settings: {"step_time": 0.0}, objective="step_time")
    assert names(figures_of(constant)) == ["heatmap"]
    draw_table("heatmap", table_of(constant, "heatmap")).draw_without_rendering()


def wide() -> SweepResults:
    systems = tuple(f"a-machine-with-quite-a-long-name-{at}" for at in range(40))
    return made_up(
        "training", {"system": systems, "chips": (8, 16), "batch.global": (64, 128), "layout.tp": (2, 4)}, a_step
    )


def lines() -> SweepResults:
    axes = {
        "engine": tuple("abcde"),
        "precision": ("bf16", "fp8"),
        "pools.0.tp": (1, 2, 4),
        "requests.arrivals.rate": (1, 2, 8),
    }
    return made_up("serving", axes, a_service, base={})


@pytest.mark.parametrize(
    "results",
    [
        LAYOUT,
        SCALED,
        made_up("training", {"layout.tp": (2,)}, a_step),
        made_up("training", {"stack": ("a", "b", "c")}, lambda settings: a_step({"layout.tp": 2})),
        made_up("training", {"layout.tp": (2, 4), "layout.pp": (1, 2)}, a_step, seeds=2),
        wide(),
        lines(),
    ],
    ids=["layouts", "scaled", "one", "three", "seeds", "wide", "lines"],
)
def test_every_figure_that_fits_can_be_drawn(results: SweepResults) -> None:
    for kind in names(figures_of(results)):
        table = table_of(results, kind)
        figure = draw_table(kind, table)
        figure.draw_without_rendering()
        assert figure.axes
        for ax in figure.axes:
            label = ax.get_xlabel()
            assert label == "" or ax.axison
        again = table_as_dict(kind, table)
        assert again["figure"] == kind
        assert again["title"] == table.title


def test_the_same_sweep_gives_the_same_bytes() -> None:
    for kind in ("scaling", "pareto", "heatmap"):
        one, other = (render_as(draw_table(kind, table_of(SCALED, kind)), "svg") for _ in range(2))
        assert one == other


def test_a_hundred_thousand_points_stay_a_small_file() -> None:
    steps = np.random.default_rng(8).lognormal(size=(2, 100_000))
    axes = {"layout.tp": tuple(range(100)), "layout.pp": tuple(range(1000))}
    column = iter(range(100_000))

    def outcomes(settings: dict[str, Any]) -> Made:
        at = next(column)
        return {"step_time": float(steps[0, at]), "memory": float(steps[1, at])}

    results = made_up("training", axes, outcomes, objective="step_time")
    svg = render_as(draw_table("pareto", table_of(results, "pareto", x="step_time", y="memory")), "svg")
    assert len(svg) < 1_000_000


NOTHING = made_up("training", {"layout.tp": (1, 3)}, a_step)


@pytest.mark.parametrize(
    ("results", "kind", "asked", "words"),
    [
        (LAYOUT, "heatmp", {}, "did you mean 'heatmap'"),
        (LAYOUT, "heatmap", {"x": "layout.tpp"}, "did you mean 'layout.tp'"),
        (LAYOUT, "heatmap", {"x": "tp", "by": "layout.tp"}, "columns and rows"),
        (LAYOUT, "heatmap", {"y": "mfuu"}, "did you mean 'mfu'"),
        (LAYOUT, "heatmap", {"y": "bound_by"}, "is text"),
        (LAYOUT, "heatmap", {"y": "ttft_p99"}, "is of serving"),
        (LAYOUT, "heatmap", {"y": "time.bubble"}, "no point .* has it"),
        (LAYOUT, "latency", {}, "sweep 'made-up' is of training"),
        (LAYOUT, "scaling", {}, "sweep over chips"),
        (LAYOUT, "pareto", {"x": "mfu", "y": "mfu"}, "against itself"),
        (SCALED, "scaling", {"y": "mfu"}, "expected tokens_per_second or step_time"),
        (SERVED, "breakdown", {}, "of serving, tells the parts of a step"),
        (SERVED, "latency", {"by": "rate"}, "another key"),
        (SERVED, "cost", {}, "no point .* has it"),
        (NOTHING, "heatmap", {}, "none of its 2 points can be simulated.*does not"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_words(
    results: SweepResults, kind: str, asked: dict[str, str], words: str
) -> None:
    with pytest.raises(SweepError, match=words):
        table_of(results, kind, **asked)
