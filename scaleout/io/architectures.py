"""Architectures of Hugging Face configs without experts: keys become the fields of a `Model`."""

from collections.abc import Callable, Mapping
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.config_keys import Config

__all__ = ["DENSE", "Architecture", "llama"]

Architecture = Callable[[Config], dict[str, Any]]
"""From keys to fields."""


def llama(config: Config, *, tied: bool = False) -> dict[str, Any]:
    """Decoders with a gate, RMS norms and rotary positions, as Llama has them."""
    hidden, heads = config.number("hidden_size"), config.number("num_attention_heads")
    attention, mlp = config.flag("attention_bias", default=False), config.flag("mlp_bias", default=False)
    if attention != mlp:
        raise SpecError(
            f"{config.where}: attention_bias {str(attention).lower()} with mlp_bias {str(mlp).lower()} is not read; "
            "expected both or neither"
        )
    return {
        "layers": config.number("num_hidden_layers"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": config.number("num_key_value_heads", default=heads),
        "head_size": config.head_size(hidden, heads),
        "ffn": config.number("intermediate_size"),
        "vocabulary": config.number("vocab_size"),
        "gated": True,
        "norm": "rms",
        "bias": attention,
        "positions": "rope",
        "tied_embeddings": config.flag("tie_word_embeddings", default=tied),
        "max_sequence": config.number("max_position_embeddings", "max_sequence_length", default=2048),
    }


def _mistral(config: Config) -> dict[str, Any]:
    # a file without the key has the library's window; null means none
    absent = "sliding_window" not in config.data
    window = 4096 if absent else config.get("sliding_window") and config.number("sliding_window")
    return {**llama(config), "window": window}


def _qwen2(config: Config) -> dict[str, Any]:
    model = {**llama(config), "bias": "qkv"}
    # layers below max_window_layers attend to everything
    some = config.number("max_window_layers", default=28) < model["layers"]
    if config.flag("use_sliding_window", default=False) and some:
        model["window"] = config.number("sliding_window", default=4096)
    return model


def _gemma(config: Config) -> dict[str, Any]:
    return llama(config, tied=True)


def _classic(config: Config, **fields: Any) -> dict[str, Any]:
    """Decoders without a gate, with as many keys as queries: GPT-2 and what came of it."""
    hidden, heads = fields["hidden"], fields["heads"]
    return {
        "kv_heads": heads,
        "head_size": config.head_size(hidden, heads),
        "ffn": 4 * hidden,
        "vocabulary": config.number("vocab_size"),
        "gated": False,
        "norm": "layer",
        "bias": True,
        "tied_embeddings": config.flag("tie_word_embeddings", default=True),
        **fields,
    }


def _gpt2(config: Config) -> dict[str, Any]:
    hidden = config.number("n_embd", "hidden_size")
    if config.flag("add_cross_attention", default=False):
        raise SpecError(f"{config.where}: add_cross_attention: a model with an encoder is not read")
    return _classic(
        config,
        layers=config.number("n_layer", "num_hidden_layers"),
        hidden=hidden,
        heads=config.number("n_head", "num_attention_heads"),
        ffn=config.number("n_inner", default=4 * hidden),
        positions="learned",
        max_sequence=config.number("n_positions", "n_ctx", "max_position_embeddings", default=1024),
    )


def _bloom(config: Config) -> dict[str, Any]:
    return _classic(
        config,
        layers=config.number("n_layer", "num_hidden_layers"),
        hidden=config.number("hidden_size", "n_embed"),
        heads=config.number("n_head", "num_attention_heads"),
        positions="alibi",
        max_sequence=config.number("seq_length", default=2048),
        embedding_norm=True,
    )


def _mpt(config: Config) -> dict[str, Any]:
    hidden, heads = config.number("d_model", "hidden_size"), config.number("n_heads", "num_attention_heads")
    attention, feed_forward = config.inside("attn_config"), config.inside("ffn_config")
    if attention.flag("qk_ln", default=False) or attention.flag("qk_gn", default=False):
        raise SpecError(f"{attention.where}: qk_ln: norms on queries and keys are not read")
    # MosaicML's files and the library's classes disagree on defaults, so these must be given
    bias = not config.flag("no_bias")
    alibi = attention.flag("alibi") if attention.get("alibi") is not None else config.flag("alibi")
    learned = config.flag("learned_pos_emb", default=True)
    rope = attention.flag("rope", default=False)
    kv_heads = attention.choice(
        "attn_type",
        {"multihead_attention": heads, "multiquery_attention": 1, "grouped_query_attention": 0},
        "multihead_attention",
    )
    layer_norm = "layer" if bias else "layer_no_shift"
    norms = {"layernorm": layer_norm, "low_precision_layernorm": layer_norm, "rmsnorm": "rms"}
    return _classic(
        config,
        layers=config.number("n_layers", "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads or attention.number("kv_n_heads"),
        ffn=feed_forward.number("ffn_hidden_size", default=config.number("expansion_ratio", default=4) * hidden),
        gated=feed_forward.choice("ffn_type", {"mptmlp": False, "mptglu": True}, "mptmlp"),
        norm=config.choice("norm_type", {**norms, "low_precision_rmsnorm": "rms"}, "low_precision_layernorm"),
        bias=bias,
        positions="alibi" if alibi else "rope" if rope else "learned" if learned else "none",
        max_sequence=config.number("max_seq_len", default=2048),
    )


def _qwen3(config: Config) -> dict[str, Any]:
    model = {**llama(config), "query_norm": True}
    if config.flag("use_sliding_window", default=False):
        raise SpecError(f"{config.where}: use_sliding_window: a window in a Qwen3 is not read")
    return model


def _phi3(config: Config) -> dict[str, Any]:
    return {**llama(config), "window": config.some("sliding_window") or None}


def _nemotron(config: Config) -> dict[str, Any]:
    """Squared ReLU without a gate, layer norms."""
    return {**llama(config), "gated": False, "norm": "layer"}


def _windowed(config: Config, model: dict[str, Any], window: int, every: int) -> dict[str, Any]:
    """A model whose layers have a window, but for each so-many-th."""
    period = config.period("sliding_attention", model["layers"], config.number("sliding_window_pattern", default=every))
    if period == 1:
        return model
    return {**model, "window": config.number("sliding_window", default=window), "global_every": period}


def _gemma2(config: Config) -> dict[str, Any]:
    return _windowed(config, {**llama(config, tied=True), "post_norms": True}, 4096, 2)


def _gemma3(config: Config) -> dict[str, Any]:
    """The text part; files of models that see images leave out what is the library's default."""
    inner = config.inside("text_config") if config.get("text_config") else config
    defaults = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 262208}
    given = {key: value for key, value in inner.data.items() if value is not None}
    text = Config({**defaults, "max_position_embeddings": 131072, **given}, inner.where)
    model = {**llama(text, tied=True), "post_norms": True, "query_norm": True}
    return _windowed(text, model, 4096, 6)


def _olmo2(config: Config) -> dict[str, Any]:
    """Norms follow attention and feed-forward block, as many as elsewhere."""
    return {**llama(config), "query_norm": True}


def _olmo3(config: Config) -> dict[str, Any]:
    return _windowed(config, _olmo2(config), 4096, 4)


def _t5(config: Config) -> dict[str, Any]:
    """Encoder and decoder; biases of relative positions, 32 a head and stack, are left out."""
    layers = config.number("num_layers")
    return {
        "layers": config.number("num_decoder_layers", default=layers),
        "encoder": layers,
        "hidden": config.number("d_model"),
        "heads": config.number("num_heads"),
        "kv_heads": config.number("num_heads"),
        "head_size": config.number("d_kv"),
        "ffn": config.number("d_ff"),
        "vocabulary": config.number("vocab_size"),
        "gated": config.choice("feed_forward_proj", {"relu": False, "gated-gelu": True}, "relu"),
        "norm": "rms",
        "bias": False,
        "positions": "none",
        "tied_embeddings": config.flag("tie_word_embeddings", default=True),
        "max_sequence": config.number("n_positions", default=512),
    }


DENSE: Mapping[str, Architecture] = {
    "LlamaForCausalLM": llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "Qwen3ForCausalLM": _qwen3,
    "Phi3ForCausalLM": _phi3,
    "NemotronForCausalLM": _nemotron,
    "Olmo2ForCausalLM": _olmo2,
    "Olmo3ForCausalLM": _olmo3,
    "GemmaForCausalLM": _gemma,
    "Gemma2ForCausalLM": _gemma2,
    "Gemma3ForCausalLM": _gemma3,
    "Gemma3ForConditionalGeneration": _gemma3,
    "GPT2LMHeadModel": _gpt2,
    "BloomForCausalLM": _bloom,
    "MPTForCausalLM": _mpt,
    "MptForCausalLM": _mpt,
    "T5ForConditionalGeneration": _t5,
    "MT5ForConditionalGeneration": _t5,
}
"""By the name that a config gives under ``architectures``."""
