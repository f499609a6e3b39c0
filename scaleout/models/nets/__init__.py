"""Networks beyond decoders of text as operators: convolutions, encoders, recommenders; see ``docs/nets.md``."""

from scaleout.models.nets import bert, detector, dlrm, resnet, unet3d, vision_language, vit, whisper
from scaleout.models.nets.operators import (
    EACH,
    ONCE,
    Attention,
    Exchange,
    Gather,
    Operator,
    Pass,
    Product,
    Stage,
    Widths,
    flops,
    macs,
)
from scaleout.specs.net import Net

__all__ = [
    "EACH",
    "ONCE",
    "Attention",
    "Exchange",
    "Gather",
    "Operator",
    "Pass",
    "Product",
    "Stage",
    "Widths",
    "flops",
    "macs",
    "net_parameters",
    "operators",
    "steps",
]  # fmt: skip


def operators(net: Net, batch: float) -> tuple[Operator, ...]:
    """What a net computes for a batch of samples, in order.

    Parameters
    ----------
    batch
        Samples: images, sequences, windows of sound, lists of items.
    """
    if net.resnet is not None:
        return resnet.operators(net.resnet, batch)
    if net.detector is not None:
        return detector.operators(net.detector, batch)
    if net.unet3d is not None:
        return unet3d.operators(net.unet3d, batch)
    if net.vit is not None:
        return vit.operators(net.vit, batch)
    if net.bert is not None:
        return bert.operators(net.bert, batch)
    if net.whisper is not None:
        return whisper.operators(net.whisper, batch)
    if net.dlrm is not None:
        return dlrm.operators(net.dlrm, batch)
    assert net.vision_language is not None and net.model is not None  # noqa: S101 - the spec has checked it
    return vision_language.operators(net.vision_language, net.model, batch)


def net_parameters(net: Net) -> float:
    """What was trained, embedding tables included [1]."""
    found = sum(one.weights * one.repeat for one in operators(net, 1.0) if one.stage == ONCE)
    if net.detector is not None:
        found -= detector.shared(net.detector)
    if net.bert is not None:
        # words, positions and the two kinds of segments
        found += (net.bert.vocabulary + net.bert.positions + 2) * net.bert.encoder.hidden
    if net.whisper is not None:
        # logits share the embedding of words; keys have no bias, and both last norms are fused where they are used
        body, width = net.whisper, net.whisper.encoder.hidden
        found += (body.positions + body.frames // 2 + 4 - body.encoder.layers - 2 * body.decoder_layers) * width
    if net.model is not None and not net.model.tied_embeddings:
        found += net.model.vocabulary * net.model.hidden
    return float(found)


def steps(net: Net) -> int:
    """Times that operators of the tokens' stage run: the first token of a reply comes with the prompt [token]."""
    body = net.whisper or net.vision_language
    return max(0, body.reply - 1) if body else 0
