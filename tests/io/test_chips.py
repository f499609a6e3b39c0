"""The catalogue of chips: what is there, that its figures agree with each other, and that its page says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.io.catalogue import find, known_chips, list_names
from scaleout.io.yaml import read_mapping
from scaleout.specs import AttentionConstants, Chip
from scaleout.units import describe, parse

PAGE = Path(__file__).parents[2] / "docs" / "chips.md"
CHIPS: dict[str, Chip] = known_chips()
# designs are made up, and no part of it
NAMES = [name for name in list_names("chip") if CHIPS[name].design is None]
WANTED = {
    "NVIDIA": (
        "v100-sxm-32gb t4 a100-sxm-80gb l4 l40s h100-sxm h100-pcie h200-sxm h800 h20 b200-sxm gb200 b300-sxm gb300 "
        "rtx-4090 rtx-pro-6000 jetson-orin jetson-orin-nano jetson-thor"
    ),
    "AMD": "mi250x mi300x mi325x mi355x zcu102 vck190 vek280",
    "Google": "tpu-v4 tpu-v5e tpu-v5p trillium ironwood",
    "AWS": "trn1 trainium2 inferentia2",
    "Intel": "gaudi2 gaudi3",
}
"""By name or alias."""
MEASURED = {
    ("mi300x", "bf16"): 668.4e12, ("mi325x", "bf16"): 784.9e12, ("mi355x", "bf16"): 1565e12,
    ("gaudi2", "bf16"): 418.7e12, ("gaudi2", "fp8"): 826.5e12, ("gaudi3", "bf16"): 1243e12,
    ("gaudi3", "fp8"): 1289.5e12,
}  # fmt: skip
"""Best matrix multiplication of stas00/ml-engineering 744d01e [flop/s]."""
SHEET = ("cores", "peak_flops", "hbm_bytes", "hbm_bandwidth", "l2_bytes", "exponentials", "power", "sustained")


def test_every_chip_that_is_promised_is_there_with_sources() -> None:
    for vendor, names in WANTED.items():
        for name in names.split():
            chip = CHIPS[name]
            assert chip.vendor == vendor, name
            assert len(chip.source) > 20, name
            assert chip.year, name
            assert chip.process, name
            assert chip.energy, name
            assert chip.price is None or chip.price_source, name
            assert not chip.sustained or chip.sustained_source, name
    assert set(NAMES) <= {chip.name for chip in CHIPS.values()}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_unverified_is_a_field(name: str) -> None:
    chip = CHIPS[name]
    for item in chip.unverified:
        part: Any = chip
        for step in item.split("."):
            if isinstance(part, AttentionConstants) and not hasattr(part, step):
                # a field that all its kernels have
                part = next(iter(part.prefill.values()))
            part = part[step] if isinstance(part, Mapping) else getattr(part, step)
            assert part is not None, item
    assert chip.energy
    for item in chip.energy.unverified:
        field, _, dtype = item.partition(".")
        value = getattr(chip.energy, field)
        assert (value[dtype] if dtype else value) is not None, item
    if chip.like:
        assert chip.like in NAMES, name
        assert not CHIPS[chip.like].like, name


@pytest.mark.parametrize("name", NAMES)
def test_rates_of_formats_agree_with_their_widths(name: str) -> None:
    """Halving the width doubles a multiplier's rate at most; sums in half the width may double it once more."""
    peak = CHIPS[name].peak_flops
    wide = peak.get("bf16", peak.get("fp16"))
    if wide:
        assert peak.get("fp16", wide) <= 1.01 * wide or name == "mi250x-gcd"
        for dtype, most in (("fp8", 2.1), ("int8", 4.1), ("fp4", 6.1), ("int4", 4.1), ("tf32", 1.01), ("fp32", 0.6)):
            assert peak.get(dtype, 0.0) <= most * wide, dtype
        assert peak.get("fp8", wide) >= wide
    assert max(peak.values()) < 2e16, "not a rate with sparsity"


@pytest.mark.parametrize("name", NAMES)
def test_power_memory_and_energy_are_of_one_chip(name: str) -> None:
    chip = CHIPS[name]
    energy = chip.energy
    assert energy
    assert 10 < chip.hbm_bytes / chip.hbm_bandwidth * 1e3 < 500, "ms to read memory once"
    assert 0.02 < energy.idle / chip.power < 0.5
    assert set(energy.flop) == set(chip.peak_flops)
    # at full bandwidth alone memory leaves the limit at most as a little more than all of it
    assert energy.idle + energy.hbm * chip.hbm_bandwidth < 1.15 * chip.power
    # narrow formats cost no more than wide ones
    order = [energy.flop[dtype] for dtype in ("fp32", "tf32", "bf16", "fp8", "fp4") if dtype in energy.flop]
    assert order == sorted(order, reverse=True)
    for dtype, each in energy.flop.items():
        # a tenth of the peak is within the limit, whatever the format
        assert energy.idle + 0.1 * each * chip.peak_flops[dtype] < chip.power, dtype


@pytest.mark.parametrize(("name", "dtype"), MEASURED)
def test_the_best_large_product_has_the_rate_that_was_measured(name: str, dtype: str) -> None:
    vector = gemm_vector(CHIPS[name], dtype)
    sides = (8192.0, 12288.0, 16384.0, 20480.0)
    best = max(2.0 * n**3 / gemm_seconds(n, n, n, 2.0, vector) for n in sides)
    assert best == pytest.approx(MEASURED[name, dtype], rel=0.03)


def test_every_chip_has_a_system_and_every_node_its_power() -> None:
    files = {name: read_mapping(find("system", name)) for name in list_names("system")}
    # the smaller of two sizes of memory, whose larger has systems
    assert set(NAMES) - {file["chip"] for file in files.values()} == {"v100-sxm-16gb"}
    for name, file in files.items():
        node = file["node"]
        assert 0 < parse(node["idle"], "W") <= parse(node["busy"], "W"), name
        assert len(node["source"]) > 20, name


def _rates(chip: Chip, *dtypes: str) -> str:
    found = next((chip.peak_flops[dtype] for dtype in dtypes if dtype in chip.peak_flops), 0.0)
    return f"{found / 1e12:,.1f}".removesuffix(".0") if found else ""


def row(chip: Chip) -> list[str]:
    """Cells of a chip on its page, but for the one on kernels."""
    memory = f"{describe(chip.hbm_bytes, 'byte')}, {describe(chip.hbm_bandwidth, 'byte/s')}"
    rates = [_rates(chip, "bf16", "fp16"), _rates(chip, "fp8"), _rates(chip, "int8"), _rates(chip, "fp4", "int4")]
    doubts = ", ".join(item for item in chip.unverified if item.split(".")[0] in SHEET)
    return [f"`{chip.name}`", f"{chip.year}", *rates, memory, f"{chip.power:g} W", doubts]


def test_the_page_has_every_chip_as_its_file_says() -> None:
    lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in PAGE.read_text().splitlines()]
    rows = {cells[0]: cells for cells in lines if len(cells) == 10}
    for name in NAMES:
        cells = rows.get(f"`{name}`")
        wanted = row(CHIPS[name])
        assert cells, f"{name} is not in docs/chips.md"
        assert cells[:8] + cells[9:] == wanted, f"docs/chips.md should say {' | '.join(wanted)}"
        assert CHIPS[name].like in cells[8]
