"""Published runs fit in HBM by our count, and what was published as too large does not.

Micro-batches beyond those that a pipeline holds at a time change no peak, so long batches are cut short here.
"""

import pytest

from scaleout.errors import PlanError
from scaleout.io.experiments import experiment
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment
from scaleout.training.memory import check_fits, stage_peaks
from scaleout.training.step import build

MPT = ("stack=llm-foundry", "precision=bf16", "recompute=[full]", "batch.sequence=2048")
RAN = {
    # arXiv 2104.04473, section 5.1: GPT-3 on 1,024 A100
    "gpt-3 175b": ("gpt3-175b-1k", ("batch.global=256",)),
    # arXiv 2205.05198, table 3
    "megatron 530b": ("megatron-530b-selective", ("batch.global=140",)),
    # arXiv 2407.21783, table 4
    "llama 405b, 8k": ("llama-3.1-405b-16k", ()),
    "llama 405b, 131k": ("llama-3.1-405b-131k", ()),
    # NVIDIA/dgxc-benchmarking v25.04.02, llama3.1/README.md
    "llama 8b": ("llama-3.1-8b-16", ("batch.global=16",)),
    "llama 70b": ("llama-3.1-70b-64", ("batch.global=32",)),
    # arXiv 2406.11704, table 2
    "nemotron 340b, 6,144": ("nemotron4-340b-6k", ("batch.global=1536",)),
    # NVIDIA/dgxc-benchmarking v25.04.02, nemotron/README.md; v25.02 has fp8 on 128 GPUs
    "nemotron 340b": ("nemotron4-340b-512", ()),
    "nemotron 340b, fp8": ("nemotron4-340b-512-fp8", ()),
    "nemotron 340b, fp8, 128": ("nemotron4-340b-512-fp8", ("chips=128", "layout.dp=2", "batch.global=32")),
    # arXiv 2412.19437, section 3.2: memory without tensor parallelism
    "deepseek-v3": ("deepseek-v3-2k", ("batch.global=4096",)),
    # NVIDIA/Megatron-LM, megatron/core/transformer/moe/README.md
    "mixtral 8x7b": ("mixtral-8x7b-64", ("batch.global=128",)),
    # NVIDIA/dgxc-benchmarking v25.05.05, grok1/README.md
    "grok-1": ("grok-1-512", ("batch.global=128",)),
    # mosaicml/llm-foundry, scripts/train/benchmarking/README.md, H100 80GB and A100 80GB
    "mpt 70b": (
        "llama-3.1-8b-16",
        (*MPT, "model=mpt-70b-foundry", "chips=32", "layout={dp: 32, zero: 3}", "batch.micro=2", "batch.global=64"),
    ),
    "mpt 30b, 8k": (
        "llama-3.1-8b-16",
        (
            *MPT, "model=mpt-30b-foundry", "chips=8", "layout={dp: 8, zero: 3}", "batch.global=8",
            "batch.sequence=8192",
            "model.max_sequence=8192",
        ),
    ),
    # BLOOM, arXiv 2211.05100, section 3.4.1: 384 A100 80GB
    "bloom 176b": (
        "gpt3-175b-1k",
        (
            "model=bloom-176b", "system=jean-zay-a100", "stack=megatron-deepspeed-pipeline", "chips=384",
            "gradients=fp32",
            "layout={tp: 4, pp: 12, dp: 8, zero: 1}", "precision=bf16", "batch.micro=2", "batch.global=384",
        ),
    ),
}  # fmt: skip
"""Workload and settings of runs that took place."""

PLAIN = ("layout.sequence_parallel=false", "recompute=[]", "stack.attention=unfused", "stack.dropout=true")
ZERO = ("system=dgx-2", "stack=megatron-lm-2020", "layout.sequence_parallel=false", "batch.sequence=1024")
TOO_LARGE = {
    # arXiv 2205.05198, figure 1: without its techniques none of the four models fits in 80 GB
    "megatron 22b": ("megatron-22b-selective", PLAIN),
    "megatron 175b": ("megatron-175b-selective", PLAIN),
    "megatron 530b": ("megatron-530b-selective", (*PLAIN, "batch.global=140")),
    # ZeRO, arXiv 1910.02054: data parallelism alone runs out of the 32 GB of a V100 above 1.4 B parameters ...
    "gpt 2.7b, replicated": (
        "megatron-22b-selective",
        (*ZERO, "model=gpt3-2.7b", "chips=16", "layout={dp: 16}", "batch={global: 16, micro: 1, sequence: 1024}"),
    ),
    # ... and the activations of GPT-2 of 1.5 B at a batch of 32 take 60 GB (section 3.2)
    "gpt-2 xl, batch 32": (
        "megatron-22b-selective",
        (
            *ZERO, "model=gpt2-xl", "chips=1", "layout={dp: 1}", "recompute=[]",
            "batch={global: 32, micro: 32, sequence: 1024}",
        ),
    ),
}  # fmt: skip
"""Workload and settings of what was found or said not to fit."""


def made(name: str, settings: tuple[str, ...]) -> TrainingExperiment:
    return experiment(name, settings)


@pytest.mark.parametrize("run", RAN)
def test_what_ran_fits(run: str) -> None:
    spec = made(*RAN[run])
    check_fits(spec, stage_peaks(build(spec)))


@pytest.mark.parametrize("run", TOO_LARGE)
def test_what_was_too_large_does_not_fit(run: str) -> None:
    spec = made(*TOO_LARGE[run])
    worst = max(sum(kinds.values()) for kinds in stage_peaks(build(spec)))
    assert worst > spec.system.chip.hbm_bytes


def test_too_large_is_refused_by_name() -> None:
    with pytest.raises(PlanError, match=r"does not fit in HBM: stage 0 of 1 .*; nearest that fits: --set 'recompute="):
        simulate(made(*TOO_LARGE["megatron 22b"]))


def test_what_zero_says_of_its_smallest_model_holds() -> None:
    # 1.4 B parameters fit a V100 of 32 GB, 13 B do with the optimizer and gradients cut over many (arXiv 1910.02054)
    spec = made(
        "megatron-22b-selective",
        (*ZERO, "model=gpt3-1.3b", "chips=16", "layout={dp: 16}", "gradients=fp16", "recompute=[full]",
         "batch={global: 16, micro: 1, sequence: 1024}"),
    )  # fmt: skip
    check_fits(spec, stage_peaks(build(spec)))


def test_the_nearest_fit_names_modules_that_the_model_has() -> None:
    # activations of experts are what fills it
    spec = made("deepseek-v3-2k", ("batch.global=4096", "recompute=[]", "stack.gate_cache=2 B"))
    with pytest.raises(PlanError, match=r"nearest that fits: --set 'recompute=\[.*mla_up_proj"):
        check_fits(spec, stage_peaks(build(spec)))
