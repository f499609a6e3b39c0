"""Times of a layer's operations on one rank, by kernel: one source for every evaluator.

Plain functions of shapes and rates that also run compiled. An operation is the kernels between
two communication points; its row holds the time of its matrix multiplications, of fused attention
and of elementwise passes [s], and the number of its kernels. ``docs/training.md`` lists them.
"""

import math

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates, attend
from scaleout.parallel.experts import experts_backward, experts_forward
from scaleout.parallel.linear import scan_backward, scan_forward
from scaleout.parallel.rows import (
    ATTENTION,
    B_ATTENTION,
    B_ATTENTION_DATA,
    B_ATTENTION_WEIGHT,
    B_COMBINE,
    B_COMPRESS,
    B_COMPRESS_WEIGHT,
    B_CROSS_DATA,
    B_CROSS_IN_DATA,
    B_CROSS_IN_WEIGHT,
    B_CROSS_WEIGHT,
    B_EMBEDDING,
    B_FINAL_NORM,
    B_HEAD_WEIGHT,
    B_LOGITS,
    B_MLP_DATA,
    B_MLP_OUT,
    B_MLP_OUT_DATA,
    B_MLP_OUT_WEIGHT,
    B_MLP_WEIGHT,
    B_NORM,
    B_PREDICT_DATA,
    B_PREDICT_WEIGHT,
    B_QKV_DATA,
    B_QKV_WEIGHT,
    B_ROUTE,
    ELEMENTWISE,
    F_ADD,
    F_ADD_NORM,
    F_ATTENTION,
    F_ATTENTION_OUT,
    F_COMBINE,
    F_COMPRESS,
    F_CROSS,
    F_EMBEDDED,
    F_EMBEDDING,
    F_INTO_MLP,
    F_LOGITS,
    F_LOSS,
    F_MLP,
    F_NORM,
    F_PREDICT,
    F_QKV_CORE,
    F_ROUTE,
    FUSED_LOSS_BACKWARD,
    FUSED_LOSS_FORWARD,
    KERNELS,
    LAUNCH,
    LOSS_BACKWARD,
    LOSS_FORWARD,
    MATMUL,
    ROWS,
    batched,
    linear,
    passes,
    weight_gradient,
)  # fmt: skip
from scaleout.parallel.shard import Shard

__all__ = ["core_costs", "launches", "layer_costs"]


@compilable
def _linear(out, row, m, n, k, s, rates, quantised):  # type: ignore[no-untyped-def]
    """A linear layer, or its gradient of the data: one product, or two through the inner width."""
    if s.inner_rank > 0.0:
        linear(out, row, m, s.inner_rank, k, rates, quantised)
        linear(out, row, m, n, s.inner_rank, rates, m * s.inner_rank)
    else:
        linear(out, row, m, n, k, rates, quantised)


@compilable
def _weights(out, row, m, n, k, s, rates):  # type: ignore[no-untyped-def]
    """Gradients of a linear layer's weights: those of one matrix of m rows and n columns, or of two."""
    if s.inner_rank > 0.0:
        weight_gradient(out, row, m, s.inner_rank, k, s.gradient_width, rates)
        weight_gradient(out, row, s.inner_rank, n, k, s.gradient_width, rates)
    else:
        weight_gradient(out, row, m, n, k, s.gradient_width, rates)


