"""One rank's share of a model: shapes, parameters, and the sizes of what it passes on."""

from collections.abc import Iterable
from dataclasses import dataclass

from scaleout.models import norm_parameters
from scaleout.parallel.costs import Shape
from scaleout.specs import TrainingExperiment

WIDTH = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0}
"""Bytes of an element of weights, activations and gradients."""

__all__ = ["WIDTH", "Shard", "shape", "shard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """Shapes of one rank.

    Parameters
    ----------
    tokens, local_tokens
        Tokens of a micro-batch, and those that norms and residuals of this rank work on.
    hidden, query, key, ffn, gates, vocabulary
        Width of the model; widths of queries, of keys (and of values), of the feed-forward
        block, the matrices that lead into it, and vocabulary, of this rank.
    width
        Bytes of an activation [byte].
    gradient_width
        Bytes of a gradient [byte].
    layer, embedding, head
        Parameters of a layer, of the embedding and of norm and output head, on this rank.
    rotary
        Queries and keys are rotated in a pass of their own.
    """

    batch: int
    sequence: int
    tokens: int
    local_tokens: int
    hidden: int
    heads: int
    kv_heads: int
    head_size: int
    query: int
    key: int
    ffn: int
    gates: int
    vocabulary: int
    bias: bool
    width: float
    gradient_width: float
    tp: int
    sequence_parallel: bool
    layer: float
    embedding: float
    head: float
    rotary: bool
    tied: bool
    split_sends: bool

    @property
    def activation(self) -> float:
        """A whole activation of a micro-batch [byte]."""
        return self.tokens * self.hidden * self.width

    @property
    def local_activation(self) -> float:
        """The part of an activation that norms and residuals of this rank hold [byte]."""
        return self.local_tokens * self.hidden * self.width

    @property
    def boundary(self) -> float:
        """What a rank sends to the next stage: its part of the activation, or all of it [byte]."""
        return self.activation / (self.tp if self.split_sends or self.sequence_parallel else 1)


def shard(experiment: TrainingExperiment) -> Shard:
    """The share of one rank; key/value heads fewer than tp are held more than once."""
    model, layout, batch = experiment.model, experiment.layout, experiment.batch
    tp = layout.tp
    sequence_parallel = layout.sequence_parallel and tp > 1
    heads, kv_heads = model.heads // tp, max(1, model.kv_heads // tp)
    query, key, ffn = heads * model.head_size, kv_heads * model.head_size, model.ffn // tp
    gates = 2 if model.gated else 1
    h = model.hidden
    vocabulary = -(-model.vocabulary // tp)
    matrices = h * (query + 2 * key) + query * h + gates * h * ffn + ffn * h
    biases = (query + 2 * key) + h + gates * ffn + h if model.bias else 0
    tokens = batch.micro * batch.sequence
    positions = model.max_sequence * h if model.positions == "learned" else 0
    return Shard(
        batch=batch.micro,
        sequence=batch.sequence,
        tokens=tokens,
        local_tokens=tokens // tp if sequence_parallel else tokens,
        hidden=h,
        heads=heads,
        kv_heads=kv_heads,
        head_size=model.head_size,
        query=query,
        key=key,
        ffn=ffn,
        gates=gates,
        vocabulary=vocabulary,
        bias=model.bias,
        # linear layers may be narrower; what is kept and sent has 16 bits
        width=2.0,
        gradient_width=WIDTH[experiment.gradients],
        tp=tp,
        sequence_parallel=sequence_parallel,
        layer=matrices + biases + 2 * norm_parameters(model),
        embedding=vocabulary * h + positions,
        head=norm_parameters(model) + vocabulary * h,
        rotary=model.positions == "rope",
        tied=model.tied_embeddings,
        split_sends=experiment.stack.split_sends,
    )


def shape(mine: Shard, recompute: Iterable[str]) -> Shape:
    """The numbers that kernels need of a shard."""
    modules = set(recompute)
    full = "full" in modules
    core = "core_attention" in modules and not modules & {"full", "attention"}
    product = "mlp_product" in modules and not modules & {"full", "mlp"}
    norm = "norm" in modules and not full
    return Shape(
        batch=float(mine.batch),
        sequence=float(mine.sequence),
        tokens=float(mine.tokens),
        local=float(mine.local_tokens),
        hidden=float(mine.hidden),
        heads=float(mine.heads),
        kv_heads=float(mine.kv_heads),
        head_size=float(mine.head_size),
        query=float(mine.query),
        key=float(mine.key),
        ffn=float(mine.ffn),
        gates=float(mine.gates),
        vocabulary=float(mine.vocabulary),
        bias=float(mine.bias),
        rotary=float(mine.rotary),
        gradient_width=mine.gradient_width,
        core_again=float(core),
        product_again=float(product),
        norm_1_again=float(norm and "attention" not in modules),
        norm_2_again=float(norm and "mlp" not in modules),
    )
