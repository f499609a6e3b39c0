import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scaleout.calibration import attention, elementwise
from scaleout.calibration.attention import Measurements, fit_decode, fit_prefill
from scaleout.calibration.chipfile import dated
from scaleout.calibration.elementwise import fit_operation
from scaleout.calibration.fit import held_out
from scaleout.errors import ScaleoutError
from scaleout.hardware.attention import decode_seconds, decode_vector, prefill_seconds, prefill_vector
from scaleout.hardware.elementwise import elementwise_seconds, operation_vector
from scaleout.io.catalogue import load
from scaleout.specs import ElementwiseConstants

CHIP = load("chip", "h100-sxm-80gb")
HEADER = "chip,phase,dtype,kv_dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,time_us,source\n"


def noisy(times: list[float]) -> np.ndarray:
    return np.array(times) * np.exp(np.random.default_rng(1).normal(0.0, 0.02, len(times)))


def test_prefill_constants_come_back_from_times_made_with_them() -> None:
    made = replace(CHIP.attention["trtllm"].for_prefill("bf16"), tile=128, efficiency=0.7, launch=8e-6, rows_per_core=1)
    c = prefill_vector(CHIP, made, "bf16", "bf16")
    shapes = [
        (b, s, s, h, k, 128.0)
        for b in (1.0, 4.0, 32.0, 256.0)
        for s in (16.0, 128.0, 1024.0, 4096.0, 16384.0)
        for h, k in ((8.0, 1.0), (8.0, 8.0), (32.0, 8.0), (64.0, 8.0))
    ]
    seconds = noisy([prefill_seconds(*shape, False, c) for shape in shapes])
    found = fit_prefill(CHIP, "trtllm", "bf16", "bf16", Measurements(np.array(shapes), seconds, "made up"))
    assert found.residual < 0.03
    assert found.constants.tile == 128
    assert found.constants.efficiency == pytest.approx(0.7, rel=0.05)
    assert found.constants.launch == pytest.approx(8e-6, rel=0.1)


def test_decode_constants_come_back_from_times_made_with_them() -> None:
    made = replace(CHIP.attention["trtllm"].for_decode("bf16"), launch=7e-6, hbm_efficiency=0.8, smallest_group=2)
    c = decode_vector(CHIP, made)
    shapes = [
        (b, 1.0, s, h, k, 128.0)
        for b in (1.0, 8.0, 64.0, 512.0)
        for s in (15.0, 255.0, 2047.0, 16383.0)
        for h, k in ((8.0, 8.0), (32.0, 8.0), (32.0, 2.0), (64.0, 8.0), (64.0, 1.0))
    ]
    seconds = noisy([decode_seconds(b, s, h, k, d, 2.0, c) for b, _, s, h, k, d in shapes])
    found = fit_decode(CHIP, "trtllm", "bf16", Measurements(np.array(shapes), seconds, "made up"))
    assert found.residual < 0.05
    assert found.constants.launch == pytest.approx(7e-6, rel=0.15)
    assert found.constants.hbm_efficiency == pytest.approx(0.8, rel=0.05)


def test_elementwise_constants_come_back_from_times_made_with_them() -> None:
    made = ElementwiseConstants(launch=3e-6, efficiency=0.4, l2_ratio=0.9, source="made up")
    c = operation_vector(CHIP, made, 2.0)
    shapes = [(t, w) for t in (1.0, 32.0, 500.0, 4096.0, 16384.0) for w in (640.0, 4096.0, 8192.0)]
    seconds = noisy([elementwise_seconds(t, w, 2.0, c) for t, w in shapes])
    found = fit_operation(CHIP, "rmsnorm", np.column_stack([np.array(shapes), seconds]))
    assert found.constants.rows_per_core == 0
    assert found.constants.efficiency == pytest.approx(0.4, rel=0.05)
    assert found.constants.launch == pytest.approx(3e-6, rel=0.05)


def test_whole_combinations_are_held_out_and_the_same_ones_each_time() -> None:
    keys = [(i % 10,) for i in range(100)]
    held = held_out(keys)
    assert held.sum() == 30
    assert len({keys[i] for i in np.flatnonzero(held)}) == 3
    assert (held == held_out(keys)).all()


@pytest.mark.parametrize("script", [attention, elementwise])
def test_a_table_of_another_kind_is_an_error_in_words(script, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    table = tmp_path / "table.csv"
    table.write_text("a,b\n1,2\n")
    assert script.main([str(table)]) == 2
    assert "column 'chip' is missing" in capsys.readouterr().err
    assert script.main([str(tmp_path / "none.csv")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_without_scipy_a_fit_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    with pytest.raises(ScaleoutError, match=r"fits need scipy, which is not installed; pip install 'scaleout\[dev\]'"):
        fit_operation(CHIP, "rmsnorm", np.ones((4, 3)))


def test_the_day_of_a_fit_stays_where_the_file_stays() -> None:
    old = ElementwiseConstants(launch=3e-6, efficiency=0.4, fitted="2020-02-02", source="made up")
    assert dated(replace(old, launch=3.0001e-6, fitted=""), old).fitted == "2020-02-02"
    assert dated(replace(old, launch=3.1e-6), old).fitted > "2026"
    assert dated(old, None).fitted > "2026"
