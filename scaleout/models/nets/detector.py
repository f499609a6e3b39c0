"""Detectors of one stage with a pyramid of features (RetinaNet: Lin et al., arXiv 1708.02002)."""

from scaleout.models.nets.convolution import Image, convolution
from scaleout.models.nets.operators import Operator, Pass
from scaleout.models.nets.resnet import features
from scaleout.specs.net import Detector

__all__ = ["operators", "shared"]


def operators(net: Detector, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of images, up to the scores of all anchors; those are not sorted here.

    The heads of all levels have the same weights (`shared`).
    """
    found, stages = features(net.backbone, batch)
    levels: list[Image] = []
    for at, image in enumerate(stages[1:], start=3):
        product, level = convolution(f"lateral {at}", image, net.width, 1, norm=False, activation=False)
        found.append(product)
        levels.append(level)
    for at in range(len(levels) - 2, -1, -1):
        # the coarser level, twice as large, is added
        finer, coarser = levels[at], levels[at + 1]
        found.append(Pass(f"sum {at + 3}", 2.0 * finer.elements + coarser.elements))
    for at, image in enumerate(list(levels), start=3):
        product, _ = convolution(f"pyramid {at}", image, net.width, 3, norm=False, activation=False)
        found.append(product)
    for at in range(len(levels) + 3, len(levels) + 3 + net.extra_levels):
        product, level = convolution(f"pyramid {at}", levels[-1], net.width, 3, 2, norm=False)
        found.append(product)
        levels.append(level)
    for at, level in enumerate(levels, start=3):
        for head, outputs in (("classes", net.classes), ("boxes", 4)):
            image = level
            for number in range(net.head_layers):
                product, image = convolution(f"{head} {at}.{number + 1}", image, net.width, 3, norm=False)
                found.append(product)
            product, image = convolution(
                f"{head} {at} out", image, net.anchors * outputs, 3, norm=False, activation=False
            )
            found.append(product)
    return tuple(found)


def shared(net: Detector) -> float:
    """Weights of the heads that are counted once too often for each level after the first [1]."""
    inner = net.head_layers * (9.0 * net.width + 1.0) * net.width
    heads = 2.0 * inner + (9.0 * net.width + 1.0) * net.anchors * (net.classes + 4)
    levels = len(net.backbone.blocks) - 1 + net.extra_levels
    return (levels - 1) * heads
