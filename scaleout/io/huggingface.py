"""Models as Hugging Face describes them: a ``config.json`` becomes a `Model`.

Read are the decoders of `ARCHITECTURES`. A key that is absent has the default of the transformers
library. What decides sizes and cannot be told by a `Model` (experts, compressed keys and values,
biases of a part) is refused; what decides no size (``rope_scaling``) is left out and noted in the
model's source. ``docs/models.md`` says which key becomes which field.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError, near
from scaleout.io.text import read_text
from scaleout.specs import Model
from scaleout.units import Count

__all__ = ["ARCHITECTURES", "read_config", "read_huggingface"]

_LARGEST = 1_048_576
"""A config is a page of text [byte]."""
_COUNT = Count.__metadata__[0]  # type: ignore[attr-defined]
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_LATENT = ("kv_lora_rank", "q_lora_rank")
_LEFT_OUT = ("rope_scaling", "quantization_config")


class _Config:
    """The keys of one file; what it lacks or has wrong is a `SpecError` that names file and key."""

    def __init__(self, data: Mapping[str, Any], where: str) -> None:
        self.data, self.where = data, where

    def get(self, *names: str) -> Any:
        """The first of several names of one key that has a value."""
        return next((self.data[name] for name in names if self.data.get(name) is not None), None)

    def number(self, *names: str, default: int | None = None) -> int:
        """A whole number at least 1."""
        value = self.get(*names)
        if value is None:
            if default is None:
                raise SpecError(f"{self.where}: {' or '.join(names)}: missing")
            return default
        try:
            return int(_COUNT.check(value))
        except SpecError as error:
            raise SpecError(f"{self.where}: {names[0]}: {error}") from None

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """True or false."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        if not isinstance(value, bool):
            words = "missing" if value is None else f"{value!r:.60} is not accepted"
            raise SpecError(f"{self.where}: {names[0]}: {words}; expected true or false")
        return value

    def choice(self, name: str, known: Mapping[str, Any], default: str) -> Any:
        """What one of several words stands for."""
        value = self.get(name) or default
        if not isinstance(value, str) or value not in known:
            raise SpecError(f"{self.where}: {name}: {value!r:.60} is not read; known: {', '.join(known)}")
        return known[value]

    def inside(self, name: str) -> "_Config":
        """A mapping of the file; empty where it is absent."""
        value = self.get(name)
        if value is not None and not isinstance(value, dict):
            raise SpecError(f"{self.where}: {name}: {value!r:.60} is not accepted; expected a mapping")
        return _Config(value or {}, f"{self.where}: {name}")

    def head_size(self, hidden: int, heads: int) -> int:
        """Given, or the width over the heads."""
        if self.get("head_dim") is None and hidden % heads:
            raise SpecError(f"{self.where}: {heads} heads do not divide the width of {hidden}, and head_dim is missing")
        return self.number("head_dim", default=hidden // heads)


def _llama(config: _Config, *, tied: bool = False) -> dict[str, Any]:
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


def _mistral(config: _Config) -> dict[str, Any]:
    # a file without the key has the library's window; null means none
    absent = "sliding_window" not in config.data
    window = 4096 if absent else config.get("sliding_window") and config.number("sliding_window")
    return {**_llama(config), "window": window}


def _qwen2(config: _Config) -> dict[str, Any]:
    model = {**_llama(config), "bias": "qkv"}
    # layers below max_window_layers attend to everything
    some = config.number("max_window_layers", default=28) < model["layers"]
    if config.flag("use_sliding_window", default=False) and some:
        model["window"] = config.number("sliding_window", default=4096)
    return model


def _gemma(config: _Config) -> dict[str, Any]:
    return _llama(config, tied=True)


def _classic(config: _Config, **fields: Any) -> dict[str, Any]:
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


def _gpt2(config: _Config) -> dict[str, Any]:
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


def _bloom(config: _Config) -> dict[str, Any]:
    return _classic(
        config,
        layers=config.number("n_layer", "num_hidden_layers"),
        hidden=config.number("hidden_size", "n_embed"),
        heads=config.number("n_head", "num_attention_heads"),
        positions="alibi",
        max_sequence=config.number("seq_length", default=2048),
        embedding_norm=True,
    )


def _mpt(config: _Config) -> dict[str, Any]:
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


ARCHITECTURES: Mapping[str, Callable[[_Config], dict[str, Any]]] = {
    "LlamaForCausalLM": _llama,
    "MistralForCausalLM": _mistral,
    "Qwen2ForCausalLM": _qwen2,
    "GemmaForCausalLM": _gemma,
    "GPT2LMHeadModel": _gpt2,
    "BloomForCausalLM": _bloom,
    "MPTForCausalLM": _mpt,
    "MptForCausalLM": _mpt,
}
"""What is read, by the name that a config gives under ``architectures``."""
_TYPES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "gemma": "GemmaForCausalLM", "gpt2": "GPT2LMHeadModel", "bloom": "BloomForCausalLM", "mpt": "MPTForCausalLM",
}  # fmt: skip
"""Architecture of a ``model_type``, for configs that do not name one."""


