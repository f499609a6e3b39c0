"""Transformers of images (Dosovitskiy et al., arXiv 2010.11929)."""

from scaleout.models.nets.operators import Operator, Pass, Product
from scaleout.models.nets.transformer import encoder_layers, linear
from scaleout.specs.net import Vit

__all__ = ["operators"]


def operators(net: Vit, batch: float, prefix: str = "") -> tuple[Operator, ...]:
    """Operators of a batch of images."""
    patches, width = (net.image // net.patch) ** 2, net.encoder.hidden
    pixels = net.patch**2 * net.channels * net.frames
    # patches do not overlap: a convolution that is a product as it stands
    found: list[Operator] = [
        Product(
            f"{prefix}patches", m=batch * patches, n=width, k=pixels, read=batch * patches * pixels,
            parameters=width * (1 + net.tokens + int(net.class_token)),
        ),
        *encoder_layers(net.encoder, batch, net.tokens, prefix),
        Pass(f"{prefix}last norm", 2.0 * batch * net.tokens * width, 2.0 * width),
    ]  # fmt: skip
    if net.classes:
        found.append(linear(f"{prefix}classifier", batch, net.classes, width))
    return tuple(found)
