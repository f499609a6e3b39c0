"""Architectures of Hugging Face configs with a mixture of experts: keys become the fields of a `Model`."""

from collections.abc import Mapping
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.architectures import Architecture, llama
from scaleout.io.config_keys import Config

__all__ = ["EXPERTS"]


def _top_k(config: Config) -> int:
    return config.number("num_experts_per_tok", "experts_per_token")


def _mixtral(config: Config) -> dict[str, Any]:
    """All layers have experts, of the width that the dense block would have."""
    count = config.number("num_local_experts", "num_experts")
    return {
        **llama(config),
        "window": config.some("sliding_window") or None,
        "experts": {"count": count, "top_k": _top_k(config), "ffn": config.number("intermediate_size")},
    }


def _grok1(config: Config) -> dict[str, Any]:
    return {**_mixtral(config), "tied_embeddings": config.flag("tie_word_embeddings", default=True), "post_norms": True}


def _gpt_oss(config: Config) -> dict[str, Any]:
    """Biases everywhere; a number a head that joins the softmax is left out."""
    model = _mixtral(Config({**config.data, "attention_bias": True, "mlp_bias": True}, config.where))
    every = config.period("sliding_attention", model["layers"], 2)
    return {**model, "window": config.number("sliding_window", default=128), "global_every": every}


def _qwen_experts(config: Config) -> dict[str, Any]:
    """Experts of a Qwen; the first layers may be dense."""
    dense = config.get("mlp_only_layers") or []
    every = config.number("decoder_sparse_step", default=1)
    if dense != list(range(len(dense))) or (dense and every > 1):
        raise SpecError(
            f"{config.where}: mlp_only_layers: {dense!s:.60} is not read; expected the first layers or none"
        )
    return {
        "count": config.number("num_experts", "num_local_experts"),
        "top_k": _top_k(config),
        "ffn": config.number("moe_intermediate_size"),
        "shared_ffn": config.some("shared_expert_intermediate_size"),
        "first": len(dense),
        "every": every,
    }


def _qwen2_moe(config: Config) -> dict[str, Any]:
    return {**llama(config), "bias": "qkv", "experts": _qwen_experts(config)}


def _qwen3_moe(config: Config) -> dict[str, Any]:
    return {**llama(config), "query_norm": True, "experts": _qwen_experts(config)}


def _qwen3_next(config: Config) -> dict[str, Any]:
    model = llama(config)
    every = config.period("linear_attention", model["layers"], config.number("full_attention_interval", default=4))
    linear = {
        "key_heads": config.number("linear_num_key_heads"),
        "value_heads": config.number("linear_num_value_heads"),
        "key_size": config.number("linear_key_head_dim"),
        "value_size": config.number("linear_value_head_dim"),
        "convolution": config.number("linear_conv_kernel_dim", default=4),
        # beyond the last layer: none attends to all tokens
        "every": every or model["layers"] + 1,
    }
    return {**model, "query_norm": True, "output_gate": True, "linear": linear, "experts": _qwen_experts(config)}


def _deepseek(config: Config) -> dict[str, Any]:
    """Compressed keys and values, shared experts, groups of experts; Kimi K2 is one too."""
    if config.number("moe_layer_freq", default=1) != 1:
        config.refuse("layers of experts between others are not read", "moe_layer_freq")
    value = config.number("v_head_dim")
    ffn, groups = config.number("moe_intermediate_size"), config.number("n_group", default=1)
    experts = {
        "count": config.number("n_routed_experts"),
        "top_k": _top_k(config),
        "ffn": ffn,
        "shared_ffn": config.some("n_shared_experts") * ffn,
        "first": config.some("first_k_dense_replace"),
    }
    if groups > 1:
        experts |= {"groups": groups, "group_limit": config.number("topk_group")}
    latent = {
        "query_rank": config.some("q_lora_rank"),
        "key_rank": config.number("kv_lora_rank"),
        "nope": config.number("qk_nope_head_dim"),
        "rope": config.number("qk_rope_head_dim"),
        "value": value,
    }
    model = llama(Config({**config.data, "head_dim": value}, config.where))
    return {**model, "experts": experts, "latent": latent, "predictions": config.some("num_nextn_predict_layers")}


def _llama4(config: Config) -> dict[str, Any]:
    """The text part; each so-many-th layer has no positions and attends to all tokens."""
    text = config.inside("text_config") if config.get("text_config") else config
    ffn = text.number("intermediate_size")
    model = llama(Config({**text.data, "intermediate_size": text.number("intermediate_size_mlp")}, text.where))
    layers, every = model["layers"], text.number("no_rope_layer_interval", default=4)
    ropes = text.get("no_rope_layers")
    if ropes and ropes != [int((at + 1) % every > 0) for at in range(layers)]:
        raise SpecError(f"{text.where}: no_rope_layers: {ropes!s:.60} is not read; expected a 0 each {every}th layer")
    experts = {
        "count": text.number("num_local_experts"),
        "top_k": _top_k(text),
        "ffn": ffn,
        "shared_ffn": ffn,
        "every": text.number("interleave_moe_layer_step", default=1),
    }
    return {
        **model,
        "window": text.number("attention_chunk_size", default=8192),
        "blocks": True,
        "global_every": text.period("chunked_attention", layers, every),
        "query_norm": text.flag("use_qk_norm", default=True),
        "experts": experts,
    }


EXPERTS: Mapping[str, Architecture] = {
    "MixtralForCausalLM": _mixtral,
    "Grok1ModelForCausalLM": _grok1,
    "GptOssForCausalLM": _gpt_oss,
    "Qwen2MoeForCausalLM": _qwen2_moe,
    "Qwen3MoeForCausalLM": _qwen3_moe,
    "Qwen3NextForCausalLM": _qwen3_next,
    "DeepseekV2ForCausalLM": _deepseek,
    "DeepseekV3ForCausalLM": _deepseek,
    "Llama4ForConditionalGeneration": _llama4,
    "Llama4ForCausalLM": _llama4,
}
"""By the name that a config gives under ``architectures``."""
