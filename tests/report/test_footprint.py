"""Tables and figures of energy and cost."""

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up_energy import made_up_energy
from rich.console import Console

from scaleout.cli import cli
from scaleout.cli.footprint import parse_tokens
from scaleout.comparison import compare
from scaleout.errors import ScaleoutError, SpecError
from scaleout.evaluate.cost import cost_of, run_of
from scaleout.footprint import Cost
from scaleout.report.comparison import comparison_tables
from scaleout.report.footprint import cost_stack, draw_cost, draw_energy, energy_stack
from scaleout.report.footprint_table import count_words, dollars, footprint_tables
from scaleout.report.style import render_as
from scaleout.report.table import result_tables
from scaleout.result import Result
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
PLOTS = Path(__file__).parents[2] / "plots"
SMALL = """
kind: training
system: dgx-h100
chips: 8
model: gpt3-1.3b
layout: {tp: 4, dp: 2, sequence_parallel: true}
batch: {global: 4, sequence: 2048}
"""


def with_energy(spec: TrainingExperiment) -> Result:
    result = simulate(spec, evaluator="analytic")
    energy = made_up_energy(spec.chips, result.step_time, spec.batch.tokens)
    return replace(result, energy=energy, cost=cost_of(spec, result.step_time, spec.batch.tokens, energy))


def text(table: object) -> str:
    console = Console(file=io.StringIO(), width=200, highlight=False)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_sentences_are_not_cut_where_the_terminal_ends(small: Make) -> None:
    """They stand below their table: as cells of a column they would be shortened, and make others short."""
    result = with_energy(small())
    assert result.energy is not None and result.cost is not None
    line = "a node draws 7.985 kW, more than the 5 kW of a rack of a place with quite a long name"
    energy, cost = replace(result.energy, warnings=(line,)), replace(result.cost, utilisation=0.05)
    console = Console(file=io.StringIO(), width=80, highlight=False)
    for table in footprint_tables(energy, cost, 8, "a step", "trained").values():
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in shown
    assert "quite a long name" in " ".join(shown.split()) and "in paid use 5% of the time, which bears" in shown


def test_tables_show_power_energy_of_a_token_and_cost(small: Make) -> None:
    result = with_energy(small())
    assert result.energy is not None and result.cost is not None
    shown = text(result_tables(result, 1.0, None, run_of(result, 15e12, 0.9)))
    for title in ("Energy of a step", "Cost (facility default)", "The whole training of 15 T tokens"):
        assert title in shown
    assert "80 kW" in shown and "600 W; 7.6 kW" in shown
    assert "racks of four nodes draw 30.4 kW" in shown
    assert "25% of the time" in shown
    assert f"{result.cost.chip_hour:.2f} USD" in shown
    assert f"{result.energy.per_token:.4g} J" in shown
    assert "MWh" in shown and "days" in shown
    assert "!  facility default: interest" in shown


def test_nothing_is_shown_of_what_is_not_known(small: Make) -> None:
    result = replace(simulate(replace(small(), facility=None), evaluator="analytic"), energy=None)
    shown = text(result_tables(result, 1.0, None))
    assert "Energy of" not in shown and "Cost (" not in shown


def test_a_comparison_shows_energy_and_cost_side_by_side(small: Make) -> None:
    one, other = with_energy(small()), with_energy(small(facility="hyperscaler"))
    found = compare(one, other)
    shown = text(comparison_tables(found, "one", "other"))
    assert one.cost is not None and other.cost is not None
    for row in ("power, with the building", "energy of a token", "an hour of a chip", "a million tokens"):
        assert row in shown
    data = found.to_dict()
    assert data["a"]["chip_hour"] == one.cost.chip_hour
    assert data["b"]["power"] == other.energy.power  # type: ignore[union-attr]
    none = compare(one, replace(other, energy=None, cost=None)).to_dict()
    assert none["b"]["chip_hour"] is None and none["b"]["energy_per_token"] is None


def test_bars_are_what_a_chip_draws_and_costs(small: Make) -> None:
    result = with_energy(small())
    assert result.energy is not None and result.cost is not None
    energy = energy_stack([("64 chips", 64, result.energy)], "x")
    assert energy.power.sum() == pytest.approx(result.energy.power / 64)
    assert energy.band[0] == pytest.approx(0.12 * result.energy.power / 64)
    cost = cost_stack([("64 chips", 64, result.cost)], "x")
    assert cost.hour.sum() == pytest.approx(result.cost.chip_hour)
    assert cost.capex.sum() == pytest.approx(sum(result.cost.capex.values()) / 64e3)
    # what is nothing has no entry
    assert "staff" not in cost.parts and "maintenance" not in cost.bought


