"""What a model holds and computes, before it is cut over chips."""

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
    "LayerKind",
    "active_parameters",
    "layer_kinds",
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "scored_pairs",
    "training_flops",
]