@compilable
def _fused(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention in one kernel; tokens of one block attend to each other alone."""
    out[row, KERNELS] += 1.0
    batch, length, window = s.batch, s.sequence, s.window
    if s.blocks > 0.0 and window > 0.0:
        left = length % window
        if left > 0.0:
            out[row, ATTENTION] += attend(
                batch, left, s.heads, s.kv_heads, s.head_size, backward, rates, s.value_size, 0.0, s.causal > 0.0
            )
        batch, length, window = batch * (length // window), window, 0.0
    out[row, ATTENTION] += attend(
        batch, length, s.heads, s.kv_heads, s.head_size, backward, rates, s.value_size, window, s.causal > 0.0,
        length + s.before,
    )  # fmt: skip


@compilable
def _fused_across(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention to an encoder's output in one kernel."""
    out[row, ATTENTION] += attend(
        s.batch, s.sequence, s.heads, s.kv_heads, s.head_size, backward, rates, s.value_size, 0.0, False,
        s.encoder_sequence,
    )  # fmt: skip
    out[row, KERNELS] += 1.0


@compilable
def _core(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention proper: one fused kernel, or matrices of scores in HBM; nothing where ranks share a sequence."""
    if s.cp > 1.0:
        return
    if s.linear_heads > 0.0:
        if backward:
            scan_backward(out, row, s, rates)
        else:
            scan_forward(out, row, s, rates)
    elif rates.fused > 0.0:
        _fused(out, row, s, rates, backward)
    else:
        _unfused(out, row, s, rates, backward, s.sequence)


@compilable
def _across(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention proper to an encoder's output."""
    if rates.fused > 0.0:
        _fused_across(out, row, s, rates, backward)
    else:
        _unfused(out, row, s, rates, backward, s.encoder_sequence)


@compilable
def _unfused(out, row, s, rates, backward, seen):  # type: ignore[no-untyped-def]
    """Matrices of scores of every token with `seen` others."""
    batch = s.batch * s.heads
    scores = batch * s.sequence * seen
    if backward:
        # gradients of values and of probabilities, then of queries and of keys
        batched(out, row, batch, seen, s.value_size, s.sequence, 2.0, 1.0, rates)
        batched(out, row, batch, s.sequence, seen, s.value_size, 2.0, 1.0, rates)
        if seen == s.sequence:
            batched(out, row, batch, s.sequence, s.head_size, seen, 2.0, 2.0, rates)
        else:
            batched(out, row, batch, s.sequence, s.head_size, seen, 2.0, 1.0, rates)
            batched(out, row, batch, seen, s.head_size, s.sequence, 2.0, 1.0, rates)
        if rates.dropout > 0.0:
            passes(out, row, 5.0 * scores, rates)
        passes(out, row, 6.0 * scores, rates)
    else:
        batched(out, row, batch, s.sequence, seen, s.head_size, 2.0, 1.0, rates)
        batched(out, row, batch, s.sequence, s.value_size, seen, 2.0, 1.0, rates)
        # softmax with scale and causal mask in one kernel: read, write
        passes(out, row, 4.0 * scores, rates)
        if rates.dropout > 0.0:
            # read, write, and a mask of one byte
            passes(out, row, 5.0 * scores, rates)
    # heads are gathered into rows again
    passes(out, row, 4.0 * s.tokens * s.attended, rates)


@compilable
def _rotation(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Rotary positions: queries and keys are read and written once more."""
    if s.rotary == 0.0:
        return
    if s.latents > 0.0:
        # the rotary part of every head's queries, and of the one key; then each head's key is put together
        passes(out, row, 4.0 * s.tokens * s.rope * (s.heads + 1.0), rates)
        passes(out, row, 4.0 * s.tokens * s.key, rates)
    else:
        passes(out, row, 4.0 * s.tokens * (s.query + s.key), rates)


@compilable
def _spread(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Compressed queries, keys and values become those of every head."""
    columns = s.query_rank if s.query_rank > 0.0 else s.hidden
    linear(out, row, s.tokens, s.query, columns, rates, s.tokens * columns)
    linear(out, row, s.tokens, s.key - s.heads * s.rope + s.value, s.key_rank, rates, s.tokens * s.key_rank)


@compilable
def _qkv(out, row, s, rates):  # type: ignore[no-untyped-def]
    if s.latents > 0.0:
        _spread(out, row, s, rates)
    else:
        _linear(out, row, s.tokens, s.inner, s.hidden, s, rates, s.tokens * s.hidden)
    if s.query_norm > 0.0:
        passes(out, row, 4.0 * s.tokens * (s.query + s.key), rates)
    _rotation(out, row, s, rates)
    _core(out, row, s, rates, False)


@compilable
def _into_mlp(out, row, s, rates):  # type: ignore[no-untyped-def]
    _linear(out, row, s.tokens, s.gates * s.ffn, s.hidden, s, rates, s.tokens * s.hidden)
    passes(out, row, 2.0 * s.tokens * s.ffn * (s.gates + 1.0), rates)


@compilable
def _add(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Residual: read two, write one; a dropout mask is one byte."""
    passes(out, row, (6.0 + rates.dropout) * s.local_tokens * s.hidden, rates)


@compilable
def _forward_costs(s, rates, out):  # type: ignore[no-untyped-def]
    local = s.local_tokens * s.hidden
    passes(out, F_NORM, 4.0 * local, rates)
    _qkv(out, F_ATTENTION, s, rates)
    after = F_ATTENTION_OUT if s.cp > 1.0 else F_ATTENTION
    if s.output_gate > 0.0:
        passes(out, after, 6.0 * s.tokens * s.attended, rates)
    _linear(out, after, s.tokens, s.hidden, s.attended, s, rates, s.tokens * s.attended)
    _add(out, F_ADD_NORM, s, rates)
    if s.post_norms > 0.0:
        passes(out, F_ADD_NORM, 4.0 * local, rates)
        passes(out, F_ADD, 4.0 * local, rates)
        passes(out, B_ATTENTION_DATA, 6.0 * local, rates)
        # of the feed-forward block, whichever it is
        for row in (B_MLP_OUT_DATA, B_COMBINE):
            passes(out, row, 6.0 * local, rates)
        passes(out, F_COMBINE, 4.0 * local, rates)
    passes(out, F_ADD_NORM, 4.0 * local, rates)
    _qkv(out, F_QKV_CORE, s, rates)
    if s.ffn > 0.0:
        _into_mlp(out, F_MLP, s, rates)
        _linear(out, F_MLP, s.tokens, s.hidden, s.ffn, s, rates, s.tokens * s.ffn)
        _add(out, F_ADD, s, rates)
        _into_mlp(out, F_INTO_MLP, s, rates)


@compilable
def _mlp_backward(s, rates, out):  # type: ignore[no-untyped-def]
    local = s.local_tokens * s.hidden
    inner = s.gates * s.ffn
    if s.product_again > 0.0:
        passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * s.ffn * (s.gates + 1.0), rates)
    if rates.dropout > 0.0:
        passes(out, B_MLP_OUT_DATA, 5.0 * local, rates)
    _linear(out, B_MLP_OUT_DATA, s.tokens, s.ffn, s.hidden, s, rates, s.tokens * s.hidden)
    _weights(out, B_MLP_OUT_WEIGHT, s.ffn, s.hidden, s.tokens, s, rates)
    passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * s.ffn * (2.0 * s.gates + 1.0), rates)
    if s.bias > 0.0:
        passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * (inner + s.hidden), rates)
    if s.norm_2_again > 0.0:
        passes(out, B_MLP_OUT_DATA, 4.0 * local, rates)
    _linear(out, B_MLP_DATA, s.tokens, s.hidden, inner, s, rates, s.tokens * inner)
    _weights(out, B_MLP_WEIGHT, s.hidden, inner, s.tokens, s, rates)


@compilable
def _attention_backward(s, rates, out):  # type: ignore[no-untyped-def]
    local = s.local_tokens * s.hidden
    row = B_ATTENTION_DATA
    if rates.dropout > 0.0:
        passes(out, row, 5.0 * local, rates)
    if s.up_again > 0.0 and s.latents > 0.0:
        _spread(out, row, s, rates)
        _rotation(out, row, s, rates)
    if s.core_again > 0.0:
        _core(out, row, s, rates, False)
    _linear(out, row, s.tokens, s.attended, s.hidden, s, rates, s.tokens * s.hidden)
    _weights(out, B_ATTENTION_WEIGHT, s.attended, s.hidden, s.tokens, s, rates)
    if s.output_gate > 0.0:
        passes(out, row, 10.0 * s.tokens * s.attended, rates)
    _core(out, row, s, rates, True)
    _rotation(out, row, s, rates)
    if s.query_norm > 0.0:
        passes(out, row, 6.0 * s.tokens * (s.query + s.key), rates)
    if s.qkv_bias > 0.0 and s.latents + s.linear_heads == 0.0:
        passes(out, row, 2.0 * s.tokens * (s.inner + s.hidden * s.bias), rates)
    if s.norm_1_again > 0.0:
        passes(out, row, 4.0 * local, rates)
    if s.latents > 0.0:
        _compress_backward(s, rates, out)
        return
    _linear(out, B_QKV_DATA, s.tokens, s.hidden, s.inner, s, rates, s.tokens * s.inner)
    _weights(out, B_QKV_WEIGHT, s.hidden, s.inner, s.tokens, s, rates)


@compilable
def _compress(s, rates, out):  # type: ignore[no-untyped-def]
    """The norm, products into the latents of this rank's own tokens, and their norms."""
    passes(out, F_COMPRESS, 4.0 * s.local_tokens * s.hidden, rates)
    for rank, columns in ((s.query_rank, s.query_rank), (s.key_rank, s.key_rank + s.rope)):
        if rank > 0.0:
            linear(out, F_COMPRESS, s.local_tokens, columns, s.hidden, rates, s.local_tokens * s.hidden)
            passes(out, F_COMPRESS, 4.0 * s.local_tokens * rank, rates)


@compilable
def _compress_backward(s, rates, out):  # type: ignore[no-untyped-def]
    columns = s.query_rank if s.query_rank > 0.0 else s.hidden
    spread = s.key - s.heads * s.rope + s.value
    linear(out, B_QKV_DATA, s.tokens, columns, s.query, rates, s.tokens * s.query)
    linear(out, B_QKV_DATA, s.tokens, s.key_rank, spread, rates, s.tokens * spread)
    weight_gradient(out, B_QKV_WEIGHT, columns, s.query, s.tokens, s.gradient_width, rates)
    weight_gradient(out, B_QKV_WEIGHT, s.key_rank, spread, s.tokens, s.gradient_width, rates)
    for rank, columns in ((s.query_rank, s.query_rank), (s.key_rank, s.key_rank + s.rope)):
        if rank > 0.0:
            passes(out, B_COMPRESS, 6.0 * s.local_tokens * rank, rates)
            linear(out, B_COMPRESS, s.local_tokens, s.hidden, columns, rates, s.local_tokens * columns)
            weight_gradient(out, B_COMPRESS_WEIGHT, s.hidden, columns, s.local_tokens, s.gradient_width, rates)
    # the norm, and the residual's gradient
    passes(out, B_COMPRESS, 6.0 * s.local_tokens * s.hidden, rates)
    passes(out, B_COMPRESS, 6.0 * s.local_tokens * s.hidden, rates)


@compilable
def _cross(s, rates, out):  # type: ignore[no-untyped-def]
    """Attention to an encoder's output: queries of this side, keys and values of that."""
    others = s.batch * s.encoder_sequence
    pair = s.key + s.value
    linear(out, F_CROSS, s.tokens, s.query, s.hidden, rates, s.tokens * s.hidden)
    linear(out, F_CROSS, others, pair, s.hidden, rates, others * s.hidden)
    _across(out, F_CROSS, s, rates, False)
    linear(out, F_CROSS, s.tokens, s.hidden, s.attended, rates, s.tokens * s.attended)
    if s.core_again > 0.0:
        _across(out, B_CROSS_DATA, s, rates, False)
    linear(out, B_CROSS_DATA, s.tokens, s.attended, s.hidden, rates, s.tokens * s.hidden)
    weight_gradient(out, B_CROSS_WEIGHT, s.attended, s.hidden, s.tokens, s.gradient_width, rates)
    _across(out, B_CROSS_DATA, s, rates, True)
    if s.qkv_bias > 0.0:
        passes(out, B_CROSS_DATA, 2.0 * (s.tokens * (s.query + s.hidden * s.bias) + others * pair), rates)
    linear(out, B_CROSS_IN_DATA, s.tokens, s.hidden, s.query, rates, s.tokens * s.query)
    linear(out, B_CROSS_IN_DATA, others, s.hidden, pair, rates, others * pair)
    # added to the gradients of the encoder's output that other layers gave
    passes(out, B_CROSS_IN_DATA, 6.0 * others * s.hidden, rates)
    weight_gradient(out, B_CROSS_IN_WEIGHT, s.hidden, s.query, s.tokens, s.gradient_width, rates)
    weight_gradient(out, B_CROSS_IN_WEIGHT, s.hidden, pair, others, s.gradient_width, rates)


@compilable
def _predict(s, rates, out):  # type: ignore[no-untyped-def]
    """What leads into a prediction: the next token's embedding and the hidden state, a norm each, then a
    product from both to one, its columns cut over the tp group and gathered."""
    columns = math.ceil(s.hidden / s.tp)
    for _ in range(3):
        passes(out, F_PREDICT, 4.0 * s.local_tokens * s.hidden, rates)
    linear(out, F_PREDICT, s.tokens, columns, 2.0 * s.hidden, rates, 2.0 * s.tokens * s.hidden)
    linear(out, B_PREDICT_DATA, s.tokens, 2.0 * s.hidden, columns, rates, s.tokens * columns)
    for _ in range(2):
        passes(out, B_PREDICT_DATA, 6.0 * s.local_tokens * s.hidden, rates)
    # the gradient of the embedding is added to
    passes(out, B_PREDICT_DATA, s.tokens * s.hidden * (2.0 + 2.0 * s.gradient_width), rates)
    weight_gradient(out, B_PREDICT_WEIGHT, 2.0 * s.hidden, columns, s.tokens, s.gradient_width, rates)


@compilable
def _end_costs(s, rates, out):  # type: ignore[no-untyped-def]
    """Embedding and loss, in 16 bits whatever the linear layers use."""
    whole = s.tokens * s.hidden
    local = s.local_tokens * s.hidden
    logits = s.tokens * s.vocabulary
    passes(out, F_EMBEDDING, 4.0 * whole, rates)
    passes(out, F_EMBEDDED, 4.0 * local, rates)
    if s.embedding_norm > 0.0:
        passes(out, F_EMBEDDED, 4.0 * local, rates)
        passes(out, B_EMBEDDING, 6.0 * local, rates)
    passes(out, B_EMBEDDING, whole * (2.0 + 2.0 * s.gradient_width), rates)
    batched(out, F_LOGITS, 1.0, s.tokens, s.vocabulary, s.hidden, 2.0, 1.0, rates)
    fused = rates.fused_loss > 0.0
    out[F_LOGITS, ELEMENTWISE] += logits * (FUSED_LOSS_FORWARD if fused else LOSS_FORWARD) / rates.elementwise
    out[F_LOGITS, KERNELS] += 1.0 if fused else 6.0
    out[F_LOSS, ELEMENTWISE] += s.tokens * 4.0 / rates.elementwise
    out[F_LOSS, KERNELS] += 2.0
    out[B_LOGITS, ELEMENTWISE] += logits * (FUSED_LOSS_BACKWARD if fused else LOSS_BACKWARD) / rates.elementwise
    batched(out, B_LOGITS, 1.0, s.tokens, s.hidden, s.vocabulary, 2.0, 1.0, rates)
    out[B_LOGITS, KERNELS] += 1.0 if fused else 2.0
    sum_bytes = 2.0 * s.gradient_width if rates.fused_sum > 0.0 else 2.0
    batched(out, B_HEAD_WEIGHT, 1.0, s.hidden, s.vocabulary, s.tokens, sum_bytes, 1.0, rates)
    if rates.fused_sum == 0.0:
        passes(out, B_HEAD_WEIGHT, s.hidden * s.vocabulary * (2.0 + 2.0 * s.gradient_width), rates)
    passes(out, B_FINAL_NORM, 6.0 * local, rates)


@compilable
def core_costs(s: Shard, rates: Rates, backward: bool) -> Floats:
    """Attention proper alone, of a sequence that is whole: the four `PARTS` [s] but for launches, then kernels."""
    out = np.zeros((1, 5))
    _core(out, 0, s, rates, backward)
    return out.reshape(5)


@compilable
def _host(row, s, rates):  # type: ignore[no-untyped-def]
    """The host's time to launch a kernel of an operation."""
    if s.experts == 0.0 or row >= F_EMBEDDING:
        return rates.host
    if row in (F_ROUTE, B_ROUTE):
        return rates.host_router
    return rates.host_experts if F_ROUTE < row < B_ROUTE else rates.host_attention


@compilable
def launches(out: Floats, rates: Rates, s: Shard) -> None:
    """Time between the kernels of each row: where the host launches more slowly than the chip computes, it waits."""
    for row in range(len(out)):
        busy = out[row, MATMUL] + out[row, ATTENTION] + out[row, ELEMENTWISE]
        gaps = out[row, KERNELS] * rates.gap
        out[row, LAUNCH] = max(gaps, out[row, KERNELS] * _host(row, s, rates) - busy)


@compilable
def layer_costs(s: Shard, rates: Rates) -> Floats:
    """Rows of `LABELS`: the four `PARTS` [s], then kernels. Shape (rows, 5)."""
    out = np.zeros((ROWS, 5))
    _forward_costs(s, rates, out)
    _attention_backward(s, rates, out)
    for _ in range(2):
        passes(out, B_NORM, 6.0 * s.local_tokens * s.hidden, rates)
    if s.ffn > 0.0:
        _mlp_backward(s, rates, out)
    if s.experts > 0.0:
        experts_forward(out, s, rates)
        experts_backward(out, s, rates)
    if s.latents > 0.0:
        _compress(s, rates, out)
    if s.crossed > 0.0:
        _cross(s, rates, out)
    if s.predicts > 0.0:
        _predict(s, rates, out)
    _end_costs(s, rates, out)
    if s.tp > 1.0:
        # the host launches collectives too
        for row in (F_ATTENTION, F_MLP, B_MLP_DATA, B_QKV_DATA):
            out[row, KERNELS] += 1.0 + s.sequence_parallel
        for row in (B_MLP_OUT_DATA, B_ATTENTION_DATA):
            out[row, KERNELS] += s.sequence_parallel
    out[B_MLP_OUT] = out[B_MLP_OUT_DATA] + out[B_MLP_OUT_WEIGHT]
    out[B_ATTENTION] = out[B_ATTENTION_DATA] + out[B_ATTENTION_WEIGHT]
    launches(out, rates, s)
    return out
