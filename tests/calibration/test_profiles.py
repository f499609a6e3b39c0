from pathlib import Path

import pytest

from scaleout.calibration.profiles import FORMS, main, products, profile_of, tables
from scaleout.errors import MeasurementError
from scaleout.io.catalogue import load
from scaleout.io.table import take_rows

DENSE = "layer,tokens,time_us\nqkv_proj,16,37.2\nlayernorm,16,2.4\nqk_norm,16,2.0\nfinal_layernorm,16,2.6\n"


def profile(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_name_of_a_file_says_chip_model_and_ranks(tmp_path: Path) -> None:
    found = profile_of(tmp_path / "RTXPRO6000_Qwen3-30B-A3B-Instruct-2507_tp2_dense.csv")
    assert found is not None
    assert (found.chip, found.model.name, found.tp, found.part) == ("rtx-pro-6000", "qwen3-30b-a3b", 2, "dense")
    assert profile_of(tmp_path / "notes.csv") is None
    with pytest.raises(MeasurementError, match="unknown chip 'RTXPRO9000'"):
        profile_of(tmp_path / "RTXPRO9000_Qwen3-32B_tp2_dense.csv")
    with pytest.raises(MeasurementError, match="unknown model 'Own-1B'"):
        profile_of(tmp_path / "RTXPRO6000_Own-1B_tp2_dense.csv")


@pytest.mark.parametrize(("name", "tp"), [("llama-3.1-8b", 1), ("qwen3-32b", 2), ("llama-3.1-70b", 4)])
def test_products_of_a_layer_hold_its_weights(name: str, tp: int) -> None:
    model, shapes = load("model", name), products(load("model", name), tp)
    layer = sum(n * k for layer, (n, k) in shapes.items() if layer != "lm_head")
    attention = model.hidden * model.head_size * (2 * model.heads + 2 * model.kv_heads)
    assert layer * tp == attention + 3 * model.hidden * model.ffn
    assert shapes["lm_head"][0] * tp == model.vocabulary


def test_layers_become_products_and_passes(tmp_path: Path) -> None:
    rows = tables([profile(tmp_path, "RTXPRO6000_Qwen3-32B_tp2_dense.csv", DENSE)])
    (gemm,) = rows["gemm"]
    assert (gemm["m"], gemm["n"], gemm["k"]) == (16, (64 + 2 * 8) // 2 * 128, 5120)
    # the mean of a norm of two passes and of one of four is one of three
    norms = {row["op"]: row for row in rows["elementwise"]}
    assert norms["add_rmsnorm"]["width"] * 4 == norms["rmsnorm"]["width"] * 2 == 3 * 5120
    # every head is a row, of both calls
    assert (norms["qk_norm"]["tokens"], norms["qk_norm"]["time_us"]) == (16 * (64 + 8), 4.0)
    assert len(rows["elementwise"]) == 3


def test_attention_of_a_prompt_sees_its_prefix_and_mixed_rows_are_left_out(tmp_path: Path) -> None:
    text = "prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n512,1024,0,0,67.0\n0,0,64,2048,397.7\n16,0,4,128,20\n"
    prompt, decode = tables([profile(tmp_path, "RTX4090_Llama-3.1-8B_tp1_attention_pure.csv", text)])["attention"]
    assert (prompt["phase"], prompt["batch"], prompt["q_len"], prompt["kv_len"]) == ("prefill", 1, 512, 1536)
    assert (decode["phase"], decode["batch"], decode["q_len"], decode["kv_len"]) == ("decode", 64, 1, 2048)


def test_experts_of_a_model_without_any_are_refused(tmp_path: Path) -> None:
    text = "tokens,activated_experts,time_us\n16,32,229.7\n"
    (row,) = tables([profile(tmp_path, "RTXPRO6000_Qwen3-30B-A3B_tp1_moe.csv", text)])["moe"]
    assert (row["experts"], row["topk"], row["hidden"], row["ffn"], row["routing"]) == (32, 8, 2048, 768, "balanced")
    with pytest.raises(MeasurementError, match="no experts"):
        tables([profile(tmp_path, "RTXPRO6000_Qwen3-32B_tp1_moe.csv", text)])


def test_the_command_writes_tables_that_can_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    profile(tmp_path, "RTXPRO6000_Qwen3-32B_tp2_dense.csv", DENSE)
    assert main([str(tmp_path), "--into", str(tmp_path / "made")]) == 0
    assert "gemm.csv: 1 rows" in capsys.readouterr().out
    assert take_rows(tmp_path / "made" / "gemm.csv", FORMS["gemm"], lambda row: row.number("time_us")) == [37.2]
    profile(tmp_path, "RTXPRO6000_Qwen3-32B_tp4_dense.csv", "layer,tokens,time_us\nother,1,1\n")
    assert main([str(tmp_path), "--into", str(tmp_path / "made")]) == 2
    assert "'other' is not accepted" in capsys.readouterr().err
