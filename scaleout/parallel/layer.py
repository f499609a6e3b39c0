"""A transformer layer on one rank: kernels between communication points, and what stays in HBM.

With sequence parallelism a layer gathers its input before each half and reduce-scatters the
output after it; without, it all-reduces the output. Backward, the gather of the input runs beside
the gradient of the data, and its reduction beside the gradient of the weights, where the stack
overlaps. ``docs/training.md`` lists every operation with its bytes.
"""

from collections.abc import Iterable, Sequence

from scaleout.engine.program import Label, Message
from scaleout.hardware import Kernels
from scaleout.parallel.block import Block
from scaleout.parallel.shard import Shard

__all__ = ["KINDS", "Layers"]

KINDS = ("weights", "gradients", "optimizer", "activations", "temporary", "reserved")
"""Kinds of memory."""
ACTIVATIONS, TEMPORARY = KINDS.index("activations"), KINDS.index("temporary")

_LOSS_FORWARD = 38.0
"""Cross-entropy in fp32, kernel by kernel: cast 2 + 4, maximum 4, subtract 8, exponential 8, sum 4,
divide 8 [byte per logit]."""
_LOSS_BACKWARD = 14.0
"""Gradient in place 8, cast 4 + 2 [byte per logit]."""


def _label(name: str, *parts: tuple[str, float], category: str = "compute") -> Label:
    """A label whose parts of one kind are added up."""
    sums: dict[str, float] = {}
    for kind, seconds in parts:
        sums[kind] = sums.get(kind, 0.0) + seconds
    return Label(name, category, tuple(sums.items()))


