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
    "end", "compute", "optimizer", "exposed_tp", "exposed_cp", "exposed_ep", "exposed_pp", "exposed_dp", "exposed_copy",
    "imbalance", "bubble",
)  # fmt: skip
"""The end of a step, and where the time of the first stage went [tick]; `step_ticks` knows no cp, ep or copy."""
END, COMPUTE, OPTIMIZER, EXPOSED_TP, _, _, EXPOSED_PP, EXPOSED_DP, _, IMBALANCE, BUBBLE = range(len(OUTCOME))


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


class _Run(NamedTuple):
    """Passes in time [tick], without rounds of a steady state that are left out.

    Parameters
    ----------
    came_forth, came_back
        When the k-th message from the stage before, and from the one after, is in; shape (pp, passes + pp).
    end_forth, end_back
        When the k-th pass has ended, shape (pp, passes).
    free
        When each stage has ended its last, shape (pp,).
    total
        Passes forward, and as many backward.
    steady, rounds, skipped
        First forward pass of a round that repeats (-1 for none), how often it is left out, and how
        long that takes.
    """

    came_forth: Ints
    came_back: Ints
    end_forth: Ints
    end_back: Ints
    free: Ints
    total: int
    steady: int
    rounds: int
    skipped: int


@compilable
def warm_up(stage: int, plan: Plan) -> int:
    """Forward passes of a stage before its first backward pass, if there are so many (schedules.py)."""
    first = plan.pp - stage - 1
    return 2 * first + (plan.vpp - 1) * plan.pp if plan.vpp > 1 else first


@compilable
def _round_size(plan):  # type: ignore[no-untyped-def]
    """Forward passes after which the schedule repeats."""
    return plan.pp * plan.vpp if plan.vpp > 1 else 1


