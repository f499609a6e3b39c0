"""Passes of a micro-batch through a model chunk as numbers: how long, and how much of it is kernels.

Between two passes everything on a rank meets again on the compute stream, so a pass is a number.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import compilable
from scaleout.parallel.rows import (
    ATTENTION,
    B_ATTENTION,
    B_EMBEDDING,
    B_FINAL_NORM,
    B_HEAD_WEIGHT,
    B_LOGITS,
    B_MLP_DATA,
    B_MLP_OUT,
    B_MLP_WEIGHT,
    B_NORM,
    B_QKV_DATA,
    B_QKV_WEIGHT,
    ELEMENTWISE,
    F_ADD,
    F_ADD_NORM,
    F_ATTENTION,
    F_EMBEDDED,
    F_EMBEDDING,
    F_INTO_MLP,
    F_LOGITS,
    F_LOSS,
    F_MLP,
    F_NORM,
    F_QKV_CORE,
    LAUNCH,
    MATMUL,
    ROWS,
)  # fmt: skip
from scaleout.parallel.shard import Options, Shard
from scaleout.parallel.wires import Wires

__all__ = ["Passes", "least", "passes_of", "rounded"]

_SECOND = 1e12


class Passes(NamedTuple):
    """Every chunk's passes [tick], in the order of the model; without what is between stages and dp ranks.

    Parameters
    ----------
    forward, backward
        From the first operation to the last. Shape (chunks,).
    forward_kernels, backward_kernels
        Kernels of it.
    enter
        Gather of a part of an activation that came from another stage.
    head, layer
        Of the backward pass: what the loss adds before the first layer, and one layer.
    send
        Messages of each stage to the next and (second half) to the one before. Shape (2 pp,).
    """

    forward: Ints
    backward: Ints
    forward_kernels: Ints
    backward_kernels: Ints
    enter: int
    head: int
    layer: int
    send: Ints


@compilable
def rounded(seconds: float) -> np.int64:
    """Whole ticks, as the engine counts them."""
    return np.int64(np.rint(seconds * _SECOND))


@compilable
def least(rows: Floats, nbytes: float) -> np.int64:
    """Ticks of an operation by whatever is fastest."""
    best = np.int64(0)
    for i in range(len(rows)):
        taken = rounded(rows[i, 0])
        if nbytes > 0.0:
            taken += rounded(nbytes * rows[i, 1] / rows[i, 2])
        if i == 0 or taken < best:
            best = taken
    return best


@compilable
def _half(start, gather, data, reduce, weight, norm, overlap):  # type: ignore[no-untyped-def]
    """End of the gradients of one half of a layer: data, weights, norm."""
    whole = start + gather
    if overlap == 0.0:
        return whole + data + reduce + weight + norm
    grad = max(start + data, whole)
    return max(grad + weight, grad + reduce) + norm


@compilable
def _forward_layer(t, gather, reduce):  # type: ignore[no-untyped-def]
    return t[F_NORM] + t[F_ATTENTION] + t[F_ADD_NORM] + t[F_MLP] + t[F_ADD] + 2 * (gather + reduce)


@compilable
def _backward_layer(t, gather, reduce, o, overlap):  # type: ignore[no-untyped-def]
    end = np.int64(0)
    if o.full > 0.0:
        end += _forward_layer(t, gather, reduce)
    elif o.mlp > 0.0:
        end += t[F_NORM] + gather + t[F_INTO_MLP]
    end += gather + t[B_MLP_OUT]
    end = _half(end, gather, t[B_MLP_DATA], reduce, t[B_MLP_WEIGHT], t[B_NORM], overlap)
    if o.attention > 0.0 and o.full == 0.0:
        end += t[F_NORM] + gather + t[F_QKV_CORE]
    end += gather + t[B_ATTENTION]
    return _half(end, gather, t[B_QKV_DATA], reduce, t[B_QKV_WEIGHT], t[B_NORM], overlap)


@compilable
def _loss_backward(t, gather, reduce, overlap):  # type: ignore[no-untyped-def]
    whole = t[B_LOGITS] + gather
    reduced = whole + reduce
    weight = (whole if overlap > 0.0 else reduced) + t[B_HEAD_WEIGHT]
    return max(weight, reduced) + t[B_FINAL_NORM]


@compilable
def passes_of(s: Shard, o: Options, times: Floats, wires: Wires, layers: Floats, pp: int, overlap: float) -> Passes:
    """Passes of every chunk.

    Parameters
    ----------
    times
        Rows of `layer_costs`.
    layers
        Of every chunk.
    overlap
        1 where tensor-parallel collectives of the backward run beside the products.
    """
    t = np.empty(ROWS, dtype=np.int64)
    for row in range(ROWS):
        t[row] = rounded(times[row, MATMUL] + times[row, ATTENTION] + times[row, ELEMENTWISE] + times[row, LAUNCH])
    nothing = np.int64(0)
    gather, reduce, enter, words = nothing, nothing, nothing, nothing
    if s.tp > 1.0:
        if s.sequence_parallel > 0.0:
            gather = reduce = least(wires.tp_half, s.activation)
        else:
            reduce = least(wires.tp_whole, s.activation)
            if s.boundary < s.activation:
                enter = least(wires.tp_half, s.activation)
        words = 3 * least(wires.tp_whole, 4.0 * s.tokens)
    forward = _forward_layer(t, gather, reduce)
    backward = _backward_layer(t, gather, reduce, o, overlap)
    # the same passes without waiting for anybody: what of a pass is kernels
    forward_kernels = _forward_layer(t, nothing, nothing)
    backward_kernels = _backward_layer(t, nothing, nothing, o, 0.0)
    head = _loss_backward(t, gather, reduce, overlap)
    chunks = len(layers)
    out = np.empty((4, chunks), dtype=np.int64)
    for at in range(chunks):
        count = np.int64(layers[at])
        waits = enter if at > 0 else nothing
        out[0, at] = waits + count * forward
        out[1, at] = (enter if at < chunks - 1 else head) + count * backward
        out[2, at] = count * forward_kernels
        out[3, at] = count * backward_kernels
    out[0, 0] += t[F_EMBEDDING] + reduce + t[F_EMBEDDED]
    out[1, 0] += gather + t[B_EMBEDDING]
    out[2, 0] += t[F_EMBEDDING] + t[F_EMBEDDED]
    out[3, 0] += t[B_EMBEDDING]
    out[0, -1] += t[F_NORM] + gather + t[F_LOGITS] + words + t[F_LOSS]
    out[2, -1] += t[F_NORM] + t[F_LOGITS] + t[F_LOSS]
    out[3, -1] += t[B_LOGITS] + t[B_HEAD_WEIGHT] + t[B_FINAL_NORM]
    send = np.zeros(2 * pp, dtype=np.int64)
    for p in range(len(wires.send)):
        send[p] = least(wires.send[p], s.boundary)
    return Passes(out[0], out[1], out[2], out[3], int(enter), int(head), int(backward), send)
