"""Models as Hugging Face describes them: a ``config.json`` becomes a `Model`.

Read are the models of `ARCHITECTURES`. A key that is absent has the default of the transformers
library. What decides sizes and cannot be told by a `Model` (biases of a part, layers in no order) is
refused; what decides no size (``rope_scaling``) is left out and noted in the model's source.
``docs/models.md`` says which key becomes which field.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError, near
from scaleout.io.architectures import DENSE, Architecture
from scaleout.io.config_keys import Config
from scaleout.io.expert_architectures import EXPERTS
from scaleout.io.text import read_text
from scaleout.specs import Experts, Latent, LinearAttention, Model

__all__ = ["ARCHITECTURES", "read_config", "read_huggingface"]

_LARGEST = 1_048_576
"""A config is a page of text [byte]."""
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
_LATENT = ("kv_lora_rank", "q_lora_rank")
_PARTS: Mapping[str, Any] = {"experts": Experts, "latent": Latent, "linear": LinearAttention}
_LEFT_OUT = ("rope_scaling", "quantization_config")


ARCHITECTURES: Mapping[str, Architecture] = {**DENSE, **EXPERTS}
"""What is read, by the name that a config gives under ``architectures``."""
_TYPES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "phi3": "Phi3ForCausalLM", "nemotron": "NemotronForCausalLM",
    "olmo2": "Olmo2ForCausalLM", "olmo3": "Olmo3ForCausalLM", "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM", "gemma3": "Gemma3ForConditionalGeneration", "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel", "bloom": "BloomForCausalLM", "mpt": "MPTForCausalLM",
    "t5": "T5ForConditionalGeneration", "mt5": "MT5ForConditionalGeneration", "mixtral": "MixtralForCausalLM",
    "gpt_oss": "GptOssForCausalLM", "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
    "qwen3_next": "Qwen3NextForCausalLM", "deepseek_v2": "DeepseekV2ForCausalLM",
    "deepseek_v3": "DeepseekV3ForCausalLM", "kimi_k2": "DeepseekV3ForCausalLM",
    "llama4": "Llama4ForConditionalGeneration", "llama4_text": "Llama4ForCausalLM",
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
        fields = read_config(Path(path))
        for name, part in _PARTS.items():
            if name in fields:
                fields[name] = part(**fields[name])
        return Model(**fields)
    except SpecError as error:
        raise SpecError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def read_config(path: Path) -> dict[str, Any]:
    """The fields of a `Model` from a ``config.json``; `read_huggingface` with the fields unchecked."""
    config = Config(_read(path), str(path))
    architecture = _architecture(config)
    if architecture in DENSE:
        config.refuse(f"a mixture of experts is not read in a {architecture}", *_EXPERTS)
        config.refuse(f"attention with compressed keys and values is not read in a {architecture}", *_LATENT)
    left_out = [key for key in _LEFT_OUT if config.get(key)]
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    return {
        "name": name or path.stem,
        **ARCHITECTURES[architecture](config),
        "source": f"Hugging Face config of a {architecture}, {path}"
        + (f"; left out, as no size depends on it: {', '.join(left_out)}" if left_out else ""),
    }


def _architecture(config: Config) -> str:
    """The one that the file names, or the one of its ``model_type``."""
    given = config.get("architectures")
    if given is None:
        kind = config.get("model_type")
        if isinstance(kind, str) and kind in _TYPES:
            return _TYPES[kind]
        raise SpecError(
            f"{config.where}: neither architectures nor a known model_type: not a Hugging Face config, or of a model "
            f"that is not read; known: {_known()}"
        )
    if not isinstance(given, list) or len(given) != 1 or not isinstance(given[0], str):
        raise SpecError(f"{config.where}: architectures: {given!r:.60} is not accepted; expected a list of one name")
    if given[0] not in ARCHITECTURES:
        hint = near(given[0], ARCHITECTURES) if given[0] else "known"
        accepted = f"known: {_known()}" if hint.startswith("known") else hint
        raise SpecError(f"{config.where}: architectures: {given[0][:60]!r} is not read; {accepted}")
    return given[0]


def _known() -> str:
    """What is read, in short."""
    short = {re.sub("(ForCausalLM|ForConditionalGeneration|LMHeadModel)$", "", name) for name in ARCHITECTURES}
    return ", ".join(sorted(short, key=str.lower))


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
