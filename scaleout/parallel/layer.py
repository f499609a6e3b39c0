"""A transformer layer on one rank: kernels between communication points, and what stays in HBM.

With sequence parallelism a layer gathers its input before each half and reduce-scatters the
output after it; without, it all-reduces the output. Backward, the gather of the input runs beside
the gradient of the data, and its reduction beside the gradient of the weights, where the stack
overlaps. ``docs/training.md`` lists every operation with its bytes.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

from scaleout.arrays import Floats
from scaleout.engine.program import Label, Message
from scaleout.parallel import rows
from scaleout.parallel.activations import Kept
from scaleout.parallel.block import Block
from scaleout.parallel.context import Context
from scaleout.parallel.shard import Options, Shard
from scaleout.specs import Stack

__all__ = ["KINDS", "Exchange", "Layers", "Part"]

Part = Literal["both", "input", "weight"]
"""Of a backward pass: gradients of the input, which the layer before waits for, and of the weights."""

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary", "reserved")
"""Kinds of memory."""
ACTIVATIONS, TEMPORARY = KINDS.index("activations"), KINDS.index("temporary")


class Exchange(Protocol):
    """Writes what carries tokens to the ranks of their experts and results back."""

    def dispatch(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Tokens, or gradients of results, to the experts; what the next operation waits for."""

    def combine(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """Results, or gradients of tokens, back to where the tokens came from."""


class Layers:
    """Writes layers of one kind, embedding and loss of one rank into blocks.

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
    exchange
        Between experts on several ranks; None without.
    context
        Attention over the ranks that share a sequence; None where each rank has whole ones.
    """

    def __init__(
        self,
        times: Floats,
        shard: Shard,
        options: Options,
        kept: Kept,
        stack: Stack,
        exchange: Exchange | None = None,
        context: Context | None = None,
    ) -> None:
        self.shard, self.kept, self.exchange, self.context = shard, kept, exchange, context
        self.overlap, self.split_sends = stack.overlap_tensor_parallel, stack.split_sends
        self.overlap_experts = stack.overlap_experts
        self.full, self.attention = options.full > 0, options.attention > 0
        self.feed = (options.moe if shard.experts else options.mlp) > 0
        self.labels = [
            Label(title, "compute", tuple((part, value) for part, value in zip(rows.PARTS, row, strict=False) if value))
            for title, row in zip(rows.LABELS, times.tolist(), strict=True)
        ]
        latents = shard.tokens * shard.latents * shard.width
        self.entry = latents if shard.latents else shard.activation
        self.both = shard.activation + shard.batch * shard.encoder_sequence * shard.hidden * shard.width

    # --- communication -----------------------------------------------------------------------

    def _gather(self, block: Block, after: Sequence[int], nbytes: float | None = None) -> tuple[int, ...]:
        """Every rank gets the whole sequence; what the next operation waits for."""
        if not self.shard.sequence_parallel:
            return tuple(after)
        return (block.collective(Message("tp", "all_gather", nbytes or self.shard.activation), after),)

    def _reduce(self, block: Block, after: Sequence[int], nbytes: float | None = None) -> tuple[int, ...]:
        """Partial results are added up over the tp group."""
        if self.shard.tp == 1:
            return tuple(after)
        operation = "reduce_scatter" if self.shard.sequence_parallel else "all_reduce"
        return (block.collective(Message("tp", operation, nbytes or self.shard.activation), after),)

    def _dispatch(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        return tuple(after) if self.exchange is None else self.exchange.dispatch(block, after)

    def _combine(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        return tuple(after) if self.exchange is None else self.exchange.combine(block, after)

    # --- forward -----------------------------------------------------------------------------

    def forward(self, block: Block, after: Sequence[int]) -> int:
        """One layer forward; returns its last operation. A prediction has its loss behind it."""
        start = block.last + 1
        if self.shard.predicts:
            both = self._gather(block, after, 2.0 * self.shard.activation)
            after = (block.compute(self.labels[rows.F_PREDICT], both),)
            if self.shard.tp > 1:
                after = (block.collective(Message("tp", "all_gather", self.shard.activation), after),)
        last = self._forward(block, after)
        block.hold(block.kernel(start), ACTIVATIONS, self.kept.layer)
        return self.loss(block, (last,)) if self.shard.predicts else last

    def _forward(self, block: Block, after: Sequence[int]) -> int:
        """From its first norm to its last sum."""
        s = self.shard
        norm = block.compute(self.labels[rows.F_COMPRESS if s.latents else rows.F_NORM], after)
        attention = block.compute(self.labels[rows.F_ATTENTION], self._gather(block, (norm,), self.entry))
        whole = [attention]
        if self.context is not None:
            core = self.context.forward(block, (attention,))
            attention = block.compute(self.labels[rows.F_ATTENTION_OUT], core)
            whole.append(attention)
        middle = block.compute(self.labels[rows.F_ADD_NORM], self._reduce(block, (attention,)))
        if s.crossed:
            cross = block.compute(self.labels[rows.F_CROSS], self._gather(block, (middle,), self.both))
            middle = block.compute(self.labels[rows.F_ADD_NORM], self._reduce(block, (cross,)))
            whole.append(cross)
        if s.experts:
            last = self._experts(block, middle)
        else:
            mlp = block.compute(self.labels[rows.F_MLP], self._gather(block, (middle,)))
            last = block.compute(self.labels[rows.F_ADD], self._reduce(block, (mlp,)))
            whole.append(mlp)
        for op in whole if s.sequence_parallel else ():
            self._borrow(block, op)
        return last

    def _experts(self, block: Block, norm: int) -> int:
        """Experts, from the norm before them to the sum of what they give."""
        route = block.compute(self.labels[rows.F_ROUTE], (norm,))
        arrived = self._dispatch(block, (route,))
        shared: tuple[int, ...] = ()
        if self.shard.shared_ffn:
            whole = self._gather(block, (route,) if self.overlap_experts else arrived)
            shared = self._reduce(block, (block.compute(self.labels[rows.F_SHARED], whole),))
        experts = block.compute(self.labels[rows.F_EXPERTS], arrived)
        return block.compute(self.labels[rows.F_COMBINE], (*self._combine(block, (experts,)), *shared))

    # --- backward ----------------------------------------------------------------------------

    def backward(self, block: Block, after: Sequence[int], part: Part = "both") -> int:
        """One layer backward, recomputation first; returns its last operation.

        The part "weight" needs no messages but gathers of its own inputs.
        """
        if part == "weight":
            return self._weights(block, after)
        s, both = self.shard, part == "both"
        if s.predicts:
            after = (self.loss_backward(block, after, part),)
        start = block.last + 1
        if self.full:
            after = (self._forward(block, after),)
        elif self.feed:
            again = block.compute(self.labels[rows.F_NORM], after)
            if s.experts:
                after = (self._experts(block, again),)
            else:
                after = (block.compute(self.labels[rows.F_INTO_MLP], self._gather(block, (again,))),)
        recomputing = start if self.full or self.feed else -1
        if s.experts:
            first, middle = self._experts_backward(block, after, both)
        else:
            mlp_out = self.labels[rows.B_MLP_OUT if both else rows.B_MLP_OUT_DATA]
            first = block.compute(mlp_out, self._gather(block, after))
            self._borrow(block, first)
            middle = self._half(block, first, rows.B_MLP_DATA, rows.B_MLP_WEIGHT if both else None)
        if s.crossed:
            middle = self._cross_backward(block, middle, both)
        after = (middle,)
        if self.attention and not self.full:
            again = block.compute(self.labels[rows.F_COMPRESS if s.latents else rows.F_NORM], after)
            after = (block.compute(self.labels[rows.F_QKV_CORE], self._gather(block, (again,), self.entry)),)
            if self.context is not None:
                after = self.context.forward(block, after)
        attention = self.labels[rows.B_ATTENTION if both else rows.B_ATTENTION_DATA]
        second = block.compute(attention, self._gather(block, after))
        self._borrow(block, second)
        if self.context is not None:
            (second,) = self.context.backward(block, (second,), again=s.core_again > 0)
        end = rows.B_COMPRESS if s.latents else rows.B_NORM
        last = self._half(block, second, rows.B_QKV_DATA, rows.B_QKV_WEIGHT if both else None, end, self.entry)
        if s.latents and both:
            last = block.compute(self.labels[rows.B_COMPRESS_WEIGHT], (last,))
        if s.predicts:
            last = self._prediction_backward(block, last, both)
        block.hold(recomputing if recomputing >= 0 else first, TEMPORARY, self.kept.again)
        block.hold(last, TEMPORARY, -self.kept.again, at_end=True)
        block.hold(last, ACTIVATIONS, -self.kept.layer, at_end=True)
        if not both:
            block.hold(last, ACTIVATIONS, self.kept.waiting, at_end=True)
        return last

    def _half(
        self,
        block: Block,
        out: int,
        data: int,
        weight: int | None,
        end: int = rows.B_NORM,
        nbytes: float | None = None,
    ) -> int:
        """Gradients of the input matrix of a half: data, weights (unless they wait), norm."""
        blocking = not self.overlap and weight is not None
        whole = self._gather(block, (out,), nbytes) if weight is not None else (out,)
        grad = block.compute(self.labels[data], whole if blocking or weight is None else ())
        reduced = self._reduce(block, (grad,), nbytes)
        if weight is not None:
            weights = block.compute(self.labels[weight], (*whole, *(reduced if blocking else ())))
            self._borrow(block, weights)
        return block.compute(self.labels[end], reduced)

    def _cross_backward(self, block: Block, after: int, both: bool) -> int:
        """Attention to the encoder's output; gradients of that are summed over the tp group with those of the input."""
        out = block.compute(self.labels[rows.B_CROSS_DATA], self._gather(block, (after,)))
        if both:
            out = block.compute(self.labels[rows.B_CROSS_WEIGHT], (out,))
        weight = rows.B_CROSS_IN_WEIGHT if both else None
        return self._half(block, out, rows.B_CROSS_IN_DATA, weight, rows.B_NORM, self.both)

    def _experts_backward(self, block: Block, after: Sequence[int], both: bool) -> tuple[int, int]:
        """Experts from the sum of what they gave to the norm before them: first and last operation."""
        first = block.compute(self.labels[rows.B_COMBINE], after)
        arrived = self._dispatch(block, (first,))
        shared: tuple[int, ...] = ()
        if self.shard.shared_ffn:
            whole = self._gather(block, (first,) if self.overlap_experts else arrived)
            grad = block.compute(self.labels[rows.B_SHARED_DATA], whole)
            shared = self._reduce(block, (grad,))
            if both:
                block.compute(self.labels[rows.B_SHARED_WEIGHT], self._gather(block, (grad,)))
        data = block.compute(self.labels[rows.B_EXPERTS_DATA], arrived)
        weight = self.labels[rows.B_EXPERTS_WEIGHT]
        if both and not self.overlap_experts:
            data = block.compute(weight, (data,))
        back = self._combine(block, (data,))
        if both and self.overlap_experts:
            block.compute(weight, (data,))
        return first, block.compute(self.labels[rows.B_ROUTE], (*back, *shared))

    def _prediction_backward(self, block: Block, after: int, both: bool) -> int:
        """What led into a prediction."""
        nbytes = 2.0 * self.shard.activation
        grad = block.compute(self.labels[rows.B_PREDICT_DATA], self._gather(block, (after,)))
        reduced = self._reduce(block, (grad,), nbytes)
        if both:
            reduced = (block.compute(self.labels[rows.B_PREDICT_WEIGHT], self._gather(block, reduced, nbytes)),)
        # the next layer's kernels follow on the same stream; it waits for the messages by this operation
        return block.compute(self.labels[rows.F_ADD], reduced)

    def _weights(self, block: Block, after: Sequence[int]) -> int:
        """Gradients of a layer's weights; norms' outputs are gathered beside the products before."""
        s = self.shard
        if s.predicts:
            after = (self.loss_backward(block, after, "weight"),)
        if s.experts:
            if s.shared_ffn:
                after = (block.compute(self.labels[rows.B_SHARED_WEIGHT], self._gather(block, after)),)
            after = (block.compute(self.labels[rows.B_EXPERTS_WEIGHT], after),)
        halves = [] if s.experts else [(rows.B_MLP_OUT_WEIGHT, rows.B_MLP_WEIGHT, s.activation)]
        if s.crossed:
            halves.append((rows.B_CROSS_WEIGHT, rows.B_CROSS_IN_WEIGHT, self.both))
        halves.append((rows.B_ATTENTION_WEIGHT, rows.B_QKV_WEIGHT, self.entry))
        for out, weight, nbytes in halves:
            whole = self._gather(block, after, nbytes)
            first = block.compute(self.labels[out], after)
            last = block.compute(self.labels[weight], (first, *whole))
            self._borrow(block, last)
            after = (last,)
        if s.latents:
            last = block.compute(self.labels[rows.B_COMPRESS_WEIGHT], after)
        if s.predicts:
            last = block.compute(self.labels[rows.B_PREDICT_WEIGHT], self._gather(block, (last,), 2.0 * s.activation))
        block.hold(last, ACTIVATIONS, -self.kept.waiting, at_end=True)
        return last

    # --- ends --------------------------------------------------------------------------------

    def embed(self, block: Block, after: Sequence[int]) -> int:
        """Embedding forward; a norm after it keeps its input."""
        lookup = block.compute(self.labels[rows.F_EMBEDDING], after)
        embedded = block.compute(self.labels[rows.F_EMBEDDED], self._reduce(block, (lookup,)))
        block.hold(embedded, ACTIVATIONS, self.kept.embedded)
        return embedded

    def embed_backward(self, block: Block, after: Sequence[int]) -> int:
        """Embedding backward: no matrix product, so nothing of it waits in passes that put weights off."""
        last = block.compute(self.labels[rows.B_EMBEDDING], self._gather(block, after))
        block.hold(last, ACTIVATIONS, -self.kept.embedded, at_end=True)
        return last

    def loss(self, block: Block, after: Sequence[int]) -> int:
        """Final norm, logits and cross-entropy over the tp group's parts of the vocabulary."""
        s = self.shard
        norm = block.compute(self.labels[rows.F_NORM], after)
        logits = block.compute(self.labels[rows.F_LOGITS], self._gather(block, (norm,)))
        block.hold(logits, ACTIVATIONS, self.kept.loss)
        done: Sequence[int] = (logits,)
        if s.tp > 1:
            for _ in ("maximum", "predicted", "sum"):
                done = (block.collective(Message("tp", "all_reduce", s.tokens * 4.0), done),)
        return block.compute(self.labels[rows.F_LOSS], done)

    def loss_backward(self, block: Block, after: Sequence[int], part: Part = "both") -> int:
        """Backward of `loss`."""
        if part == "weight":
            weight = block.compute(self.labels[rows.B_HEAD_WEIGHT], self._gather(block, after))
            block.hold(weight, ACTIVATIONS, -self.kept.loss_waiting, at_end=True)
            return weight
        grad = block.compute(self.labels[rows.B_LOGITS], after)
        if part == "input":
            last = block.compute(self.labels[rows.B_FINAL_NORM], self._reduce(block, (grad,)))
            block.hold(last, ACTIVATIONS, self.kept.loss_waiting - self.kept.loss, at_end=True)
            return last
        whole = self._gather(block, (grad,))
        reduced = self._reduce(block, (grad,))
        weight = block.compute(self.labels[rows.B_HEAD_WEIGHT], (*whole, *(() if self.overlap else reduced)))
        block.hold(weight, ACTIVATIONS, -self.kept.loss, at_end=True)
        return block.compute(self.labels[rows.B_FINAL_NORM], reduced)

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
