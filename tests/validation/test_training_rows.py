"""Rows of published runs become experiments; what a row does not say is assumed and flagged."""

from pathlib import Path

import pytest

from scaleout.errors import MeasurementError
from scaleout.io.catalogue import known_models
from scaleout.models import parameters
from scaleout.validation import training
from scaleout.validation.agreement import Agreement
from scaleout.validation.frameworks import FRAMEWORKS, framework_of
from scaleout.validation.runs import named_model

HEAD = (
    "id,model,layers,hidden,heads,ffn,vocab,seq,gbs,mbs,gpus,tp,pp,vpp,cp,experts,sp,recompute,precision,zero_stage,"
    "framework,iter_s,tflops_gpu,tokens_s_gpu,system,flops_counted,source"
)
# table 5 of Korthikanti et al., arXiv 2205.05198: 22B on 8 A100, full recomputation, 1.42 s an iteration
KORTHIKANTI = (
    "korthikanti22_22B,GPT 22B,48,6144,64,24576,51200,2048,4,4,8,8,1,,,,0,full,fp16,0,Megatron-LM 2022,1.42,,,dgx-a100,"
    "model,arXiv 2205.05198 table 5"
)


def compare(tmp_path: Path, *rows: str) -> Agreement:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join((HEAD, *rows)) + "\n", encoding="utf-8")
    return training.compare(path)


def changed(**cells: str) -> str:
    values = dict(zip(HEAD.split(","), KORTHIKANTI.split(","), strict=True)) | cells
    return ",".join(values[name] for name in HEAD.split(","))


def test_a_published_run_is_simulated_within_a_few_per_cent(tmp_path: Path) -> None:
    found = compare(tmp_path, KORTHIKANTI)
    (row,) = found.compared
    assert row.measured == 1.42
    assert abs(row.error) < 0.05
    assert row.keys["source"] == "korthikanti22"
    assert row.keys["system"] == "dgx-a100"
    assert row.flags == ()


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"experts": "8"}, "without the number that a token takes"),
        ({"tp": ""}, "no tp"),
        ({"precision": "", "source": "a paper"}, "no precision"),
        ({"system": "abacus"}, "unknown system 'abacus'"),
        ({"framework": "an unheard-of one"}, "unknown framework"),
        ({"hidden": "", "model": "GPT 22B"}, "no architecture"),
        ({"model": "LLAMA2-7B LoRA"}, "only a part of the weights is trained"),
        ({"iter_s": ""}, "no measurement"),
        ({"gbs": "3"}, "does not multiply out"),
        ({"seq": ""}, "no seq or no gbs"),
    ],
)
def test_rows_that_cannot_be_taken_say_why(tmp_path: Path, cells: dict[str, str], reason: str) -> None:
    found = compare(tmp_path, changed(**cells))
    assert not found.compared
    assert reason in found.skipped[0].reason


@pytest.mark.parametrize(
    "cells",
    [
        {"gpus": "eight"}, {"iter_s": "-1"}, {"layers": "1.5"}, {"tp": "0"}, {"iter_s": "nan"},
        # also in rows that would be left out
        {"layers": "-20", "precision": "", "source": "a paper"}, {"mbs": "x", "experts": "8"},
    ],
)  # fmt: skip
def test_malformed_rows_are_errors(tmp_path: Path, cells: dict[str, str]) -> None:
    with pytest.raises(MeasurementError, match=f"line 2, column '{next(iter(cells))}'"):
        compare(tmp_path, changed(**cells))


def test_what_is_missing_is_assumed_as_the_framework_does_it_and_flagged(tmp_path: Path) -> None:
    bare = changed(vocab="", sp="", recompute="", zero_stage="", mbs="", gbs="8")
    (row,) = compare(tmp_path, bare).compared
    assert set(row.flags) == {"vocab assumed", "sp assumed", "recompute assumed", "zero_stage assumed", "mbs assumed"}


def test_time_comes_from_tokens_or_from_the_sources_own_flops(tmp_path: Path) -> None:
    tokens = 4 * 2048
    by_tokens = changed(iter_s="", tokens_s_gpu=str(tokens / 1.42 / 8))
    # hardware FLOPs of arXiv 2104.04473, eq. 3: everything but the head is computed once more
    layers, hidden, vocabulary, sequence = 48, 6144, 51200, 2048
    flops = 96 * 4 * sequence * layers * hidden**2 * (1 + sequence / (6 * hidden) + vocabulary / (16 * layers * hidden))
    by_flops = changed(iter_s="", tflops_gpu=str(flops / 1.42 / 8 / 1e12), flops_counted="hardware")
    for row in compare(tmp_path, by_tokens, by_flops).compared:
        assert row.measured == pytest.approx(1.42, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("LLAMA2-13B", 13.0e9), ("LLAMA3_70B", 70.6e9), ("Llama 3.1 405b BF16", 405.9e9), ("LLAMA3-8B", 8.0e9),
        ("Llama3 8b Finetuning SFT FP8", 8.0e9), ("NeMo Megatron FP8", 174.6e9), ("Nemotron4 340b BF16", 341e9),
        ("llama2-7b", 6.74e9), ("gpt2-xl", 1.56e9), ("qwen2.5-14b", 14.8e9),
    ],
)  # fmt: skip
def test_names_of_models_in_tables_are_found(name: str, size: float) -> None:
    model = named_model(name, known_models())
    assert model is not None
    assert parameters(model) == pytest.approx(size, rel=0.01)


def test_every_framework_names_a_shipped_stack() -> None:
    from scaleout.io.catalogue import list_names

    assert {known.stack for known in FRAMEWORKS} <= set(list_names("stack"))
    bloom = framework_of("Megatron-DeepSpeed", "jean-zay-a100")
    assert bloom is not None
    assert bloom.stack == "megatron-deepspeed-pipeline"
    assert framework_of("an unheard-of one", "tpu-v4") is None
