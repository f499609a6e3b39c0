"""One rank's share of a model as numbers: shapes, parameters, and the sizes of what it passes on.

Everything is a float and every flag 0 or 1, so that the same functions run plain for one
experiment and compiled for millions.
"""

import math
from typing import NamedTuple

from scaleout.compiled import compilable
from scaleout.hardware.formats import format_of
from scaleout.models import LayerKind, norm_parameters
from scaleout.specs import Model, TrainingExperiment

__all__ = ["Dimensions", "Options", "Shard", "chunk_parameters", "cut", "dimensions", "options", "shard"]

_ACTIVATION = 2.0
"""Bytes of an element of weights and activations: linear layers may compute in less, what is
kept and sent has 16 bits."""


_GRID, _PADDING = 8.0, 128.0
"""A part of the vocabulary that misses the tensor cores' grid is padded, as Megatron-LM does by default."""


class Dimensions(NamedTuple):
    """A model as numbers; see `Model`. `norm` is the parameters of one norm, `positions` of learned ones."""

    layers: float
    hidden: float
    heads: float
    kv_heads: float
    head_size: float
    ffn: float
    vocabulary: float
    gates: float
    bias: float
    qkv_bias: float
    norm: float
    positions: float
    embedding_norm: float
    rotary: float
    tied: float


def dimensions(model: Model, kind: LayerKind | None = None) -> Dimensions:
    """Layers of one kind of a model as numbers; None stands for those of a model whose layers are all alike."""
    return Dimensions(
        layers=float(model.layers),
        hidden=float(model.hidden),
        heads=float(model.heads),
        kv_heads=float(model.kv_heads),
        head_size=float(model.head_size),
        ffn=float(model.ffn),
        vocabulary=float(model.vocabulary),
        gates=2.0 if model.gated else 1.0,
        bias=float(model.bias is True),
        qkv_bias=float(bool(model.bias)),
        norm=float(norm_parameters(model)),
        positions=float(model.max_sequence * model.hidden if model.positions == "learned" else 0),
        embedding_norm=float(model.embedding_norm),
        rotary=float(model.positions == "rope"),
        tied=float(model.tied_embeddings),
    )


class Options(NamedTuple):
    """What decides a rank's share beside the model.

    Parameters
    ----------
    tp, sequence_parallel, micro, sequence
        Tensor-parallel degree; norms and residuals are cut too; sequences of a micro-batch and
        tokens of each.
    gradient_width
        Bytes of a gradient in its sum over micro-batches, which is read and written [byte]; half of
        what is written, where nothing is summed.
    full, attention, mlp, core, norm, product
        Modules that are recomputed.
    split_sends
        Of the stack.
    cp
        Ranks that a sequence is cut over.
    """

    tp: float
    sequence_parallel: float
    micro: float
    sequence: float
    gradient_width: float
    full: float
    attention: float
    mlp: float
    core: float
    norm: float
    product: float
    split_sends: float
    cp: float


def options(experiment: TrainingExperiment) -> Options:
    """The options of an experiment."""
    modules = experiment.recompute
    layout, batch = experiment.layout, experiment.batch
    return Options(
        tp=float(layout.tp),
        sequence_parallel=float(layout.sequence_parallel and layout.tp > 1),
        micro=float(batch.micro),
        sequence=float(batch.sequence),
        gradient_width=_ACTIVATION / 2.0 if experiment.reduces_each else format_of(experiment.gradients).left,
        full=float("full" in modules),
        attention=float("attention" in modules),
        mlp=float("mlp" in modules),
        core=float("core_attention" in modules),
        norm=float("norm" in modules),
        product=float("mlp_product" in modules),
        split_sends=float(experiment.stack.split_sends),
        cp=float(layout.cp),
    )


