"""Matrix multiplications against a table: what is taken, what is left out, and the errors of the whole."""

from pathlib import Path

import pytest

from scaleout.errors import MeasurementError
from scaleout.validation import validate

TABLE = Path(__file__).resolve().parents[3] / "shared" / "validation" / "gemm.csv"
HEADER = "chip,dtype,m,n,k,time_us,source\n"

MOST = {
    "chip=a100-80gb-sxm & dtype=bfloat16": 0.065,
    "chip=a100-80gb-sxm & dtype=int4_wo": 0.085,
    "chip=a100-80gb-sxm & dtype=int8_wo": 0.07,
    "chip=a100-80gb-sxm & dtype=sq": 0.075,
    "chip=h100-sxm & dtype=bfloat16": 0.05,
    "chip=h100-sxm & dtype=fp8": 0.04,
    "chip=h100-sxm & dtype=fp8_block": 0.05,
    "chip=b200-sxm & dtype=bfloat16": 0.075,
    "chip=b200-sxm & dtype=fp8": 0.05,
    "chip=b200-sxm & dtype=fp8_block": 0.05,
    "chip=b200-sxm & dtype=nvfp4": 0.03,
    "chip=l40s & dtype=bfloat16": 0.18,
    "chip=l40s & dtype=fp8": 0.14,
    "chip=l40s & dtype=fp8_block": 0.14,
}
"""Mean absolute relative error that each part of the table may show."""


def test_rows_are_taken_or_left_out_with_a_reason(tmp_path: Path) -> None:
    table = tmp_path / "gemm.csv"
    table.write_text(
        HEADER + "h100-sxm,bfloat16,4096,4096,12288,506.4,here\n"
        "h100-sxm,nvfp4,1,1,1,1,here\nh100-sxm,int3,1,1,1,1,here\nabacus,bf16,1,1,1,1,here\n"
    )
    result = validate("gemm", table)
    (row,) = result.compared
    assert row.error == pytest.approx(0.0, abs=0.1)
    assert row.keys == {"source": "here", "chip": "h100-sxm", "dtype": "bfloat16"}
    assert row.label == "4096 x 4096 x 12288"
    reasons = " | ".join(result.reasons())
    assert "no gemm constants for 'nvfp4'" in reasons
    assert "unknown dtype 'int3'" in reasons
    assert "unknown chip 'abacus'" in reasons


def test_malformed_rows_are_all_named(tmp_path: Path) -> None:
    table = tmp_path / "gemm.csv"
    table.write_text(HEADER + "h100-sxm,bf16,0,1,1,1,\nh100-sxm,bf16,1,1.5,1,1,\nh100-sxm,bf16,1,1,1,-1,\n")
    with pytest.raises(MeasurementError) as caught:
        validate("gemm", table)
    for words in ("line 2, column 'm'", "line 3, column 'n'", "line 4, column 'time_us'"):
        assert words in str(caught.value)


@pytest.mark.skipif(not TABLE.is_file(), reason="the table of measured matrix multiplications is not here")
def test_the_bulk_table_is_met_within_its_bounds() -> None:
    result = validate("gemm", TABLE)
    assert not result.skipped
    groups = result.summary()["groups"]
    above = {name: groups[name]["mape"] for name, most in MOST.items() if groups[name]["mape"] > most}
    assert not above
    assert abs(result.summary()["bias"]) < 0.02
