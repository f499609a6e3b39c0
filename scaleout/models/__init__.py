"""What a model holds and computes, before it is cut over chips."""

from scaleout.models.cache import CACHE_WIDTH, cached_tokens, kv_bytes, state_bytes
from scaleout.models.kinds import LayerKind, layer_kinds
from scaleout.models.transformer import (
    active_parameters,
    layer_parameters,
    norm_parameters,
    parameters,
    scored_pairs,
    training_flops,
)

__all__ = [
    "CACHE_WIDTH",
    "LayerKind",
    "active_parameters",
    "cached_tokens",
    "kv_bytes",
    "layer_kinds",
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "scored_pairs",
    "state_bytes",
    "training_flops",
]
