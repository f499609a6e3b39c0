"""A step as a recurrence over passes: the longest path through its Programs with times alone.

One value for each pass of a micro-batch through a model chunk, in whole ticks, without events.
``docs/analytic.md`` has the equations and why no simulated step is shorter.
"""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates
from scaleout.parallel.shard import Options, Shard, chunk_parameters
from scaleout.parallel.wires import Wires
from scaleout.training.passes import least, passes_of, rounded
from scaleout.training.stages import layers_of

__all__ = ["OUTCOME", "Plan", "orders", "step_ticks", "warm_up"]

OUTCOME = (
    "end", "compute", "optimizer", "exposed_tp", "exposed_pp", "exposed_dp", "imbalance", "bubble",
)  # fmt: skip
"""What `step_ticks` gives: the end, and where the time of the first stage went [tick]."""
END, COMPUTE, OPTIMIZER, EXPOSED_TP, EXPOSED_PP, EXPOSED_DP, IMBALANCE, BUBBLE = range(len(OUTCOME))


class Plan(NamedTuple):
    """What decides a step beside shapes, rates and wires; flags are 0 or 1.

    Parameters
    ----------
    pp, vpp, dp, micro_batches, layers
        Stages, chunks a stage, data-parallel degree, micro-batches a rank, layers of the model.
    sharded
        Whether the optimizer is cut over dp.
    balanced, overlap_tp, overlap_gather, overlap_reduction, overlap_sends, bucket, optimizer_traffic, reserved
        Of the stack.
    """

    pp: int
    vpp: int
    dp: int
    micro_batches: int
    layers: int
    sharded: float
    balanced: float
    overlap_tp: float
    overlap_gather: float
    overlap_reduction: float
    overlap_sends: float
    bucket: float
    optimizer_traffic: float
    reserved: float


@compilable
def warm_up(stage: int, plan: Plan) -> int:
    """Forward passes of a stage before its first backward pass (schedules.py)."""
    first = plan.pp - stage - 1
    if plan.vpp > 1:
        first = 2 * first + (plan.vpp - 1) * plan.pp
    return min(first, plan.micro_batches * plan.vpp)


@compilable
def orders(plan: Plan) -> Ints:
    """Chunk and micro-batch of a stage's k-th forward pass; backward chunks count from the last. Shape (2, passes)."""
    out = np.empty((2, plan.micro_batches * plan.vpp), dtype=np.int64)
    group = plan.pp if plan.vpp > 1 else plan.micro_batches
    k = 0
    for first in range(0, plan.micro_batches, group):
        for chunk in range(plan.vpp):
            for micro_batch in range(first, first + group):
                out[0, k] = chunk
                out[1, k] = micro_batch
                k += 1
    return out


@compilable
def _held(s, plan, layers, stage, chunk):  # type: ignore[no-untyped-def]
    """Parameters of one chunk of a stage on one rank."""
    at = chunk * plan.pp + stage
    return chunk_parameters(s, layers[at], at == 0, at == len(layers) - 1, plan.pp == 1)


@compilable
def _opening(s, rates, wires, plan, layers, held, free, dp_free, gathered):  # type: ignore[no-untyped-def]
    """The update of every stage, then the gather of its parameters."""
    sharded = plan.sharded > 0.0 and plan.dp > 1
    for p in range(plan.pp):
        for c in range(plan.vpp):
            held[p] += _held(s, plan, layers, p, c)
        part = held[p] / (plan.dp if sharded else 1)
        free[p] = dp_free[p] = rounded(part * plan.optimizer_traffic / rates.elementwise + rates.gap)
        if not sharded:
            continue
        known, taken = -1.0, np.int64(0)
        for c in range(plan.vpp):
            nbytes = _held(s, plan, layers, p, c) * s.width
            if nbytes > 0.0:
                if nbytes != known:
                    known, taken = nbytes, least(wires.dp_half, nbytes)
                dp_free[p] += taken
            gathered[p, c] = dp_free[p]
        if plan.overlap_gather == 0.0:
            # the very first pass waits for all of them
            gathered[p, 0] = dp_free[p]
            gathered[p, 1:] = 0


