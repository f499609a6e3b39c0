"""Knobs: each turns what it says and nothing else."""

from dataclasses import fields, replace
from typing import Any

import pytest

from scaleout.architect.knobs import knob_of, knobs_of
from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.specs import System

SHEET: System = load("system", "dgx-h100")
DESIGN = replace(SHEET, chip=load("chip", "example-training-chip"))


def changed(one: Any, other: Any) -> set[str]:
    return {f.name for f in fields(one) if getattr(one, f.name) != getattr(other, f.name)}


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("tensor", {"peak_flops"}),
        ("vector", {"peak_flops", "exponentials"}),
        ("hbm-bandwidth", {"hbm_bandwidth"}),
        ("hbm-capacity", {"hbm_bytes"}),
        ("l2", {"l2_bytes"}),
        ("launch", {"gemm"}),
        ("power-limit", {"power", "energy", "sustained"}),
        ("energy-per-flop", {"energy", "sustained"}),
        ("energy-per-byte", {"energy"}),
    ],
)
def test_a_knob_of_a_data_sheet_turns_its_figures_alone(name: str, parts: set[str]) -> None:
    turned = knob_of(SHEET, name).turn(SHEET, 1.1)
    assert changed(SHEET, turned) == {"chip"}
    assert changed(SHEET.chip, turned.chip) == parts


@pytest.mark.parametrize("name", [knob.name for knob in knobs_of(SHEET) if knob.name not in ("power-limit",)])
def test_a_turn_and_its_opposite_leave_the_machine_as_it_was(name: str) -> None:
    knob = knob_of(SHEET, name)
    back = knob.turn(knob.turn(SHEET, 1.02), 1 / 1.02)
    for spec in ("chip", "scale_up", "network"):
        one, other = getattr(SHEET, spec), getattr(back, spec)
        for part in changed(one, other):
            before, after = getattr(one, part), getattr(other, part)
            if isinstance(before, int | float):
                assert after == pytest.approx(before)
    for dtype, rate in SHEET.chip.peak_flops.items():
        assert back.chip.peak_flops[dtype] == pytest.approx(rate)
    for dtype, rate in SHEET.chip.sustained.items():
        assert back.chip.sustained[dtype] == pytest.approx(rate)


def test_rates_of_a_design_follow_from_its_knobs() -> None:
    for name in ("clock", "macs", "cores"):
        turned = knob_of(DESIGN, name).turn(DESIGN, 1.25).chip
        assert turned.peak_flops["bf16"] == pytest.approx(1.25 * DESIGN.chip.peak_flops["bf16"])
        assert turned.design is not None
    turned = knob_of(DESIGN, "lanes").turn(DESIGN, 2.0).chip
    assert turned.peak_flops["fp32"] == pytest.approx(2.0 * DESIGN.chip.peak_flops["fp32"])
    assert turned.peak_flops["bf16"] == DESIGN.chip.peak_flops["bf16"]
    turned = knob_of(DESIGN, "power-limit").turn(DESIGN, 1.5).chip
    assert turned.power == turned.design.power == pytest.approx(1.5 * DESIGN.chip.power)


def test_links_are_turned_on_the_die_and_in_the_system() -> None:
    turned = knob_of(DESIGN, "scale-up-bandwidth").turn(DESIGN, 2.0)
    assert turned.scale_up.bandwidth == 2.0 * DESIGN.scale_up.bandwidth
    assert turned.chip.design.link_bandwidth == 2.0 * DESIGN.chip.design.link_bandwidth
    sooner = knob_of(SHEET, "network-latency").turn(SHEET, 2.0).network
    assert sooner.latency == SHEET.network.latency / 2.0
    assert sooner.hop_latency == SHEET.network.hop_latency / 2.0


def test_a_machine_has_the_knobs_of_what_it_has() -> None:
    alone = replace(SHEET, network=replace(SHEET.network, kind="none", bandwidth=0.0))
    assert {knob.name for knob in knobs_of(SHEET)} - {knob.name for knob in knobs_of(alone)} == {
        "network-bandwidth", "network-latency",
    }  # fmt: skip
    assert {"clock", "cores", "macs"} <= {knob.name for knob in knobs_of(DESIGN)}
    with pytest.raises(SpecError, match="did you mean 'power-limit'"):
        knob_of(SHEET, "power-limits")
    with pytest.raises(SpecError, match=r"unknown to dgx-h100.*known: "):
        knob_of(SHEET, "zzz")
