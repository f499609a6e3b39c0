"""Expert parallelism between ranks: tokens go to the ranks that hold their experts, and sums of results back.

Written around the experts' kernels, forward and backward alike: backward, gradients of what came
out take the way of the tokens, and gradients of the tokens the way back. ``docs/experts.md``.
"""

from collections.abc import Sequence
from dataclasses import replace

from scaleout.collectives.moe import ByKernel, Exchange, spread
from scaleout.engine.program import STREAMS, Message
from scaleout.errors import SpecError, near
from scaleout.parallel.block import Block
from scaleout.parallel.shard import Shard
from scaleout.specs import MoeKernel, TrainingExperiment

__all__ = ["NCCL", "ExpertExchange", "exchange_message"]

NCCL = "nccl"
"""Exchanges by the all-to-all of the system's library."""
_EP = STREAMS.index("ep")
_WIDE = ("bf16", "fp16")


class ExpertExchange:
    """Writes the exchanges of a layer of experts into blocks.

    Parameters
    ----------
    experiment
        Whose `stack.experts_exchange` names the kernels.
    shard
        Shapes of the rank: it sends its `local_tokens`.

    Raises
    ------
    SpecError
        The system has no such kernels.
    """

    def __init__(self, experiment: TrainingExperiment, shard: Shard) -> None:
        layout = experiment.layout
        self.out: tuple[Message, ...] = ()
        self.back: tuple[Message, ...] = ()
        if layout.ep > 1:
            self.out = (exchange_message(experiment, shard, "dispatch", layout.ep),)
            self.back = (exchange_message(experiment, shard, "combine", layout.ep),)
        if layout.etp > 1 and experiment.model.experts is not None:
            # what a rank got, as many tokens as it sent for balanced routing, each of the etp group needs
            whole = layout.etp * experiment.model.experts.top_k * shard.local_tokens * shard.hidden * shard.width
            self.out += (Message("etp", "all_gather", whole),)
            self.back = (Message("etp", "reduce_scatter", whole), *self.back)

    def dispatch(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Tokens, or gradients of results, to the experts; what the next operation waits for."""
        return _chain(block, self.out, after)

    def combine(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Results, or gradients of tokens, back to where the tokens came from."""
        return _chain(block, self.back, after)


def _chain(block: Block, messages: tuple[Message, ...], after: Sequence[int]) -> tuple[int, ...]:
    for message in messages:
        after = (block.collective(message, after, _EP),)
    return tuple(after)


def exchange_message(experiment: TrainingExperiment, shard: Shard, operation: str, ranks: int) -> Message:
    """What a rank sends in an exchange with so many ranks, by whatever carries it."""
    experts, routing, library = experiment.model.experts, experiment.routing, experiment.stack.experts_exchange
    if experts is None:
        raise SpecError(f"layout.ep: {ranks} ranks for experts, and {experiment.model.name} has none")
    exchange = Exchange(
        tokens=shard.local_tokens,
        hidden=int(shard.hidden),
        topk=experts.top_k,
        experts=experts.count,
        ranks=ranks,
        skew=routing.skew,
        groups=experts.groups or 1,
        group_limit=experts.group_limit or 1,
    )
    if library == NCCL:
        # every pair as the busiest one, a rank with itself too
        copies = spread(exchange, ranks, "expert").near * ranks / (ranks - 1)
        return Message("ep", "all_to_all", shard.local_tokens * copies * shard.hidden * shard.width)
    known = experiment.system.moe_kernels
    if library not in known:
        raise SpecError(
            f"stack.experts_exchange: system {experiment.system.name!r} has no kernels {library!r}; "
            f"{near(library, (NCCL, *known))}"
        )
    kernel: MoeKernel = getattr(known[library], operation)
    if experiment.precision in _WIDE:
        # kernels that can send less than 16 bits do so where the layers compute in less
        kernel = replace(kernel, element=None)
    by = ByKernel(f"{library}/{operation}", kernel, exchange, shard.width)
    return Message("ep", operation, by.nbytes, by)
