"""What a model keeps of the tokens that it has seen: keys and values, and states of fixed size."""

from collections.abc import Mapping

from scaleout.models.kinds import LayerKind
from scaleout.specs import Model

__all__ = ["CACHE_WIDTH", "cached_tokens", "kv_bytes", "state_bytes"]

CACHE_WIDTH: Mapping[str, float] = {"bf16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.015625, "int4": 0.53125}
"""Bytes of a number, by dtype of the cache [byte]; int8 with a scale of 16 bits, int4 with scale and zero of 16 bits,
for each 128 numbers."""


def kv_bytes(model: Model, kind: LayerKind, dtype: str) -> float:
    """Keys and values of one token in a layer, over all heads; of latent attention what they are made from [byte].

    >>> from scaleout.io.catalogue import load
    >>> kv_bytes(load("model", "llama-3.1-8b"), LayerKind(), "bf16")
    4096.0
    """
    if kind.attention == "linear":
        return 0.0
    width = CACHE_WIDTH[dtype]
    if model.latent is not None:
        return float(width * (model.latent.key_rank + model.latent.rope))
    return float(width * 2 * model.kv_heads * model.head_size)


def state_bytes(model: Model, kind: LayerKind, width: int = 2) -> float:
    """State of a sequence in a layer of linear attention, and the last inputs of its convolution [byte].

    Parameters
    ----------
    width
        Of a number [byte].
    """
    linear = model.linear
    if kind.attention != "linear" or linear is None:
        return 0.0
    state = linear.value_heads * linear.key_size * linear.value_size
    inputs = (linear.convolution - 1) * (
        2 * linear.key_heads * linear.key_size + linear.value_heads * linear.value_size
    )
    return float(width * (state + inputs))


def cached_tokens(model: Model, kind: LayerKind, tokens: int) -> int:
    """Tokens of a sequence of so many whose keys and values a layer keeps [token]."""
    if kind.attention == "linear":
        return 0
    if kind.attention == "window" and model.window is not None:
        return min(tokens, model.window)
    return tokens
