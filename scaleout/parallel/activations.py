"""What a layer's forward leaves in HBM for its backward, and what is dropped and computed again.

One source for the programs of the event evaluator and for the compiled recurrence. The bytes of
each part are in ``docs/memory.md``.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates
from scaleout.parallel.shard import Options, Shard

__all__ = ["PARTS", "Kept", "kept_of", "part_bytes"]

PARTS = (
    "input", "norm 1", "qkv", "softmax", "dropped scores", "score masks", "attention out", "middle", "norm 2",
    "mlp in", "mlp product", "masks",
)  # fmt: skip
"""Activations of a layer."""
(
    INPUT, NORM_1, QKV, SOFTMAX, DROPPED_SCORES, SCORE_MASKS, ATTENTION_OUT, MIDDLE, NORM_2,
    MLP_IN, MLP_PRODUCT, MASKS,
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
    out[QKV] = s.tokens * (s.query + 2.0 * s.key) * s.width
    out[ATTENTION_OUT] = s.tokens * s.query * s.width
    out[MLP_IN] = s.tokens * s.gates * s.ffn * s.width
    out[MLP_PRODUCT] = s.tokens * s.ffn * rates.kept
    if rates.low > 0.0:
        # attention's own backward reads 16 bits of it
        out[ATTENTION_OUT] += s.tokens * s.query * rates.kept
    if rates.fused > 0.0:
        # statistics of the softmax in fp32
        out[SOFTMAX] = s.tokens * s.heads * 4.0
    else:
        scores = s.tokens * s.sequence * s.heads
        out[SOFTMAX] = scores * s.width
        if rates.dropout > 0.0:
            out[DROPPED_SCORES] = scores * s.width
            out[SCORE_MASKS] = scores
    if rates.dropout > 0.0:
        out[MASKS] = 2.0 * s.local_tokens * s.hidden
    return out


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
        drop[NORM_1] = drop[QKV] = 1.0
    if o.mlp > 0.0:
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
    # gradients of what the two halves put out are whole
    gradients = 2.0 * s.activation + parts[QKV] + parts[MLP_IN]
    return Kept(
        layer,
        again,
        s.activation,
        s.local_activation if s.embedding_norm > 0.0 else 0.0,
        logits * (s.width + 4.0) + 2.0 * s.local_activation,
        matrices + gradients,
        logits * s.width + s.local_activation,
    )
