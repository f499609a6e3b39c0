import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.elementwise import PASSES, elementwise_seconds, elementwise_vector, operation_vector
from scaleout.io.catalogue import list_names, load
from scaleout.specs import ElementwiseConstants

CHIPS = {name: chip for name in list_names("chip") if not (chip := load("chip", name)).like}
"""Those whose kernels were measured; others have the same constants."""
CASES = [(chip, operation) for chip, spec in CHIPS.items() for operation in spec.elementwise]


@pytest.mark.parametrize("case", CASES, ids="-".join)
@settings(deadline=None)  # the first call compiles
@given(tokens=st.sampled_from([1, 63, 217, 4096, 10**6]), width=st.sampled_from([1, 640, 8192, 28672, 10**6]))
def test_no_operation_is_above_hbm_or_its_l2_rate_and_compiled_is_the_same(case, tokens, width):  # type: ignore[no-untyped-def]
    chip, operation = CHIPS[case[0]], case[1]
    c, constants = elementwise_vector(chip, operation), chip.elementwise[operation]
    seconds = elementwise_seconds(float(tokens), float(width), 2.0, c)
    assert seconds == elementwise_seconds.compiled(float(tokens), float(width), 2.0, c)
    moved = PASSES[operation] * tokens * width * 2.0
    rate = max(constants.efficiency, constants.l2_ratio or 0.0) * chip.hbm_bandwidth
    assert constants.launch + moved / rate <= seconds * (1 + 1e-12) < math.inf
    if moved > 1.5 * (chip.l2_bytes or 0.0):
        assert seconds >= moved / chip.hbm_bandwidth


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_time_is_the_launch_for_little_and_proportional_for_much(case) -> None:  # type: ignore[no-untyped-def]
    chip, operation = CHIPS[case[0]], case[1]
    c = elementwise_vector(chip, operation)
    constants = chip.elementwise[operation]
    fixed = constants.launch + constants.row_overhead
    assert elementwise_seconds(1.0, 1.0, 2.0, c) == pytest.approx(fixed, rel=0.01)
    once, twice = (elementwise_seconds(tokens, 8192.0, 2.0, c) for tokens in (1e6, 2e6))
    assert twice / once == pytest.approx(2.0, rel=0.01)


def test_bytes_over_bandwidth_in_closed_form() -> None:
    chip = CHIPS["a100-sxm-80gb"]
    plain = ElementwiseConstants(launch=2e-6, efficiency=0.5, source="made up")
    c = operation_vector(chip, plain, 3.0)
    assert elementwise_seconds(1e5, 4096.0, 2.0, c) == pytest.approx(2e-6 + 3 * 1e5 * 4096 * 2 / (2.039e12 * 0.5))


def test_one_row_more_than_the_cores_hold_takes_a_second_wave() -> None:
    # microsoft/vidur at 7d47513, rmsnorm of 5,120 elements on A100: 6 us for 192 tokens, 10 us for 256;
    # a block of 1,024 threads to a token, two to a core, 108 cores
    c = elementwise_vector(CHIPS["a100-sxm-80gb"], "rmsnorm")
    one, two = (elementwise_seconds(tokens, 5120.0, 2.0, c) * 1e6 for tokens in (216.0, 217.0))
    assert two > 1.3 * one


# microsoft/vidur at 7d47513, data/profiling/compute: one row of its tables each; times in us
PUBLISHED = [
    ("a100-sxm-80gb", "add", 16384, 8192, 473.0),
    ("a100-sxm-80gb", "rmsnorm", 4096, 8192, 189.5),
    ("a100-sxm-80gb", "rope", 8192, 9216, 351.0),
    ("a100-sxm-80gb", "silu_mul", 4096, 22016, 521.5),
    ("a100-sxm-80gb", "embedding", 4096, 8192, 426.5),
    ("h100-sxm-80gb", "add", 4096, 8192, 63.0),
    ("h100-sxm-80gb", "rmsnorm", 256, 8192, 6.0),
    ("h100-sxm-80gb", "silu_mul", 2048, 22016, 142.0),
    ("h100-sxm-80gb", "embedding", 1024, 8192, 54.0),
    ("a40", "rmsnorm", 4096, 8192, 312.0),
    ("a40", "silu_mul", 1024, 22016, 252.0),
]


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: "-".join(map(str, row[:4])))
def test_published_times_are_met_within_20_percent(row) -> None:  # type: ignore[no-untyped-def]
    chip, operation, tokens, width, measured = row
    c = elementwise_vector(CHIPS[chip], operation)
    assert elementwise_seconds(float(tokens), float(width), 2.0, c) * 1e6 == pytest.approx(measured, rel=0.2)


def test_an_operation_without_constants_is_refused_by_name() -> None:
    with pytest.raises(SpecError, match="no elementwise constants for 'rmsnrm'"):
        elementwise_vector(CHIPS["a100-sxm-80gb"], "rmsnrm")
