"""Kinds of layers: which of a model's layers are alike."""

from typing import Literal, NamedTuple

from scaleout.specs import Model

__all__ = ["LayerKind", "layer_kinds"]


class LayerKind(NamedTuple):
    """What distinguishes a layer from others of its model.

    Parameters
    ----------
    attention
        "full"; "window", to the tokens of the model's window; "linear", with a state of fixed size.
    experts
        Its feed-forward block is a mixture of experts.
    part
        Of the "encoder", of the "decoder", or a "prediction" of tokens after the next.
    """

    attention: Literal["full", "window", "linear"] = "full"
    experts: bool = False
    part: Literal["encoder", "decoder", "prediction"] = "decoder"


def layer_kinds(model: Model) -> tuple[LayerKind, ...]:
    """The kind of each layer, in the order of the model: encoder, decoder, predictions.

    A prediction is a layer like the last of the decoder, with what leads into it.
    """
    encoder = [LayerKind(part="encoder")] * model.encoder
    if _alike(model):
        decoder = [LayerKind(_attention(model, 0), _has_experts(model, 0))] * model.layers
    else:
        decoder = [LayerKind(_attention(model, at), _has_experts(model, at)) for at in range(model.layers)]
    return (*encoder, *decoder, *[decoder[-1]._replace(part="prediction")] * model.predictions)


def _alike(model: Model) -> bool:
    """Whether all layers of the decoder are."""
    experts = model.experts
    windows = model.window is not None and model.global_every is not None
    return model.linear is None and not windows and (experts is None or (experts.first == 0 and experts.every == 1))


def _attention(model: Model, at: int) -> Literal["full", "window", "linear"]:
    if model.linear is not None:
        return "full" if (at + 1) % model.linear.every == 0 else "linear"
    if model.window is None or (model.global_every is not None and (at + 1) % model.global_every == 0):
        return "full"
    return "window"


def _has_experts(model: Model, at: int) -> bool:
    experts = model.experts
    return experts is not None and at >= experts.first and (at - experts.first) % experts.every == experts.every - 1