class Layers:
    """Writes layers, embedding and loss of one rank into blocks.

    Parameters
    ----------
    kernels
        Times of the kernels.
    shard
        Shapes of the rank.
    recompute
        Modules whose activations are computed again.
    overlap
        Backward collectives of the tp group run beside matrix multiplications.
    """

    def __init__(self, kernels: Kernels, shard: Shard, recompute: Iterable[str], *, overlap: bool) -> None:
        self.kernels, self.shard, self.overlap = kernels, shard, overlap
        modules = set(recompute)
        self.full = "full" in modules
        self.mlp, self.attention = "mlp" in modules, "attention" in modules
        self.core = "core_attention" in modules
        self.norm, self.product = "norm" in modules, "mlp_product" in modules
        self._name_forward()
        self._name_backward()
        self._name_ends()

    # --- kernels -----------------------------------------------------------------------------

    def _matmul(self, m: int, n: int, k: int) -> tuple[str, float]:
        return "matmul", self.kernels.gemm(m, n, k)

    def _weight_gradient(self, m: int, n: int, k: int) -> tuple[tuple[str, float], ...]:
        """Added to the sum over micro-batches: inside the kernel, or in a pass of its own."""
        width = self.shard.gradient_width
        if self.kernels.stack.fused_gradient_sum:
            return (("matmul", self.kernels.gemm(m, n, k, 2 * width)),)
        add = self.kernels.elementwise(m * n * (self.shard.width + 2 * width))
        return ("matmul", self.kernels.gemm(m, n, k)), ("elementwise", add)

    def _core(self, *, backward: bool = False) -> tuple[str, float]:
        s = self.shard
        seconds = self.kernels.attention(s.batch, s.sequence, s.heads, s.kv_heads, s.head_size, backward=backward)
        return "attention", seconds

    def _passes(self, elements: float, count: float) -> tuple[str, float]:
        """One kernel that reads or writes `elements` numbers `count` times."""
        return "elementwise", self.kernels.elementwise(elements * count * self.shard.width)

    def _rotation(self) -> tuple[tuple[str, float], ...]:
        """Rotary positions: queries and keys are read and written once more."""
        s = self.shard
        return (self._passes(s.tokens * (s.query + s.key), 2),) if s.rotary else ()

    def _name_forward(self) -> None:
        s = self.shard
        local = s.local_tokens * s.hidden
        self._norm_pass = self._passes(local, 2)
        self._product_pass = self._passes(s.tokens * s.ffn, s.gates + 1)
        self._qkv = (self._matmul(s.tokens, s.query + 2 * s.key, s.hidden), *self._rotation())
        self._into_mlp = self._matmul(s.tokens, s.gates * s.ffn, s.hidden)
        self.f_norm = _label("norm", self._norm_pass)
        self.f_attention = _label("attention", *self._qkv, self._core(), self._matmul(s.tokens, s.hidden, s.query))
        self.f_add_norm = _label("add, norm", self._passes(local, 3), self._norm_pass)
        self.f_mlp = _label("mlp", self._into_mlp, self._product_pass, self._matmul(s.tokens, s.hidden, s.ffn))
        self.f_add = _label("add", self._passes(local, 3))
        self.f_qkv_core = _label("recompute attention", *self._qkv, self._core())
        self.f_into_mlp = _label("recompute mlp", self._into_mlp, self._product_pass)

    def _name_backward(self) -> None:
        s = self.shard
        local = s.local_tokens * s.hidden
        inner = s.gates * s.ffn
        bias = (self._passes(s.tokens * (inner + s.hidden), 1),) if s.bias else ()
        biased = (s.query + 2 * s.key) * s.qkv_bias + s.hidden * s.bias
        attention_bias = (self._passes(s.tokens * biased, 1),) if biased else ()
        again = (self._product_pass,) if self.product and not (self.mlp or self.full) else ()
        norm_again = (self._norm_pass,) if self.norm and not self.full else ()
        self.b_mlp_out = _label(
            "mlp out, backward",
            *again,
            self._matmul(s.tokens, s.ffn, s.hidden),
            *self._weight_gradient(s.ffn, s.hidden, s.tokens),
            self._passes(s.tokens * s.ffn, 2 * s.gates + 1),
            *bias,
            *(() if self.mlp else norm_again),
        )
        self.b_mlp_data = _label("mlp in, data gradient", self._matmul(s.tokens, s.hidden, inner))
        self.b_mlp_weight = _label("mlp in, weight gradient", *self._weight_gradient(s.hidden, inner, s.tokens))
        self.b_norm = _label("norm, backward", self._passes(local, 3), self._passes(local, 3))
        self.b_attention = _label(
            "attention, backward",
            *((self._core(),) if self.core and not (self.attention or self.full) else ()),
            self._matmul(s.tokens, s.query, s.hidden),
            *self._weight_gradient(s.query, s.hidden, s.tokens),
            self._core(backward=True),
            *self._rotation(),
            *attention_bias,
            *(() if self.attention else norm_again),
        )
        qkv = s.query + 2 * s.key
        self.b_qkv_data = _label("qkv, data gradient", self._matmul(s.tokens, s.hidden, qkv))
        self.b_qkv_weight = _label("qkv, weight gradient", *self._weight_gradient(s.hidden, qkv, s.tokens))

    def _name_ends(self) -> None:
        s, kernels = self.shard, self.kernels
        logits = s.tokens * s.vocabulary
        whole = s.tokens * s.hidden
        self.f_embedding = _label("embedding", self._passes(whole, 2))
        local = s.local_tokens * s.hidden
        norm = (self._norm_pass,) if s.embedding_norm else ()
        norm_backward = (self._passes(local, 3),) if s.embedding_norm else ()
        self.f_embedded = _label("embedding out", self._passes(local, 2), *norm)
        self.b_embedding = _label(
            "embedding, backward",
            ("elementwise", kernels.elementwise(whole * (s.width + 2 * s.gradient_width))),
            *norm_backward,
        )
        self.f_logits = _label(
            "logits",
            self._matmul(s.tokens, s.vocabulary, s.hidden),
            ("elementwise", kernels.elementwise(logits * _LOSS_FORWARD, kernels=6)),
        )
        self.f_loss = _label("loss", ("elementwise", kernels.elementwise(s.tokens * 4.0, kernels=2)))
        self.b_logits = _label(
            "logits, backward",
            ("elementwise", kernels.elementwise(logits * _LOSS_BACKWARD, kernels=2)),
            self._matmul(s.tokens, s.hidden, s.vocabulary),
        )
        self.b_head_weight = _label("head, weight gradient", *self._weight_gradient(s.hidden, s.vocabulary, s.tokens))
        self.b_final_norm = _label("final norm, backward", self._passes(s.local_tokens * s.hidden, 3))

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
            "softmax": s.tokens * s.heads * 4.0,
            "attention out": s.tokens * s.query * s.width,
            "middle": s.local_activation,
            "norm 2": s.local_activation,
            "mlp in": s.tokens * s.gates * s.ffn * s.width,
            "mlp product": s.tokens * s.ffn * s.width,
        }

    @property
    def dropped(self) -> set[str]:
        """Names of the activations that are computed again."""
        modules = {
            "norm": {"norm 1", "norm 2"},
            "product": {"mlp product"},
            "core": {"softmax"},
            "attention": {"norm 1", "qkv", "softmax"},
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
        norm = block.compute(self.f_norm, after)
        attention = block.compute(self.f_attention, self._gather(block, (norm,)))
        middle = block.compute(self.f_add_norm, self._reduce(block, (attention,)))
        mlp = block.compute(self.f_mlp, self._gather(block, (middle,)))
        last = block.compute(self.f_add, self._reduce(block, (mlp,)))
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
            again = block.compute(self.f_norm, after)
            after = (block.compute(self.f_into_mlp, self._gather(block, (again,))),)
        first = block.compute(self.b_mlp_out, self._gather(block, after))
        middle = self._half(block, first, self.b_mlp_data, self.b_mlp_weight)
        after = (middle,)
        if self.attention and not self.full:
            again = block.compute(self.f_norm, after)
            after = (block.compute(self.f_qkv_core, self._gather(block, (again,))),)
        second = block.compute(self.b_attention, self._gather(block, after))
        last = self._half(block, second, self.b_qkv_data, self.b_qkv_weight)
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
        return block.compute(self.b_norm, reduced)

    def embed(self, block: Block, after: Sequence[int]) -> int:
        """Embedding forward; a norm after it keeps its input."""
        lookup = block.compute(self.f_embedding, after)
        embedded = block.compute(self.f_embedded, self._reduce(block, (lookup,)))
        if self.shard.embedding_norm:
            block.hold(embedded, ACTIVATIONS, self.shard.local_activation)
        return embedded

    def embed_backward(self, block: Block, after: Sequence[int]) -> int:
        """Embedding backward."""
        last = block.compute(self.b_embedding, self._gather(block, after))
        if self.shard.embedding_norm:
            block.hold(last, ACTIVATIONS, -self.shard.local_activation, at_end=True)
        return last

    def loss(self, block: Block, after: Sequence[int]) -> int:
        """Final norm, logits and cross-entropy over the tp group's parts of the vocabulary."""
        s = self.shard
        norm = block.compute(self.f_norm, after)
        logits = block.compute(self.f_logits, self._gather(block, (norm,)))
        block.hold(logits, ACTIVATIONS, s.tokens * s.vocabulary * (s.width + 4.0) + 2 * s.local_activation)
        done: Sequence[int] = (logits,)
        if s.tp > 1:
            for _ in ("maximum", "predicted", "sum"):
                done = (block.collective(Message("tp", "all_reduce", s.tokens * 4.0), done),)
        return block.compute(self.f_loss, done)

    def loss_backward(self, block: Block, after: Sequence[int]) -> int:
        """Backward of `loss`."""
        s = self.shard
        grad = block.compute(self.b_logits, after)
        whole = self._gather(block, (grad,))
        reduced = self._reduce(block, (grad,))
        weight = block.compute(self.b_head_weight, (*whole, *(() if self.overlap else reduced)))
        block.hold(
            weight, ACTIVATIONS, -(s.tokens * s.vocabulary * (s.width + 4.0) + 2 * s.local_activation), at_end=True
        )
        return block.compute(self.b_final_norm, reduced)

    def enter(self, block: Block, after: Sequence[int]) -> tuple[int, ...]:
        """What arrives from another stage is 1/tp of the activation; without sequence parallelism it is gathered."""
        s = self.shard
        if s.tp == 1 or s.sequence_parallel:
            return tuple(after)
        return (block.collective(Message("tp", "all_gather", s.activation), after),)

    def _borrow(self, block: Block, op: int, nbytes: float) -> None:
        """HBM held only while an operation runs."""
        block.hold(op, TEMPORARY, nbytes)
        block.hold(op, TEMPORARY, -nbytes, at_end=True)
