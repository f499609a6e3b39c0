from dataclasses import replace

import numpy as np
import pytest

from scaleout.calibration.moe import Experts, fit
from scaleout.hardware.moe import experts_seconds
from scaleout.io.catalogue import load
from scaleout.specs import GroupedConstants

CHIP = load("chip", "rtx-pro-6000")


def test_constants_of_fused_experts_come_back_from_times_made_with_them() -> None:
    made = GroupedConstants(work=1.3, traffic=1.1, launch=15e-6, source="made up")
    chip = replace(CHIP, gemm={"bf16": replace(CHIP.gemm["bf16"], grouped=made)})
    rng, rows = np.random.default_rng(1), []
    for hidden, ffn in ((2048, 768), (4096, 1536), (4096, 14336), (7168, 2048)):
        for tokens in (1, 8, 64, 512, 4096, 16384):
            row = Experts(tokens, hidden, ffn, 8, 64, 1, None, 1.0)
            seconds = experts_seconds(chip, "bf16", tokens, hidden, ffn, row.loads()) * np.exp(rng.normal(0.0, 0.01))
            rows.append(replace(row, seconds=float(seconds)))
    found = fit(CHIP, "bf16", rows)
    assert found.residual < 0.03
    assert found.constants.work == pytest.approx(1.3, rel=0.06)
    assert found.constants.traffic == pytest.approx(1.1, rel=0.05)
    assert found.constants.launch == pytest.approx(15e-6, rel=0.2)
