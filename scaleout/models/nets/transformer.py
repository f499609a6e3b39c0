"""Layers of encoders and decoders as operators."""

from scaleout.models.nets.operators import ONCE, Attention, Operator, Pass, Product, Stage
from scaleout.specs.model import Model
from scaleout.specs.net import Encoder

__all__ = ["decoder_layers", "encoder_layers", "feed_forward", "linear", "norm"]


def linear(
    name: str,
    m: float,
    n: float,
    k: float,
    repeat: int = 1,
    *,
    bias: bool = True,
    activation: bool = False,
    stage: Stage = ONCE,
) -> Product:
    """A linear layer of m rows."""
    return Product(
        name, m=m, n=n, k=k, read=m * k, activation=activation, repeat=repeat, stage=stage,
        parameters=n if bias else 0.0,
    )  # fmt: skip


def norm(name: str, rows: float, width: float, repeat: int = 1, *, vectors: int = 2, stage: Stage = ONCE) -> Pass:
    """The residual and the norm after it: what came and the residual are read, both are written; in two kernels the
    residual is read once more."""
    return Pass(
        name, 5.0 * rows * width, vectors * width, kind="add_norm", fused=4.0 * rows * width, repeat=repeat, stage=stage
    )


def feed_forward(
    rows: float, width: int, inner: int, gated: bool, repeat: int, *, bias: bool = True, stage: Stage = ONCE
) -> list[Operator]:
    """Two products with a function between, which a plain one takes along; a gate has a pass of its own."""
    first = linear(
        "feed-forward in", rows, inner * (2 if gated else 1), width, repeat, bias=bias, activation=not gated,
        stage=stage,
    )  # fmt: skip
    last = linear("feed-forward out", rows, width, inner, repeat, bias=bias, stage=stage)
    gate = Pass(
        "gate", 5.0 * rows * inner, kind="activation", fused=3.0 * rows * inner, repeat=repeat, stage=stage
    )  # fmt: skip
    return [first, gate, last] if gated else [first, last]


def encoder_layers(encoder: Encoder, sequences: float, tokens: float, prefix: str = "") -> list[Operator]:
    """All layers of an encoder over `tokens` of each of the sequences."""
    rows, width, layers = sequences * tokens, encoder.hidden, encoder.layers
    size = width / encoder.heads
    found: list[Operator] = [linear("queries, keys, values", rows, 3 * width, width, layers)]
    whole, inside = layers, 0
    if encoder.window is not None and encoder.window < tokens:
        whole, inside = encoder.full, layers - encoder.full
    if whole:
        found.append(
            Attention("attention", sequences, tokens, tokens, encoder.heads, encoder.heads, size, repeat=whole)
        )
    if inside and encoder.window is not None:
        cut = sequences * tokens / encoder.window
        found.append(
            Attention(
                "attention in windows",
                cut,
                encoder.window,
                encoder.window,
                encoder.heads,
                encoder.heads,
                size,
                repeat=inside,
            )
        )
    found += [linear("output", rows, width, width, layers), norm("residual and norm", rows, width, 2 * layers)]
    found += feed_forward(rows, width, encoder.ffn, encoder.gated, layers)
    return [one._replace(name=f"{prefix}{one.name}") for one in found]


def decoder_layers(model: Model, sequences: float, new: float, context: float, stage: Stage) -> list[Operator]:
    """All layers of a dense decoder: `new` tokens of each sequence, the last of its `context` tokens."""
    prefix = "prompt" if stage == ONCE else "reply"
    rows, layers, bias = sequences * new, model.layers, model.bias is True
    wide = (model.heads + 2 * model.kv_heads) * model.head_size
    inside = model.heads * model.head_size
    found: list[Operator] = [
        linear("queries, keys, values", rows, wide, model.hidden, layers, bias=bool(model.bias), stage=stage)
    ]
    if model.positions == "rope":
        turned = (model.heads + model.kv_heads) * model.head_size
        found.append(Pass("rotation", 2.0 * rows * turned, repeat=layers, stage=stage))
    found += [
        Attention(
            "attention", sequences, new, context, model.heads, model.kv_heads, model.head_size, causal=True,
            cached=stage != ONCE, repeat=layers, stage=stage,
        ),
        linear("output", rows, model.hidden, inside, layers, bias=bias, stage=stage),
        norm(
            "residual and norm", rows, model.hidden, 2 * layers, vectors=2 if model.norm == "layer" else 1, stage=stage
        ),
    ]  # fmt: skip
    found += feed_forward(rows, model.hidden, model.ffn, model.gated, layers, bias=bias, stage=stage)
    # of every sequence the last token alone is scored
    found.append(linear("logits", sequences, model.vocabulary, model.hidden, bias=False, stage=stage))
    return [one._replace(name=f"{prefix} {one.name}") for one in found]