def read_huggingface(path: str | Path) -> Model:
    """The model that a Hugging Face ``config.json`` describes.

    Parameters
    ----------
    path
        The file; the model is called as the file, or as its folder if the file is ``config.json``.

    Raises
    ------
    SpecError
        The file cannot be read, or describes something that a `Model` cannot.
    """
    try:
        return Model(**read_config(Path(path)))
    except SpecError as error:
        raise SpecError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """The fields of a `Model` from a ``config.json``; `read_huggingface` with the fields unchecked."""
    config = _Config(_read(path), str(path))
    for keys, words in ((_EXPERTS, "a mixture of experts"), (_LATENT, "attention with compressed keys and values")):
        for key in keys:
            if config.get(key):
                raise SpecError(f"{path}: {key}: {config.get(key)!s:.40}: {words} is not read; dense models are")
    architecture = _architecture(config)
    left_out = [key for key in _LEFT_OUT if config.get(key)]
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    return {
        "name": name or path.stem,
        **ARCHITECTURES[architecture](config),
        "source": f"Hugging Face config of a {architecture}, {path}"
        + (f"; left out, as no size depends on it: {', '.join(left_out)}" if left_out else ""),
    }


def _architecture(config: _Config) -> str:
    """The one that the file names, or the one of its ``model_type``."""
    given = config.get("architectures")
    if given is None:
        kind = config.get("model_type")
        if isinstance(kind, str) and kind in _TYPES:
            return _TYPES[kind]
        raise SpecError(
            f"{config.where}: neither architectures nor a known model_type: not a Hugging Face config, or of a model "
            f"that is not read; known: {', '.join(ARCHITECTURES)}"
        )
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], str):
        raise SpecError(f"{config.where}: architectures: {given!r:.60} is not accepted; expected a list of one name")
    if given[0] not in ARCHITECTURES:
        hint = near(given[0], ARCHITECTURES) if given[0] else ""
        known = "" if hint.startswith("known") else f"; known: {', '.join(ARCHITECTURES)}"
        raise SpecError(f"{config.where}: architectures: {given[0][:60]!r} is not read; {hint}{known}")
    return given[0]


def _read(path: Path) -> dict[str, Any]:
    """The one object of a JSON file."""
    text = read_text(path, _LARGEST, "a config is a short text file")
    try:
        data = json.loads(text, object_pairs_hook=_once, parse_constant=_no_number)
    except RecursionError:
        raise SpecError(f"{path}: not readable as JSON: nested too deep") from None
    except ValueError as error:
        raise SpecError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(data, dict):
        raise SpecError(f"{path}: is a {type(data).__name__}; expected one object with the keys of a model")
    return data


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are each given once."""
    data = dict(pairs)
    if len(data) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"key {next(name for name in names if names.count(name) > 1)[:60]!r} is given twice")
    return data


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")
