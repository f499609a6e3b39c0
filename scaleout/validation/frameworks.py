"""Training frameworks that published runs name, and what such runs have in common."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["FRAMEWORKS", "Framework", "framework_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """What runs of a training framework have in common where a row does not say it.

    Parameters
    ----------
    pattern
        Regular expression on the row's framework and model.
    stack
        Name of the stack.
    recompute, zero, sequence_parallel
        As in an experiment.
    gradients
        Dtype of gradients by precision: with fp16, with bf16 and narrower ones.
    fp8
        Recipe that the framework means by "fp8".
    system
        Where the framework was a fork of its own, a regular expression; "" for any.
    systems
        Systems that had other chips at the time.
    interleaved
        Recipes interleave as finely as the layers allow.
    expert_tensor
        Experts are cut over the tensor-parallel group too.
    sliced
        Weights are sharded over a slice (of which the column dp tells the number), with no pipeline.
    exchange
        Kernels that carry tokens to their experts, the first that a system has; else its library does.
    causal
        Published FLOP/s count the causal half of attention alone.
    """

    pattern: str
    stack: str
    recompute: str
    zero: int
    sequence_parallel: bool
    gradients: tuple[str, str]
    fp8: str = "fp8"
    system: str = ""
    systems: Mapping[str, str] = field(default_factory=dict)
    interleaved: bool = False
    expert_tensor: bool = False
    sliced: bool = False
    exchange: tuple[str, ...] = ()
    causal: bool = False

    def chunks(self, layers: int, pp: int, micro_batches: int) -> int:
        """Model chunks a stage where a row does not say: one layer each, or one chunk."""
        return layers // pp if self.interleaved and layers % pp == 0 and micro_batches % pp == 0 else 1


_EARLY: Any = {"recompute": "full", "sequence_parallel": False, "gradients": ("fp16", "fp32")}
"""Before Megatron-Core: everything recomputed, gradients in the precision of the run or in fp32."""
_CORE: Any = {"recompute": "none", "zero": 1, "sequence_parallel": True}
"""On Megatron-Core: what is recomputed is named by its recipe, and the optimizer is distributed."""
# activations between blocks are cut over the tensor axis: activation_embed of configs/base.yml
_MAXTEXT: Any = {
    "recompute": "full", "zero": 3, "sequence_parallel": True, "gradients": ("fp32", "fp32"), "sliced": True,
    "fp8": "fp8_current",
}  # fmt: skip
_NEMO: Any = {"gradients": ("bf16", "bf16"), "interleaved": True, "expert_tensor": True, "causal": True, **_CORE}

FRAMEWORKS = (
    # BigScience's fork, with DeepSpeed's pipeline engine
    Framework(
        pattern="Megatron-DeepSpeed", system="jean-zay-a100", stack="megatron-deepspeed-pipeline", zero=1, **_EARLY
    ),
    Framework(pattern="Megatron-DeepSpeed", stack="megatron-deepspeed", zero=0, **_EARLY),
    # the A100 with 80 GB came in November 2020
    Framework(
        pattern="Megatron-LM v1 2020", stack="megatron-lm-2020", zero=0, systems={"dgx-a100": "dgx-a100-40gb"}, **_EARLY
    ),
    Framework(pattern="Megatron-LM", stack="megatron-lm-2021", zero=0, **_EARLY),
    Framework(pattern="Megatron-Core", stack="megatron-lm", gradients=("fp32", "fp32"), **_CORE),
    # attention in recipes of NVIDIA's GPUs is cuDNN's, on TPUs it is a kernel of JAX's
    Framework(pattern="(?i)maxtext", system="tpu-v7", stack="maxtext-sparsecore", **_MAXTEXT),
    Framework(pattern="(?i)maxtext", system="tpu", stack="maxtext", **_MAXTEXT),
    Framework(pattern="(?i)maxtext", stack="maxtext-gpu", **_MAXTEXT),
    Framework(
        pattern="llm-foundry",
        stack="llm-foundry",
        recompute="none",
        zero=3,
        sequence_parallel=False,
        gradients=("fp32", "fp32"),
    ),
    # FP8 stands for per-tensor scaling by the tensor at hand: performance-summary.md, 25.11 and later
    Framework(
        pattern="Megatron-Bridge",
        stack="megatron-bridge",
        gradients=("bf16", "bf16"),
        fp8="fp8_current",
        exchange=("HybridEP",),
        **_CORE,
    ),
    # the cross-entropy of Transformer Engine came with the performance scripts of 25.04
    Framework(pattern="NeMo 24|NeMo .*v25.02", stack="nemo-2024", **_NEMO),
    Framework(pattern="NeMo", stack="nemo", **_NEMO),
)


def framework_of(words: str, system: str) -> Framework | None:
    """The framework that a row's words name; a fork of one system goes before the framework itself."""
    for known in FRAMEWORKS:
        if re.search(known.pattern, words) and re.match(known.system, system):
            return known
    return None