class Shard(NamedTuple):
    """Shapes of one rank.

    Parameters
    ----------
    batch, sequence, tokens, local_tokens
        Sequences of a micro-batch, tokens of each whole one, those of all that are this rank's, and
        those that norms and residuals of this rank work on.
    hidden, heads, kv_heads, head_size, query, key, ffn, gates, vocabulary
        Width of the model; heads, widths of queries, of keys (and of values) and of the
        feed-forward block, matrices that lead into it, and vocabulary, of this rank.
    bias, qkv_bias, embedding_norm, rotary, tied
        As in `Dimensions`.
    core_again, product_again, norm_1_again, norm_2_again
        Recomputed in the backward pass, outside of larger recomputed blocks.
    width, gradient_width
        Bytes of an activation, and of a gradient in its sum [byte]; see `Options`.
    activation, local_activation, boundary
        A whole activation of a micro-batch, the part that norms and residuals of this rank hold,
        and what it sends to the next stage [byte].
    tp, sequence_parallel
        Degree; whether norms and residuals are cut.
    layer, embedding, head
        Parameters of a layer, of the embedding and of norm and output head, on this rank.
    cp, before
        Ranks that a sequence is cut over; tokens before those of `sequence` that are attended to
        besides.
    """

    batch: float
    sequence: float
    tokens: float
    local_tokens: float
    hidden: float
    heads: float
    kv_heads: float
    head_size: float
    query: float
    key: float
    ffn: float
    gates: float
    vocabulary: float
    bias: float
    qkv_bias: float
    embedding_norm: float
    rotary: float
    tied: float
    core_again: float
    product_again: float
    norm_1_again: float
    norm_2_again: float
    width: float
    gradient_width: float
    activation: float
    local_activation: float
    boundary: float
    tp: float
    sequence_parallel: float
    layer: float
    embedding: float
    head: float
    cp: float
    before: float


@compilable
def cut(d: Dimensions, o: Options) -> Shard:
    """The share of one rank; key/value heads fewer than tp are held more than once."""
    h, tp = d.hidden, o.tp
    heads, kv_heads = d.heads // tp, max(1.0, d.kv_heads // tp)
    query, key, ffn = heads * d.head_size, kv_heads * d.head_size, d.ffn // tp
    vocabulary = float(math.ceil(d.vocabulary / tp))
    if vocabulary % _GRID != 0.0:
        vocabulary = _PADDING * math.ceil(vocabulary / _PADDING)
    matrices = h * (query + 2.0 * key) + query * h + d.gates * h * ffn + ffn * h
    biases = d.qkv_bias * (query + 2.0 * key) + d.bias * (d.gates * ffn + 2.0 * h)
    tokens = o.micro * (o.sequence // o.cp)
    local_tokens = tokens // tp if o.sequence_parallel > 0.0 else tokens
    activation = tokens * h * _ACTIVATION
    boundary = activation / tp if o.split_sends + o.sequence_parallel > 0.0 else activation
    outside = 1.0 - o.full
    return Shard(
        o.micro,
        o.sequence,
        tokens,
        local_tokens,
        h,
        heads,
        kv_heads,
        d.head_size,
        query,
        key,
        ffn,
        d.gates,
        vocabulary,
        d.bias,
        d.qkv_bias,
        d.embedding_norm,
        d.rotary,
        d.tied,
        o.core * (1.0 - o.attention) * outside,
        o.product * (1.0 - o.mlp) * outside,
        o.norm * (1.0 - o.attention) * outside,
        o.norm * (1.0 - o.mlp) * outside,
        _ACTIVATION,
        o.gradient_width,
        activation,
        local_tokens * h * _ACTIVATION,
        boundary,
        tp,
        o.sequence_parallel,
        matrices + biases + 2.0 * d.norm,
        vocabulary * h + d.positions + d.embedding_norm * d.norm,
        d.norm + vocabulary * h,
        o.cp,
        0.0,
    )


@compilable
def chunk_parameters(s: Shard, layers: float, embedding: bool, loss: bool, alone: bool) -> float:
    """Parameters of a chunk on one rank; `alone`: embedding and tied head are one matrix on one stage."""
    count = layers * s.layer
    if embedding:
        count += s.embedding
    if loss:
        count += s.head - (s.vocabulary * s.hidden if s.tied > 0.0 and alone else 0.0)
    return count


def shard(experiment: TrainingExperiment, kind: LayerKind | None = None) -> Shard:
    """The share of one rank of an experiment, for one kind of its layers."""
    return cut(dimensions(experiment.model, kind), options(experiment))
