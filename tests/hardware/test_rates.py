"""Products off the grid of 8 elements miss the tensor cores."""

import pytest

from scaleout.hardware import pack
from scaleout.hardware.rates import matmuls
from scaleout.io.catalogue import load

A100 = load("system", "jean-zay-a100").chip
RATES = pack(A100, load("stack", "megatron-deepspeed-pipeline"), "fp16")
HEADS, TOKENS = 64.0, 2048.0


@pytest.mark.parametrize("size", [104.0, 112.0, 144.0])
def test_heads_on_the_grid_run_on_tensor_cores(size: float) -> None:
    seconds = matmuls(HEADS, TOKENS, TOKENS, size, RATES)
    assert 2 * HEADS * TOKENS * TOKENS * size / seconds > 2 * A100.peak_flops["fp32"]


@pytest.mark.parametrize("size", [100.0, 108.0, 111.0])
@pytest.mark.parametrize("inner", [True, False])
def test_heads_off_the_grid_run_at_half_the_fp32_rate(size: float, inner: bool) -> None:
    n, k = (TOKENS, size) if inner else (size, TOKENS)
    seconds = matmuls(HEADS, TOKENS, n, k, RATES)
    assert 2 * HEADS * TOKENS * n * k / seconds == pytest.approx(A100.peak_flops["fp32"] / 2)
