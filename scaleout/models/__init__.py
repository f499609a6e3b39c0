"""What a model holds and computes, before it is cut over chips."""

from scaleout.models.kinds import LayerKind, layer_kinds
from scaleout.models.transformer import (
    layer_parameters,
    norm_parameters,
    parameters,
    training_flops,
)

__all__ = [
    "LayerKind",
    "layer_kinds",
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "training_flops",
]
