"""Constants of one chip on another: what a data sheet fixes, what it bounds, and how sure one may be."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.calibration.transfer import Pair, growth, left_out
from scaleout.errors import MeasurementError
from scaleout.evaluate import band
from scaleout.hardware.attention import attention_vector, decode_seconds, decode_vector, prefill_seconds
from scaleout.hardware.elementwise import elementwise_seconds, elementwise_vector
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.hardware.likeness import BAND, Distance, clock, distance, expected_error, nearest
from scaleout.hardware.likeness import band as band_of_error
from scaleout.hardware.moe import experts_seconds, loads
from scaleout.hardware.transfer import transfer
from scaleout.io.catalogue import load
from scaleout.specs import Chip
from scaleout.validation.agreement import statistics
from scaleout.validation.kinds import validate

A100, H100, B200, L40S = (load("chip", name) for name in ("a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm-180gb", "l40s"))
SHAPES = [(1, 4096, 4096), (64, 8192, 1024), (777, 1280, 5120), (8192, 8192, 8192)]


def sheet(chip: Chip, name: str = "a data sheet") -> Chip:
    """What a data sheet says of a chip, under another name."""
    return replace(chip, name=name, gemm={}, attention={}, elementwise={}, unverified=())


def times(chip: Chip) -> Iterator[float]:
    """Of kernels of every kind."""
    for dtype in ("bf16", "fp8"):
        c, cast = gemm_vector(chip, dtype), quantise_vector(chip, dtype)
        yield from (gemm_seconds(*shape, 2.0, c) + quantise_seconds(shape[0] * shape[2], cast) for shape in SHAPES)
        yield experts_seconds(chip, dtype, 300, 4096, 1536, loads(300, 8, 128, 4, 1.2))
    c = attention_vector(chip, "trtllm")
    yield from (prefill_seconds(4, q, 4096, 32, 8, 128, False, c) for q in (16, 1024, 4096))
    c = decode_vector(chip, chip.attention["trtllm"].for_decode("bf16"))
    yield from (decode_seconds(batch, 3000, 32, heads, 128, 2.0, c) for batch in (1, 64) for heads in (8, 32))
    for operation in ("rmsnorm", "rope", "embedding"):
        c = elementwise_vector(chip, operation)
        yield from (elementwise_seconds(tokens, 4096, 2.0, c) for tokens in (1, 300, 20_000))


def test_a_chip_is_like_itself() -> None:
    own = transfer(replace(H100, gemm={}, attention={}, elementwise={}), H100)
    assert own == H100
    twin = transfer(sheet(H100), H100)
    assert list(times(twin)) == list(times(H100))
    assert twin.like == H100.name
    assert twin.gemm["bf16"].source.startswith("as h100-sxm-80gb, by data sheets")
    assert set(twin.unverified) == {"gemm", "attention", "elementwise"}
    assert distance(twin, H100) == Distance(0.0, 0.0)
    # another board of the same sheet is not the one that was measured
    assert H100.gemm["bf16"].residual < twin.gemm["bf16"].residual < 0.08


@settings(max_examples=5, deadline=None)
@given(c=st.floats(0.25, 4.0))
def test_every_rate_faster_makes_every_kernel_as_much_faster(c: float) -> None:
    faster = replace(
        sheet(H100),
        peak_flops={name: rate * c for name, rate in H100.peak_flops.items()},
        hbm_bandwidth=H100.hbm_bandwidth * c,
        exponentials=(H100.exponentials or 0.0) * c,
    )
    assert [seconds * c for seconds in times(transfer(faster, H100))] == pytest.approx(list(times(H100)), rel=1e-9)


@pytest.mark.parametrize("donor", [A100, H100, B200, L40S], ids=lambda chip: chip.name)
@pytest.mark.parametrize("chip", [A100, H100, B200, L40S, load("chip", "tpu-v6e")], ids=lambda chip: chip.name)
def test_nothing_beats_peak_and_memory(chip: Chip, donor: Chip) -> None:
    made = transfer(sheet(chip), donor)
    for m, n, k in SHAPES:
        seconds = gemm_seconds(m, n, k, 2.0, gemm_vector(made, "bf16"))
        assert seconds > 2.0 * m * n * k / chip.flops("bf16")
        assert seconds > 2.0 * (m * k + k * n + m * n) / chip.hbm_bandwidth
    c = decode_vector(made, made.attention["trtllm"].for_decode("bf16"))
    assert decode_seconds(256, 8192, 32, 8, 128, 2.0, c) > 256 * 8192 * 8 * 128 * 2 * 2.0 / chip.hbm_bandwidth
    for name in made.elementwise:
        moved = 2.0 * 200_000 * 8192 * 2.0
        assert elementwise_seconds(200_000, 8192, 2.0, elementwise_vector(made, name)) > moved / chip.hbm_bandwidth


def test_the_error_grows_with_the_distance_of_the_data_sheets() -> None:
    def error(chip: Chip, donor: Chip) -> float:
        return transfer(sheet(chip), donor).gemm["bf16"].residual or 0.0

    assert distance(A100, B200) == pytest.approx(distance(B200, A100))
    assert clock(H100) == pytest.approx(1.83e9, rel=1e-3)
    # a twin, a generation away, two generations, another kind of memory
    chain = [error(H100, H100), error(B200, H100), error(L40S, H100)]
    assert chain == sorted(chain)
    assert error(B200, A100) > error(H100, A100)
    assert transfer(sheet(L40S), H100).gemm["fp8"].residual > transfer(sheet(L40S), H100).gemm["bf16"].residual
    # what a sheet leaves out counts as distance
    assert error(replace(H100, l2_bytes=None), H100) > error(H100, H100)
    assert nearest(sheet(replace(H100, hbm_bandwidth=4.8e12)), [A100, B200, L40S, H100]) is H100
    for own, apart in ((0.0, Distance(0.0, 0.0)), (0.05, Distance(1.0, 2.0))):
        known = expected_error(own, apart, "gemm")
        assert known >= own
        assert band_of_error(known) == BAND * known
        assert expected_error(own, apart, "gemm", derived=True) > known


def test_a_band_holds_four_of_five_normal_errors() -> None:
    errors = np.abs(np.random.default_rng(0).normal(0.0, 0.1, 20_000))
    assert np.mean(errors <= band_of_error(float(errors.mean()))) == pytest.approx(0.8, abs=0.01)


def test_narrow_formats_come_from_those_of_16_bits() -> None:
    made = transfer(sheet(H100), A100)
    assert "fp8" in made.gemm
    assert "nvfp4" not in made.gemm
    assert made.gemm["fp8"].quantise is not None
    assert made.gemm["fp8"].residual > made.gemm["bf16"].residual
    # A100 has no units for it
    assert "fp8" not in transfer(sheet(A100), replace(A100, name="another")).gemm


def test_the_best_measured_product_sets_the_efficiency() -> None:
    made = transfer(replace(sheet(L40S), best={"bf16": 250e12}), H100)
    work = 2.0 * 8192.0**3
    assert work / gemm_seconds(8192, 8192, 8192, 2.0, gemm_vector(made, "bf16")) == pytest.approx(250e12, rel=1e-3)
    # what memory bounds stays as it was
    other = transfer(sheet(L40S), H100)
    one, two = (gemm_seconds(1, 16384, 16384, 2.0, gemm_vector(chip, "bf16")) for chip in (made, other))
    assert one == pytest.approx(two, rel=0.02)


def test_a_result_with_such_constants_has_a_wider_band() -> None:
    experiment = load("training", "llama-3.1-70b-64")
    chip = experiment.system.chip
    lent = replace(experiment, system=replace(experiment.system, chip=transfer(sheet(chip), chip)))
    own, other = (band.kind_errors(spec) for spec in (experiment, lent))
    assert all(other[kind] > own[kind] for kind in ("matmul", "attention", "elementwise"))
    assert other["launch"] == own["launch"]


def test_growth_covers_the_pairs_that_it_comes_from_and_is_tried_without_each() -> None:
    rng = np.random.default_rng(1)
    apart = {("a", "b"): Distance(1.0, 0.0), ("b", "c"): Distance(1.0, 0.0), ("a", "d"): Distance(1.0, 2.0)}
    apart |= {("b", "d"): Distance(2.0, 2.0)}
    pairs = [
        Pair(donor, chip, "bfloat16", gap, 0.05, np.abs(rng.normal(0.0, 0.1 + 0.1 * gap.memory, 2000)))
        for (donor, chip), gap in apart.items()
    ]
    rule = growth(pairs)
    for pair in pairs:
        assert pair.inside(expected_error(pair.residual, pair.apart, "gemm", growth=rule)) >= 0.8
    for _, without, inside in left_out(pairs):
        assert without.generation <= rule.generation
        assert 0.0 <= inside <= 1.0
        assert math.isfinite(without.memory)


def test_validate_with_a_donor_counts_the_rows_inside(tmp_path: Path) -> None:
    table = tmp_path / "gemm.csv"
    made = transfer(sheet(A100, A100.name), H100)
    own, far = (gemm_seconds(4096, 4096, 4096, 2.0, gemm_vector(made, "bf16")) * factor * 1e6 for factor in (1.0, 2.0))
    rows = [("a100-sxm-80gb", own), ("a100-sxm-80gb", far), ("h100-sxm-80gb", 200.0)]
    lines = [f"{chip},bf16,4096,4096,4096,{time}" for chip, time in rows]
    table.write_text("\n".join(["chip,dtype,m,n,k,time_us", *lines]))
    found = validate("gemm", table, donor="h100-sxm")
    assert found.summary()["inside"] == 0.5
    assert found.summary()["band"] == pytest.approx(BAND * made.gemm["bf16"].residual)
    assert len(found.skipped) == 1
    with pytest.raises(MeasurementError, match="no table of single kernels"):
        validate("memory", table, donor="h100-sxm")
    # constants of the chip's own have no such band
    assert "inside" not in statistics([replace(row, band=None) for row in found.compared])
