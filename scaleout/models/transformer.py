"""What a dense decoder holds and what it computes: parameters and floating-point operations."""

from scaleout.specs import Model

__all__ = [
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "training_flops",
]


def layer_parameters(model: Model) -> int:
    """Parameters of one layer: attention, feed-forward, two norms, biases."""
    h, q, kv, f = model.hidden, model.heads * model.head_size, model.kv_heads * model.head_size, model.ffn
    gates = 2 if model.gated else 1
    matrices = h * (q + 2 * kv) + q * h + gates * h * f + f * h
    biases = (q + 2 * kv) * bool(model.bias) + (gates * f + 2 * h) * (model.bias is True)
    return matrices + biases + 2 * norm_parameters(model)


def norm_parameters(model: Model) -> int:
    """Parameters of one norm: a scale, and a shift for layer norm."""
    return model.hidden * (2 if model.norm == "layer" else 1)


def _embedding_parameters(model: Model) -> int:
    """Token embedding, learned positions and a norm where the model has them."""
    positions = model.max_sequence * model.hidden if model.positions == "learned" else 0
    return model.vocabulary * model.hidden + positions + (norm_parameters(model) if model.embedding_norm else 0)


def _head_parameters(model: Model) -> int:
    """Final norm and output head; a tied head has no matrix of its own."""
    return norm_parameters(model) + (0 if model.tied_embeddings else model.vocabulary * model.hidden)


def parameters(model: Model) -> int:
    """All parameters."""
    return _embedding_parameters(model) + model.layers * layer_parameters(model) + _head_parameters(model)


def training_flops(model: Model, sequences: int, tokens: int) -> float:
    """Model FLOPs of one step, forward and backward, without recomputation [flop].

    Megatron-LM's formula: matrix multiplications of the layers and of the output head, and the
    whole attention matrix (the causal half is counted too).

    Parameters
    ----------
    sequences, tokens
        Sequences of a step, and tokens of each.

    References
    ----------
    Narayanan et al., arXiv 2104.04473, section 5.1; Korthikanti et al., arXiv 2205.05198.
    """
    h, q, kv = model.hidden, model.heads * model.head_size, model.kv_heads * model.head_size
    matrices = h * (q + 2 * kv) + q * h + (3 if model.gated else 2) * h * model.ffn
    attention = 2 * tokens * q
    per_token = 2.0 * (model.layers * (matrices + attention) + model.vocabulary * h)
    return 3.0 * per_token * sequences * tokens
