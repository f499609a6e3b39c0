"""A step as a recurrence over passes: the longest path through its Programs with times alone.

One value for each pass of a micro-batch through a model chunk, in whole ticks, without events.
Between two passes everything on a rank meets again on the compute stream, so a pass is a number;
``docs/analytic.md`` has the argument and why no simulated step is shorter.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates
from scaleout.parallel.costs import (
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
from scaleout.parallel.shard import Shard
from scaleout.training.stages import layers_of

__all__ = ["OUTCOME", "Plan", "Wires", "step_ticks"]

OUTCOME = (
    "end", "compute", "optimizer", "exposed_tp", "exposed_pp", "exposed_dp", "imbalance", "bubble",
)  # fmt: skip
"""What `step_ticks` gives: the end, and where the time of the first stage went [tick]."""
END, COMPUTE, OPTIMIZER, EXPOSED_TP, EXPOSED_PP, EXPOSED_DP, IMBALANCE, BUBBLE = range(len(OUTCOME))
_SECOND = 1e12


class Plan(NamedTuple):
    """What decides a step beside shapes, rates and wires; flags are 0 or 1.

    Parameters
    ----------
    pp, vpp, dp, micro_batches, layers
        Stages, chunks a stage, data-parallel degree, micro-batches a rank, layers of the model.
    balanced, sharded
        How layers are dealt; whether the optimizer is cut over dp.
    full, attention, mlp
        Larger modules that are recomputed.
    overlap_tp, overlap_gather, overlap_reduction, overlap_sends, bucket, optimizer_traffic
        Of the stack.
    """

    pp: int
    vpp: int
    dp: int
    micro_batches: int
    layers: int
    balanced: float
    sharded: float
    full: float
    attention: float
    mlp: float
    overlap_tp: float
    overlap_gather: float
    overlap_reduction: float
    overlap_sends: float
    bucket: float
    optimizer_traffic: float


class Wires(NamedTuple):
    """Times alone of operations: rows of latency [s], share of the message that is moved [1] and rate
    [byte/s]; the fastest row is taken.

    `send` has rows for each stage, to the next and (second half) to the one before; no rows mean
    that nobody is spoken to.
    """

    tp_all_gather: Floats
    tp_reduce_scatter: Floats
    tp_all_reduce: Floats
    dp_all_gather: Floats
    dp_reduce_scatter: Floats
    dp_all_reduce: Floats
    send: Floats
    embedding: Floats
    world: Floats


@compilable
def _rounded(seconds: float) -> np.int64:
    return np.int64(np.rint(seconds * _SECOND))


@compilable
def _least(rows: Floats, nbytes: float) -> np.int64:
    """Ticks of an operation by whatever is fastest."""
    best = np.int64(0)
    for i in range(len(rows)):
        taken = _rounded(rows[i, 0])
        if nbytes > 0.0:
            taken += _rounded(nbytes * rows[i, 1] / rows[i, 2])
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
def _backward_layer(t, gather, reduce, plan, overlap):  # type: ignore[no-untyped-def]
    end = np.int64(0)
    if plan.full > 0.0:
        end += _forward_layer(t, gather, reduce)
    elif plan.mlp > 0.0:
        end += t[F_NORM] + gather + t[F_INTO_MLP]
    end += gather + t[B_MLP_OUT]
    end = _half(end, gather, t[B_MLP_DATA], reduce, t[B_MLP_WEIGHT], t[B_NORM], overlap)
    if plan.attention > 0.0 and plan.full == 0.0:
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
def _parameters(s, layers, first, last, alone):  # type: ignore[no-untyped-def]
    """Parameters of a chunk on one rank; a tied head is the embedding where one stage has both."""
    count = layers * s.layer
    if first:
        count += s.embedding
    if last:
        count += s.head - (s.vocabulary * s.hidden if s.tied > 0.0 and alone else 0.0)
    return count


@compilable
def _pass_at(index, stage, plan):  # type: ignore[no-untyped-def]
    """Which pass a stage runs as its `index`-th: backward, chunk, micro-batch (schedules.py)."""
    total = plan.micro_batches * plan.vpp
    warm_up = plan.pp - stage - 1
    if plan.vpp > 1:
        warm_up = 2 * warm_up + (plan.vpp - 1) * plan.pp
    warm_up = min(warm_up, total)
    backward = False
    number = index
    if index >= warm_up:
        beyond = index - warm_up
        if beyond < 2 * (total - warm_up):
            backward = beyond % 2 == 1
            number = beyond // 2 if backward else warm_up + beyond // 2
        else:
            backward = True
            number = index - total
    if plan.vpp == 1:
        return backward, 0, number
    group = plan.pp * plan.vpp
    chunk = (number % group) // plan.pp
    micro_batch = number // group * plan.pp + number % plan.pp
    return backward, (plan.vpp - 1 - chunk if backward else chunk), micro_batch


@compilable
def step_ticks(
    s: Shard, times: Floats, rates: Rates, wires: Wires, plan: Plan
) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """`OUTCOME` of one step in the steady state [tick].

    Parameters
    ----------
    times
        Rows of `layer_costs`.
    """
    pp, vpp, total = plan.pp, plan.vpp, plan.micro_batches * plan.vpp
    t = np.empty(ROWS, dtype=np.int64)
    for row in range(ROWS):
        t[row] = _rounded(times[row, MATMUL] + times[row, ATTENTION] + times[row, ELEMENTWISE] + times[row, LAUNCH])
    gather = np.int64(0)
    reduce = np.int64(0)
    enter = np.int64(0)
    words = np.int64(0)
    if s.tp > 1.0:
        if s.sequence_parallel > 0.0:
            gather = _least(wires.tp_all_gather, s.activation)
            reduce = _least(wires.tp_reduce_scatter, s.activation)
        else:
            reduce = _least(wires.tp_all_reduce, s.activation)
            if s.boundary < s.activation:
                enter = _least(wires.tp_all_gather, s.activation)
        words = 3 * _least(wires.tp_all_reduce, 4.0 * s.tokens)
    forward = _forward_layer(t, gather, reduce)
    backward = _backward_layer(t, gather, reduce, plan, plan.overlap_tp)
    # the same passes without waiting for anybody: what of a pass is kernels
    nothing = np.int64(0)
    forward_kernels = _forward_layer(t, nothing, nothing)
    backward_kernels = _backward_layer(t, nothing, nothing, plan, 0.0)
    send = np.empty(2 * pp, dtype=np.int64)
    for p in range(2 * pp):
        send[p] = _least(wires.send[p], s.boundary)

    chunks = pp * vpp
    layers = layers_of(plan.layers, chunks, plan.balanced)
    out = np.zeros(8, dtype=np.int64)
    free = np.zeros(pp, dtype=np.int64)
    dp_free = np.zeros(pp, dtype=np.int64)
    gathered = np.zeros((pp, vpp), dtype=np.int64)
    held = np.zeros(pp)
    sharded = plan.sharded > 0.0 and plan.dp > 1
    for p in range(pp):
        for c in range(vpp):
            at = c * pp + p
            held[p] += _parameters(s, layers[at], at == 0, at == chunks - 1, pp == 1)
        part = held[p] / (plan.dp if sharded else 1)
        free[p] = _rounded(part * plan.optimizer_traffic / rates.elementwise + rates.gap)
        if p == 0:
            out[OPTIMIZER] += free[p]
        dp_free[p] = free[p]
        if sharded:
            for c in range(vpp):
                at = c * pp + p
                nbytes = _parameters(s, layers[at], at == 0, at == chunks - 1, pp == 1) * s.width
                if nbytes > 0.0:
                    dp_free[p] += _least(wires.dp_all_gather, nbytes)
                gathered[p, c] = dp_free[p]
            if plan.overlap_gather == 0.0:
                # the very first pass waits for all of them
                gathered[p, 0] = dp_free[p]
                gathered[p, 1:] = 0

    reduction = wires.dp_reduce_scatter if plan.sharded > 0.0 else wires.dp_all_reduce
    arrived = np.full((2, pp, total), -1, dtype=np.int64)
    line = np.zeros((2, pp), dtype=np.int64)
    done = np.zeros(pp, dtype=np.int64)
    left = 2 * pp * total
    while left > 0:
        for p in range(pp):
            while done[p] < 2 * total:
                is_backward, c, m = _pass_at(done[p], p, plan)
                at = c * pp + p
                first, last = at == 0, at == chunks - 1
                start = free[p]
                waits = not (last if is_backward else first)
                if waits:
                    came = arrived[1 if is_backward else 0, p, c * plan.micro_batches + m]
                    if came < 0:
                        break
                    if came > start:
                        if p == 0:
                            source = (1 if pp > 1 else 0) if is_backward else pp - 1
                            moving = send[pp + source] if is_backward else send[source]
                            out[EXPOSED_PP] += min(moving, came - start)
                            out[BUBBLE] += max(0, came - start - moving)
                        start = came
                if not is_backward and m == 0 and gathered[p, c] > start:
                    if p == 0:
                        out[EXPOSED_DP] += gathered[p, c] - start
                    start = gathered[p, c]
                count = np.int64(layers[at])
                through = start
                if is_backward:
                    end = start
                    kernels = count * backward_kernels
                    if waits:
                        end += enter
                    bucket = 0.0
                    if last:
                        end += _loss_backward(t, gather, reduce, plan.overlap_tp)
                        kernels += t[B_LOGITS] + t[B_HEAD_WEIGHT] + t[B_FINAL_NORM]
                        bucket += _parameters(s, 0.0, False, True, pp == 1)
                    reducing = m == plan.micro_batches - 1 and plan.overlap_reduction > 0.0 and plan.dp > 1
                    if reducing:
                        for i in range(count):
                            end += backward
                            bucket += s.layer
                            if bucket * s.gradient_width >= plan.bucket and (first or i < count - 1):
                                dp_free[p] = max(dp_free[p], end) + _least(reduction, bucket * s.gradient_width)
                                bucket = 0.0
                    else:
                        end += count * backward
                    if first:
                        end += gather + t[B_EMBEDDING]
                        kernels += t[B_EMBEDDING]
                        bucket += s.embedding
                    if reducing and bucket > 0.0:
                        dp_free[p] = max(dp_free[p], end) + _least(reduction, bucket * s.gradient_width)
                    if not first:
                        line[1, p] = max(line[1, p], end) + send[pp + p]
                        to = p - 1 if p > 0 else pp - 1
                        before = c if p > 0 else c - 1
                        arrived[1, to, before * plan.micro_batches + m] = line[1, p]
                        through = line[1, p]
                else:
                    end = start
                    kernels = count * forward_kernels
                    if waits:
                        end += enter
                    if first:
                        end += t[F_EMBEDDING] + reduce + t[F_EMBEDDED]
                        kernels += t[F_EMBEDDING] + t[F_EMBEDDED]
                    end += count * forward
                    if last:
                        end += t[F_NORM] + gather + t[F_LOGITS] + words + t[F_LOSS]
                        kernels += t[F_NORM] + t[F_LOGITS] + t[F_LOSS]
                    else:
                        line[0, p] = max(line[0, p], end) + send[p]
                        to = p + 1 if p < pp - 1 else 0
                        after = c if p < pp - 1 else c + 1
                        arrived[0, to, after * plan.micro_batches + m] = line[0, p]
                        through = line[0, p]
                free[p] = end
                if plan.overlap_sends == 0.0 and through > end:
                    free[p] = through
                if p == 0:
                    out[COMPUTE] += kernels
                    out[EXPOSED_TP] += end - start - kernels
                    out[EXPOSED_PP] += free[p] - end
                done[p] += 1
                left -= 1

    ready = np.zeros(pp, dtype=np.int64)
    for p in range(pp):
        ready[p] = free[p]
        if plan.dp > 1:
            # the last bucket; or all gradients, after the last pass
            if plan.overlap_reduction == 0.0:
                dp_free[p] = max(dp_free[p], free[p]) + _least(reduction, held[p] * s.gradient_width)
            ready[p] = max(ready[p], dp_free[p])
    out[EXPOSED_DP] += ready[0] - free[0]
    if s.tied > 0.0 and pp > 1:
        moving = _least(wires.embedding, s.vocabulary * s.hidden * s.gradient_width)
        together = max(ready[0], ready[pp - 1])
        out[IMBALANCE] += together - ready[0]
        out[EXPOSED_DP] += moving
        ready[0] = together + moving
        ready[pp - 1] = together + moving
    norms = np.zeros(pp, dtype=np.int64)
    for p in range(pp):
        part = held[p] / (plan.dp if plan.sharded > 0.0 else 1)
        norms[p] = _rounded(part * s.gradient_width / rates.elementwise + rates.gap)
        ready[p] += norms[p]
    out[OPTIMIZER] += norms[0]
    together = ready.max()
    out[IMBALANCE] += together - ready[0]
    moving = _least(wires.world, 0.0)
    out[EXPOSED_DP] += moving
    out[END] = together + moving
    return out