@compilable
def _reduced(s, plan, passes, rows, count, at, last, start, free):  # type: ignore[no-untyped-def]
    """When the dp stream has reduced the gradients of a backward pass that begins at `start`."""
    end, bucket = start, 0.0
    if at < last:
        end += passes.enter
    else:
        end += passes.head
        bucket += chunk_parameters(s, 0.0, False, True, plan.pp == 1)
    known, taken = -1.0, np.int64(0)
    for i in range(count):
        end += passes.layer
        bucket += s.layer
        nbytes = bucket * s.gradient_width
        if nbytes >= plan.bucket and (at == 0 or i < count - 1):
            if nbytes != known:
                known, taken = nbytes, least(rows, nbytes)
            free = max(free, end) + taken
            bucket = 0.0
    if at == 0:
        bucket += s.embedding
    if bucket > 0.0:
        free = max(free, start + passes.backward[at]) + least(rows, bucket * s.gradient_width)
    return free


@compilable
def _waited(out, send, came, start, backward, pp):  # type: ignore[no-untyped-def]
    """Book the first stage's wait for a message."""
    source = pp + (1 if pp > 1 else 0) if backward else pp - 1
    moving = min(send[source], came - start)
    out[EXPOSED_PP] += moving
    out[BUBBLE] += came - start - moving


@compilable
def _closing(s, rates, wires, plan, held, ready, out):  # type: ignore[no-untyped-def]
    """Tied embeddings are summed over the end stages; then the norm of the gradients."""
    pp = plan.pp
    if s.tied > 0.0 and pp > 1:
        moving = least(wires.embedding, s.vocabulary * s.hidden * s.gradient_width)
        together = max(ready[0], ready[pp - 1])
        out[IMBALANCE] += together - ready[0]
        out[EXPOSED_DP] += moving
        ready[0] = ready[pp - 1] = together + moving
    for p in range(pp):
        part = held[p] / (plan.dp if plan.sharded > 0.0 else 1)
        norm = rounded(part * s.gradient_width / rates.elementwise + rates.gap)
        ready[p] += norm
        if p == 0:
            out[OPTIMIZER] += norm
    together = ready.max()
    out[IMBALANCE] += together - ready[0]
    moving = least(wires.world, 0.0)
    out[EXPOSED_DP] += moving
    out[END] = together + moving


@compilable
def _through(done, plan, to):  # type: ignore[no-untyped-def]
    """Whether every stage has gone through its round that ends with forward pass `to`."""
    for p in range(plan.pp):
        if done[1, p] < to - warm_up(p, plan):
            return False
    return True


@compilable
def _later(ended, arrived, order, plan, at, size):  # type: ignore[no-untyped-def]
    """By how much the round from forward pass `at` on is later than the one before [tick]; -1 if unevenly.

    Where all stages are later by the same, all rounds after it are again, up to the last: a pass
    follows from those that it waits for, which lie in that round or behind it.
    """
    pp = plan.pp
    shift = ended[0, 0, at] - ended[0, 0, at - size]
    for p in range(pp):
        for way in range(2):
            low = at if way == 0 else at - warm_up(p, plan) - 1
            edge = p == (pp - 1 if way == 0 else 0)
            to = (p + 1) % pp if way == 0 else (p - 1) % pp
            for k in range(low, low + size + way):
                if ended[way, p, k] - ended[way, p, k - size] != shift:
                    return np.int64(-1)
                there = k + pp if edge else k
                # the ends of the model send nothing
                sends = not edge or order[0, k] < plan.vpp - 1
                if sends and arrived[way, to, there] - arrived[way, to, there - size] != shift:
                    return np.int64(-1)
    return shift


