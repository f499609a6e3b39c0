"""Times of a layer's operations on one rank, by kernel: one source for every evaluator.

Plain functions of shapes and rates that also run compiled. An operation is the kernels between
two communication points; its row holds the time of its matrix multiplications, of fused attention
and of elementwise passes [s], and the number of its kernels. ``docs/training.md`` lists them.
"""

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates, attend, matmul, matmuls, quantise
from scaleout.parallel.shard import Shard

__all__ = ["LABELS", "core_costs", "launches", "layer_costs"]

PARTS = ("matmul", "attention", "elementwise", "launch")
"""What an operation's time is made of; the last is time between kernels."""
MATMUL, ATTENTION, ELEMENTWISE, LAUNCH, KERNELS = range(5)

LABELS = (
    "norm", "attention", "add, norm", "mlp", "add", "recompute attention", "recompute mlp",
    "mlp out, backward", "mlp in, data gradient", "mlp in, weight gradient", "norm, backward",
    "attention, backward", "qkv, data gradient", "qkv, weight gradient",
    "mlp out, data gradient", "mlp out, weight gradient",
    "attention, data gradient", "attention out, weight gradient", "attention out",
    "embedding", "embedding out", "embedding, backward", "logits", "loss", "logits, backward",
    "head, weight gradient", "final norm, backward",
)  # fmt: skip
"""Operations, in the order of the rows. "mlp out, backward" and "attention, backward" are the sums of
their data and weight gradients, for passes that do both at once. Where a sequence is cut over ranks,
"attention" ends before attention proper, which `Context` writes, and "attention out" comes after it."""
ROWS = len(LABELS)
(
    F_NORM, F_ATTENTION, F_ADD_NORM, F_MLP, F_ADD, F_QKV_CORE, F_INTO_MLP,
    B_MLP_OUT, B_MLP_DATA, B_MLP_WEIGHT, B_NORM,
    B_ATTENTION, B_QKV_DATA, B_QKV_WEIGHT,
    B_MLP_OUT_DATA, B_MLP_OUT_WEIGHT, B_ATTENTION_DATA, B_ATTENTION_WEIGHT, F_ATTENTION_OUT,
    F_EMBEDDING, F_EMBEDDED, B_EMBEDDING, F_LOGITS, F_LOSS, B_LOGITS,
    B_HEAD_WEIGHT, B_FINAL_NORM,
) = range(len(LABELS))  # fmt: skip

LOSS_FORWARD = 38.0
"""Cross-entropy in fp32, kernel by kernel: cast 2 + 4, maximum 4, subtract 8, exponential 8, sum 4,
divide 8 [byte per logit]."""
LOSS_BACKWARD = 14.0
"""Gradient in place 8, cast 4 + 2 [byte per logit]."""


@compilable
def _passes(out, row, nbytes, rates):  # type: ignore[no-untyped-def]
    """One elementwise kernel that moves so many bytes."""
    out[row, ELEMENTWISE] += nbytes / rates.elementwise
    out[row, KERNELS] += 1.0


@compilable
def _linear(out, row, m, n, k, rates, quantised):  # type: ignore[no-untyped-def]
    """A linear layer's product; at low precision an operand of `quantised` elements is cast first."""
    out[row, MATMUL] += matmul(m, n, k, 2.0, rates)
    out[row, KERNELS] += 1.0
    if rates.low > 0.0 and quantised > 0.0:
        out[row, ELEMENTWISE] += quantise(quantised, rates)
        out[row, KERNELS] += 1.0


@compilable
def _weight_gradient(out, row, m, n, k, gradient_width, rates):  # type: ignore[no-untyped-def]
    """Added to the sum over micro-batches: inside the kernel, or in a pass of its own."""
    if rates.fused_sum > 0.0:
        out[row, MATMUL] += matmul(m, n, k, 2.0 * gradient_width, rates)
        out[row, KERNELS] += 1.0
    else:
        out[row, MATMUL] += matmul(m, n, k, 2.0, rates)
        out[row, KERNELS] += 1.0
        _passes(out, row, m * n * (2.0 + 2.0 * gradient_width), rates)


@compilable
def _batched(out, row, batch, m, n, k, out_bytes, kernels, rates):  # type: ignore[no-untyped-def]
    """So many kernels of independent products in 16 bits."""
    out[row, MATMUL] += kernels * matmuls(batch, m, n, k, rates, out_bytes)
    out[row, KERNELS] += kernels


