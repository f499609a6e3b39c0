"""Power of chips: the measured rows, limits, and what a lower limit does."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.power import default_energy, drawn, energy_of, flop_energy, limit_of, throttled
from scaleout.io.catalogue import load
from scaleout.specs import Chip

H200, B200, H100 = (load("chip", name) for name in ("h200-sxm-141gb", "b200-sxm-180gb", "h100-sxm-80gb"))


def power(chip: Chip, flop: float = 0.0, nbytes: float = 0.0, dtype: str = "bf16") -> float:
    """Of a chip that does so much every second [W]."""
    work = np.array([flop, 0.0, 0.0, nbytes])
    one = drawn(chip, (dtype, "bf16"), work, np.array(1.0), np.array(0.0), np.array(1.0))
    return energy_of(chip).idle + float(one.compute + one.vector + one.hbm)


def test_large_products_draw_what_was_measured() -> None:
    # power columns of ai-dynamo/aiconfigurator 095f58a, runs of a second
    assert power(H200, 688e12) == pytest.approx(691, rel=0.01)
    assert power(H200, 1053e12, dtype="fp8") == pytest.approx(689, rel=0.01)
    assert power(B200, 1427e12) == pytest.approx(983, rel=0.01)


@pytest.mark.parametrize(
    ("chip", "share", "watts"),
    [
        (H200, 0.25, 210), (H200, 0.45, 280), (H200, 0.55, 310), (H200, 0.65, 369), (H200, 0.75, 435),
        (H200, 0.85, 497), (H200, 0.854, 592), (B200, 0.813 * 7.7 / 8, 709),
    ],
)  # fmt: skip
def test_kernels_that_memory_binds_draw_what_was_measured_to_a_sixth(chip: Chip, share: float, watts: float) -> None:
    assert power(chip, nbytes=share * chip.hbm_bandwidth) == pytest.approx(watts, rel=0.17)


@given(st.floats(0, 4e15), st.floats(0, 8e12), st.floats(160, 1000))
@settings(max_examples=25)
def test_power_lies_between_idle_and_the_limit(flop: float, nbytes: float, limit: float) -> None:
    chip = replace(H200, power_limit=limit)
    drawn_power = power(chip, flop, nbytes)
    assert 148 - 1e-9 <= drawn_power <= min(limit, 700) + 1e-6
    if drawn_power < min(limit, 700) - 1e-6:
        # nothing is lost below it
        alone = power(chip, flop) + power(chip, nbytes=nbytes) - 148
        assert drawn_power == pytest.approx(alone)


def test_default_constants_draw_the_limit_in_long_products_and_are_marked() -> None:
    made = default_energy(H200)
    assert made.idle + made.flop["bf16"] * 688e12 == pytest.approx(700)
    assert made.idle == pytest.approx(energy_of(H200).idle, rel=0.1)
    assert made.hbm == pytest.approx(energy_of(H200).hbm, rel=0.2)
    assert {"idle", "flop", "hbm"} <= set(made.unverified)
    bare = replace(H200, energy=None)
    # fewer bits by the exponent, beside what was measured
    assert flop_energy(bare, "fp8") == pytest.approx(0.51e-12, rel=0.05)
    assert default_energy(replace(bare, power=350.0)).idle == pytest.approx(made.idle / 2)


@pytest.mark.parametrize("chip", [H200, B200, H100])
def test_no_limit_below_the_board_s_own_changes_nothing(chip: Chip) -> None:
    assert throttled(chip) is chip
    same = replace(chip, power_limit=chip.power)
    assert throttled(same) is same


@pytest.mark.parametrize("chip", [H200, B200, H100])
def test_a_lower_limit_is_never_faster_and_holds_once(chip: Chip) -> None:
    last = chip
    for watts in np.linspace(chip.power, energy_of(chip).idle, 12)[1:-1].tolist():
        slow = throttled(replace(chip, power_limit=watts))
        assert throttled(slow) is slow
        assert limit_of(slow) == pytest.approx(watts)
        assert energy_of(slow) == energy_of(chip)
        for dtype, rate in slow.sustained.items():
            assert 0.0 < rate <= last.sustained.get(dtype, chip.peak_flops[dtype])
        for name, kernel in slow.attention.items():
            for dtype, c in kernel.prefill.items():
                assert 0.0 < c.efficiency <= last.attention[name].prefill[dtype].efficiency
            assert kernel.decode == chip.attention[name].decode
        assert slow.hbm_bandwidth == chip.hbm_bandwidth
        last = slow


def test_the_rate_follows_the_power_above_idle() -> None:
    # 688 TFLOP/s at 691.5 W; half the power above idle leaves a share of 0.5^0.5
    half = 148 + (148 + 0.79e-12 * 688e12 - 148) / 2
    slow = throttled(replace(H200, power_limit=half))
    assert slow.sustained["bf16"] == pytest.approx(688e12 * 0.5**0.5)


def test_a_limit_that_idling_exceeds_is_refused() -> None:
    with pytest.raises(SpecError, match=r"power_limit: 100 W is not above the 148 W that h200-sxm-141gb draws at rest"):
        throttled(replace(H200, power_limit=100.0))
