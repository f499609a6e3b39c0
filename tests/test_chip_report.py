"""A chip on one page: what every row must obey, and what cannot be asked."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import scaleout
from scaleout.chip_report import ChipReport, chip_report
from scaleout.errors import SpecError
from scaleout.hardware.reference import reference_kernels, time_of
from scaleout.io.catalogue import load
from scaleout.report.chip import roofline
from scaleout.specs import Chip


@pytest.fixture(scope="module")
def report() -> ChipReport:
    return chip_report("example-training-chip")


def test_nothing_is_quicker_than_its_bound(report: ChipReport) -> None:
    timed = [found for row in report.kernels for found in row.chips.values() if found.time is not None]
    assert len(timed) >= 20
    for found in timed:
        assert found.bound is not None
        assert found.time is not None
        # decode of one new token a sequence and norms of rows that L2 keeps included
        assert found.time >= found.bound
        assert 0.0 < max(found.flops, found.bandwidth) <= 1.0
        assert found.band > 0.0


@pytest.mark.parametrize("name", ["example-inference-asic", "zynq-zu9eg", "versal-ve2802"])
def test_operands_come_from_memory_where_a_large_cache_would_hold_them(name: str) -> None:
    """An L2 of 268 MB holds the norm's 134 MB: reference kernels begin without it, so that the bound is one."""
    chip: Chip = load("chip", name)
    wide = "bf16" if "bf16" in chip.peak_flops else "fp16"
    for kernel in reference_kernels(load("model", "llama-3.1-70b"), wide):
        for one in (chip, replace(chip, l2_bytes=1e12)):
            found = time_of(kernel, one)
            assert isinstance(found, str) or found.time >= kernel.bound(one)


def test_shares_follow_from_times(report: ChipReport) -> None:
    chips = {chip.name: chip for chip in (report.chip, *report.beside)}
    for row in report.kernels:
        for name, found in row.chips.items():
            if found.time is not None:
                assert found.bandwidth == pytest.approx(row.traffic / found.time / chips[name].hbm_bandwidth)
                if row.rate:
                    assert found.flops == pytest.approx(row.flops / found.time / chips[name].flops(row.rate))


def test_work_of_the_reference_kernels() -> None:
    """By the parameters of a layer: a token passes each weight of it once."""
    model = load("model", "llama-3.1-70b")
    weights = 2 * 8192 * 8192 + 2 * 8192 * 1024 + 3 * 8192 * 28672
    by_name = {kernel.name: kernel for kernel in reference_kernels(model)}
    one = by_name["products of a layer, 1 token, bf16"]
    assert one.flops == 2.0 * weights
    assert one.traffic == pytest.approx(2.0 * weights, rel=1e-3)
    assert by_name["products of a layer, 4,096 tokens, fp8"].flops == 4096 * one.flops
    prompt = by_name["attention over a prompt of 8,192, bf16"]
    assert prompt.flops == 2 * 2 * 64 * 128 * 8192 * 8192 / 2
    assert by_name["attention in decode, 64 x 4,096 cached, bf16"].intensity() == pytest.approx(8.0, rel=0.01)


def test_constants_of_another_chip_are_told(report: ChipReport) -> None:
    assert report.chip.like == "b200-sxm-180gb"
    own = [row.chips["example-training-chip"] for row in report.kernels]
    assert all(not found.verified and "b200-sxm-180gb" in found.note for found in own if found.time is not None)
    assert any("b200-sxm-180gb" in row.name and not row.verified for row in report.assumptions)
    measured = report.kernels[0].chips["h100-sxm-80gb"]
    assert measured.verified
    assert measured.band < own[0].band


def test_products_on_arrays_are_told_to_follow_from_the_design() -> None:
    found = chip_report("example-inference-asic", ())
    rows = [row.chips[found.chip.name] for row in found.kernels if row.name.startswith("products")]
    assert all(row.note == "from the design" and not row.verified for row in rows)
    for row in rows:
        assert row.bound is not None
        assert row.time is not None
        assert row.bound <= row.time < 1.3 * row.bound