@compilable
def _first_round(plan):  # type: ignore[no-untyped-def]
    """Forward pass with which the first round may begin that all stages go through in the same order as the next."""
    size = _round_size(plan)
    return (warm_up(0, plan) // size + 2) * size


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
        linear = 0.0
        for c in range(plan.vpp):
            held[p] += _held(s, plan, layers, p, c)
            linear += layers[c * plan.pp + p] * s.layer
        part = held[p] / (plan.dp if sharded else 1)
        free[p] = dp_free[p] = rounded(
            (part * plan.optimizer_traffic + linear * rates.weight_cast) / rates.elementwise + rates.gap
        )
        if not sharded:
            continue
        known, taken = -1.0, np.int64(0)
        for c in range(plan.vpp):
            nbytes = _held(s, plan, layers, p, c) * s.width
            if nbytes > 0.0:
                if nbytes != known:
                    known, taken = nbytes, least(wires.dp_half, nbytes)
                dp_free[p] += taken
            gathered[c * plan.pp + p] = dp_free[p]
        if plan.overlap_gather == 0.0:
            # the very first pass waits for all of them
            for c in range(plan.vpp):
                gathered[c * plan.pp + p] = dp_free[p] if c == 0 else 0


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
def _reductions(s, wires, plan, layers, held, passes, order, free, run):  # type: ignore[no-untyped-def]
    """When every stage has reduced its gradients."""
    rows = wires.dp_half if plan.sharded > 0.0 else wires.dp_whole
    ready = run.free.copy()
    if plan.dp == 1:
        return ready
    last = run.total // plan.vpp - 1
    for p in range(plan.pp):
        if plan.overlap_reduction > 0.0:
            for k in range(run.total):
                if order[1, k] == last:
                    at = (plan.vpp - 1 - order[0, k]) * plan.pp + p
                    start = run.end_back[p, k] - passes.backward[at]
                    free[p] = _reduced(s, plan, passes, rows, int(layers[at]), at, len(layers) - 1, start, free[p])
        else:
            # all of them after the last pass
            free[p] = max(free[p], run.free[p]) + least(rows, held[p] * s.gradient_width)
        ready[p] = max(ready[p], free[p])
    return ready


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
def _later(ended, came, low, high, size, shift, edge, order, vpp, wrap):  # type: ignore[no-untyped-def]
    """Whether passes of one way and stage, and their messages, are later by a shift than a round before."""
    for k in range(low, high):
        if ended[k] - ended[k - size] != shift:
            return False
        # the ends of the model send nothing
        if (not edge or order[0, k] < vpp - 1) and came[k + wrap] - came[k + wrap - size] != shift:
            return False
    return True


@compilable
def _round(came_forth, came_back, end_forth, end_back, order, plan, at, size):  # type: ignore[no-untyped-def]
    """By how much the round from forward pass `at` on is later than the one before [tick]; -1 if unevenly.

    Where all stages are later by the same, all rounds after it are again, up to the last: a pass
    follows from those that it waits for, which lie in that round or behind it.
    """
    pp, vpp = plan.pp, plan.vpp
    shift = end_forth[0, at] - end_forth[0, at - size]
    for p in range(pp):
        edge, to = p == pp - 1, (p + 1) % pp
        wrap = pp if edge else 0
        if not _later(end_forth[p], came_forth[to], at, at + size, size, shift, edge, order, vpp, wrap):
            return np.int64(-1)
        edge, to, low = p == 0, (p - 1) % pp, at - warm_up(p, plan) - 1
        wrap = pp if edge else 0
        if not _later(end_back[p], came_back[to], low, low + size + 1, size, shift, edge, order, vpp, wrap):
            return np.int64(-1)
    return shift


@compilable
def _run(passes, order, gathered, dp_free, opened, plan, total):  # type: ignore[no-untyped-def]
    """All passes, in an order in which nothing waits for what comes later.

    In turn r stage p runs its forward pass r - p (1F1B: r) and the backward pass that the schedule
    puts after it. Then messages come from an earlier turn, or from an earlier stage in the same.

    `total` may be less than all by whole rounds of the schedule: those of a steady state, if there is one.
    """
    pp, vpp, free = plan.pp, plan.vpp, opened.copy()
    last, overlap, lag = pp * vpp - 1, plan.overlap_sends > 0.0, 1 if vpp > 1 else 0
    came_forth, came_back = np.zeros((pp, total + pp), dtype=np.int64), np.zeros((pp, total + pp), dtype=np.int64)
    end_forth, end_back = np.zeros((pp, total), dtype=np.int64), np.zeros((pp, total), dtype=np.int64)
    line_forth, line_back = np.zeros(pp, dtype=np.int64), np.zeros(pp, dtype=np.int64)
    forward, backward, send, chunks, micro_batches = passes.forward, passes.backward, passes.send, order[0], order[1]
    size = _round_size(plan)
    rounds = (plan.micro_batches * vpp - total) // size
    at = _first_round(plan)
    steady, skipped = -1, np.int64(0)
    for turn in range(total + warm_up(0, plan)):
        if rounds > 0 and steady < 0 and turn > at + size + pp and turn + size < total:
            shift = _round(came_forth, came_back, end_forth, end_back, order, plan, at, size)
            if shift >= 0 and (dp_free <= free).all():
                steady, skipped = at, rounds * shift
            at += size
        for p in range(pp):
            k = turn - lag * p
            if k < 0:
                break
            now = free[p]
            if k < total:
                chunk = chunks[k] * pp + p
                now = max(now, came_forth[p, k])
                if micro_batches[k] == 0:
                    now = max(now, gathered[chunk])
                now += forward[chunk]
                end_forth[p, k] = now
                if chunk < last:
                    line_forth[p] = max(line_forth[p], now) + send[p]
                    if p < pp - 1:
                        came_forth[p + 1, k] = line_forth[p]
                    else:
                        # to the first stage, and one chunk on
                        came_forth[0, k + pp] = line_forth[p]
                    if not overlap:
                        now = line_forth[p]
            k -= warm_up(p, plan)
            if 0 <= k < total:
                chunk = (vpp - 1 - chunks[k]) * pp + p
                now = max(now, came_back[p, k]) + backward[chunk]
                end_back[p, k] = now
                if chunk > 0:
                    line_back[p] = max(line_back[p], now) + send[pp + p]
                    if p > 0:
                        came_back[p - 1, k] = line_back[p]
                    else:
                        came_back[pp - 1, k + pp] = line_back[p]
                    if not overlap:
                        now = line_back[p]
            free[p] = now
    return _Run(came_forth, came_back, end_forth, end_back, free, total, steady, rounds, int(skipped))


@compilable
def _short(total, length, size):  # type: ignore[no-untyped-def]
    """Passes without so many whole rounds that about `length` are left."""
    return total - max(0, total - length) // size * size


@compilable
def _booked(out, stop, free, passes, order, plan, run):  # type: ignore[no-untyped-def]
    """Book the first stage's time from `free` to its forward pass number `stop`."""
    pp, vpp, warm, total = plan.pp, plan.vpp, warm_up(0, plan), run.total
    source = pp + (1 if pp > 1 else 0)
    forth, back, now = 0, 0, free
    while back < total:
        backward = forth == total or forth - back > warm
        if not backward and forth == stop:
            break
        k = back if backward else forth
        c = vpp - 1 - order[0, k] if backward else order[0, k]
        end = run.end_back[0, k] if backward else run.end_forth[0, k]
        took = passes.backward[c * pp] if backward else passes.forward[c * pp]
        kernels = passes.backward_kernels[c * pp] if backward else passes.forward_kernels[c * pp]
        came = run.came_back[0, k] if backward else run.came_forth[0, k]
        if came > now:
            moving = min(passes.send[source] if backward else passes.send[pp - 1], came - now)
            out[EXPOSED_PP] += moving
            out[BUBBLE] += came - now - moving
            now = came
        out[EXPOSED_DP] += end - took - now
        out[COMPUTE] += kernels
        out[EXPOSED_TP] += took - kernels
        now = end
        if plan.overlap_sends == 0.0 and pp > 1:
            sent = now
            if backward and c > 0:
                sent = run.came_back[pp - 1, k + pp]
            elif not backward:
                sent = run.came_forth[1, k]
            out[EXPOSED_PP] += sent - now
            now = sent
        if backward:
            back += 1
        else:
            forth += 1


@compilable
def step_ticks(s: Shard, o: Options, times: Floats, rates: Rates, wires: Wires, plan: Plan) -> Ints:
    """`OUTCOME` of one step in the steady state [tick].

    Parameters
    ----------
    times
        Rows of `layer_costs`.
    """
    layers = layers_of(plan.layers, plan.pp * plan.vpp, plan.balanced)
    passes = passes_of(s, o, times, wires, layers, plan.pp, plan.overlap_tp)
    out = np.zeros(len(OUTCOME), dtype=np.int64)
    free, dp_free = np.zeros(plan.pp, dtype=np.int64), np.zeros(plan.pp, dtype=np.int64)
    gathered = np.zeros(len(layers), dtype=np.int64)
    held = np.zeros(plan.pp)
    order = orders(plan)
    _opening(s, rates, wires, plan, layers, held, free, dp_free, gathered)
    opened = free[0]
    out[OPTIMIZER] = opened
    # a steady state is looked for in a few rounds, then in more
    size, total = _round_size(plan), plan.micro_batches * plan.vpp
    length = _first_round(plan) + size * (4 if plan.vpp > 1 else 32)
    run = _run(passes, order, gathered, dp_free, free, plan, _short(total, length, size))
    while run.total < total and run.steady < 0:
        length *= 4
        run = _run(passes, order, gathered, dp_free, free, plan, _short(total, length, size))
    if run.steady >= 0:
        before, after = np.zeros_like(out), np.zeros_like(out)
        _booked(before, run.steady, opened, passes, order, plan, run)
        _booked(after, run.steady + size, opened, passes, order, plan, run)
        out += run.rounds * (after - before)
    _booked(out, run.total + 1, opened, passes, order, plan, run)
    ready = _reductions(s, wires, plan, layers, held, passes, order, dp_free, run)
    out[EXPOSED_DP] += ready[0] - run.free[0]
    _closing(s, rates, wires, plan, held, ready, out)
    out[END] += run.skipped
    return out