@compilable
def step_ticks(s: Shard, o: Options, times: Floats, rates: Rates, wires: Wires, plan: Plan) -> Ints:
    """`OUTCOME` of one step in the steady state [tick].

    Parameters
    ----------
    times
        Rows of `layer_costs`.
    """
    pp, vpp, total = plan.pp, plan.vpp, plan.micro_batches * plan.vpp
    chunks = pp * vpp
    layers = layers_of(plan.layers, chunks, plan.balanced)
    passes = passes_of(s, o, times, wires, layers, pp, plan.overlap_tp)
    send = passes.send
    out = np.zeros(len(OUTCOME), dtype=np.int64)
    free = np.zeros(pp, dtype=np.int64)
    dp_free = np.zeros(pp, dtype=np.int64)
    gathered = np.zeros((pp, vpp), dtype=np.int64)
    held = np.zeros(pp)
    _opening(s, rates, wires, plan, layers, held, free, dp_free, gathered)
    out[OPTIMIZER] = free[0]

    reduction = wires.dp_half if plan.sharded > 0.0 else wires.dp_whole
    reducing = plan.overlap_reduction > 0.0 and plan.dp > 1
    order = orders(plan)
    # when the k-th message from the stage before, and from the one after, is in
    arrived = np.full((2, pp, total + pp), -1, dtype=np.int64)
    for k in range(total):
        if order[0, k] == 0:
            # the ends of the model wait for nobody
            arrived[0, 0, k] = arrived[1, pp - 1, k] = 0
    line = np.zeros((2, pp), dtype=np.int64)
    done = np.zeros((2, pp), dtype=np.int64)
    # a steady state is looked for in whole rounds of the schedule, and gone through once
    size = chunks if vpp > 1 else 1
    ended = np.zeros((2, pp, total), dtype=np.int64)
    booked = np.zeros((total // size + 1, len(OUTCOME)), dtype=np.int64)
    at = (warm_up(0, plan) // size + 2) * size
    last, skipped = plan.micro_batches - 1, np.int64(0)
    rising = True
    while done[1].min() < total:
        if at + 3 * size < total and _through(done, plan, at + size):
            shift = _later(ended, arrived, order, plan, at, size)
            rounds = (total - done[0].max()) // size - 1
            if shift >= 0 and rounds > 0 and (dp_free <= free).all():
                skipped = rounds * shift
                out += rounds * (booked[at // size + 1] - booked[at // size])
                total -= rounds * size
                last -= rounds * size // vpp
                at = total
            at += size * max(1, at // (8 * size))
        for q in range(pp):
            p = q if rising else pp - 1 - q
            warm = warm_up(p, plan)
            forth, back = done[0, p], done[1, p]
            now = free[p]
            while back < total:
                backward = forth == total or forth - back > warm
                if p == 0 and not backward and forth % size == 0:
                    booked[forth // size] = out
                k = back if backward else forth
                came = arrived[1 if backward else 0, p, k]
                if came < 0:
                    break
                start = max(came, now)
                if p == 0 and came > now:
                    _waited(out, send, came, now, backward, pp)
                c, m = order[0, k], order[1, k]
                if backward:
                    c = vpp - 1 - c
                chunk = c * pp + p
                if not backward and m == 0 and gathered[p, c] > start:
                    if p == 0:
                        out[EXPOSED_DP] += gathered[p, c] - start
                    start = gathered[p, c]
                end = start + (passes.backward[chunk] if backward else passes.forward[chunk])
                ended[1 if backward else 0, p, k] = now = end
                if backward:
                    back += 1
                    if reducing and m == last:
                        dp_free[p] = _reduced(
                            s, plan, passes, reduction, int(layers[chunk]), chunk, chunks - 1, start, dp_free[p]
                        )
                    if chunk > 0:
                        line[1, p] = max(line[1, p], end) + send[pp + p]
                        # from the first stage to the last, and one chunk earlier
                        arrived[1, p - 1 if p > 0 else pp - 1, k if p > 0 else k + pp] = line[1, p]
                        if plan.overlap_sends == 0.0:
                            now = line[1, p]
                else:
                    forth += 1
                    if chunk < chunks - 1:
                        line[0, p] = max(line[0, p], end) + send[p]
                        arrived[0, p + 1 if p < pp - 1 else 0, k if p < pp - 1 else k + pp] = line[0, p]
                        if plan.overlap_sends == 0.0:
                            now = line[0, p]
                if p == 0:
                    kernels = passes.backward_kernels[chunk] if backward else passes.forward_kernels[chunk]
                    out[COMPUTE] += kernels
                    out[EXPOSED_TP] += end - start - kernels
                    out[EXPOSED_PP] += now - end
            done[0, p], done[1, p] = forth, back
            free[p] = now
        rising = not rising

    ready = free.copy()
    for p in range(pp):
        if plan.dp > 1:
            # the last bucket; or all gradients, after the last pass
            if plan.overlap_reduction == 0.0:
                dp_free[p] = max(dp_free[p], free[p]) + least(reduction, held[p] * s.gradient_width)
            ready[p] = max(ready[p], dp_free[p])
    out[EXPOSED_DP] += ready[0] - free[0]
    _closing(s, rates, wires, plan, held, ready, out)
    out[END] += skipped
    return out
