"""What a model holds and computes, before it is cut over chips."""

from scaleout.models.transformer import (
    layer_parameters,
    norm_parameters,
    parameters,
    training_flops,
)

__all__ = [
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "training_flops",
]
