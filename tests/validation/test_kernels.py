from pathlib import Path

import pytest

from scaleout.errors import MeasurementError
from scaleout.validation import attention, elementwise

TABLES = Path(__file__).resolve().parents[2].parent / "shared" / "validation"
HEADER = "chip,phase,dtype,kv_dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,time_us,source\n"
TRTLLM, FLASH = "aiconfigurator; TensorRT-LLM collectors", "vidur; flash attention"


def table(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


def test_rows_are_told_apart_and_impossible_ones_are_left_out(tmp_path: Path) -> None:
    rows = [
        "h100-sxm,prefill,bfloat16,bfloat16,1,2048,2048,32,8,128,124.5," + TRTLLM,
        "a100-80gb-sxm,prefill,bfloat16,bfloat16,1,2048,2048,32,4,128,681," + FLASH,
        "h100-sxm,decode,bfloat16,fp8,64,1,4095,32,8,128,200," + TRTLLM,
        "h100-sxm,decode,bfloat16,bfloat16,64,1,4095,32,8,128,300," + TRTLLM,
        "h100-sxm,decode,bfloat16,bfloat16,64,1,4095,32,8,128,400,somebody's own kernel",
        "m1000,decode,bfloat16,bfloat16,64,1,4095,32,8,128,400," + TRTLLM,
    ]
    made = attention.compare(table(tmp_path, HEADER + "\n".join(rows)))
    assert len(made.compared) == 3
    assert [row.line for row in made.skipped] == [5, 6, 7]
    reasons = list(made.reasons())
    assert any("faster than the HBM peak" in reason for reason in reasons)
    assert any("no known attention kernel" in reason for reason in reasons)
    assert any("unknown chip 'm1000'" in reason for reason in reasons)
    groups = made.groups()
    assert len(groups["chip=h100-sxm & phase=prefill & kernel=trtllm"]) == 1
    assert len(groups["kernel=flash-attention-2-paged"]) == 1
    assert all(abs(row.error) < 0.3 for row in made.compared)


def test_a_malformed_row_is_an_error(tmp_path: Path) -> None:
    text = HEADER + "h100-sxm,train,bfloat16,bfloat16,1,2048,2048,32,8,128,124.5," + TRTLLM
    with pytest.raises(MeasurementError, match="'train' is not accepted"):
        attention.compare(table(tmp_path, text))
    with pytest.raises(MeasurementError, match="tokens"):
        elementwise.compare(table(tmp_path, "chip,op,tokens,width,dtype,time_us\na40,add,-1,4096,float16,3\n"))


def test_elementwise_rows_are_compared_by_operation(tmp_path: Path) -> None:
    text = "chip,op,tokens,width,dtype,time_us\na40,add,4096,8192,float16,340\na40,softmax,1,1,float16,3\n"
    made = elementwise.compare(table(tmp_path, text))
    assert "chip=a40 & op=add" in made.groups()
    assert [row.reason for row in made.skipped] == ["chip 'a40' has no elementwise constants for 'softmax'"]


@pytest.mark.skipif(not (TABLES / "attention.csv").exists(), reason="attention.csv, the bulk table, is absent")
def test_the_whole_attention_table_is_met() -> None:
    groups = attention.compare(TABLES / "attention.csv").summary()["groups"]
    for chip in ("a100-80gb-sxm", "h100-sxm", "b200-sxm"):
        assert groups[f"chip={chip} & phase=prefill"]["mape"] <= 0.08, chip
    decode = "chip={} & phase=decode & kernel={}"
    assert groups[decode.format("a100-80gb-sxm", "flash-attention-2-paged")]["mape"] <= 0.09
    for chip in ("a100-80gb-sxm", "h100-sxm", "b200-sxm", "l40s"):
        assert groups[decode.format(chip, "trtllm")]["median"] <= 0.13, chip


@pytest.mark.skipif(not (TABLES / "elementwise.csv").exists(), reason="elementwise.csv, the bulk table, is absent")
def test_the_whole_elementwise_table_is_met() -> None:
    assert elementwise.compare(TABLES / "elementwise.csv").summary()["median"] <= 0.06
