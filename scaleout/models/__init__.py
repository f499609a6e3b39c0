"""What a model holds and computes, before it is cut over chips."""

from scaleout.models.transformer import (
    bias_parameters,
    embedding_parameters,
    head_parameters,
    layer_parameters,
    norm_parameters,
    parameters,
    training_flops,
)

__all__ = [
    "bias_parameters",
    "embedding_parameters",
    "head_parameters",
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "training_flops",
]