RENTED = Cost(
    facility="cloud", capex={}, hour={"rent": 16_384 * 4.9}, chip_hour=4.9, span=1.0, per_million_tokens=8.5,
    utilisation=1.0, error=0.15,
)  # fmt: skip


def test_figures_have_units_and_overlap_nothing() -> None:
    bought = replace(RENTED, capex={"chips": 25e3, "network": 1.0}, hour={"chips": 1.7}, chip_hour=1.7)
    rows = [("1 chip", 1, bought), ("rented", 16_384, RENTED)]
    one, many = made_up_energy(1, 4.6, 1e6, course=False), made_up_energy(16_384, 4.6, 1e6)
    made = energy_stack([("1 chip", 1, one), ("16,384 chips", 16_384, many)], "what is drawn", "made")
    for figure in (
        draw_energy(made),
        draw_cost(cost_stack(rows, "what it costs", "made", {0: {"elsewhere": 2.0}})),
    ):
        figure.canvas.draw()
        for ax in figure.axes:
            assert "[" in ax.get_xlabel()
            boxes = [one.get_window_extent() for one in ax.texts if one.get_text() != "elsewhere"]
            assert all(box.x1 <= figure.bbox.width for box in boxes)
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_a_figure_is_the_same_bytes_each_time() -> None:
    stack = cost_stack([("rented", 16_384, RENTED)], "rented alone")
    assert render_as(draw_cost(stack), "svg") == render_as(draw_cost(stack), "svg")


def test_numbers_in_words() -> None:
    assert [parse_tokens(one) for one in ("15T", "300B", "1.5e12", "2_000", "8k")] == [15e12, 3e11, 1.5e12, 2e3, 8e3]
    for wrong in ("", "T", "-1T", "1e99", "0", "15 X", "nan"):
        with pytest.raises(SpecError, match="--tokens"):
            parse_tokens(wrong)
    assert [count_words(one) for one in (15e12, 3e11, 8e6, 12)] == ["15 T", "300 B", "8 M", "12"]
    assert [dollars(one) for one in (0.00123, 0.5, 2.0446, 33_500)] == [
        "0.00123 USD",
        "0.5 USD",
        "2.04 USD",
        "33,500 USD",
    ]


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    (tmp_path / "job.yaml").write_text(SMALL)

    def run(*options: str) -> tuple[int, str]:
        arguments = ["run", str(tmp_path / "job.yaml"), "--evaluator", "analytic", "--json", *options]
        found = CliRunner().invoke(cli, arguments)
        if isinstance(found.exception, ScaleoutError):
            return 2, str(found.exception)
        return found.exit_code, found.stdout

    return run


def test_run_tells_of_a_whole_training_and_draws_its_cost(run: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    code, output = run("--tokens", "300B", "--goodput", "0.9", "--cost", str(tmp_path / "cost.svg"))
    assert code == 0, output
    data = json.loads(output)
    assert data["training"]["tokens"] == 3e11
    assert data["training"]["cost"] == pytest.approx(data["cost"]["per_million_tokens"] * 3e5 / 0.9)
    assert b"an hour of a chip [USD/h]" in (tmp_path / "cost.svg").read_bytes()
    # what is beside the result is left out when it is read
    assert Result.from_json(output).cost is not None


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--goodput", "0.9"), "goes with --tokens"),
        (("--tokens", "many"), "is not a number of tokens"),
        (("--tokens", "1T", "--chips", "8,16"), "leave out --chips"),
        (("--cost", "cost.pdf"), "a figure ends in"),
        (("--set", "facility=nowhere"), "nowhere"),
        (("--set", "system.chip=a100-pcie-80gb", "--set", "facility=cloud"), "rents no a100-pcie-80gb"),
    ],
)
def test_what_cannot_be_is_said(run: Callable[..., tuple[int, str]], options: tuple[str, ...], told: str) -> None:
    code, output = run(*options)
    assert code == 2
    assert told in " ".join(output.split())


def test_the_script_of_the_cost_stack_draws_what_is_in_the_gallery() -> None:
    spec = importlib.util.spec_from_file_location("cost_stack", PLOTS / "cost_stack.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    found = script.measure()
    assert found.labels[0] == "1 H100"
    many, half = found.hour[1], found.hour[3]
    paid = [part for part in found.parts if part not in ("electricity", "rent")]
    for part in paid:
        assert half[found.parts.index(part)] == pytest.approx(2 * many[found.parts.index(part)])
    # a rent is all there is
    assert (found.hour[4] > 0).sum() == 1
    assert found.capex[4].sum() == 0
