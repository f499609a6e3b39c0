"""Area, yield and cost: dies that were built, bills that others wrote, and what any such estimate must obey."""

from dataclasses import fields, replace
from typing import Any

import pytest

from scaleout.errors import SpecError
from scaleout.hardware.silicon import area_error, die_area, estimate, known_die
from scaleout.io.catalogue import load
from scaleout.specs import Design, MemoryKind, Process, Silicon

SILICON: Silicon = load("silicon", "default")
GH100 = SILICON.dies["GH100"].design
MEASURED = sorted(name for name, die in SILICON.dies.items() if not die.at_most)


@pytest.mark.parametrize("name", MEASURED)
def test_areas_of_dies_that_were_built(name: str) -> None:
    die = SILICON.dies[name]
    assert die_area(die.design, SILICON).total == pytest.approx(die.area, rel=0.12 if die.fitted else 0.30)


def test_the_error_that_is_told_is_the_one_of_the_dies() -> None:
    errors = {name: abs(die_area(d.design, SILICON).total / d.area - 1) for name, d in SILICON.dies.items()}
    told = area_error(SILICON)
    assert told.dies == len(MEASURED) >= 12
    assert told.mean == pytest.approx(sum(errors[name] for name in MEASURED) / len(MEASURED))
    assert told.worst == max(errors[name] for name in MEASURED)
    assert told.mean < 0.13
    assert told.held_out < 0.18


def test_estimates_stay_below_bounds_that_makers_gave() -> None:
    bounds = [die for die in SILICON.dies.values() if die.at_most and not die.fitted]
    assert len(bounds) >= 2
    for die in bounds:
        assert die_area(die.design, SILICON).total < die.area


@pytest.mark.parametrize("name", sorted(name for name, die in SILICON.dies.items() if die.cost))
def test_costs_beside_those_of_others(name: str) -> None:
    die = SILICON.dies[name]
    made = estimate(replace(die.design, area=die.area), SILICON)
    assert made.unit_cost == pytest.approx(die.cost, rel=0.20)


def test_parts_sum() -> None:
    made = estimate(GH100, SILICON)
    assert sum(made.area.parts.values()) == pytest.approx(made.area.total, rel=1e-12)
    assert sum(made.costs.values()) == pytest.approx(made.unit_cost, rel=1e-12)
    assert made.nre_share * made.volume == pytest.approx(sum(made.nre.values()), rel=1e-12)
    assert 144 * made.area.core < made.area.total


@pytest.mark.parametrize(
    "change",
    [
        {"cores": 140}, {"spare_cores": 20}, {"vector_lanes": 160.0}, {"sram": GH100.sram * 1.1}, 
        {"l2": GH100.l2 * 1.1},
        {"links": 20}, {"link_bandwidth": 30e9}, {"memory": replace(GH100.memory, stacks=6)},
        {"tensor": replace(GH100.tensor, macs={**GH100.tensor.macs, "bf16": 2200.0})},
        {"tensor": replace(GH100.tensor, macs={**GH100.tensor.macs, "fp64": 200.0})},
        {"process": "N5"},
    ],
)  # fmt: skip
def test_more_of_anything_takes_area(change: dict[str, Any]) -> None:
    assert die_area(replace(GH100, **change), SILICON).total > die_area(GH100, SILICON).total


def test_narrow_products_run_on_the_multipliers_of_wide_ones() -> None:
    unit = GH100.tensor
    narrow = replace(GH100, tensor=replace(unit, macs={**unit.macs, "fp4": 4 * unit.macs["bf16"]}))
    assert die_area(narrow, SILICON).total == pytest.approx(die_area(GH100, SILICON).total)


def test_dies_share_a_design_evenly_and_yield_more() -> None:
    two = replace(GH100, dies=2)
    one, half = estimate(GH100, SILICON), estimate(two, SILICON)
    assert 2 * half.area.total == pytest.approx(one.area.total, rel=1e-9)
    assert half.yield_ > one.yield_
    assert half.costs["compute dies"] < one.costs["compute dies"]
    assert half.costs["lost in assembly"] > one.costs["lost in assembly"]


