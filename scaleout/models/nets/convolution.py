"""A convolution of any number of dimensions as the product that carries it out."""

import math
from typing import NamedTuple

from scaleout.models.nets.operators import Pass, Product

__all__ = ["Image", "convolution", "depthwise", "grouped", "side"]


class Image(NamedTuple):
    """A batch of images or volumes.

    Parameters
    ----------
    batch
        How many; a mean need not be whole.
    sides
        [pixel]
    channels
        Of each pixel.
    """

    batch: float
    sides: tuple[int, ...]
    channels: int

    @property
    def elements(self) -> float:
        """Of all images [1]."""
        return self.batch * math.prod(self.sides) * self.channels


def side(length: int, kernel: int, stride: int, padding: int) -> int:
    """Side of what comes out [pixel].

    >>> side(224, 7, 2, 3)
    112
    """
    return (length + 2 * padding - kernel) // stride + 1


def convolution(
    name: str,
    image: Image,
    channels: int,
    kernel: int,
    stride: int = 1,
    *,
    padding: int | None = None,
    activation: bool = True,
    residual: bool = False,
    norm: bool = True,
) -> tuple[Product, Image]:
    """The product of a convolution, and what comes out: m = pixels out, n = channels out, k = channels in x kernel.

    Parameters
    ----------
    channels
        That come out.
    kernel, stride, padding
        Alike in all dimensions [pixel]; padding None keeps the side but for the stride.
    activation, residual
        A function follows; another image is added first.
    norm
        A batch norm follows, which is folded into weights and bias; otherwise there is a bias alone.
    """
    padding = (kernel - 1) // 2 if padding is None else padding
    out = Image(image.batch, tuple(side(one, kernel, stride, padding) for one in image.sides), channels)
    pixels = out.batch * math.prod(out.sides)
    # of a 1 x 1 with a stride, pixels between are never read
    read = pixels * image.channels if kernel == 1 else image.elements
    taps = kernel ** len(image.sides)
    product = Product(
        name, m=pixels, n=channels, k=image.channels * taps, read=read, extra=out.elements if residual else 0.0,
        activation=activation, parameters=channels * (2.0 if norm else 1.0),
    )  # fmt: skip
    return product, out


def depthwise(name: str, image: Image, kernel: int, stride: int = 1) -> tuple[Pass, Image]:
    """A convolution of every channel by itself: no product to speak of, so bytes bind it."""
    return grouped(name, image, image.channels, kernel, stride, image.channels, parameters=0.0)


def grouped(
    name: str, image: Image, channels: int, kernel: int, stride: int, groups: int, *, parameters: float = 2.0
) -> tuple[Pass, Image]:
    """A convolution of `groups` of channels, each by itself: taken to be bound by bytes, as products of so few
    channels are small beside the image; of scales and biases a channel has so many `parameters`."""
    padding = (kernel - 1) // 2
    out = Image(image.batch, tuple(side(one, kernel, stride, padding) for one in image.sides), channels)
    taps = image.channels // groups * kernel ** len(image.sides)
    weights = channels * (taps + parameters)
    return Pass(name, image.elements + out.elements, weights, 2.0 * out.elements * taps), out