@compilable
def _fused(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention in one kernel."""
    out[row, ATTENTION] += attend(
        s.batch, s.sequence, s.sequence + s.before, s.heads, s.kv_heads, s.head_size, backward, rates
    )
    out[row, KERNELS] += 1.0


@compilable
def _core(out, row, s, rates, backward):  # type: ignore[no-untyped-def]
    """Attention proper: one fused kernel, or matrices of scores in HBM; nothing where ranks share a sequence."""
    if s.cp > 1.0:
        return
    if rates.fused > 0.0:
        _fused(out, row, s, rates, backward)
        return
    batch = s.batch * s.heads
    scores = batch * s.sequence * s.sequence
    if backward:
        # gradients of values and of probabilities, then of queries and of keys
        _batched(out, row, batch, s.sequence, s.head_size, s.sequence, 2.0, 1.0, rates)
        _batched(out, row, batch, s.sequence, s.sequence, s.head_size, 2.0, 1.0, rates)
        _batched(out, row, batch, s.sequence, s.head_size, s.sequence, 2.0, 2.0, rates)
        if rates.dropout > 0.0:
            _passes(out, row, 5.0 * scores, rates)
        _passes(out, row, 6.0 * scores, rates)
    else:
        _batched(out, row, batch, s.sequence, s.sequence, s.head_size, 2.0, 1.0, rates)
        _batched(out, row, batch, s.sequence, s.head_size, s.sequence, 2.0, 1.0, rates)
        # softmax with scale and causal mask in one kernel: read, write
        _passes(out, row, 4.0 * scores, rates)
        if rates.dropout > 0.0:
            # read, write, and a mask of one byte
            _passes(out, row, 5.0 * scores, rates)
    # heads are gathered into rows again
    _passes(out, row, 4.0 * s.tokens * s.query, rates)


@compilable
def _rotation(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Rotary positions: queries and keys are read and written once more."""
    if s.rotary > 0.0:
        _passes(out, row, 4.0 * s.tokens * (s.query + s.key), rates)


@compilable
def _qkv(out, row, s, rates):  # type: ignore[no-untyped-def]
    _linear(out, row, s.tokens, s.query + 2.0 * s.key, s.hidden, rates, s.tokens * s.hidden)
    _rotation(out, row, s, rates)
    _core(out, row, s, rates, False)


@compilable
def _into_mlp(out, row, s, rates):  # type: ignore[no-untyped-def]
    _linear(out, row, s.tokens, s.gates * s.ffn, s.hidden, rates, s.tokens * s.hidden)
    _passes(out, row, 2.0 * s.tokens * s.ffn * (s.gates + 1.0), rates)


@compilable
def _add(out, row, s, rates):  # type: ignore[no-untyped-def]
    """Residual: read two, write one; a dropout mask is one byte."""
    _passes(out, row, (6.0 + rates.dropout) * s.local_tokens * s.hidden, rates)


@compilable
def _forward_costs(s, rates, out):  # type: ignore[no-untyped-def]
    local = s.local_tokens * s.hidden
    _passes(out, F_NORM, 4.0 * local, rates)
    _qkv(out, F_ATTENTION, s, rates)
    _linear(out, F_ATTENTION_OUT if s.cp > 1.0 else F_ATTENTION, s.tokens, s.hidden, s.query, rates, s.tokens * s.query)
    _add(out, F_ADD_NORM, s, rates)
    _passes(out, F_ADD_NORM, 4.0 * local, rates)
    _into_mlp(out, F_MLP, s, rates)
    _linear(out, F_MLP, s.tokens, s.hidden, s.ffn, rates, s.tokens * s.ffn)
    _add(out, F_ADD, s, rates)
    _qkv(out, F_QKV_CORE, s, rates)
    _into_mlp(out, F_INTO_MLP, s, rates)


@compilable
def _backward_costs(s, rates, out):  # type: ignore[no-untyped-def]
    local = s.local_tokens * s.hidden
    inner = s.gates * s.ffn
    if s.product_again > 0.0:
        _passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * s.ffn * (s.gates + 1.0), rates)
    if rates.dropout > 0.0:
        _passes(out, B_MLP_OUT_DATA, 5.0 * local, rates)
        _passes(out, B_ATTENTION_DATA, 5.0 * local, rates)
    _linear(out, B_MLP_OUT_DATA, s.tokens, s.ffn, s.hidden, rates, s.tokens * s.hidden)
    _weight_gradient(out, B_MLP_OUT_WEIGHT, s.ffn, s.hidden, s.tokens, s.gradient_width, rates)
    _passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * s.ffn * (2.0 * s.gates + 1.0), rates)
    if s.bias > 0.0:
        _passes(out, B_MLP_OUT_DATA, 2.0 * s.tokens * (inner + s.hidden), rates)
    if s.norm_2_again > 0.0:
        _passes(out, B_MLP_OUT_DATA, 4.0 * local, rates)
    _linear(out, B_MLP_DATA, s.tokens, s.hidden, inner, rates, s.tokens * inner)
    _weight_gradient(out, B_MLP_WEIGHT, s.hidden, inner, s.tokens, s.gradient_width, rates)
    _passes(out, B_NORM, 6.0 * local, rates)
    _passes(out, B_NORM, 6.0 * local, rates)

    if s.core_again > 0.0:
        _core(out, B_ATTENTION_DATA, s, rates, False)
    _linear(out, B_ATTENTION_DATA, s.tokens, s.query, s.hidden, rates, s.tokens * s.hidden)
    _weight_gradient(out, B_ATTENTION_WEIGHT, s.query, s.hidden, s.tokens, s.gradient_width, rates)
    _core(out, B_ATTENTION_DATA, s, rates, True)
    _rotation(out, B_ATTENTION_DATA, s, rates)
    if s.qkv_bias > 0.0:
        _passes(out, B_ATTENTION_DATA, 2.0 * s.tokens * (s.query + 2.0 * s.key + s.hidden * s.bias), rates)
    if s.norm_1_again > 0.0:
        _passes(out, B_ATTENTION_DATA, 4.0 * local, rates)
    qkv = s.query + 2.0 * s.key
    _linear(out, B_QKV_DATA, s.tokens, s.hidden, qkv, rates, s.tokens * qkv)
    _weight_gradient(out, B_QKV_WEIGHT, s.hidden, qkv, s.tokens, s.gradient_width, rates)


