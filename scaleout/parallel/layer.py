"""A transformer layer on one rank: kernels between communication points, and what stays in HBM.

With sequence parallelism a layer gathers its input before each half and reduce-scatters the
output after it; without, it all-reduces the output. Backward, the gather of the input runs beside
the gradient of the data, and its reduction beside the gradient of the weights, where the stack
overlaps. ``docs/training.md`` lists every operation with its bytes.
"""

from collections.abc import Sequence
from typing import Literal

from scaleout.arrays import Floats
from scaleout.engine.program import Label, Message
from scaleout.parallel import costs
from scaleout.parallel.activations import Kept
from scaleout.parallel.block import Block
from scaleout.parallel.context import Context
from scaleout.parallel.shard import Options, Shard
from scaleout.specs import Stack

__all__ = ["KINDS", "Layers", "Part"]

Part = Literal["both", "input", "weight"]
"""Of a backward pass: gradients of the input, which the layer before waits for, and of the weights."""

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary", "reserved")
"""Kinds of memory."""
ACTIVATIONS, TEMPORARY = KINDS.index("activations"), KINDS.index("temporary")


class Layers:
    """Writes layers, embedding and loss of one rank into blocks.

    Parameters
    ----------
    times
        Rows of `layer_costs`.
    shard
        Shapes of the rank.
    options
        What is computed again.
    kept
        HBM of a micro-batch.
    stack
        What is overlapped.
    context
        Attention over the ranks that a sequence is cut over.
    """

    def __init__(
        self, times: Floats, shard: Shard, options: Options, kept: Kept, stack: Stack, context: Context
    ) -> None:
        self.shard, self.kept, self.context = shard, kept, context
        self.overlap, self.split_sends = stack.overlap_tensor_parallel, stack.split_sends
        self.full, self.mlp, self.attention = options.full > 0, options.mlp > 0, options.attention > 0
        self.labels = [
            Label(
                title, "compute", tuple((part, value) for part, value in zip(costs.PARTS, row, strict=False) if value)
            )
            for title, row in zip(costs.LABELS, times.tolist(), strict=True)
        ]

    # --- communication -----------------------------------------------------------------------

    def _gather(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Every rank gets the whole sequence; what the next operation waits for."""
        if not self.shard.sequence_parallel:
            return tuple(after)
        return (block.collective(Message("tp", "all_gather", self.shard.activation), after),)

    def _reduce(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Partial results are added up over the tp group."""
        if self.shard.tp == 1:
            return tuple(after)
        operation = "reduce_scatter" if self.shard.sequence_parallel else "all_reduce"
        return (block.collective(Message("tp", operation, self.shard.activation), after),)

    # --- blocks ------------------------------------------------------------------------------

    def forward(self, block: Block, after: Sequence[int], *, keep: bool = True) -> int:
        """One layer forward; returns its last operation."""
        s = self.shard
        norm = block.compute(self.labels[costs.F_NORM], after)
        attention = block.compute(self.labels[costs.F_ATTENTION], self._gather(block, (norm,)))
        if s.cp > 1:
            if s.sequence_parallel:
                self._borrow(block, attention)
            core = self.context.forward(block, (attention,))
            attention = block.compute(self.labels[costs.F_ATTENTION_OUT], core)
        middle = block.compute(self.labels[costs.F_ADD_NORM], self._reduce(block, (attention,)))
        mlp = block.compute(self.labels[costs.F_MLP], self._gather(block, (middle,)))
        last = block.compute(self.labels[costs.F_ADD], self._reduce(block, (mlp,)))
        for op in (attention, mlp) if s.sequence_parallel else ():
            self._borrow(block, op)
        if keep:
            block.hold(norm, ACTIVATIONS, self.kept.layer)
        return last

    def backward(self, block: Block, after: Sequence[int], part: Part = "both") -> int:
        """One layer backward, recomputation first; returns its last operation.

        The part "weight" needs no messages but gathers of its own inputs.
        """
        if part == "weight":
            return self._weights(block, after)
        both = part == "both"
        start = block.last + 1
        if self.full:
            after = (self.forward(block, after, keep=False),)
        elif self.mlp:
            again = block.compute(self.labels[costs.F_NORM], after)
            after = (block.compute(self.labels[costs.F_INTO_MLP], self._gather(block, (again,))),)
        mlp_out = self.labels[costs.B_MLP_OUT if both else costs.B_MLP_OUT_DATA]
        first = block.compute(mlp_out, self._gather(block, after))
        middle = self._half(block, first, costs.B_MLP_DATA, costs.B_MLP_WEIGHT if both else None)
        after = (middle,)
        if self.attention and not self.full:
            again = block.compute(self.labels[costs.F_NORM], after)
            again = block.compute(self.labels[costs.F_QKV_CORE], self._gather(block, (again,)))
            after = self.context.forward(block, (again,))
        attention = self.labels[costs.B_ATTENTION if both else costs.B_ATTENTION_DATA]
        second = block.compute(attention, self._gather(block, after))
        (core,) = self.context.backward(block, (second,), again=self.shard.core_again > 0)
        last = self._half(block, core, costs.B_QKV_DATA, costs.B_QKV_WEIGHT if both else None)
        for op in (first, second):
            self._borrow(block, op)
        recomputing = start if self.full or self.mlp else first
        block.hold(recomputing, TEMPORARY, self.kept.again)
        block.hold(last, TEMPORARY, -self.kept.again, at_end=True)
        block.hold(last, ACTIVATIONS, -self.kept.layer, at_end=True)
        if not both:
            block.hold(last, ACTIVATIONS, self.kept.waiting, at_end=True)
        return last

    def _half(self, block: Block, out: int, data: int, weight: int | None) -> int:
        """Gradients of the input matrix of a half: data, weights (unless they wait), norm."""
        blocking = not self.overlap and weight is not None
        whole = self._gather(block, (out,)) if weight is not None else (out,)
        grad = block.compute(self.labels[data], whole if blocking or weight is None else ())
        reduced = self._reduce(block, (grad,))
        if weight is not None:
            weights = block.compute(self.labels[weight], (*whole, *(reduced if blocking else ())))
            self._borrow(block, weights)
        return block.compute(self.labels[costs.B_NORM], reduced)

    def _weights(self, block: Block, after: Sequence[int]) -> int:
        """Gradients of a layer's weights; norms' outputs are gathered beside the products before."""
        for out, weight in (
            (costs.B_MLP_OUT_WEIGHT, costs.B_MLP_WEIGHT),
            (costs.B_ATTENTION_WEIGHT, costs.B_QKV_WEIGHT),
        ):
            whole = self._gather(block, after)
            first = block.compute(self.labels[out], after)
            last = block.compute(self.labels[weight], (first, *whole))
            self._borrow(block, last)
            after = (last,)
        block.hold(last, ACTIVATIONS, -self.kept.waiting, at_end=True)
        return last

    def embed(self, block: Block, after: Sequence[int]) -> int:
        """Embedding forward; a norm after it keeps its input."""
        lookup = block.compute(self.labels[costs.F_EMBEDDING], after)
        embedded = block.compute(self.labels[costs.F_EMBEDDED], self._reduce(block, (lookup,)))
        block.hold(embedded, ACTIVATIONS, self.kept.embedded)
        return embedded

    def embed_backward(self, block: Block, after: Sequence[int]) -> int:
        """Embedding backward: no matrix product, so nothing of it waits in passes that put weights off."""
        last = block.compute(self.labels[costs.B_EMBEDDING], self._gather(block, after))
        block.hold(last, ACTIVATIONS, -self.kept.embedded, at_end=True)
        return last

    def loss(self, block: Block, after: Sequence[int]) -> int:
        """Final norm, logits and cross-entropy over the tp group's parts of the vocabulary."""
        s = self.shard
        norm = block.compute(self.labels[costs.F_NORM], after)
        logits = block.compute(self.labels[costs.F_LOGITS], self._gather(block, (norm,)))
        block.hold(logits, ACTIVATIONS, self.kept.loss)
        done: Sequence[int] = (logits,)
        if s.tp > 1:
            for _ in ("maximum", "predicted", "sum"):
                done = (block.collective(Message("tp", "all_reduce", s.tokens * 4.0), done),)
        return block.compute(self.labels[costs.F_LOSS], done)

    def loss_backward(self, block: Block, after: Sequence[int], part: Part = "both") -> int:
        """Backward of `loss`."""
        if part == "weight":
            weight = block.compute(self.labels[costs.B_HEAD_WEIGHT], self._gather(block, after))
            block.hold(weight, ACTIVATIONS, -self.kept.loss_waiting, at_end=True)
            return weight
        grad = block.compute(self.labels[costs.B_LOGITS], after)
        if part == "input":
            last = block.compute(self.labels[costs.B_FINAL_NORM], self._reduce(block, (grad,)))
            block.hold(last, ACTIVATIONS, self.kept.loss_waiting - self.kept.loss, at_end=True)
            return last
        whole = self._gather(block, (grad,))
        reduced = self._reduce(block, (grad,))
        weight = block.compute(self.labels[costs.B_HEAD_WEIGHT], (*whole, *(() if self.overlap else reduced)))
        block.hold(weight, ACTIVATIONS, -self.kept.loss, at_end=True)
        return block.compute(self.labels[costs.B_FINAL_NORM], reduced)

    def enter(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """A part of an activation from another stage is gathered, unless the layers work on parts."""
        s = self.shard
        if s.tp == 1 or s.sequence_parallel or not self.split_sends:
            return tuple(after)
        return (block.collective(Message("tp", "all_gather", s.activation), after),)

    def _borrow(self, block: Block, op: int) -> None:
        """A whole activation, held only while an operation runs."""
        block.hold(op, TEMPORARY, self.kept.whole)
        block.hold(op, TEMPORARY, -self.kept.whole, at_end=True)
