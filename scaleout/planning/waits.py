"""How long a layer's kernels wait for messages, on links that nobody else uses: of layers with experts or latents.

What is written in `scaleout.parallel.layer`, as sums: a message that stands between two kernels is waited for, and
of one beside a kernel what is longer than that.
"""

from typing import NamedTuple

from scaleout.arrays import Floats
from scaleout.parallel import rows
from scaleout.parallel.exchange import NCCL, exchange_message
from scaleout.parallel.shard import Options, Shard
from scaleout.specs import TrainingExperiment

__all__ = ["Sent", "exchanged", "waits"]


class Sent(NamedTuple):
    """Messages of a layer [s]: gather and reduction over tensor-parallel ranks, of an activation and of what attention
    begins with; tokens to their experts, and back."""

    gather: float
    reduce: float
    entry_gather: float
    entry_reduce: float
    out: float = 0.0
    back: float = 0.0


def waits(spec: TrainingExperiment, s: Shard, o: Options, costs: Floats, sent: Sent) -> float:
    """Of one layer, forward and backward [s].

    Parameters
    ----------
    spec
        For its stack.
    costs
        Rows of `layer_costs`.
    """
    stack = spec.stack
    busy = costs[:, : rows.KERNELS].sum(axis=1)
    hidden = stack.overlap_tensor_parallel

    def half(data: int, weight: int, gather: float, reduce: float) -> float:
        """Beside the gradients of a product."""
        if not hidden:
            return gather + reduce
        return float(max(busy[data], gather) - busy[data] + max(busy[weight], reduce) - busy[weight])

    def shared(gather: float, beside: float) -> float:
        """Until an expert's tokens are there."""
        if not s.shared_ffn:
            return sent.out
        return max(gather, sent.out - beside) if stack.overlap_experts else sent.out + gather

    if s.experts:
        feed = again = shared(sent.gather, float(busy[rows.F_SHARED])) + sent.back
        beside = float(busy[rows.B_SHARED_DATA] + busy[rows.B_SHARED_WEIGHT])
        weights = float(busy[rows.B_EXPERTS_WEIGHT]) if stack.overlap_experts else 0.0
        feed_back = shared(sent.gather, beside) + max(0.0, sent.back - weights)
    else:
        feed, again = sent.gather + sent.reduce, sent.gather
        feed_back = sent.gather + half(rows.B_MLP_DATA, rows.B_MLP_WEIGHT, sent.gather, sent.reduce)
    forward = sent.entry_gather + sent.reduce + feed
    back = feed_back + sent.gather + half(rows.B_QKV_DATA, rows.B_QKV_WEIGHT, sent.entry_gather, sent.entry_reduce)
    if o.full:
        return 2.0 * forward + back
    if o.moe if s.experts else o.mlp:
        back += again
    if o.attention:
        back += sent.entry_gather
    return forward + back


def exchanged(spec: TrainingExperiment, s: Shard, ep: int) -> float:
    """What each rank says it sends to the ranks of its experts [byte]; 0 where kernels of their own send it."""
    if ep == 1 or spec.stack.experts_exchange != NCCL:
        return 0.0
    return exchange_message(spec, s, "dispatch", ep).nbytes
