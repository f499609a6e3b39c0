"""Fused kernels of experts against bounds and plain products."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.gemm import gemm_constants, gemm_seconds, gemm_vector
from scaleout.hardware.moe import Loads, experts_seconds, loads
from scaleout.io.catalogue import load

H100 = load("chip", "h100-sxm-80gb")


@given(
    tokens=st.integers(1, 8192), top_k=st.integers(1, 8), ranks=st.sampled_from([1, 2, 8, 32]),
    exponent=st.sampled_from([None, 0.3, 1.01, 1.2]),
)  # fmt: skip
def test_every_token_reaches_as_many_experts_as_it_chooses(
    tokens: int, top_k: int, ranks: int, exponent: float | None
) -> None:
    found = loads(tokens, top_k, 64, ranks, exponent)
    assert len(found.rows) == 64 // ranks
    even = tokens * top_k / ranks
    if ranks == 1:
        assert found.rows.sum() == pytest.approx(tokens * top_k)
    # the busiest rank of all has at least its share, and no expert a token twice
    assert found.rows.sum() >= even * (1 - 1e-9)
    assert (found.rows <= tokens * (1 + 1e-9)).all()
    assert ((found.taken > 0) & (found.taken <= 1)).all()


def test_time_is_above_arithmetic_and_traffic_and_one_expert_is_nearly_the_plain_products() -> None:
    each = Loads(np.array([8192.0]), np.array([1.0]))
    seconds = experts_seconds(H100, "bf16", 8192, 4096, 14336, each)
    assert seconds >= 6 * 8192 * 4096 * 14336 / H100.flops("bf16")
    vector = gemm_vector(H100, "bf16")
    plain = gemm_seconds(8192.0, 28672.0, 4096.0, 2.0, vector) + gemm_seconds(8192.0, 4096.0, 14336.0, 2.0, vector)
    grouped = gemm_constants(H100, "bf16").grouped
    assert grouped is not None
    assert plain <= seconds <= 1.15 * grouped.work * plain + grouped.launch


def test_few_tokens_read_the_weights_of_the_experts_that_they_choose() -> None:
    times = [experts_seconds(H100, "bf16", n, 4096, 1536, loads(n, 8, 128, 1, None)) for n in (1, 4, 16, 64, 4096)]
    assert times == sorted(times)
    # all experts are read from 16 tokens on, so that 64 take little longer
    assert times[3] < 1.2 * times[2]
    weights = 128 * 3 * 4096 * 1536 * 2
    assert times[2] >= weights / H100.hbm_bandwidth * 0.8


def test_a_chip_without_constants_is_refused() -> None:
    with pytest.raises(SpecError, match="fused experts"):
        experts_seconds(load("chip", "v100-sxm-16gb"), "fp16", 8, 64, 64, loads(8, 1, 8, 1, None))
