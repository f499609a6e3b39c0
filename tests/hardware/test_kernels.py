import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware import Kernels
from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.io.catalogue import load

STACK = load("stack", "megatron-lm")
SIZES = st.sampled_from([1, 7, 64, 100, 512, 1000, 4096, 8192, 20000])


@given(m=SIZES, n=SIZES, k=SIZES)
def test_gemm_is_the_long_run_time_of_one_kernel_and_the_gap_to_the_next(m: int, n: int, k: int) -> None:
    chip = load("chip", "h100-sxm-80gb")
    alone = gemm_seconds(m, n, k, 2.0, gemm_vector(chip, "bf16", sustained=chip.sustained))
    assert Kernels(chip, STACK, "bf16").gemm(m, n, k) == alone + STACK.kernel_gap


@given(m=SIZES, n=SIZES, k=SIZES)
def test_gemm_takes_no_longer_on_a_chip_with_a_higher_rate(m: int, n: int, k: int) -> None:
    chip = load("chip", "h100-sxm-80gb")
    faster = dataclasses.replace(chip, peak_flops={"bf16": 2 * chip.flops("bf16")})
    assert Kernels(faster, STACK, "bf16").gemm(m, n, k) <= Kernels(chip, STACK, "bf16").gemm(m, n, k)


def test_a_wave_more_costs_time_on_a_chip_without_stream_k() -> None:
    kernels = Kernels(load("chip", "a100-sxm-80gb"), STACK, "bf16")
    # 108 cores: 108 tiles of 256 x 128 fill one wave, one more tile takes a second
    one, two = kernels.gemm(128 * 108, 256, 8192), kernels.gemm(128 * 109, 256, 8192)
    assert two > one


@given(sequence=st.sampled_from([128, 1024, 8192]), heads=st.integers(1, 32), backward=st.booleans())
def test_attention_is_never_above_peak_or_above_hbm(sequence: int, heads: int, backward: bool) -> None:
    chip = load("chip", "h100-sxm-80gb")
    time = Kernels(chip, STACK, "bf16").attention(1, sequence, heads, 1, 128, backward=backward)
    causal = 4 * sequence**2 / 2 * heads * 128 * (2.5 if backward else 1)
    assert time >= causal / chip.flops("bf16")
    assert time >= 2 * sequence * 128 * (2 * heads + 2) / chip.hbm_bandwidth


def test_attention_forward_on_h100_meets_the_published_rate() -> None:
    # FlashAttention-3 (arXiv 2407.08608), FlashAttention-2 forward, causal, 16k tokens in batches
    # of one sequence, head size 128: 335 TFLOP/s
    chip = load("chip", "h100-sxm-80gb")
    time = Kernels(chip, STACK, "bf16").attention(1, 16384, 16, 16, 128)
    assert 4 * 16384**2 / 2 * 16 * 128 / time / 1e12 == pytest.approx(335, rel=0.05)


def test_elementwise_is_bytes_over_reached_bandwidth_plus_gaps() -> None:
    chip = load("chip", "h100-sxm-80gb")
    expected = 1e9 / (3.35e12 * STACK.elementwise_efficiency) + 3 * STACK.kernel_gap
    assert Kernels(chip, STACK, "bf16").elementwise(1e9, kernels=3) == pytest.approx(expected)


def test_both_halves_have_the_same_constants_and_others_are_refused_by_name() -> None:
    chip = load("chip", "h100-sxm-80gb")
    assert Kernels(chip, STACK, "fp16").gemm(512, 512, 512) == Kernels(chip, STACK, "bf16").gemm(512, 512, 512)
    with pytest.raises(SpecError, match="no gemm constants for 'int8'"):
        Kernels(chip, STACK, "int8")
    with pytest.raises(SpecError, match="attention kernel 'triton'"):
        Kernels(chip, dataclasses.replace(STACK, attention="triton"), "bf16")
