"""Rows of published runs become experiments; what a row does not say is assumed and flagged."""

from pathlib import Path

import pytest

from scaleout.errors import MeasurementError
from scaleout.io.catalogue import known_models
from scaleout.io.table import take_rows
from scaleout.models import parameters
from scaleout.specs import TrainingExperiment
from scaleout.validation import training
from scaleout.validation.agreement import Agreement, Skipped
from scaleout.validation.frameworks import FRAMEWORKS, framework_of
from scaleout.validation.runs import Known, experiment_of, named_model

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


@pytest.fixture(scope="module")
def known() -> Known:
    return Known()


def mapped(tmp_path: Path, known: Known, **cells: str) -> tuple[TrainingExperiment, list[str]]:
    """The experiment of one row, whether or not it can be simulated."""
    path = tmp_path / "run.csv"
    values = {"seq": "4096", "gbs": "64", "mbs": "1", "system": "dgx-h100"} | cells
    path.write_text(",".join(values) + "\n" + ",".join(values.values()) + "\n", encoding="utf-8")
    found = take_rows(path, (), lambda row: experiment_of(row, known))[0]
    assert not isinstance(found, Skipped), found
    return found


def test_context_and_experts_take_their_part_of_the_ranks(tmp_path: Path, known: Known) -> None:
    experiment, _ = mapped(
        tmp_path, known, model="Grok 1 314b BF16", framework="NeMo (dgxc-benchmarking v25.02)", precision="bf16",
        gpus="512", tp="4", pp="8", vpp="8", cp="2", ep="8", gbs="1024", seq="8192",
    )  # fmt: skip
    layout = experiment.layout
    assert (layout.cp, layout.dp, layout.ep, layout.etp) == (2, 8, 8, 4)
    # 64 ranks of a stage hold 8 experts of 4 ranks each, twice
    assert layout.expert_replicas == 2


def test_a_proxy_has_the_layers_that_its_recipe_gives(tmp_path: Path, known: Known) -> None:
    # tables print the layout of the largest job; the README gives that of the smaller ones
    experiment, flags = mapped(
        tmp_path, known, model="Llama 3.1 405b FP8", framework="NeMo (dgxc-benchmarking v25.02)", precision="fp8",
        gpus="96", tp="8", pp="9", vpp="7", cp="2", gbs="", seq="8192",
    )  # fmt: skip
    assert (experiment.model.layers, experiment.layout.pp, experiment.batch.global_) == (21, 3, 126)
    assert {"layers of a proxy", "pp of the recipe"} <= set(flags)


def test_weights_are_sharded_over_a_slice_and_copied_over_slices(tmp_path: Path, known: Known) -> None:
    # two slices of 64 chips; 6 sequences a chip, which tensor-parallel chips work on together
    experiment, _ = mapped(
        tmp_path, known, model="MaxText 32B", framework="MaxText", system="tpu-v5p", precision="bf16", gpus="128",
        tp="4", dp="2", seq="2048", gbs="768", mbs="6", recompute="minimal",
    )  # fmt: skip
    layout = experiment.layout
    assert (layout.tp, layout.dp, layout.shard, layout.zero) == (4, 32, 16, 3)
    assert experiment.system.chips_per_node == 64
    assert experiment.micro_batches == 1
    assert experiment.recompute == ("norm", "mlp_product", "core_attention")


@pytest.mark.parametrize(
    ("words", "framework", "recipe"),
    [
        ("fp8", "NeMo 24.07", "fp8"), ("FP8-CS (FP8-MX)", "Megatron-Bridge 25.11", "fp8_current"),
        ("FP8", "Megatron-Bridge 26.04", "fp8_current"), ("MXFP8", "Megatron-Bridge 26.04", "mxfp8"),
        ("FP8-SC", "Megatron-Bridge 26.04", "fp8_block"), ("NVFP4", "Megatron-Bridge 26.04", "nvfp4"),
        ("amp_fp8", "llm-foundry FSDP", "fp8"), ("BF16", "Megatron-Bridge 26.04", "bf16"),
        ("", "Megatron-Bridge 25.09", "fp8_current"),
    ],
)  # fmt: skip
def test_recipes_of_low_precision_go_by_framework(
    tmp_path: Path, known: Known, words: str, framework: str, recipe: str
) -> None:
    cells = {"model": "LLAMA3_8B", "gpus": "8", "tp": "1", "pp": "1", "precision": words}
    experiment, flags = mapped(tmp_path, known, framework=framework, **cells)
    assert experiment.precision == recipe
    assert ("precision assumed" in flags) == (not words)


