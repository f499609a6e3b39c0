"""Prices, and what an hour of them costs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.cost import YEAR, Group, Ports, bill, hour_of, recovery
from scaleout.io.catalogue import list_names, load
from scaleout.network.inventory import inventory
from scaleout.specs import Chip, Facility, NodeCosts

DEFAULT: Facility = load("facility", "default")
H100: Chip = replace(load("chip", "h100-sxm-80gb"), price=25e3, price_source="made up")
NODE = NodeCosts(idle=1e3, busy=4.6e3, price=110e3, source="310 kUSD with its chips")


@settings(max_examples=30)
@given(rate=st.floats(0.001, 0.6), years=st.integers(1, 30))
def test_payments_are_worth_the_price_today(rate: float, years: int) -> None:
    paid = recovery(rate, years * YEAR)
    assert sum(paid / (1 + rate) ** year for year in range(1, years + 1)) == pytest.approx(1, rel=1e-9)


@settings(max_examples=30)
@given(years=st.floats(0.5, 40))
def test_without_interest_a_price_is_divided_by_the_life(years: float) -> None:
    assert recovery(0.0, years * YEAR) == pytest.approx(1 / years, rel=1e-12)
    assert recovery(1e-9, years * YEAR) == pytest.approx(1 / years, rel=1e-7)
    assert recovery(0.1, years * YEAR) > recovery(0.05, years * YEAR) > 1 / years


def sheet(chips: int, kind: str, node: float) -> float:
    """Price of a chip with all that belongs to it, as a published sheet of August 2024 adds it up [USD].

    310 kUSD a node, 36 kUSD a switch of 64 ports, 1,280 USD a cable with its modules, 50 kUSD a node for its place.
    """
    system = load("system", "dgx-h100")
    net = inventory(replace(system, network=replace(system.network, kind=kind)), chips)
    place = replace(DEFAULT, optics_price=640.0, switch_price=36e3, building=0.0)
    group = Group(H100, chips, 8, replace(NODE, price=node - 8 * 25e3))
    found = bill(place, [group], Ports(net.ends, net.switch_ports, net.rate))
    assert found.capex["chips"] + found.capex["nodes"] == pytest.approx(node * chips / 8)
    return (sum(found.capex.values()) + 50e3 * chips / 8) / chips


@pytest.mark.parametrize(
    ("chips", "kind", "node", "printed"),
    [
        (512, "rail-only", 310e3, 46_883),
        (1024, "rail-only", 310e3, 49_248),
        (4096, "rail-only", 300e3, 47_998),
        (16_384, "rail-only", 310e3, 49_248),
        (32_768, "rail-fat-tree", 310e3, 51_613),
    ],
)
def test_a_published_sheet_of_clusters_of_h100_is_met(chips: int, kind: str, node: float, printed: float) -> None:
    # its cables are rounded: 1,320 USD a chip with one tier, 3,800 with three
    assert sheet(chips, kind, node) == pytest.approx(printed, rel=1.5e-3)


def test_the_parts_of_the_sheet_for_16384_are_met() -> None:
    system = load("system", "dgx-h100")
    net = inventory(replace(system, network=replace(system.network, kind="rail-only")), 16_384)
    assert net.switch_ports / 64 * 36e3 == pytest.approx(27.648e6)
    assert net.ends * 640 == pytest.approx(41.943e6, rel=1e-5)


def test_four_years_without_interest_are_a_dollar_seventy_eight_an_hour() -> None:
    place = replace(
        DEFAULT, interest=0.0, life=4 * YEAR, maintenance=0.05, electricity=0.08 / 3.6e6, pue=1.25, building=0.0
    )
    group = Group(H100, 8, 8, replace(NODE, price=8 * (49_248 - 25e3)))
    found = hour_of(place, bill(place, [group], Ports()), 8 * 969 * place.pue, 0.0)
    machines = (found.parts["chips"] + found.parts["nodes"]) / 8
    assert machines == pytest.approx(1.40, abs=0.005)
    assert found.parts["maintenance"] / 8 == pytest.approx(0.28, abs=0.002)
    assert found.parts["electricity"] / 8 == pytest.approx(0.097, abs=5e-4)
    assert found.total / 8 == pytest.approx(1.78, abs=0.005)


def test_the_default_is_near_the_sheet_and_between_what_is_asked_as_rent() -> None:
    """2 USD/h in DeepSeek-V3's account of an H800, 4.9 of an H100 in blocks, 10.8 on demand."""
    net = inventory(load("system", "dgx-h100"), 16_384)
    group = Group(H100, 16_384, 8, NODE)
    found = bill(DEFAULT, [group], Ports(net.ends, net.switch_ports, net.rate))
    # a tier of switches more than the sheet, and no place
    assert found.machines / 16_384 == pytest.approx(49_248 - 6_250, rel=0.06)
    an_hour = hour_of(DEFAULT, found, DEFAULT.load * found.draw * DEFAULT.pue, 0.3).total / 16_384
    assert 1.78 < an_hour < 4.9


