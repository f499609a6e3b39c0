"""One rank's share of a model as numbers: shapes, parameters, and the sizes of what it passes on.

Everything is a float and every flag 0 or 1, so that the same functions run plain for one
experiment and compiled for millions.
"""

import math
from typing import NamedTuple

from scaleout.compiled import compilable
from scaleout.hardware.formats import format_of
from scaleout.models import LayerKind, layer_kinds, norm_parameters
from scaleout.parallel.routing import busiest
from scaleout.specs import Model, TrainingExperiment

__all__ = ["Dimensions", "Options", "Shard", "chunk_parameters", "cut", "dimensions", "options", "shard"]

_ACTIVATION = 2.0
"""Bytes of an element of weights and activations: linear layers may compute in less, what is
kept and sent has 16 bits."""


_GRID, _PADDING = 8.0, 128.0
"""A part of the vocabulary that misses the tensor cores' grid is padded, as Megatron-LM does by default."""


class Dimensions(NamedTuple):
    """One kind of a model's layers as numbers; see `Model`. What it does not have is 0.

    Parameters
    ----------
    norm, norms, positions
        Parameters of one norm, norms of a layer, parameters of learned positions.
    head_size, value_size
        Of queries and keys, and of values.
    query_rank, key_rank, rope
        Of compressed queries, keys and values, and the rotary part of a key that all heads share.
    linear_keys, linear_values, linear_heads, linear_key_size, linear_value_size, convolution
        Widths of queries (and of keys) and of values of linear attention, its value heads, sizes of a head.
    crossed, predicts, encodes
        It attends to an encoder's output besides; predicts tokens after the next; is of the encoder.
    experts, top_k, expert_ffn, shared_ffn
        See `Experts`; such a layer has no `ffn` of its own.
    shared_layers, inner_rank
        Layers that are one set of weights, and inner width of the two matrices in place of each; see `Model`.
    """

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
    norms: float
    value_size: float
    window: float
    blocks: float
    causal: float
    query_norm: float
    output_gate: float
    post_norms: float
    query_rank: float
    key_rank: float
    rope: float
    linear_keys: float
    linear_values: float
    linear_heads: float
    linear_key_size: float
    linear_value_size: float
    convolution: float
    crossed: float
    predicts: float
    experts: float
    top_k: float
    expert_ffn: float
    shared_ffn: float
    shared_layers: float
    inner_rank: float


