"""What a transformer holds and what it computes: parameters and floating-point operations."""

from collections import Counter

from scaleout.models.kinds import LayerKind, layer_kinds
from scaleout.models.matrices import attention_matrices, feed_forward_matrices, scored_width
from scaleout.specs import Model

__all__ = [
    "active_parameters",
    "layer_parameters",
    "norm_parameters",
    "parameters",
    "scored_pairs",
    "training_flops",
]


def norm_parameters(model: Model) -> int:
    """Parameters of one norm of the model's width: a scale, and a shift for layer norm."""
    return model.hidden * (2 if model.norm == "layer" else 1)


def layer_parameters(model: Model, kind: LayerKind | None = None, *, active: bool = False) -> int:
    """Parameters of a layer: attention, feed-forward, norms, biases, and what leads into a prediction.

    Parameters
    ----------
    kind
        Of the layer; None for the first of the model.
    active
        Only those that a token goes through.
    """
    kind = kind or layer_kinds(model)[0]
    matrices = [*attention_matrices(model, kind), *feed_forward_matrices(model, kind)]
    count = sum(matrix.size * (matrix.used if active else matrix.held) for matrix in matrices)
    if kind.part == "prediction":
        count += 2 * model.hidden**2
    return count + _norms(model, kind) * norm_parameters(model) + _small(model, kind)


def _norms(model: Model, kind: LayerKind) -> int:
    """Norms of the model's width."""
    norms = 4 if model.post_norms else 2
    if model.encoder and kind.part == "decoder":
        norms += 1
    # of the two halves that lead into a prediction, and of what it gives
    return norms + 3 * (kind.part == "prediction")


def _small(model: Model, kind: LayerKind) -> int:
    """Vectors inside attention."""
    if kind.attention == "linear" and model.linear is not None:
        # decay and its shift of each head, and one norm for the values of all
        return 2 * model.linear.value_heads + model.linear.value_size
    if model.latent is not None:
        return model.latent.query_rank + model.latent.key_rank
    return 2 * model.head_size * model.query_norm


def _embedding_parameters(model: Model) -> int:
    """Token embedding, learned positions and a norm where the model has them."""
    positions = model.max_sequence * model.hidden if model.positions == "learned" else 0
    return model.vocabulary * model.hidden + positions + (norm_parameters(model) if model.embedding_norm else 0)


def _head_parameters(model: Model) -> int:
    """Final norm, of the encoder too, and output head; a tied head has no matrix of its own."""
    norms = norm_parameters(model) * (2 if model.encoder else 1)
    return norms + (0 if model.tied_embeddings else model.vocabulary * model.hidden)


def parameters(model: Model) -> int:
    """All parameters, those of predictions too; weights that layers share count once."""
    layers = sum(layer_parameters(model, kind) * times for kind, times in Counter(layer_kinds(model)).items())
    layers //= model.shared_layers
    return _embedding_parameters(model) + layers + _head_parameters(model)


def active_parameters(model: Model) -> int:
    """Parameters that a token goes through when text is generated: its experts, and no predictions.

    Embedding and output head count whole, as in the figures of most releases.
    """
    kinds = Counter(kind for kind in layer_kinds(model) if kind.part != "prediction")
    layers = sum(layer_parameters(model, kind, active=True) * times for kind, times in kinds.items())
    layers //= model.shared_layers
    return _embedding_parameters(model) + layers + _head_parameters(model)


def scored_pairs(model: Model, kind: LayerKind, tokens: int) -> int:
    """Pairs of query and key of a sequence, those that a causal mask hides too.

    All of them; in a window of w those less than w apart; in blocks those of one block.
    """
    w = model.window
    if kind.attention != "window" or w is None or w >= tokens:
        return tokens * tokens
    if model.blocks:
        return tokens // w * w * w + (tokens % w) ** 2
    return tokens * tokens - (tokens - w) * (tokens - w + 1)


def _layer_flops(model: Model, kind: LayerKind, tokens: int) -> float:
    """Forward of a layer over one sequence [flop]."""
    matrices = [*attention_matrices(model, kind), *feed_forward_matrices(model, kind)]
    width = sum(matrix.rows * matrix.columns * matrix.used for matrix in matrices)
    if kind.part == "prediction":
        # the two halves, and the output head once more
        width += 2 * model.hidden**2 + model.vocabulary * model.hidden
    if kind.attention == "linear" and model.linear is not None:
        # the state times a key, the outer products of two updates, the state times a query
        state = model.linear.value_heads * model.linear.key_size * model.linear.value_size
        return 2.0 * tokens * (width + 4 * state)
    pairs = scored_pairs(model, kind, tokens) * scored_width(model)
    if model.encoder and kind.part == "decoder":
        pairs += tokens * tokens * 2 * model.heads * model.head_size
    return 2.0 * (tokens * width + pairs)


def training_flops(model: Model, sequences: int, tokens: int) -> float:
    """Model FLOPs of one step, forward and backward, without recomputation [flop].

    Megatron-LM's formula: matrix multiplications of the layers and of the output head, and the
    whole attention matrix (the causal half is counted too; `scored_pairs`). Of experts those that
    a token goes to. Encoder and decoder read `tokens` each.

    Parameters
    ----------
    sequences, tokens
        Sequences of a step, and tokens of each.

    References
    ----------
    Narayanan et al., arXiv 2104.04473, section 5.1; Korthikanti et al., arXiv 2205.05198.
    """
    layers = sum(_layer_flops(model, kind, tokens) * times for kind, times in Counter(layer_kinds(model)).items())
    return 3.0 * sequences * (layers + 2.0 * tokens * model.vocabulary * model.hidden)