def test_tables_and_what_arrays_are_assumed_to_hold_are_told(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("dtype,m,n,k,time_us\nbfloat16,4096,8192,8192,900\nbfloat16,64,8192,8192,70\n")
    found = chip_report("h100-sxm-80gb", (), settings=(f"tables.gemm={table}",))
    assert any(row.name == "measured products" and "2 rows of mine.csv" in row.value for row in found.assumptions)
    found = chip_report("example-inference-asic", ())
    (row,) = [row for row in found.assumptions if row.name == "products on arrays"]
    assert not row.verified and "0.949" in row.value


def test_ridges_and_links(report: ChipReport) -> None:
    assert report.ridges["bf16"] == report.chip.flops("bf16") / report.chip.hbm_bandwidth
    assert report.links == 36 * 50e9
    assert any("system.scale_up.bandwidth='1.8 TB/s'" in line for line in report.warnings)


def test_a_chip_without_constants_is_told_which_is_near() -> None:
    found = chip_report("example-training-chip", (), settings=("like=",))
    assert all(row.chips[found.chip.name].time is None for row in found.kernels)
    assert all(row.chips[found.chip.name].bound for row in found.kernels)
    assert any("`like: " in line for line in found.warnings)


def test_known_products_have_an_estimate_and_others_say_why_not() -> None:
    known = chip_report("h100-sxm-80gb", ())
    assert known.silicon is not None
    assert known.silicon.area.total == pytest.approx(814e-6)
    assert known.published_cost is not None
    assert known.silicon.unit_cost == pytest.approx(known.published_cost[0], rel=0.15)
    unknown = chip_report("tpu-v5e", ())
    assert unknown.silicon is None
    assert any("nobody knows its die" in line for line in unknown.warnings)
    changed = chip_report("h200-sxm-141gb", (), settings=("power=600 W",))
    assert changed.silicon is None
    assert any("another chip" in line for line in changed.warnings)


def test_products_of_one_die_differ_in_memory_and_power() -> None:
    small, large = (chip_report(f"a100-sxm-{size}gb", ()).silicon for size in (40, 80))
    assert small is not None
    assert large is not None
    assert small.costs["compute dies"] == large.costs["compute dies"]
    assert small.costs["memory"] == pytest.approx(large.costs["memory"] / 2, rel=0.02)


def test_chips_without_bf16_are_timed_in_fp16() -> None:
    names = [row.name for row in chip_report("v100-sxm-32gb", ()).kernels]
    assert "products of a layer, 64 tokens, fp16" in names
    assert not any(name.startswith("products") and "bf16" in name for name in names)


def test_volume_spreads_masks_and_design() -> None:
    few, many = (chip_report("example-inference-asic", (), volume=n).silicon for n in (1_000, 1_000_000))
    assert few is not None
    assert many is not None
    assert few.unit_cost == many.unit_cost
    assert few.nre_share == pytest.approx(1000 * many.nre_share)


def test_json_is_plain_and_the_same_twice(report: ChipReport) -> None:
    text = json.dumps(report.to_dict())
    assert json.dumps(chip_report("example-training-chip").to_dict()) == text
    found = json.loads(text)
    assert found["format"] == 1
    assert found["silicon"]["yield"] == report.silicon.yield_  # type: ignore[union-attr]
    assert "gemm" not in found["chip"]


def test_a_spec_is_taken_as_it_is(report: ChipReport) -> None:
    doubled = replace(report.chip, name="doubled", hbm_bandwidth=2 * report.chip.hbm_bandwidth)
    found = scaleout.chip_report(doubled, (report.chip,))
    decode = next(row for row in found.kernels if "decode" in row.name)
    times = [decode.chips[name].time or 0.0 for name in ("doubled", report.chip.name)]
    assert times[0] < times[1] < 2.0 * times[0]


def test_the_roofline_has_every_kernel_that_has_a_time(report: ChipReport) -> None:
    picture = roofline(report)
    assert len(picture.points) == sum(row.chips[report.chip.name].time is not None for row in report.kernels)
    assert [roof.peak for roof in picture.roofs if roof.own] == sorted(
        {report.chip.flops(row.rate) for row in report.kernels if row.rate}, reverse=True
    )
    for point in picture.points:
        roof = picture.roofs[max(0, point.roof)]
        assert point.reached <= min(roof.peak, point.intensity * roof.bandwidth) * (1 + 1e-9)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"chip": "h100-sxm"}, "did you mean"),
        ({"chip": "nothing.yaml"}, "no such file"),
        ({"chip": 3}, "is no chip"),
        ({"chip": "h100-sxm-80gb", "beside": ("h100-sxm-80gb",)}, "twice"),
        ({"chip": "h100-sxm-80gb", "beside": ("h1000",)}, "unknown chip"),
        ({"chip": "h100-sxm-80gb", "volume": 0}, "volume"),
        ({"chip": "h100-sxm-80gb", "volume": True}, "volume"),
        ({"chip": "h100-sxm-80gb", "silicon": "nowhere"}, "unknown silicon"),
        ({"chip": "h100-sxm-80gb", "settings": ("coers=3",)}, "did you mean 'cores'"),
        ({"chip": "example-training-chip", "settings": ("design.process=N33",)}, "design.process"),
        ({"chip": "example-training-chip", "settings": ("design.memory.kind=hbm",)}, "design.memory.kind"),
        ({"chip": "example-training-chip", "settings": ("design.clock=2",)}, "has no unit"),
        ({"chip": "example-training-chip", "settings": ("design.tensor.kind=magic",)}, "tensor-core"),
        ({"chip": "example-training-chip", "settings": ("design.tensor.rows=128",)}, "rows and columns are of a"),
        ({"chip": "example-training-chip", "settings": ("design.tensor.macs.fp_8=128",)}, "did you mean 'fp8'"),
        ({"chip": "h100-sxm-80gb", "settings": ("peak_flops.fp_8=1 TFLOP/s",)}, "unknown dtype 'fp_8'; did you mean"),
        ({"chip": "h100-sxm-80gb", "settings": ("best.bf16=1 PFLOP/s",)}, "is above the data sheet's 989"),
        ({"chip": "h100-sxm-80gb", "settings": ("best.fp4=1 TFLOP/s",)}, "no rate of 'fp4'"),
        ({"chip": "example-training-chip", "settings": ("design.links=-1",)}, "links"),
        ({"chip": "example-training-chip", "settings": ("design.cores=1000000",)}, "does not fit on a wafer"),
        ({"chip": "example-training-chip", "settings": ("like=nobody",)}, "unknown chip"),
    ],
)
def test_bad_input_is_told_in_a_sentence(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        chip_report(**arguments)


def test_a_spec_takes_no_settings() -> None:
    one: Chip = load("chip", "h100-sxm-80gb")
    with pytest.raises(SpecError, match="settings"):
        chip_report(one, settings=("cores=3",))
