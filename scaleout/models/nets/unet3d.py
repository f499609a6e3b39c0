"""A U-net of volumes with instance norms (Isensee et al., nnU-Net, Nature Methods 18, 2021)."""

from scaleout.models.nets.convolution import Image, convolution
from scaleout.models.nets.operators import Operator, Pass, Product
from scaleout.specs.net import UNet3d

__all__ = ["operators"]


def operators(net: UNet3d, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of images, each of `windows` windows."""
    found: list[Operator] = []
    image = Image(batch * net.windows, net.window, net.channels)
    kept = []
    for level, filters in enumerate(net.filters):
        for step, stride in enumerate((2 if level else 1, 1)):
            image = _convolve(found, f"down {level + 1}.{step + 1}", image, filters, stride)
        kept.append(image)
    for level in reversed(range(len(net.filters) - 1)):
        image = _up(found, f"up {level + 1}", image, net.filters[level])
        # what was kept stands beside it as more channels, written where it is read: no copy
        image = image._replace(channels=image.channels + kept[level].channels)
        for step in range(2):
            image = _convolve(found, f"up {level + 1}.{step + 1}", image, net.filters[level], 1)
    last, _ = convolution("classes", image, net.classes, 1, activation=False, norm=False)
    return (*found, last)


def _convolve(found: list[Operator], name: str, image: Image, filters: int, stride: int) -> Image:
    """3 x 3 x 3, then the norm of each channel of each window: read for its moments, read again and written."""
    one, out = convolution(name, image, filters, 3, stride, activation=False)
    found += [one, Pass(f"{name} norm", 3.0 * out.elements)]
    return out


def _up(found: list[Operator], name: str, image: Image, filters: int) -> Image:
    """A transposed convolution of 2 x 2 x 2 with stride 2: every voxel gives eight, which do not overlap."""
    pixels = image.elements / image.channels
    out = Image(image.batch, tuple(2 * one for one in image.sides), filters)
    found.append(
        Product(name, m=pixels, n=8 * filters, k=image.channels, read=image.elements, parameters=float(filters))
    )
    return out
