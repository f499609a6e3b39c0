"""The matrices of a layer by its kind: what is held, and what a token goes through."""

from typing import NamedTuple

from scaleout.models.kinds import LayerKind
from scaleout.specs import Experts, Latent, LinearAttention, Model

__all__ = ["Matrix", "attention_matrices", "feed_forward_matrices", "scored_width"]


class Matrix(NamedTuple):
    """Matrices alike, each of `rows` inputs and `columns` outputs.

    Parameters
    ----------
    held, used
        How many there are, and how many of them a token goes through.
    bias
        Each has a number a column besides.
    """

    rows: int
    columns: int
    held: int = 1
    used: int = 1
    bias: bool = False

    @property
    def size(self) -> int:
        """Parameters of one."""
        return (self.rows + self.bias) * self.columns


def attention_matrices(model: Model, kind: LayerKind) -> list[Matrix]:
    """Of the attention of a layer, and of its attention to an encoder's output."""
    if kind.attention == "linear" and model.linear is not None:
        return _linear(model, model.linear)
    own = _latent(model, model.latent) if model.latent is not None else _heads(model)
    crossed = model.encoder > 0 and kind.part == "decoder"
    return [*own, *_heads(model)] if crossed else own


def _heads(model: Model) -> list[Matrix]:
    h, query, key = model.hidden, model.heads * model.head_size, model.kv_heads * model.head_size
    inner = bool(model.bias)
    if model.rank:
        return [
            Matrix(h, model.rank),
            Matrix(model.rank, query * (1 + model.output_gate) + 2 * key, bias=inner),
            Matrix(query, model.rank),
            Matrix(model.rank, h, bias=model.bias is True),
        ]
    return [
        Matrix(h, query * (1 + model.output_gate), bias=inner),
        Matrix(h, 2 * key, bias=inner),
        Matrix(query, h, bias=model.bias is True),
    ]


def _latent(model: Model, latent: Latent) -> list[Matrix]:
    """Compressed, then spread over the heads; the rotary part of a key is one for all heads."""
    h, heads, bias = model.hidden, model.heads, bool(model.bias)
    query = heads * (latent.nope + latent.rope)
    queries = [Matrix(h, query, bias=bias)]
    if latent.query_rank:
        queries = [Matrix(h, latent.query_rank, bias=bias), Matrix(latent.query_rank, query)]
    return [
        *queries,
        Matrix(h, latent.key_rank + latent.rope, bias=bias),
        Matrix(latent.key_rank, heads * (latent.nope + latent.value)),
        Matrix(heads * latent.value, h, bias=model.bias is True),
    ]


def _linear(model: Model, linear: LinearAttention) -> list[Matrix]:
    """Into queries, keys, values and their gate, and two numbers a head; the convolution; out."""
    h, keys, values = model.hidden, linear.key_heads * linear.key_size, linear.value_heads * linear.value_size
    return [
        Matrix(h, 2 * keys + 2 * values),
        Matrix(h, 2 * linear.value_heads),
        Matrix(linear.convolution, 2 * keys + values),
        Matrix(values, h),
    ]


def feed_forward_matrices(model: Model, kind: LayerKind) -> list[Matrix]:
    """Of the feed-forward block: dense, or router, experts, and what every token goes through."""
    if not kind.experts or model.experts is None:
        return _block(model, model.ffn)
    return _experts(model, model.experts)


def _block(model: Model, ffn: int, held: int = 1, used: int = 1) -> list[Matrix]:
    bias = model.bias is True
    if model.rank:
        return [
            Matrix(model.hidden, model.rank),
            Matrix(model.rank, ffn * (2 if model.gated else 1), bias=bias),
            Matrix(ffn, model.rank),
            Matrix(model.rank, model.hidden, bias=bias),
        ]
    return [
        Matrix(model.hidden, ffn * (2 if model.gated else 1), held, used, bias),
        Matrix(ffn, model.hidden, held, used, bias),
    ]


def _experts(model: Model, experts: Experts) -> list[Matrix]:
    shared = _block(model, experts.shared_ffn) if experts.shared_ffn else []
    router = Matrix(model.hidden, experts.count, bias=model.bias is True)
    return [router, *_block(model, experts.ffn, experts.count, experts.top_k), *shared]


def scored_width(model: Model) -> int:
    """Multiplications that a pair of query and key takes in all heads, with its share of the values."""
    if model.latent is not None:
        return model.heads * (model.latent.nope + model.latent.rope + model.latent.value)
    return 2 * model.heads * model.head_size
