"""Residual networks (He et al., arXiv 1512.03385), batch norms folded into convolutions."""

from scaleout.models.nets.convolution import Image, convolution, grouped
from scaleout.models.nets.operators import Operator, Pass, Product
from scaleout.specs.net import ResNet

__all__ = ["features", "operators"]


def operators(net: ResNet, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of images."""
    found, images = features(net, batch)
    image = images[-1]
    found.append(Pass("average pool", image.elements + batch * image.channels))
    classes = Product(
        "classifier", m=batch, n=net.classes, k=image.channels, read=batch * image.channels, parameters=net.classes
    )
    return (*found, classes)


def features(net: ResNet, batch: float) -> tuple[list[Operator], list[Image]]:
    """Operators up to the last stage, and what comes out of each stage."""
    found: list[Operator] = []
    image = Image(batch, (net.image, net.image), net.channels)
    stem, image = convolution("stem", image, net.stem, 7, 2)
    pooled = Image(batch, tuple((one - 1) // 2 + 1 for one in image.sides), net.stem)
    found += [stem, Pass("max pool", image.elements + pooled.elements)]
    image, images = pooled, []
    for stage, blocks in enumerate(net.blocks):
        width = net.width * 2**stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            more, image = _block(f"stage {stage + 1}.{block + 1}", image, width, stride, net)
            found += more
        images.append(image)
    return found, images


def _block(name: str, image: Image, width: int, stride: int, net: ResNet) -> tuple[list[Operator], Image]:
    """Two or three convolutions, and one beside them where the shape changes."""
    found: list[Operator] = []
    wide = width * net.expansion
    if stride > 1 or image.channels != wide:
        beside, _ = convolution(f"{name} shortcut", image, wide, 1, stride, activation=False)
        found.append(beside)
    if net.expansion == 1:
        first, inner = convolution(f"{name} 3x3 a", image, width, 3, stride)
        last, out = convolution(f"{name} 3x3 b", inner, wide, 3, residual=True)
        return [*found, first, last], out
    first, inner = convolution(f"{name} 1x1 a", image, width, 1, 1 if net.stride_late else stride)
    middle: Operator
    if net.groups > 1:
        middle, inner = grouped(f"{name} 3x3", inner, width, 3, stride if net.stride_late else 1, net.groups)
    else:
        middle, inner = convolution(f"{name} 3x3", inner, width, 3, stride if net.stride_late else 1)
    last, out = convolution(f"{name} 1x1 b", inner, wide, 1, residual=True)
    return [*found, first, middle, last], out
