"""An encoder of text with a head that answers questions (Devlin et al., arXiv 1810.04805)."""

from scaleout.models.nets.operators import Operator, Pass
from scaleout.models.nets.transformer import encoder_layers, linear
from scaleout.specs.net import Bert

__all__ = ["operators"]


def operators(net: Bert, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of sequences, all of the mean length."""
    tokens, width = net.tokens or net.sequence, net.encoder.hidden
    rows = batch * tokens
    return (
        # rows of words, positions and segments are read, their sum is normed and written
        Pass("embedding", 4.0 * rows * width, 2.0 * width),
        *encoder_layers(net.encoder, batch, tokens),
        linear("answer", rows, 2, width),
    )
