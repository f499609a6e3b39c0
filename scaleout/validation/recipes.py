"""What a published recipe sets that the table of its results leaves out.

Entries are typed in one at a time from the repositories that their comments name. The first that
matches a row is taken; what it says is assumed of the run, and flagged.
"""

import re
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["RECIPES", "Recipe", "recipe_of"]

Part = Literal["attention", "router", "experts"]
_STEP: tuple[Part, ...] = ("attention", "router", "experts")
"""The whole step is one CUDA graph."""
_BEFORE_EXPERTS: tuple[Part, ...] = ("attention", "router")
_MLA = ("mla_up_proj",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of one recipe; None where it leaves a framework's default.

    Parameters
    ----------
    framework, model, system, precision
        Regular expressions on a row's framework, plain name of the model, system, and recipe of the
        linear layers.
    chips
        Chips of the job; () for any number.
    recompute
        Modules that are recomputed.
    layers
        Of a proxy: the model cut down to so many of its layers, so that it fits few chips.
    tp, pp, vpp, cp, etp, shard, batch, micro, sequence
        As in a layout and a batch.
    chunks
        Layers of every chunk, predictions among them, as in a layout; the first that fits the model and
        its number of chunks is taken.
    exchange
        What carries tokens to their experts, as in a stack.
    graphs
        What is launched as CUDA graphs, as in a stack.
    """

    framework: str
    model: str
    system: str = ""
    precision: str = ""
    chips: tuple[int, ...] = ()
    recompute: tuple[str, ...] | None = None
    layers: int | None = None
    tp: int | None = None
    pp: int | None = None
    vpp: int | None = None
    cp: int | None = None
    etp: int | None = None
    shard: int | None = None
    chunks: tuple[tuple[int, ...], ...] = ()
    exchange: str | None = None
    graphs: tuple[Part, ...] = ()
    batch: int | None = None
    micro: int | None = None
    sequence: int | None = None


def _grok(chips: int, layers: int) -> Recipe:
    return Recipe(framework="dgxc", model="grok1", chips=(chips,), layers=layers)


def _llama_405b(chips: int, layers: int, pp: int, vpp: int, batch: int) -> Recipe:
    return Recipe(
        framework="dgxc.*v25.02", model="llama3.1405b", chips=(chips,), layers=layers, pp=pp, vpp=vpp, batch=batch
    )


_SAVED_QKV = ("norm", "core_attention", "mlp")
"""All but the projections to queries, keys and values; the projection out of attention, which is
recomputed too, is left out: 1/12 of a layer's forward pass."""

_DEEPSEEK_CHUNKS = tuple(
    (first, *between, last + predictions)
    for predictions in (0, 1)
    for first, between, last in ((4, (4,) * 14, 1), (1, (2,) * 30, 0), (8, (8,) * 6, 5))
)


def _deepseek(framework: str, system: str = "", precision: str = "", **settings: Any) -> Recipe:
    return Recipe(
        framework=f"Megatron-Bridge {framework}", model="deepseekv3", system=system, precision=precision,
        chunks=_DEEPSEEK_CHUNKS, **settings,
    )  # fmt: skip


RECIPES = (
    # NVIDIA/dgxc-benchmarking, grok1/README_314b.md of v25.02, and grok1/README.md for 512 chips
    _grok(8, 2), _grok(16, 4), _grok(32, 4), _grok(64, 8), _grok(128, 16), _grok(256, 32),
    Recipe(framework="dgxc.*v25.0[5-9]", model="grok1", etp=1),
    # NVIDIA/dgxc-benchmarking, llama3.1/README_405b.md of v25.02
    _llama_405b(32, 7, 1, 1, 126), _llama_405b(96, 21, 3, 7, 126), _llama_405b(192, 42, 3, 7, 252),
    _llama_405b(576, 126, 9, 7, 252), _llama_405b(1152, 126, 9, 7, 504), _llama_405b(2304, 126, 9, 7, 1008),
    # NVIDIA/dgxc-benchmarking, maxtext/configure.sh: remat_policy=save_qkv_proj; 16 nodes share the weights
    # in jobs of 64 and more, and all of them in smaller ones
    Recipe(framework="dgxc", model="maxtext", chips=(512, 1024, 2048), recompute=_SAVED_QKV, shard=128, micro=2),
    Recipe(framework="dgxc", model="maxtext", recompute=_SAVED_QKV, micro=2),
    # NVIDIA/dgxc-benchmarking of v25.02, tables without a sequence length
    Recipe(framework="dgxc", model="nemomegatron|gpt3175b", sequence=2048),
    Recipe(framework="dgxc", model="nemotron4", sequence=4096),
    # AI-Hypercomputer/maxtext, configs/tpu/v4/22b.sh and 52b.sh
    Recipe(framework="MaxText", model="maxtext22b", system="tpu-v4", micro=13, sequence=2048, recompute=("full",)),
    Recipe(framework="MaxText", model="maxtext52b", system="tpu-v4", micro=7, sequence=2048, recompute=("full",)),
    # NVIDIA-NeMo/Megatron-Bridge, scripts/performance/configs: workload_base_configs.py of models, of 2025 at
    # 0fa501a and later; the last chunk of DeepSeek-V3 holds the prediction. Experts with a capacity (tokendrop)
    # let no host wait
    Recipe(framework="Megatron-Bridge 25.09", model="qwen3", graphs=_STEP),
    _deepseek("25.09", "gb200|dgx-b200", recompute=_MLA, graphs=_STEP),
    _deepseek("25.09", "dgx-h100", recompute=(*_MLA, "mlp"), exchange="DeepEP"),
    _deepseek("25.11", "gb200", "mxfp8", recompute=(*_MLA, "mlp"), graphs=_BEFORE_EXPERTS),
    _deepseek("26.04.01", "dgx-b200", recompute=(*_MLA, "mlp"), exchange="DeepEP", graphs=_BEFORE_EXPERTS),
    _deepseek("26.06|26.08", "gb200|dgx-b300", recompute=_MLA, graphs=_STEP),
    _deepseek("", "gb200|dgx-b300", recompute=_MLA, graphs=_BEFORE_EXPERTS),
    _deepseek("", recompute=_MLA),
    Recipe(framework="Megatron-Bridge 26.0[68]", model="qwen3|gptoss", precision="mxfp8", graphs=_STEP),
    Recipe(framework="Megatron-Bridge", model="qwen3235b", system="dgx-b300|dgx-b200|dgx-h100", exchange="nccl"),
    Recipe(framework="Megatron-Bridge", model="gptoss120b", recompute=("norm", "moe_act"), exchange="nccl"),
)  # fmt: skip


def recipe_of(framework: str, model: str, system: str, precision: str, chips: int) -> Recipe | None:
    """The recipe of a row, or None."""
    for known in RECIPES:
        if (
            re.search(known.framework, framework)
            and re.search(known.model, model)
            and re.match(known.system, system)
            and re.match(known.precision, precision)
            and chips in (known.chips or (chips,))
        ):
            return known
    return None
