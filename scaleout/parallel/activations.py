"""What a layer's forward leaves in HBM for its backward, and what is dropped and computed again.

One source for the programs of the event evaluator and for the compiled recurrence. The bytes of
each part are in ``docs/memory.md``.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates
from scaleout.parallel.linear import CHUNK
from scaleout.parallel.shard import Options, Shard

__all__ = ["PARTS", "Kept", "kept_of", "part_bytes"]

PARTS = (
    "input", "norm 1", "qkv", "softmax", "dropped scores", "score masks", "attention out", "middle", "norm 2",
    "mlp in", "mlp product", "masks", "latents", "cross attention", "router", "expert input", "expert in",
    "expert product", "shared in", "shared product", "prediction", "inner",
)  # fmt: skip
"""Activations of a layer."""
(
    INPUT, NORM_1, QKV, SOFTMAX, DROPPED_SCORES, SCORE_MASKS, ATTENTION_OUT, MIDDLE, NORM_2,
    MLP_IN, MLP_PRODUCT, MASKS, LATENTS, CROSS, ROUTER, EXPERT_INPUT, EXPERT_IN, EXPERT_PRODUCT, SHARED_IN,
    SHARED_PRODUCT, PREDICTION, INNER,
) = range(len(PARTS))  # fmt: skip


class Kept(NamedTuple):
    """HBM of one micro-batch on one rank [byte].

    Parameters
    ----------
    layer
        Of a layer, from forward to backward.
    again
        Of a layer, while its backward runs: what is computed again.
    whole
        A whole activation, while an operation reads or writes one.
    embedded, loss
        Beside the first and after the last layer, from forward to backward.
    waiting, loss_waiting
        Of a layer and after the last, from the gradient of the input to those of the weights, where
        these are computed apart: inputs of its matrices and gradients of their outputs.
    """

    layer: float
    again: float
    whole: float
    embedded: float
    loss: float
    waiting: float
    loss_waiting: float


@compilable
def part_bytes(s: Shard, rates: Rates) -> Floats:
    """What backward reads of a layer's forward, in the order of `PARTS` [byte]."""
    out = np.zeros(len(PARTS))
    out[INPUT] = out[MIDDLE] = s.local_activation
    out[NORM_1] = out[NORM_2] = s.local_tokens * s.hidden * rates.kept
    out[QKV] = s.tokens * (s.query + s.key + s.value) * s.width
    out[ATTENTION_OUT] = s.tokens * s.attended * rates.attention_kept
    if s.linear_heads > 0.0:
        # before and after the convolution; what comes out before and after its norm and gate
        out[QKV] = s.tokens * (s.inner + 2.0 * s.linear_keys + s.linear_values) * s.width
        out[ATTENTION_OUT] *= 2.0
        # of every chunk its keys with its keys, inverted
        out[SOFTMAX] = s.tokens * s.linear_heads * CHUNK * s.width
    else:
        out[SOFTMAX] = _scores(out, s, rates, s.sequence)
    if s.output_gate > 0.0:
        # the gate, and what it multiplies
        out[QKV] += 2.0 * s.tokens * s.attended * s.width
    if s.post_norms > 0.0:
        out[MIDDLE] += 2.0 * s.local_activation
    if s.query_norm > 0.0:
        out[QKV] += s.tokens * (s.query + s.key) * s.width
    if s.latents > 0.0:
        # before and after their norms
        out[LATENTS] = s.local_tokens * (2.0 * (s.query_rank + s.key_rank) + s.rope) * s.width
    if s.crossed > 0.0:
        # the middle between the two attentions and its norm; queries here, keys and values of the encoder's tokens
        others = s.batch * s.encoder_sequence
        out[CROSS] = 2.0 * s.local_activation + s.tokens * (s.query + s.attended) * s.width
        out[CROSS] += others * (s.key + s.value) * s.width
        out[SOFTMAX] += _scores(out, s, rates, s.encoder_sequence)
    if s.predicts > 0.0:
        # the embedding of the next token, and both after their norms
        out[PREDICTION] = 3.0 * s.local_activation
    out[MLP_IN] = s.tokens * s.gates * s.ffn * rates.gate_kept
    out[MLP_PRODUCT] = s.tokens * s.ffn * rates.kept
    if s.experts > 0.0:
        # scores in fp32 before and after the softmax
        out[ROUTER] = s.local_tokens * s.router * 8.0
        out[EXPERT_INPUT] = s.received * s.hidden * rates.kept
        out[EXPERT_IN] = s.received * s.gates * s.expert_ffn * rates.gate_kept
        out[EXPERT_PRODUCT] = s.received * s.expert_ffn * rates.kept
        out[SHARED_IN] = s.tokens * s.gates * s.shared_ffn * rates.gate_kept
        out[SHARED_PRODUCT] = s.tokens * s.shared_ffn * rates.kept
    # between the two matrices in place of each of the four
    out[INNER] = 4.0 * s.tokens * s.inner_rank * rates.kept
    if rates.dropout > 0.0:
        out[MASKS] = (2.0 + s.crossed) * s.local_tokens * s.hidden
    return out


