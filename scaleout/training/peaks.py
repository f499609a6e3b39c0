"""Peak HBM of every stage by the recurrence: the ledger of its Programs, pass by pass."""

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.hardware.rates import Rates
from scaleout.parallel.activations import Kept
from scaleout.parallel.layer import KINDS
from scaleout.parallel.shard import Shard, chunk_parameters
from scaleout.training.recurrence import Plan, orders, warm_up
from scaleout.training.stages import STATE_BYTES, layers_of

__all__ = ["peaks"]

WEIGHTS, GRADIENTS, OPTIMIZER, ACTIVATIONS, TEMPORARY, RESERVED = range(len(KINDS))


@compilable
def _see(row, held, borrowed):  # type: ignore[no-untyped-def]
    """Keep what is held where the sum is the largest so far, the first of equals."""
    fixed = row[WEIGHTS] + row[GRADIENTS] + row[OPTIMIZER]
    if fixed + held + borrowed + row[RESERVED] > fixed + row[ACTIVATIONS] + row[TEMPORARY] + row[RESERVED]:
        row[ACTIVATIONS] = held
        row[TEMPORARY] = borrowed


@compilable
def peaks(s: Shard, kept: Kept, plan: Plan, rates: Rates) -> Floats:
    """Peak HBM by kind of every stage [byte], shape (pp, kinds); that of `stage_peaks`.

    Within a pass it is largest at the last layer of a forward, at the loss, or at the first layer
    of a backward. Once every chunk has gone forth and back in turn, no later pass holds more.
    """
    pp, vpp, total = plan.pp, plan.vpp, plan.micro_batches * plan.vpp
    chunks = pp * vpp
    layers = layers_of(plan.layers, chunks, plan.balanced)
    order = orders(plan)
    parts = plan.dp if plan.sharded > 0.0 else 1
    beside = kept.whole if s.sequence_parallel > 0.0 else 0.0
    out = np.zeros((pp, len(KINDS)))
    for p in range(pp):
        row = out[p]
        count = linear = 0.0
        for c in range(vpp):
            at = c * pp + p
            linear += layers[at] * s.layer
            count += chunk_parameters(s, layers[at], at == 0, at == chunks - 1, pp == 1)
        row[WEIGHTS] = count * s.width + linear * rates.weight_copies
        row[GRADIENTS] = count * s.gradient_width
        row[OPTIMIZER] = count * STATE_BYTES / parts
        row[RESERVED] = plan.reserved
        warm = warm_up(p, plan)
        held = 0.0
        forth = back = 0
        while back < min(total, chunks + 1):
            backward = forth == total or forth - back > warm
            c = vpp - 1 - order[0, back] if backward else order[0, forth]
            at = c * pp + p
            if backward:
                back += 1
                if at == chunks - 1:
                    held -= kept.loss
                if layers[at] > 0.0:
                    _see(row, held, kept.again + kept.whole)
                    held -= layers[at] * kept.layer
                if at == 0:
                    held -= kept.embedded
                continue
            forth += 1
            if at == 0:
                held += kept.embedded
                _see(row, held, 0.0)
            if layers[at] > 0.0:
                held += layers[at] * kept.layer
                _see(row, held, beside)
            if at == chunks - 1:
                held += kept.loss
                _see(row, held, 0.0)
    return out