def dimensions(model: Model, kind: LayerKind | None = None) -> Dimensions:
    """Layers of one kind of a model as numbers; None stands for the first layer's."""
    kind = kind or layer_kinds(model)[0]
    latent, linear, experts = model.latent, model.linear, model.experts
    if kind.attention != "linear":
        linear = None
    if not kind.experts:
        experts = None
    if linear is not None:
        latent = None
    crossed, predicts = model.encoder > 0 and kind.part == "decoder", kind.part == "prediction"
    window = model.window if kind.attention == "window" and model.window is not None else 0
    return Dimensions(
        layers=float(model.layers),
        hidden=float(model.hidden),
        heads=float(model.heads),
        kv_heads=float(model.heads if latent else model.kv_heads),
        head_size=float(latent.nope + latent.rope if latent else model.head_size),
        ffn=float(0 if experts else model.ffn),
        vocabulary=float(model.vocabulary),
        gates=2.0 if model.gated else 1.0,
        bias=float(model.bias is True),
        qkv_bias=float(bool(model.bias)),
        norm=float(norm_parameters(model)),
        positions=float(model.max_sequence * model.hidden if model.positions == "learned" else 0),
        embedding_norm=float(model.embedding_norm),
        rotary=float(model.positions == "rope" and linear is None),
        tied=float(model.tied_embeddings),
        norms=2.0 + 2.0 * model.post_norms + crossed + 3.0 * predicts,
        value_size=float(latent.value if latent else model.head_size),
        window=float(window),
        blocks=float(model.blocks),
        causal=float(model.causal and kind.part != "encoder"),
        query_norm=float(model.query_norm and linear is None and latent is None),
        output_gate=float(model.output_gate and linear is None and latent is None),
        post_norms=float(model.post_norms),
        query_rank=float(latent.query_rank if latent else 0),
        key_rank=float(latent.key_rank if latent else 0),
        rope=float(latent.rope if latent else 0),
        linear_keys=float(linear.key_heads * linear.key_size if linear else 0),
        linear_values=float(linear.value_heads * linear.value_size if linear else 0),
        linear_heads=float(linear.value_heads if linear else 0),
        linear_key_size=float(linear.key_size if linear else 0),
        linear_value_size=float(linear.value_size if linear else 0),
        convolution=float(linear.convolution if linear else 0),
        crossed=float(crossed),
        predicts=float(predicts),
        experts=float(experts.count if experts else 0),
        top_k=float(experts.top_k if experts else 0),
        expert_ffn=float(experts.ffn if experts else 0),
        shared_ffn=float(experts.shared_ffn if experts else 0),
        shared_layers=float(model.shared_layers),
        inner_rank=float(model.rank),
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
    ep, etp
        Ranks over which experts are dealt out, and each of them is cut.
    load
        Tokens of the rank whose experts are chosen most, over its even share.
    encoder_sequence
        Tokens that an encoder reads of each sequence.
    moe, moe_act, shared_experts, up
        Modules of layers with experts, or compressed keys and values, that are recomputed.
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
    ep: float
    etp: float
    load: float
    encoder_sequence: float
    moe: float
    moe_act: float
    shared_experts: float
    up: float
    cp: float


def options(experiment: TrainingExperiment, kind: LayerKind | None = None) -> Options:
    """The options of an experiment, for one kind of its layers."""
    modules = experiment.recompute
    encoder = float(experiment.batch.encoder_sequence or experiment.batch.sequence)
    layout, batch = experiment.layout, experiment.batch
    return Options(
        tp=float(layout.tp),
        sequence_parallel=float(layout.sequence_parallel and layout.tp > 1),
        micro=float(batch.micro),
        sequence=encoder if kind is not None and kind.part == "encoder" else float(batch.sequence),
        gradient_width=_ACTIVATION / 2.0 if experiment.reduces_each else format_of(experiment.gradients).left,
        full=float("full" in modules),
        attention=float("attention" in modules),
        mlp=float("mlp" in modules),
        core=float("core_attention" in modules),
        norm=float("norm" in modules),
        product=float("mlp_product" in modules),
        split_sends=float(experiment.stack.split_sends),
        ep=float(layout.ep),
        etp=float(layout.etp),
        load=busiest(experiment),
        encoder_sequence=encoder,
        moe=float("moe" in modules),
        moe_act=float("moe_act" in modules),
        shared_experts=float("shared_experts" in modules),
        up=float("mla_up_proj" in modules),
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
        Parameters of a layer without its experts (its part of those that it shares), of the embedding, and of
        norm and output head, on this rank.
    inner, value_size, value, attended
        Columns of the product that leads into attention, size of a head's values, widths of values
        and of what attention gives.
    window, blocks, causal, query_norm, output_gate, post_norms, query_rank, key_rank, rope, convolution,
    crossed, predicts
        As in `Dimensions`.
    latents
        Columns that tensor-parallel ranks gather in place of the hidden ones; 0 without compression.
    linear_keys, linear_values, linear_heads, linear_key_size, linear_value_size
        As in `Dimensions`, of this rank.
    encoder_sequence
        Tokens of each sequence that `crossed` layers attend to.
    experts, router, top_k, routed, received, expert_ffn, shared_ffn
        Experts of this rank and of the layer, those that a token goes to; copies of tokens that the rank
        sends, and that it gets; inner widths of this rank's part of an expert and of all shared ones.
    expert_layer
        Parameters of a layer's experts on this rank.
    exchanged
        Tokens go to experts of other ranks.
    expert_act_again, shared_again, up_again
        As `core_again`.
    cp, before
        Ranks that a sequence is cut over; tokens before those of `sequence` that are attended to besides.
    inner_rank
        As in `Dimensions`: the matrix next to the model's width is whole on every rank, the other is cut.
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
    inner: float
    value_size: float
    value: float
    attended: float
    window: float
    blocks: float
    causal: float
    query_norm: float
    output_gate: float
    post_norms: float
    query_rank: float
    key_rank: float
    rope: float
    latents: float
    linear_keys: float
    linear_values: float
    linear_heads: float
    linear_key_size: float
    linear_value_size: float
    convolution: float
    crossed: float
    encoder_sequence: float
    predicts: float
    experts: float
    router: float
    top_k: float
    routed: float
    received: float
    expert_ffn: float
    shared_ffn: float
    expert_layer: float
    exchanged: float
    expert_act_again: float
    shared_again: float
    up_again: float
    cp: float
    before: float
    inner_rank: float


@compilable
def cut(d: Dimensions, o: Options) -> Shard:
    """The share of one rank; key/value heads fewer than tp are held more than once."""
    h, tp = d.hidden, o.tp
    heads, kv_heads = d.heads // tp, max(1.0, d.kv_heads // tp)
    query, key, ffn = heads * d.head_size, kv_heads * d.head_size, d.ffn // tp
    vocabulary = float(math.ceil(d.vocabulary / tp))
    if vocabulary % _GRID != 0.0:
        vocabulary = _PADDING * math.ceil(vocabulary / _PADDING)
    value, attended = kv_heads * d.value_size, heads * d.value_size
    inner = query * (1.0 + d.output_gate) + key + value
    linear_keys, linear_values, linear_heads = d.linear_keys // tp, d.linear_values // tp, d.linear_heads // tp
    latents = 0.0
    small = d.query_norm * 2.0 * d.head_size
    entry = h * inner
    if d.key_rank > 0.0:
        # what compresses is whole on every rank, what spreads over the heads is cut
        inner = 0.0
        queries = d.query_rank if d.query_rank > 0.0 else h
        latents = queries + d.key_rank + d.rope
        entry = h * (d.query_rank + d.key_rank + d.rope) + queries * query
        entry += d.key_rank * heads * (d.head_size - d.rope + d.value_size)
        small = d.query_rank + d.key_rank
    elif linear_heads > 0.0:
        # queries, keys, values and their gate; decay and update of each head
        inner = 2.0 * linear_keys + 2.0 * linear_values + 2.0 * linear_heads
        attended = linear_values
        entry = h * inner + d.convolution * (2.0 * linear_keys + linear_values)
        small = 2.0 * linear_heads + d.linear_value_size
    biased = d.qkv_bias * inner + d.bias * h
    if linear_heads > 0.0:
        biased = 0.0
    elif latents > 0.0:
        biased = d.qkv_bias * latents + d.bias * h
    leave = attended * h
    if d.inner_rank > 0.0:
        entry, leave = d.inner_rank * (h + inner), d.inner_rank * (attended + h)
    attention = entry + leave + biased + small
    attention += d.crossed * (h * inner + attended * h + biased)
    expert_ffn, shared_ffn = d.expert_ffn // o.etp, d.shared_ffn // tp
    feed = _block(h, ffn, d) + _block(h, shared_ffn, d) + d.experts * (h + d.bias)
    experts = d.experts // o.ep
    predicts = d.predicts * 2.0 * h * h / tp
    tokens = o.micro * (o.sequence // o.cp)
    local_tokens = tokens // tp if o.sequence_parallel > 0.0 else tokens
    activation = tokens * h * _ACTIVATION
    boundary = activation / tp if o.split_sends + o.sequence_parallel > 0.0 else activation
    outside = 1.0 - o.full
    routed = local_tokens * d.top_k
    exchanged = 1.0 if o.ep > 1.0 else 0.0
    window = d.window if d.window < o.sequence else 0.0
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
        (attention + feed + predicts + d.norms * d.norm) / d.shared_layers,
        vocabulary * h + d.positions + d.embedding_norm * d.norm,
        d.norm + vocabulary * h,
        inner,
        d.value_size,
        value,
        attended,
        window,
        d.blocks,
        d.causal,
        d.query_norm,
        d.output_gate,
        d.post_norms,
        d.query_rank,
        d.key_rank,
        d.rope,
        latents,
        linear_keys,
        linear_values,
        linear_heads,
        d.linear_key_size,
        d.linear_value_size,
        d.convolution,
        d.crossed,
        o.encoder_sequence,
        d.predicts,
        experts,
        d.experts,
        d.top_k,
        routed,
        routed * o.etp * o.load,
        expert_ffn,
        shared_ffn,
        experts * _block(h, expert_ffn, d) / d.shared_layers,
        exchanged,
        o.moe_act * (1.0 - o.moe) * outside,
        o.shared_experts * (1.0 - o.moe) * outside,
        o.up * (1.0 - o.attention) * outside,
        o.cp,
        0.0,
        d.inner_rank,
    )


@compilable
def _block(h: float, ffn: float, d: Dimensions) -> float:
    """Parameters of a feed-forward block of this inner width, none for 0."""
    if ffn == 0.0:
        return 0.0
    matrices = (d.gates + 1.0) * h * ffn
    if d.inner_rank > 0.0:
        matrices = d.inner_rank * (2.0 * h + (d.gates + 1.0) * ffn)
    return matrices + d.bias * (d.gates * ffn + h)


@compilable
def chunk_parameters(s: Shard, layers: float, embedding: bool, loss: bool, alone: bool) -> float:
    """Parameters of a chunk on one rank; `alone`: embedding and tied head are one matrix on one stage."""
    count = layers * (s.layer + s.expert_layer)
    if embedding:
        count += s.embedding
    if loss:
        count += s.head - (s.vocabulary * s.hidden if s.tied > 0.0 and alone else 0.0)
    return count


def shard(experiment: TrainingExperiment, kind: LayerKind | None = None) -> Shard:
    """The share of one rank of an experiment, for one kind of its layers."""
    return cut(dimensions(experiment.model, kind), options(experiment, kind))