@compilable
def _scores(out, s, rates, seen):  # type: ignore[no-untyped-def]
    """Bytes of the softmax over so many tokens; adds what dropout keeps besides."""
    if rates.fused > 0.0:
        # statistics of the softmax in fp32
        return s.tokens * s.heads * 4.0
    scores = s.tokens * seen * s.heads
    if rates.dropout > 0.0:
        out[DROPPED_SCORES] += scores * s.width
        out[SCORE_MASKS] += scores
    return scores * s.width


@compilable
def kept_of(s: Shard, o: Options, rates: Rates) -> Kept:
    """What stays and what is computed again."""
    parts = part_bytes(s, rates)
    drop = np.zeros(len(PARTS))
    if o.norm > 0.0:
        drop[NORM_1] = drop[NORM_2] = 1.0
    if o.product > 0.0:
        drop[MLP_PRODUCT] = 1.0
    if o.core + o.attention > 0.0:
        drop[SOFTMAX] = drop[DROPPED_SCORES] = drop[SCORE_MASKS] = 1.0
    if o.attention > 0.0:
        drop[NORM_1] = drop[QKV] = drop[LATENTS] = 1.0
    if o.up > 0.0 and s.latents > 0.0:
        drop[QKV] = 1.0
    if o.moe > 0.0 and s.experts > 0.0:
        drop[NORM_2] = drop[ROUTER] = 1.0
        drop[EXPERT_INPUT:PREDICTION] = 1.0
    if o.moe_act > 0.0:
        drop[EXPERT_PRODUCT] = 1.0
    if o.shared_experts > 0.0:
        drop[SHARED_IN] = drop[SHARED_PRODUCT] = 1.0
    if o.mlp > 0.0 and s.ffn > 0.0:
        drop[NORM_2] = drop[MLP_IN] = drop[MLP_PRODUCT] = 1.0
    if o.full > 0.0:
        drop[:] = 1.0
        drop[INPUT] = 0.0
    again = 0.0
    layer = 0.0
    for part in range(len(PARTS)):
        if drop[part] > 0.0:
            again += parts[part]
        else:
            layer += parts[part]
    logits = s.tokens * s.vocabulary
    matrices = parts[NORM_1] + parts[ATTENTION_OUT] + parts[NORM_2] + parts[MLP_PRODUCT]
    matrices += parts[LATENTS] + parts[CROSS] + parts[EXPERT_INPUT] + parts[EXPERT_PRODUCT] + parts[SHARED_PRODUCT]
    matrices += parts[PREDICTION] + 2.0 * parts[INNER]
    # gradients of what the two halves put out are whole; of experts, of every copy
    gates = s.tokens * (s.ffn + s.shared_ffn) + s.received * s.expert_ffn
    gradients = s.activation + parts[QKV] + gates * s.gates * s.width
    if s.ffn + s.shared_ffn > 0.0:
        gradients += s.activation
    gradients += parts[EXPERT_INPUT] + s.local_tokens * s.router * s.width
    gradients += s.crossed * (s.activation + s.tokens * s.query * s.width) + s.predicts * s.local_activation
    # in the format of the products that read them
    gradients *= rates.kept / s.width
    return Kept(
        layer,
        again,
        s.activation,
        s.local_activation if s.embedding_norm > 0.0 else 0.0,
        logits * (s.width + 4.0 * (1.0 - rates.fused_loss)) + 2.0 * s.local_activation,
        matrices + gradients,
        logits * s.width + s.local_activation,
    )
