"""A higher power limit, or less energy an operation: the law of a lower limit, the other way."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.power import eased, energy_of, flop_energy, settled, throttled
from scaleout.io.catalogue import load
from scaleout.specs import Chip

H100: Chip = load("chip", "h100-sxm-80gb")
IDLE = energy_of(H100).idle


@given(limit=st.floats(1.0, 1.25))
@settings(max_examples=20)
def test_what_a_higher_limit_gives_the_old_one_takes_back(limit: float) -> None:
    higher = eased(H100, limit=limit)
    room = (limit * 700.0 - IDLE) / (700.0 - IDLE)
    assert higher.power == pytest.approx(limit * 700.0)
    assert higher.sustained["bf16"] == pytest.approx(688e12 * room**0.5)
    # at its rate it draws as much of its room as before
    drawn = higher.sustained["bf16"] * flop_energy(higher, "bf16")
    assert drawn == pytest.approx(room * 688e12 * flop_energy(H100, "bf16"))
    back = throttled(replace(higher, power_limit=700.0))
    assert back.sustained["bf16"] == pytest.approx(688e12, rel=0.016)


def test_rates_end_where_short_runs_end() -> None:
    far = eased(H100, limit=10.0)
    burst = max(c.compute_efficiency for c in H100.gemm.values() if hasattr(c, "compute_efficiency"))
    assert far.sustained["bf16"] == pytest.approx(burst * H100.peak_flops["bf16"])
    assert eased(far, limit=2.0).sustained == far.sustained


def test_less_energy_an_operation_is_time_where_the_limit_holds_and_joules_elsewhere() -> None:
    thrifty = eased(H100, flop=1.1)
    assert thrifty.power == 700.0
    assert thrifty.sustained["bf16"] == pytest.approx(688e12 * 1.1**0.5)
    # what is won is shared out: rate times energy draws as much as before
    assert thrifty.sustained["bf16"] * flop_energy(thrifty, "bf16") == pytest.approx(688e12 * 0.79e-12)
    assert thrifty.peak_flops == H100.peak_flops
    free = replace(H100, sustained={"bf16": 100e12})
    assert eased(free, flop=1.1).sustained == free.sustained
    assert flop_energy(eased(free, flop=1.1), "bf16") == pytest.approx(0.79e-12 / 1.1)


def test_a_lower_limit_is_that_of_throttled_and_must_leave_something() -> None:
    assert eased(H100, limit=0.8) == replace(
        throttled(replace(H100, power_limit=560.0)), energy=eased(H100, limit=0.8).energy
    )
    with pytest.raises(SpecError, match="at rest"):
        eased(H100, limit=0.1)


def test_what_is_settled_stays() -> None:
    design = load("chip", "example-training-chip")
    one = settled(design)
    assert settled(one) == one
    assert one.energy == energy_of(design)
    room = one.power - one.energy.idle
    for dtype, rate in one.sustained.items():
        # all that the limit leaves, where short runs do not reach further
        assert rate * flop_energy(one, dtype) >= room * (1 - 1e-9)
    assert settled(H100).sustained.items() >= H100.sustained.items()
    held = replace(H100, power_limit=500.0)
    assert settled(held).sustained.items() >= throttled(held).sustained.items()
    assert settled(held).power == 500.0