@settings(max_examples=15)
@given(many=st.integers(1, 10_000), scale=st.integers(2, 9))
def test_so_many_times_the_machines_cost_so_many_times(many: int, scale: int) -> None:
    bills = [bill(DEFAULT, [Group(H100, many * k, 8, NODE)], Ports(many * k, 2 * many * k, 50e9)) for k in (1, scale)]
    hours = [hour_of(DEFAULT, one, 1e3 * many * k, 0.1) for one, k in zip(bills, (1, scale), strict=True)]
    assert hours[1].total == pytest.approx(scale * hours[0].total, rel=1e-9)
    assert hours[1].doubt == pytest.approx(scale * hours[0].doubt, rel=1e-9)


def test_hours_without_work_are_borne_by_those_with_work_but_for_electricity() -> None:
    one = bill(DEFAULT, [Group(H100, 8, 8, NODE)], Ports())
    full, half = (hour_of(replace(DEFAULT, utilisation=share), one, 8e3, 0.1).parts for share in (1.0, 0.5))
    for part in full:
        assert half[part] == pytest.approx(full[part] * (1 if part == "electricity" else 2)), part
    assert full["electricity"] == pytest.approx(8.0 * 0.0806)


def test_ports_of_another_rate_are_in_proportion() -> None:
    slow, fast = (bill(DEFAULT, [], Ports(128, 96, rate)) for rate in (25e9, 100e9))
    assert fast.capex["network"] == pytest.approx(4 * slow.capex["network"])
    assert fast.draw == pytest.approx(4 * slow.draw)
    assert slow.capex["network"] == pytest.approx((96 / 64 * 36e3 + 128 * 640) / 2)


def test_prices_that_nobody_knows_follow_from_the_watt_and_are_doubted_more() -> None:
    unknown = replace(H100, price=None)
    found = bill(DEFAULT, [Group(unknown, 10, 8)], Ports())
    assert found.capex["chips"] == 10 * 700 * 40
    assert found.capex["nodes"] == pytest.approx(0.64 * found.capex["chips"])
    assert found.draw == pytest.approx(10 * 700 * 1.82)
    assert found.capex["building"] == pytest.approx(11.7 * found.draw)
    # what follows from a price is off with it, and by its own
    assert found.doubt[0] == pytest.approx(math.hypot(0.4 * found.machines, 0.15 * found.capex["nodes"]))
    known = bill(DEFAULT, [Group(H100, 10, 8, NODE)], Ports())
    assert known.doubt[0] == pytest.approx(0.15 * known.machines)
    assert known.doubt[0] / known.machines < found.doubt[0] / found.machines


def test_a_chip_held_below_its_power_needs_a_smaller_building_at_the_same_price() -> None:
    held = replace(H100, power_limit=500.0, price=None)
    whole, less = (
        bill(DEFAULT, [Group(chip, 8, 8, NODE)], Ports()) for chip in (replace(held, power_limit=None), held)
    )
    assert less.capex["chips"] == whole.capex["chips"]
    assert whole.draw - less.draw == pytest.approx(8 * 200)


def test_rent_is_all_that_a_rented_chip_costs() -> None:
    cloud = load("facility", "cloud")
    group = Group(H100, 8, 8, NODE)
    found = hour_of(cloud, bill(cloud, [group], Ports(10, 10, 50e9)), 1e9, 0.5)
    assert found.parts == {"rent": pytest.approx(8 * 4.916)}
    with pytest.raises(SpecError, match=r"rents no l40s.*or give it a rent"):
        bill(cloud, [Group(load("chip", "l40s"), 1, 1)], Ports())


@pytest.mark.parametrize("name", list_names("facility"))
def test_every_figure_of_a_facility_has_a_source(name: str) -> None:
    place = load("facility", name)
    for figure in ("pue", "electricity", "life", "building", "switch_price", "optics_power", "chip_price"):
        assert place.source(figure) != "no source"


def test_a_figure_without_a_source_is_refused() -> None:
    sources = {name: text for name, text in DEFAULT.sources.items() if name != "pue"}
    with pytest.raises(SpecError, match=r"facility\.pue: has no source"):
        replace(DEFAULT, sources=sources)
    assert not replace(DEFAULT, sources=sources, unverified=("pue", *DEFAULT.unverified)).verified("pue")
    with pytest.raises(SpecError, match=r"facility\.staff: has no source"):
        replace(DEFAULT, staff=0.02)
    # what a place is for is nobody's claim
    assert replace(DEFAULT, rack_power=40e3, utilisation=0.5, battery=3.6e6)
    with pytest.raises(SpecError, match=r"facility\.sources\.electricty: no field.*electricity"):
        replace(DEFAULT, sources={**DEFAULT.sources, "electricty": "x"})
    with pytest.raises(SpecError, match="0 s is not a life"):
        replace(DEFAULT, life=0.0)
    with pytest.raises(SpecError, match="missing 'power'"):
        replace(DEFAULT, doubt=dict.fromkeys(("price", "chip", "node", "network", "building"), 0.1))
