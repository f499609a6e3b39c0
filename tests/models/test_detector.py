"""A detector as operators: counts of torchvision's, and sums that have to hold."""

from dataclasses import replace

import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.models.nets import Pass, flops, macs, net_parameters, operators
from scaleout.specs.net import Net, ResNet

NET = load("net", "retinanet-800")


def test_on_a_resnet_50_with_91_classes_it_has_the_parameters_of_torchvision() -> None:
    backbone = ResNet(image=800, blocks=(3, 4, 6, 3))
    found = replace(NET, detector=replace(NET.detector, classes=91, backbone=backbone))
    # scales and shifts of frozen batch norms, which torchvision does not count: two of each channel
    norms = 2 * sum(
        [64, 256, 512, 1024, 2048]
        + [blocks * (2 * width + 4 * width) for blocks, width in zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True)]
    )
    assert norms == 53_120
    assert net_parameters(found) - norms == 34_014_999


def test_a_resnext_has_the_counts_of_torchvision() -> None:
    net = Net(name="resnext-50-32x4d", resnet=replace(NET.detector.backbone, image=224), source="-")
    found = operators(net, 1)
    grouped = [one for one in found if isinstance(one, Pass) and one.work]
    assert len(grouped) == 16
    assert net_parameters(net) == 25_028_904
    assert macs(found) / 1e9 == pytest.approx(4.23, rel=1e-3)


def test_heads_have_most_of_the_work_and_all_of_it_goes_with_the_batch() -> None:
    found = operators(NET, 1)
    heads = [one for one in found if one.name.startswith(("classes", "boxes"))]
    places = sum(side**2 for side in (100, 50, 25, 13, 7))
    each = 8 * 9 * 256 * 256 + 9 * 256 * 9 * (264 + 4)
    assert flops(heads) == 2 * places * each
    assert flops(heads) > 0.6 * flops(found)
    assert flops(operators(NET, 8)) == 8 * flops(found)


def test_backbones_without_a_pyramid_and_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(SpecError, match="one stage"):
        replace(NET.detector, backbone=ResNet(blocks=(3,)))
    with pytest.raises(SpecError, match="groups: 3 do not divide"):
        ResNet(blocks=(3, 4), groups=3)
