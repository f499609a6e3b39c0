"""A transformer layer on one rank: kernels between communication points, and what stays in HBM.

With sequence parallelism a layer gathers its input before each half and reduce-scatters the
output after it; without, it all-reduces the output. Backward, the gather of the input runs beside
the gradient of the data, and its reduction beside the gradient of the weights, where the stack
overlaps. ``docs/training.md`` lists every operation with its bytes.
"""

from collections.abc import Iterable, Sequence

from scaleout.arrays import Floats
from scaleout.engine.program import Label, Message
from scaleout.hardware.rates import UNFUSED
from scaleout.parallel import costs
from scaleout.parallel.block import Block
from scaleout.parallel.shard import Shard
from scaleout.specs import Stack

__all__ = ["KINDS", "Layers"]

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
    recompute
        Modules whose activations are computed again.
    stack
        Whether attention keeps scores and masks, and what is overlapped.
    """

    def __init__(self, times: Floats, shard: Shard, recompute: Iterable[str], stack: Stack) -> None:
        self.shard, self.overlap = shard, stack.overlap_tensor_parallel
        self.unfused, self.dropout, self.split_sends = stack.attention == UNFUSED, stack.dropout, stack.split_sends
        modules = set(recompute)
        self.full = "full" in modules
        self.mlp, self.attention = "mlp" in modules, "attention" in modules
        self.core = "core_attention" in modules
        self.norm, self.product = "norm" in modules, "mlp_product" in modules
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

    @property
    def activations(self) -> dict[str, float]:
        """What backward reads of a layer's forward, by name [byte]."""
        s = self.shard
        return {
            "input": s.local_activation,
            "norm 1": s.local_activation,
            "qkv": s.tokens * (s.query + 2 * s.key) * s.width,
            **self._scores(),
            "attention out": s.tokens * s.query * s.width,
            "middle": s.local_activation,
            "norm 2": s.local_activation,
            "mlp in": s.tokens * s.gates * s.ffn * s.width,
            "mlp product": s.tokens * s.ffn * s.width,
            **({"masks": 2 * s.local_tokens * s.hidden} if self.dropout else {}),
        }

    def _scores(self) -> dict[str, float]:
        """What core attention keeps: statistics of the softmax, or whole matrices."""
        s = self.shard
        if not self.unfused:
            return {"softmax": s.tokens * s.heads * 4.0}
        scores = s.tokens * s.sequence * s.heads
        kept = {"softmax": scores * s.width}
        if self.dropout:
            kept |= {"dropped scores": scores * s.width, "score masks": scores}
        return kept

    @property
    def dropped(self) -> set[str]:
        """Names of the activations that are computed again."""
        modules = {
            "norm": {"norm 1", "norm 2"},
            "product": {"mlp product"},
            "core": set(self._scores()),
            "attention": {"norm 1", "qkv", *self._scores()},
            "mlp": {"norm 2", "mlp in", "mlp product"},
            "full": set(self.activations) - {"input"},
        }
        return set().union(*(names for module, names in modules.items() if getattr(self, module)))

    @property
    def kept_bytes(self) -> float:
        """Activations of a layer that stay from forward to backward [byte]."""
        return sum(size for name, size in self.activations.items() if name not in self.dropped)

    @property
    def dropped_bytes(self) -> float:
        """Activations of a layer that are there again while its backward runs [byte]."""
        return sum(self.activations[name] for name in sorted(self.dropped))

    def forward(self, block: Block, after: Sequence[int], *, keep: bool = True) -> int:
        """One layer forward; returns its last operation."""
        s = self.shard
        norm = block.compute(self.labels[costs.F_NORM], after)
        attention = block.compute(self.labels[costs.F_ATTENTION], self._gather(block, (norm,)))
        middle = block.compute(self.labels[costs.F_ADD_NORM], self._reduce(block, (attention,)))
        mlp = block.compute(self.labels[costs.F_MLP], self._gather(block, (middle,)))
        last = block.compute(self.labels[costs.F_ADD], self._reduce(block, (mlp,)))
        for op in (attention, mlp) if s.sequence_parallel else ():
            self._borrow(block, op, s.activation)
        if keep:
            block.hold(norm, ACTIVATIONS, self.kept_bytes)
        return last

    def backward(self, block: Block, after: Sequence[int]) -> int:
        """One layer backward, recomputation first; returns its last operation."""
        s, start = self.shard, block.last + 1
        if self.full:
            after = (self.forward(block, after, keep=False),)
        elif self.mlp:
            again = block.compute(self.labels[costs.F_NORM], after)
            after = (block.compute(self.labels[costs.F_INTO_MLP], self._gather(block, (again,))),)
        first = block.compute(self.labels[costs.B_MLP_OUT], self._gather(block, after))
        middle = self._half(block, first, self.labels[costs.B_MLP_DATA], self.labels[costs.B_MLP_WEIGHT])
        after = (middle,)
        if self.attention and not self.full:
            again = block.compute(self.labels[costs.F_NORM], after)
            after = (block.compute(self.labels[costs.F_QKV_CORE], self._gather(block, (again,))),)
        second = block.compute(self.labels[costs.B_ATTENTION], self._gather(block, after))
        last = self._half(block, second, self.labels[costs.B_QKV_DATA], self.labels[costs.B_QKV_WEIGHT])
        for op in (first, second):
            self._borrow(block, op, s.activation)
        recomputing = start if self.full or self.mlp else first
        block.hold(recomputing, TEMPORARY, self.dropped_bytes)
        block.hold(last, TEMPORARY, -self.dropped_bytes, at_end=True)
        block.hold(last, ACTIVATIONS, -self.kept_bytes, at_end=True)
        return last

    def _half(self, block: Block, out: int, data: Label, weight: Label) -> int:
        """Gradients of the input matrix of a half: data, weights, norm."""
        whole = self._gather(block, (out,))
        blocking = not self.overlap
        grad = block.compute(data, whole if blocking else ())
        reduced = self._reduce(block, (grad,))
        weights = block.compute(weight, (*whole, *(reduced if blocking else ())))
        self._borrow(block, weights, self.shard.activation)
        return block.compute(self.labels[costs.B_NORM], reduced)

    def embed(self, block: Block, after: Sequence[int]) -> int:
        """Embedding forward; a norm after it keeps its input."""
        lookup = block.compute(self.labels[costs.F_EMBEDDING], after)
        embedded = block.compute(self.labels[costs.F_EMBEDDED], self._reduce(block, (lookup,)))
        if self.shard.embedding_norm:
            block.hold(embedded, ACTIVATIONS, self.shard.local_activation)
        return embedded

    def embed_backward(self, block: Block, after: Sequence[int]) -> int:
        """Embedding backward."""
        last = block.compute(self.labels[costs.B_EMBEDDING], self._gather(block, after))
        if self.shard.embedding_norm:
            block.hold(last, ACTIVATIONS, -self.shard.local_activation, at_end=True)
        return last

    def loss(self, block: Block, after: Sequence[int]) -> int:
        """Final norm, logits and cross-entropy over the tp group's parts of the vocabulary."""
        s = self.shard
        norm = block.compute(self.labels[costs.F_NORM], after)
        logits = block.compute(self.labels[costs.F_LOGITS], self._gather(block, (norm,)))
        block.hold(logits, ACTIVATIONS, s.tokens * s.vocabulary * (s.width + 4.0) + 2 * s.local_activation)
        done: Sequence[int] = (logits,)
        if s.tp > 1:
            for _ in ("maximum", "predicted", "sum"):
                done = (block.collective(Message("tp", "all_reduce", s.tokens * 4.0), done),)
        return block.compute(self.labels[costs.F_LOSS], done)

    def loss_backward(self, block: Block, after: Sequence[int]) -> int:
        """Backward of `loss`."""
        s = self.shard
        grad = block.compute(self.labels[costs.B_LOGITS], after)
        whole = self._gather(block, (grad,))
        reduced = self._reduce(block, (grad,))
        weight = block.compute(self.labels[costs.B_HEAD_WEIGHT], (*whole, *(() if self.overlap else reduced)))
        block.hold(
            weight, ACTIVATIONS, -(s.tokens * s.vocabulary * (s.width + 4.0) + 2 * s.local_activation), at_end=True
        )
        return block.compute(self.labels[costs.B_FINAL_NORM], reduced)

    def enter(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """A part of an activation from another stage is gathered, unless the layers work on parts."""
        s = self.shard
        if s.tp == 1 or s.sequence_parallel or not self.split_sends:
            return tuple(after)
        return (block.collective(Message("tp", "all_gather", s.activation), after),)

    def _borrow(self, block: Block, op: int, nbytes: float) -> None:
        """HBM held only while an operation runs."""
        block.hold(op, TEMPORARY, nbytes)
        block.hold(op, TEMPORARY, -nbytes, at_end=True)
