"""A decoder of text that is given images: vision encoder, projector, prompt of image and text tokens, reply."""

from scaleout.models.nets import vit
from scaleout.models.nets.operators import EACH, ONCE, Operator
from scaleout.models.nets.transformer import decoder_layers, linear
from scaleout.specs.model import Model
from scaleout.specs.net import VisionLanguage

__all__ = ["operators"]


def operators(net: VisionLanguage, model: Model, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of samples; the reply's attention is that of its middle."""
    found = list(vit.operators(net.vision, batch * net.images, "vision "))
    rows = batch * net.image_tokens
    into = net.vision.encoder.hidden * net.merge**2
    for at, out in enumerate(net.projector, 1):
        found.append(linear(f"projector {at}", rows, out, into, activation=at < len(net.projector)))
        into = out
    prompt = net.image_tokens + net.text
    found += decoder_layers(model, batch, prompt, prompt, ONCE)
    if net.reply > 1:
        # the prompt gives the first token; the others see 1 ... reply - 1 of it besides
        found += decoder_layers(model, batch, 1.0, prompt + net.reply / 2.0, EACH)
    return tuple(found)