def test_reductions_have_the_width_that_the_source_says(tmp_path: Path, known: Known) -> None:
    cells = {"model": "MPT-7b", "framework": "llm-foundry FSDP", "precision": "bf16", "gpus": "8", "tp": "1", "pp": "1"}
    for mode, width in (("PURE", "bf16"), ("DEFAULT", "fp32")):
        experiment, _ = mapped(tmp_path, known, **cells, zero_stage="3", notes=f"FULL_SHARD; MP mode {mode}")
        assert (experiment.reduction, experiment.layout.zero) == (width, 3)


def test_racks_are_filled_evenly_and_tokens_go_by_the_kernels_of_the_system(tmp_path: Path, known: Known) -> None:
    cells = {"model": "DeepSeekV3 (w/o MTP)", "precision": "bf16", "tp": "1", "pp": "4", "vpp": "4", "ep": "64"}
    experiment, flags = mapped(
        tmp_path, known, **cells, framework="Megatron-Bridge 25.11", system="gb200-nvl72", gpus="256", gbs="4096"
    )
    assert experiment.system.chips_per_node == 64
    assert "chips used of a node assumed" in flags
    assert experiment.stack.experts_exchange == "HybridEP"
    assert experiment.model.predictions == 0


def test_recipes_name_the_layers_of_chunks_and_what_is_in_graphs(tmp_path: Path, known: Known) -> None:
    cells = {
        "model": "DeepSeekV3",
        "precision": "MXFP8",
        "tp": "1",
        "ep": "8",
        "gpus": "256",
        "gbs": "4096",
        "mbs": "1",
    }
    eager, _ = mapped(tmp_path, known, **cells, framework="Megatron-Bridge 26.04", system="dgx-b200", pp="16")
    # 61 layers and a prediction
    assert eager.layout.chunks == (*[4] * 15, 2)
    assert eager.recompute == ("mla_up_proj",)
    assert eager.stack.graphs == ()
    whole, _ = mapped(tmp_path, known, **cells, framework="Megatron-Bridge 26.06", system="dgx-b300", pp="8")
    assert whole.layout.chunks == (*[8] * 7, 6)
    assert set(whole.stack.graphs) == {"attention", "router", "experts"}


def test_batches_that_ranks_cannot_share_are_told_from_tokens(tmp_path: Path, known: Known) -> None:
    # 1204 for 1024 in the source
    experiment, flags = mapped(
        tmp_path, known, model="NeMo Megatron BF16", framework="NeMo (dgxc-benchmarking v25.04.02)", precision="bf16",
        gpus="512", tp="4", pp="8", vpp="6", seq="2048", gbs="1204", iter_s="8.42", tokens_s_gpu="486.5",
    )  # fmt: skip
    assert experiment.batch.global_ == 1024
    assert "gbs from tokens" in flags


def test_equal_experiments_are_simulated_once_whatever_was_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = []
    simulate = training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda e, job: evaluated.append(e) or simulate(e, job=job))
    told: list[tuple[int, int]] = []
    path = tmp_path / "runs.csv"
    path.write_text("\n".join((HEAD, KORTHIKANTI, changed(iter_s="1.5"), changed(mbs="2"))) + "\n", encoding="utf-8")
    found = training.compare(path, lambda done, size: told.append((done, size)))
    assert len(evaluated) == 2
    assert told == [(1, 2), (2, 2)]
    first, second, third = found.compared
    assert first.simulated == second.simulated != third.simulated
    assert (first.measured, second.measured) == (1.42, 1.5)


def test_any_number_of_processes_gives_the_same(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    path.write_text("\n".join((HEAD, KORTHIKANTI, changed(mbs="2"), changed(system=""))) + "\n", encoding="utf-8")
    assert training.compare(path, jobs=2) == training.compare(path)
