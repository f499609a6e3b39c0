"""The fit of matrix multiplication recovers what made its rows, and writes what the catalogue reads back."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaleout.calibration import gemm as calibration
from scaleout.calibration.chipfile import lines_of
from scaleout.calibration.files import write_section
from scaleout.calibration.gemm_form import MENUS
from scaleout.io.catalogue import find, load
from scaleout.specs import GemmConstants, QuantiseConstants

SHAPES = np.array(
    [(m, n, k) for m in (1, 64, 512, 2048, 8192) for n in (1024, 3072, 12288) for k in (1024, 4096, 16384)],
    dtype=np.float64,
)
TRUTH = GemmConstants(
    compute_efficiency=0.7, hbm_efficiency=0.85, l2_ratio=20.0, launch=4e-6, tile_overhead=1e-7, halo=0.05,
    wave_tail=0.5, norm=3.0, idle_cores=0.05, tiles=("64x64", "64x128", "128x128", "128x256"), splits=(1,),
    source="made up",
)  # fmt: skip
SQUARE = next(menu for menu in MENUS if menu.tiles == TRUTH.tiles and menu.splits == (1,))
CHIP = load("chip", "h100-sxm-80gb")


def test_constants_that_made_the_rows_are_found_again() -> None:
    truth = replace(CHIP, gemm={"bf16": TRUTH})
    rows = calibration.Measured(SHAPES, calibration.simulate(truth, "bf16", SHAPES))
    found = calibration.fit(CHIP, "bf16", rows, [SQUARE])
    assert found.compute_efficiency == pytest.approx(TRUTH.compute_efficiency, rel=0.03)
    assert found.hbm_efficiency == pytest.approx(TRUTH.hbm_efficiency, rel=0.02)
    assert found.launch == pytest.approx(TRUTH.launch, rel=0.1)
    assert calibration.simulate(replace(CHIP, gemm={"bf16": found}), "bf16", SHAPES) == pytest.approx(
        rows.seconds, rel=0.03
    )


def test_the_cast_is_told_from_the_product() -> None:
    cast = QuantiseConstants(hbm_efficiency=0.35, launch=8e-6)
    known = replace(CHIP, gemm={"bf16": TRUTH, "fp8": replace(TRUTH, quantise=cast)})
    rows = calibration.Measured(SHAPES, calibration.simulate(known, "fp8", SHAPES))
    found = calibration.fit(known, "fp8", rows, [SQUARE]).quantise
    assert found is not None
    assert found.hbm_efficiency == pytest.approx(cast.hbm_efficiency, rel=0.05)
    assert found.launch == pytest.approx(cast.launch, rel=0.05)


def test_written_constants_are_read_back_and_the_rest_stays(tmp_path: Path) -> None:
    path = tmp_path / "chip.yaml"
    shutil.copy(find("chip", "h100-sxm-80gb"), path)
    before = load("chip", str(path))
    found = replace(
        TRUTH, quantise=QuantiseConstants(hbm_efficiency=0.5, launch=1e-6), residual=0.03, range={"m": (1, 8192)},
        l2_resident=2e7, fitted="2025-01-31",
    )  # fmt: skip
    write_section(path, ("gemm", "bf16"), "\n".join(lines_of(found)))
    after = load("chip", str(path))
    assert after.gemm["bf16"] == found
    assert replace(after, gemm=before.gemm) == before
    assert "# dense, without sparsity" in path.read_text()


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "gemm.csv"
    for text, says in (
        ("chip,dtype,m,n,k,time_us\nh100-sxm,bfloat16,1,x,1,1\n", "line 2, column 'n': 'x' is not accepted"),
        ("chip,dtype,m,n,k,time_us\nh100-sxm,bfloat16,1,-1,1,1\n", "line 2, column 'n': '-1' is not accepted"),
        ("chip,dtype,m\nh100-sxm,bfloat16,1\n", "column 'n' is missing"),
    ):
        table.write_text(text)
        assert calibration.main([str(table)]) == 2
        assert says in capsys.readouterr().err
    assert calibration.main([str(tmp_path / "none.csv")]) == 2
    assert calibration.main([str(table), "--chip", "h1000"]) == 2
    assert "unknown chip 'h1000'" in capsys.readouterr().err
