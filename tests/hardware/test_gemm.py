"""Matrix multiplication on one chip: bounds, closed forms, published times."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.hardware.formats import FORMATS
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.io.catalogue import list_names, load
from scaleout.specs import Chip, GemmConstants, QuantiseConstants

CHIPS = {name: chip for name in list_names("chip") if not (chip := load("chip", name)).like}
"""Those whose kernels were measured; others have the same constants."""
PAIRS = [(name, dtype) for name, chip in CHIPS.items() for dtype in chip.gemm]
ROWS = st.integers(1, 1_000_000)
SIDE = st.one_of(st.integers(1, 300), st.integers(1, 200_000))
SHAPES = [(m, n, k) for m in (1, 5, 48, 300, 4096) for n in (1, 1536, 16384) for k in (1, 2048, 16384)]

# one tile, no edge, everything else switched off: times follow by hand
PLAIN = GemmConstants(
    compute_efficiency=0.5, hbm_efficiency=0.5, launch=0.0, tile_overhead=0.0, halo=0.0, wave_tail=1.0, norm=100.0,
    idle_cores=0.0, tiles=("128x256",), splits=(1,), source="by hand",
)  # fmt: skip
BARE = Chip(
    name="bare", vendor="none", cores=100, peak_flops={"bf16": 1e14, "fp32": 1e12, "fp8": 2e14}, hbm_bytes=1e9,
    hbm_bandwidth=1e12, power=1.0, gemm={"bf16": PLAIN}, source="by hand",
)  # fmt: skip

# ai-dynamo/aiconfigurator at 095f58a (Apache-2.0), its tables collected with TensorRT-LLM: microseconds
PUBLISHED = [
    ("a100-sxm-80gb", "bf16", 1, 4096, 12288, 64.85),
    ("a100-sxm-80gb", "bf16", 256, 6144, 4096, 57.75),
    ("a100-sxm-80gb", "bf16", 4096, 4096, 4096, 514.1),
    ("a100-sxm-80gb", "int4_wo", 256, 4096, 12288, 175.1),
    ("a100-sxm-80gb", "int4_wo", 4096, 4096, 12288, 1633),
    ("a100-sxm-80gb", "int8_wo", 256, 4096, 4096, 62.46),
    ("a100-sxm-80gb", "int8_wo", 4096, 4096, 4096, 549.9),
    ("a100-sxm-80gb", "sq", 1, 4096, 4096, 16.38),
    ("a100-sxm-80gb", "sq", 4096, 8192, 4096, 556),
    ("l40s", "bf16", 2048, 6144, 4096, 438.1),
    ("l40s", "fp8_block", 2048, 4096, 12288, 996.4),
    ("h100-sxm-80gb", "bf16", 1, 6144, 4096, 22.1),
    ("h100-sxm-80gb", "bf16", 256, 6144, 4096, 25.02),
    ("h100-sxm-80gb", "bf16", 4096, 4096, 12288, 506.4),
    ("h100-sxm-80gb", "fp8", 1, 4096, 4096, 18.49),
    ("h100-sxm-80gb", "fp8", 4096, 4096, 12288, 401.2),
    ("h100-sxm-80gb", "fp8_block", 1, 4096, 4096, 11.69),
    ("h100-sxm-80gb", "fp8_block", 4096, 6144, 4096, 200.2),
    ("b200-sxm-180gb", "bf16", 1, 4096, 12288, 20.83),
    ("b200-sxm-180gb", "bf16", 4096, 6144, 4096, 143.9),
    ("b200-sxm-180gb", "fp8", 1, 6144, 4096, 18.63),
    ("b200-sxm-180gb", "fp8", 4096, 4096, 4096, 81.01),
    ("b200-sxm-180gb", "fp8_block", 256, 8192, 4096, 14.51),
    ("b200-sxm-180gb", "nvfp4", 1, 4096, 12288, 29.61),
    ("b200-sxm-180gb", "nvfp4", 256, 4096, 12288, 30.75),
    ("b200-sxm-180gb", "nvfp4", 4096, 8192, 4096, 85.93),
]


@given(pair=st.sampled_from(PAIRS), m=ROWS, n=SIDE, k=SIDE)
def test_never_above_peak_nor_above_hbm(pair: tuple[str, str], m: int, n: int, k: int) -> None:
    chip, dtype = CHIPS[pair[0]], pair[1]
    shape = FORMATS[dtype]
    time = gemm_seconds(m, n, k, 2.0, gemm_vector(chip, dtype))
    assert time >= 2 * m * n * k / chip.flops(shape.rate)
    assert time >= (m * k * shape.left + k * n * shape.right + 2 * m * n) / chip.hbm_bandwidth
    assert time >= chip.gemm[dtype].launch


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_plain_and_compiled_agree_to_the_bit(name: str, dtype: str) -> None:
    for vector in (
        gemm_vector(CHIPS[name], dtype),
        gemm_vector(CHIPS[name], dtype, sustained=True, warm=True),
    ):
        for m, n, k in SHAPES:
            shape = float(m), float(n), float(k), 2.0
            assert gemm_seconds(*shape, vector) == gemm_seconds.compiled(*shape, vector)
            assert gemm_seconds(m, n, k, 8.0, vector) == gemm_seconds.compiled(m, n, k, 8.0, vector)
    cast = quantise_vector(CHIPS[name], dtype)
    assert quantise_seconds(12345.0, cast) == quantise_seconds.compiled(12345.0, cast)


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_more_rows_take_longer_up_to_a_change_of_kernel(name: str, dtype: str) -> None:
    vector = gemm_vector(CHIPS[name], dtype)
    for n, k in ((1, 1), (1024, 16384), (4096, 4096), (200_000, 128)):
        longest = 0.0
        for m in [*range(1, 600, 7), *(2**i for i in range(10, 21))]:
            time = gemm_seconds.compiled(float(m), float(n), float(k), 2.0, vector)
            # a few rows more may keep more cores busy; no more than the memory-bound part can gain
            assert time > longest * (0.99 if m >= 600 else 0.8)
            longest = max(longest, time)


@pytest.mark.parametrize(("name", "dtype"), PAIRS)
def test_deeper_and_wider_takes_longer(name: str, dtype: str) -> None:
    vector = gemm_vector(CHIPS[name], dtype)
    for m in (1, 64, 4096):
        for axis in (1, 2):
            shape = [float(m), 2048.0, 2048.0]
            before = gemm_seconds(*shape, 2.0, vector)
            shape[axis] *= 4
            assert gemm_seconds(*shape, 2.0, vector) > before


def test_full_waves_take_their_flops_over_the_reached_rate() -> None:
    vector = gemm_vector(BARE, "bf16")
    # 3 waves of 100 tiles of 128 x 256, deep enough to be bound by compute
    flops = 2.0 * (128 * 300) * 256 * 65536
    assert gemm_seconds(128 * 300, 256, 65536, 2.0, vector) == pytest.approx(flops / 0.5e14)
    # and one row more costs a wave more
    assert gemm_seconds(128 * 300 + 1, 256, 65536, 2.0, vector) == pytest.approx(4 / 3 * flops / 0.5e14)


def test_thin_products_take_their_bytes_over_the_reached_bandwidth() -> None:
    chip = replace(BARE, peak_flops={"bf16": 1e17})
    m, n, k, out = 16, 8192, 8192, 8.0
    expected = (2 * (m * k + k * n) + out * m * n) / 0.5e12
    assert gemm_seconds(m, n, k, out, gemm_vector(chip, "bf16")) == pytest.approx(expected)


def test_a_split_over_k_fills_idle_cores_and_costs_its_parts() -> None:
    split = replace(PLAIN, splits=(1, 4), split_overhead=1e-6, split_traffic=1.0)
    whole, parts = (gemm_vector(replace(BARE, gemm={"bf16": c}), "bf16") for c in (PLAIN, split))
    one = gemm_seconds(128, 256, 65536, 2.0, whole)
    expected = one / 4 + 1e-6 + 8 * 4 * 128 * 256 / 1e12
    assert gemm_seconds(128, 256, 65536, 2.0, parts) == pytest.approx(expected)


def test_long_runs_are_held_to_the_rate_that_the_power_cap_leaves() -> None:
    capped = replace(BARE, sustained={"bf16": 0.25 * BARE.flops("bf16")})
    burst, long = gemm_vector(capped, "bf16"), gemm_vector(capped, "bf16", sustained=True)
    large, thin = (128 * 100, 256, 65536, 2.0), (1, 65536, 8192, 2.0)
    m, n, k, _ = large
    assert gemm_seconds(*large, long) == pytest.approx(2 * m * n * k / capped.sustained["bf16"])
    assert gemm_seconds(*large, burst) < gemm_seconds(*large, long)
    assert gemm_seconds(*thin, long) == gemm_seconds(*thin, burst)


def test_a_warm_cache_saves_traffic_of_small_operands_only() -> None:
    chip = replace(BARE, peak_flops={"bf16": 1e17}, gemm={"bf16": replace(PLAIN, l2_resident=1e6)})
    cold, warm = gemm_vector(chip, "bf16"), gemm_vector(chip, "bf16", warm=True)
    assert gemm_seconds(1, 512, 512, 2.0, warm) < gemm_seconds(1, 512, 512, 2.0, cold)
    assert gemm_seconds(1, 65536, 8192, 2.0, warm) == pytest.approx(gemm_seconds(1, 65536, 8192, 2.0, cold))


def test_the_cast_reads_two_bytes_and_writes_the_narrow_ones() -> None:
    cast = QuantiseConstants(hbm_efficiency=0.4, launch=3e-6)
    chip = replace(BARE, gemm={"fp8": replace(PLAIN, quantise=cast), "bf16": PLAIN})
    assert quantise_seconds(1e6, quantise_vector(chip, "fp8")) == pytest.approx(3e-6 + 3e6 / 0.4e12)
    assert quantise_seconds(1e6, quantise_vector(chip, "bf16")) == 0.0


@pytest.mark.parametrize(("name", "dtype", "m", "n", "k", "microseconds"), PUBLISHED)
def test_published_times(name: str, dtype: str, m: int, n: int, k: int, microseconds: float) -> None:
    chip = CHIPS[name]
    time = gemm_seconds(m, n, k, 2.0, gemm_vector(chip, dtype)) + quantise_seconds(m * k, quantise_vector(chip, dtype))
    # weight-only and SmoothQuant kernels are timed to 1 us, and chosen less regularly
    assert time * 1e6 == pytest.approx(microseconds, rel=0.25 if dtype in ("int4_wo", "int8_wo", "sq") else 0.16)


def test_large_products_reach_the_published_share_of_peak() -> None:
    # best bf16 matrix multiplication of stas00/ml-engineering 744d01e, compute/accelerator/README.md, in bursts
    for name, tflops in (("h100-sxm-80gb", 794.5), ("a100-sxm-80gb", 271.2), ("b200-sxm-180gb", 1745)):
        time = gemm_seconds(8192, 8192, 8192, 2.0, gemm_vector(CHIPS[name], "bf16"))
        assert 2 * 8192**3 / time / 1e12 == pytest.approx(tflops, rel=0.15), name


@pytest.mark.parametrize(("of", "to"), [("h100-sxm-80gb", "h200-sxm-141gb"), ("a100-sxm-80gb", "a100-sxm-40gb")])
def test_constants_carried_over_are_those_of_the_sibling(of: str, to: str) -> None:
    assert CHIPS[of].gemm.keys() == CHIPS[to].gemm.keys()
    assert "gemm" in CHIPS[to].unverified
    for dtype, fitted in CHIPS[of].gemm.items():
        carried = CHIPS[to].gemm[dtype]
        assert "carried over" in carried.source
        if fitted.grouped is not None:
            assert carried.grouped is not None
            assert "carried over" in carried.grouped.source
            grouped = replace(fitted.grouped, residual=None, source=carried.grouped.source)
            fitted = replace(fitted, grouped=grouped)
        assert carried == replace(fitted, residual=None, source=carried.source)


def test_what_is_not_known_is_refused_in_words() -> None:
    chip = CHIPS["h100-sxm-80gb"]
    with pytest.raises(SpecError, match="no gemm constants for 'nvfp4'"):
        gemm_vector(chip, "nvfp4")
    with pytest.raises(SpecError, match="no gemm constants for 'bf16'; its file needs gemm"):
        gemm_vector(replace(chip, gemm={}), "bf16")
    with pytest.raises(SpecError, match="unknown dtype 'fp9'"):
        gemm_vector(replace(chip, gemm={"fp9": PLAIN}), "fp9")
    for wrong, says in (
        ({"tiles": ("128",)}, r"gemm\.tiles: \['128'\]"),
        ({"splits": (2, 4)}, r"gemm\.splits: \[2, 4\]"),
        ({"range": {"m": (9, 1)}}, r"gemm\.range\.m: \[9, 1\]"),
    ):
        with pytest.raises(SpecError, match=says):
            replace(PLAIN, **wrong)  # type: ignore[arg-type]
