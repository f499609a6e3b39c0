"""Bytes of formats by their bits and scales, and what products in them gain where bytes or arithmetic bind."""

from dataclasses import replace

import pytest

from scaleout.errors import SpecError
from scaleout.hardware.formats import FORMATS, OPERANDS, SAME_UNITS, format_of, sparse_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.io.catalogue import load
from scaleout.parallel.inference_kernels import Kernels, able
from scaleout.specs.gemm import SparseConstants

H100, A100 = load("chip", "h100-sxm-80gb"), load("chip", "a100-sxm-80gb")
ENGINE = load("engine", "vllm-0.19")
# bits of a value, bits of what a block shares, values of a block
BITS = {
    "bf16": (16, 0, 1), "fp8": (8, 0, 1), "int8": (8, 0, 1), "mxfp8": (8, 8, 32), "mxfp4": (4, 8, 32),
    "nvfp4": (4, 8, 16), "w8a16": (8, 0, 1), "fp8_wo": (8, 0, 1), "w4a16": (4, 32, 128), "w4a16_g64": (4, 32, 64),
    "w4a16_g32": (4, 32, 32), "mxfp4_wo": (4, 8, 32), "nvfp4_wo": (4, 8, 16), "w4a8": (4, 32, 128),
    "w4a8_int8": (4, 32, 128),
}  # fmt: skip


@pytest.mark.parametrize("name", BITS)
def test_a_weight_takes_its_bits_and_its_part_of_the_scales(name):
    value, shared, block = BITS[name]
    assert format_of(name).right == (value + shared / block) / 8.0


@pytest.mark.parametrize(("name", "share"), [("bf16", 0.5625), ("fp16", 0.5625), ("fp8", 0.625), ("int8", 0.625)])
def test_pruned_weights_are_half_of_the_values_and_two_bits_for_each(name, share):
    assert format_of(sparse_of(name)).right == share * format_of(name).right


def test_every_pair_and_every_stand_in_is_a_format():
    assert set(OPERANDS.values()) | set(SAME_UNITS) | set(SAME_UNITS.values()) <= set(FORMATS)
    with pytest.raises(SpecError, match="did you mean"):
        format_of("fp9")
    with pytest.raises(SpecError, match="unknown dtype"):
        format_of("fp8/1:2")


def seconds(chip, dtype, m, n=8192, k=8192):
    """Of a product, without what a kernel takes whatever it multiplies."""
    chip = replace(able(chip, dtype), sustained={})
    c = gemm_vector(chip, dtype, sustained=True)
    return float(gemm_seconds(m, n, k, 2.0, c)) - chip.gemm.get(dtype, chip.gemm["bf16"]).launch


@pytest.mark.parametrize("name", ["w4a16", "w8a16", "mxfp4_wo"])
def test_narrow_weights_gain_their_bytes_for_few_rows_and_lose_arithmetic_for_many(name):
    gain = [seconds(H100, "bf16", m) / seconds(H100, name, m) for m in (1.0, 64.0, 65536.0)]
    width = 2.0 / format_of(name).right
    # splits over k are in the way of the last few per cent
    assert 0.75 * width < gain[0] <= width
    assert gain[0] > gain[1] > gain[2]
    # tiles' own overheads do not grow
    assert 1.0 <= gain[2] * (1.0 + format_of(name).dequantise) < 1.01


def test_measured_kernels_that_widen_weights_are_not_slowed_again():
    assert able(A100, "w4a16").gemm["w4a16"].work == 1.0
    assert able(H100, "w4a16").gemm["w4a16"].work == 1.1
    # the same bytes and units as fp8, and weights to widen
    assert able(H100, "w4a8").gemm["w4a8"].work == pytest.approx(1.1)
    # what the default says is what the A100's own constants say
    wide, narrow = (A100.gemm[name].compute_efficiency for name in ("bf16", "int4_wo"))
    assert wide / narrow == pytest.approx(1.0 + format_of("int4_wo").dequantise, abs=0.01)


def test_chips_without_bf16_widen_weights_to_fp16():
    turing = load("chip", "t4")
    plain, narrow = (Kernels(turing, ENGINE, name, "fp16") for name in ("fp16", "w4a16"))
    few, many = ([kernels.linear(m, 8192.0, 8192.0).seconds for kernels in (plain, narrow)] for m in (1.0, 4096.0))
    assert 3.0 < few[0] / few[1] <= 2.0 / 0.53125
    assert many[1] < 1.1 * many[0]
    with pytest.raises(SpecError, match="no rate for 'bf16'"):
        Kernels(turing, ENGINE, "bf16", "bf16")


def test_pruned_products_gain_what_was_measured_and_nothing_for_few_rows():
    dense, pruned = (Kernels(H100, ENGINE, name, "bf16") for name in ("fp8", sparse_of("fp8")))
    gain = H100.gemm["fp8"].sparse.gain
    for m in (1.0, 64.0, 255.0):
        assert pruned.linear(m, 8192.0, 8192.0) == dense.linear(m, 8192.0, 8192.0)
    for m in (256.0, 1024.0, 16384.0):
        ratio = dense.linear(m, 8192.0, 8192.0, False).seconds / pruned.linear(m, 8192.0, 8192.0, False).seconds
        assert 1.0 < ratio <= gain * 1.0000001
    with pytest.raises(SpecError, match="no gain was measured"):
        Kernels(A100, ENGINE, sparse_of("bf16"), "bf16")
    given = replace(A100.gemm["bf16"], sparse=SparseConstants(gain=1.3, rows=1, source="made up"))
    chip = replace(A100, gemm={**A100.gemm, "bf16": given})
    assert Kernels(chip, ENGINE, sparse_of("bf16"), "bf16").linear(4096.0, 8192.0, 8192.0).seconds > 0.0


@pytest.mark.parametrize(("cache", "share"), [("fp8", 0.5), ("int8", 1.015625 / 2), ("int4", 0.53125 / 2)])
def test_long_contexts_gain_the_bytes_of_the_cache(cache, share):
    # constants of one width alone, so that bytes are all that differs
    chip = replace(H100, attention={"trtllm": replace(H100.attention["trtllm"], decode={"bf16": _decode()})})
    took = {name: Kernels(chip, ENGINE, "bf16", name).decode(64, 1.0, 131072.0, 131072.0, 8.0, 1.0, 128.0) for name in
            ("bf16", cache)}  # fmt: skip
    ratio = took[cache].seconds / took["bf16"].seconds
    assert share <= ratio < 1.0


def _decode():
    return H100.attention["trtllm"].decode["bf16"]
