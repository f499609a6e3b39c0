"""Nets as operators: counts against published ones, and against loops over every element."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.models import parameters
from scaleout.models.nets import EACH, Attention, Gather, Product, Widths, flops, macs, net_parameters, operators
from scaleout.models.nets.convolution import Image, convolution, depthwise, side
from scaleout.models.nets.transformer import encoder_layers
from scaleout.specs.net import Encoder, Net, ResNet, Vit

PUBLISHED = {
    # torchvision's documentation: parameters, and GMAC (which it calls GFLOPS) of an image
    "resnet-50": (25_557_032, 4.09),
    "vit-b-16": (86_567_656, 17.56),
    "vit-l-16": (304_326_632, 61.55),
    "vit-h-14": (632_045_800, 167.29),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_nets_of_images_have_the_parameters_and_products_of_torchvision(name: str) -> None:
    net = load("net", name)
    trained, gmac = PUBLISHED[name]
    assert net_parameters(net) == trained
    assert macs(operators(net, 1)) / 1e9 == pytest.approx(gmac, rel=1e-3)


def test_the_u_net_has_the_parameters_of_nn_u_net_and_a_window_its_gflop() -> None:
    net = load("net", "3d-unet")
    # 31.19 M with these filters; instance norms without scale and shift here
    assert net_parameters(net) == pytest.approx(31.19e6, rel=1e-3)
    assert flops(operators(net, 1)) / net.unet3d.windows == pytest.approx(947e9, rel=0.02)


def test_bert_large_on_384_tokens_has_the_gop_of_openvino() -> None:
    net = load("net", "bert-large")
    whole = Net(name="whole", bert=type(net.bert)(encoder=net.bert.encoder, vocabulary=30522, sequence=384), source="-")
    assert flops(operators(whole, 1)) == pytest.approx(246.93e9, rel=0.01)
    assert net_parameters(whole) == pytest.approx(333.96e6, rel=1e-3)


def test_whisper_has_the_counts_of_its_paper() -> None:
    net = load("net", "whisper-large-v3")
    found = operators(net, 1)
    encoder = [one for one in found if one.name.startswith(("encoder", "convolution"))]
    assert net_parameters(net) == 1_543_490_560
    assert flops(encoder) == pytest.approx(2.27e12, rel=0.01)
    assert flops([one for one in found if one.name == "cross keys and values"]) == pytest.approx(0.31e12, rel=0.02)
    assert flops(found, EACH) == pytest.approx(1.85e9, rel=0.02)
    decoder = [one for one in found if one.name.startswith(("prompt", "cross")) and isinstance(one, Product)]
    assert 2.0 * sum(one.weights * one.repeat for one in decoder) == pytest.approx(1.81e9, rel=0.01)


def test_the_recommender_has_32_mflop_a_pair_and_214_lookups() -> None:
    net = load("net", "dlrm-v2")
    found = operators(net, 1)
    (lookups,) = [one for one in found if isinstance(one, Gather)]
    assert flops([one for one in found if one is not lookups]) / net.dlrm.pairs == pytest.approx(32e6, rel=0.01)
    assert lookups.read / net.dlrm.pairs == 214 * 128
    assert lookups.weights * 4.0 == pytest.approx(104.5e9, rel=1e-3)


def test_a_vision_language_net_has_its_decoder_and_its_encoder() -> None:
    net = load("net", "qwen2.5-vl-7b")
    assert net_parameters(net) == pytest.approx(8.29e9, rel=2e-3)
    assert net_parameters(net) > parameters(net.model)
    # 64 x 64 patches, four of which are one token
    assert net.vision_language.image_tokens == 1024


@settings(max_examples=40, deadline=None)
@given(
    sides=st.lists(st.integers(3, 6), min_size=1, max_size=3), channels=st.integers(1, 3), out=st.integers(1, 3),
    kernel=st.sampled_from((1, 3)), stride=st.integers(1, 2), batch=st.integers(1, 2),
)  # fmt: skip
def test_a_convolution_multiplies_as_often_as_its_loops(
    sides: list[int], channels: int, out: int, kernel: int, stride: int, batch: int
) -> None:
    product, image = convolution("c", Image(batch, tuple(sides), channels), out, kernel, stride)
    padding = (kernel - 1) // 2
    places = [range(-padding, length + padding - kernel + 1, stride) for length in sides]
    assert image.sides == tuple(len(one) for one in places)
    loops = sum(
        1
        for _ in itertools.product(
            range(batch), *places, range(out), *(range(kernel) for _ in sides), range(channels)
        )
    )  # fmt: skip
    assert product.flop == 2 * loops
    # what it reads is the image, not a matrix of patches
    assert product.read <= batch * math.prod(sides) * channels
    assert product.bytes(Widths(1.0, 1.0)) == product.read + image.elements + product.n * product.k


def test_a_depthwise_convolution_is_one_of_every_channel_by_itself() -> None:
    image = Image(2, (8, 8), 5)
    one, out = depthwise("d", image, 3)
    whole, _ = convolution("c", image, 1, 3)
    assert out == image
    # five of them, each of one channel in place of five
    assert one.flop == whole.flop
    assert one.moved == 2 * image.elements


@given(st.integers(1, 64), st.integers(1, 7), st.integers(1, 3), st.integers(0, 3))
def test_a_side_counts_the_places_of_a_kernel(length: int, kernel: int, stride: int, padding: int) -> None:
    places = len(range(0, length + 2 * padding - kernel + 1, stride))
    assert max(0, side(length, kernel, stride, padding)) == places


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(1, 4), st.integers(1, 300), st.integers(1, 4))
def test_an_encoder_meets_its_closed_form(layers: int, heads: int, tokens: int, batch: int) -> None:
    width, inner = 64 * heads, 256 * heads
    found = encoder_layers(Encoder(layers=layers, hidden=width, heads=heads, ffn=inner), batch, tokens)
    expected = batch * layers * (8 * tokens * width**2 + 4 * tokens**2 * width + 4 * tokens * width * inner)
    assert flops(found) == pytest.approx(expected)


def test_windows_of_attention_save_what_lies_outside() -> None:
    shape = {"layers": 8, "hidden": 64, "heads": 2, "ffn": 64}
    whole = encoder_layers(Encoder(**shape), 1, 256)
    cut = encoder_layers(Encoder(**shape, window=64, full=2), 1, 256)

    def attended(found: list[object]) -> float:
        return sum(one.flop * one.repeat for one in found if isinstance(one, Attention))

    assert attended(cut) == pytest.approx(attended(whole) * (2 + 6 / 4) / 8)


def test_work_grows_with_the_batch_and_weights_do_not() -> None:
    net = load("net", "resnet-50")
    one, many = operators(net, 1), operators(net, 32)
    assert flops(many) == 32 * flops(one)
    assert sum(op.weights for op in many) == sum(op.weights for op in one)


def test_a_net_is_of_one_family() -> None:
    with pytest.raises(SpecError, match=r"exactly one of resnet.*found resnet and vit"):
        Net(
            name="both", resnet=ResNet(blocks=(1,)), source="-",
            vit=Vit(image=32, patch=16, encoder=Encoder(layers=1, hidden=8, heads=1, ffn=8)),
        )  # fmt: skip
    with pytest.raises(SpecError, match="found none"):
        Net(name="none", source="-")