@compilable
def _end_costs(s, rates, out):  # type: ignore[no-untyped-def]
    """Embedding and loss, in 16 bits whatever the linear layers use."""
    whole = s.tokens * s.hidden
    local = s.local_tokens * s.hidden
    logits = s.tokens * s.vocabulary
    _passes(out, F_EMBEDDING, 4.0 * whole, rates)
    _passes(out, F_EMBEDDED, 4.0 * local, rates)
    if s.embedding_norm > 0.0:
        _passes(out, F_EMBEDDED, 4.0 * local, rates)
        _passes(out, B_EMBEDDING, 6.0 * local, rates)
    _passes(out, B_EMBEDDING, whole * (2.0 + 2.0 * s.gradient_width), rates)
    _batched(out, F_LOGITS, 1.0, s.tokens, s.vocabulary, s.hidden, 2.0, 1.0, rates)
    out[F_LOGITS, ELEMENTWISE] += logits * LOSS_FORWARD / rates.elementwise
    out[F_LOGITS, KERNELS] += 6.0
    out[F_LOSS, ELEMENTWISE] += s.tokens * 4.0 / rates.elementwise
    out[F_LOSS, KERNELS] += 2.0
    out[B_LOGITS, ELEMENTWISE] += logits * LOSS_BACKWARD / rates.elementwise
    _batched(out, B_LOGITS, 1.0, s.tokens, s.hidden, s.vocabulary, 2.0, 1.0, rates)
    out[B_LOGITS, KERNELS] += 2.0
    sum_bytes = 2.0 * s.gradient_width if rates.fused_sum > 0.0 else 2.0
    _batched(out, B_HEAD_WEIGHT, 1.0, s.hidden, s.vocabulary, s.tokens, sum_bytes, 1.0, rates)
    if rates.fused_sum == 0.0:
        _passes(out, B_HEAD_WEIGHT, s.hidden * s.vocabulary * (2.0 + 2.0 * s.gradient_width), rates)
    _passes(out, B_FINAL_NORM, 6.0 * local, rates)


@compilable
def core_costs(s: Shard, rates: Rates, backward: bool) -> Floats:
    """Attention proper alone, of a sequence that is whole: the four `PARTS` [s] but for launches, then kernels."""
    out = np.zeros((1, 5))
    _core(out, 0, s, rates, backward)
    return out.reshape(5)


@compilable
def launches(out: Floats, rates: Rates) -> None:
    """Time between the kernels of each row: where the host launches more slowly than the chip computes, it waits."""
    for row in range(len(out)):
        busy = out[row, MATMUL] + out[row, ATTENTION] + out[row, ELEMENTWISE]
        gaps = out[row, KERNELS] * rates.gap
        out[row, LAUNCH] = max(gaps, out[row, KERNELS] * rates.host - busy)


@compilable
def layer_costs(s: Shard, rates: Rates) -> Floats:
    """Rows of `LABELS`: the four `PARTS` [s], then kernels. Shape (rows, 5)."""
    out = np.zeros((ROWS, 5))
    _forward_costs(s, rates, out)
    _backward_costs(s, rates, out)
    _end_costs(s, rates, out)
    if s.tp > 1.0:
        # the host launches collectives too
        for row in (F_ATTENTION, F_MLP, B_MLP_DATA, B_QKV_DATA):
            out[row, KERNELS] += 1.0 + s.sequence_parallel
        for row in (B_MLP_OUT_DATA, B_ATTENTION_DATA):
            out[row, KERNELS] += s.sequence_parallel
    out[B_MLP_OUT] = out[B_MLP_OUT_DATA] + out[B_MLP_OUT_WEIGHT]
    out[B_ATTENTION] = out[B_ATTENTION_DATA] + out[B_ATTENTION_WEIGHT]
    launches(out, rates)
    return out