def test_spare_cores_pay() -> None:
    without = replace(GH100, cores=144, spare_cores=0, area=814e-6)
    assert estimate(replace(GH100, area=814e-6), SILICON).yield_ > 1.3 * estimate(without, SILICON).yield_


def test_an_area_that_is_given_decides() -> None:
    made = estimate(replace(GH100, area=700e-6), SILICON)
    assert not made.area.estimated
    assert made.area.total == 700e-6
    assert made.per_wafer > estimate(GH100, SILICON).per_wafer


def test_defects_and_prices_reach_the_cost() -> None:
    node = SILICON.processes["N4"]
    worse = replace(SILICON, processes={**SILICON.processes, "N4": replace(node, defects=2 * node.defects)})
    dearer = replace(SILICON, processes={**SILICON.processes, "N4": replace(node, wafer=2 * node.wafer)})
    base = estimate(GH100, SILICON)
    assert estimate(GH100, worse).yield_ < base.yield_
    assert estimate(GH100, dearer).costs["compute dies"] == pytest.approx(2 * base.costs["compute dies"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sram": 4 * GH100.sram}, "larger than what a scanner prints"),
        ({"memory": replace(GH100.memory, bandwidth=2e12)}, "fastest grade"),
        ({"memory": replace(GH100.memory, stacks=60, capacity=1e9)}, "more than half of the die"),
        ({"cores": 1320, "spare_cores": 0}, "of the dies work"),
    ],
)
def test_what_no_fab_would_take_is_a_warning(change: dict[str, Any], words: str) -> None:
    assert any(words in line for line in estimate(replace(GH100, **change), SILICON).warnings)
    assert not estimate(GH100, SILICON).warnings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"process": "N5P"}, "did you mean 'N5'"),
        ({"memory": replace(GH100.memory, kind="hbm5")}, "did you mean 'hbm"),
        ({"tensor": replace(GH100.tensor, macs={"bfloat16": 1.0})}, "known"),
        ({"cores": 1_000_000}, "does not fit on a wafer"),
        ({"spare_cores": 0, "cores": 1320, "process": "bad"}, "none works"),
        ({"dies": 4, "memory": replace(GH100.memory, stacks=400)}, "interposer"),
    ],
)
def test_what_nobody_knows_is_refused(change: dict[str, Any], words: str) -> None:
    bad = replace(SILICON.processes["N4"], defects=1e10)
    silicon = replace(SILICON, processes={**SILICON.processes, "bad": bad}, model="poisson")
    with pytest.raises(SpecError, match=words):
        estimate(replace(GH100, **change), silicon)


def test_products_find_their_dies() -> None:
    assert known_die("h100-sxm-80gb", SILICON) is SILICON.dies["GH100"]
    assert known_die("nothing", SILICON) is None


def test_all_figures_have_sources_and_what_is_unverified_exists() -> None:
    for one in (*SILICON.processes.values(), *SILICON.memories.values(), SILICON.assembly, *SILICON.dies.values()):
        assert len(one.source) > 5
        assert set(one.unverified) <= {field.name for field in fields(one)}
    assert set(SILICON.unverified) <= {field.name for field in fields(Silicon)}
    told = {"mac", "lane", "cores", "overhead", "link", "host", "reticle", "edge", "scribe", "clustering", "volume"}
    assert told <= set(SILICON.sources)
    assert isinstance(SILICON.processes["N5"], Process)
    assert isinstance(SILICON.memories["hbm3"], MemoryKind)


def test_designs_refuse_what_no_die_can_be() -> None:
    with pytest.raises(SpecError, match="spare_cores"):
        replace(GH100, spare_cores=133)
    with pytest.raises(SpecError, match="dies"):
        replace(GH100, cores=4, spare_cores=0, dies=5)
    assert isinstance(GH100, Design)
