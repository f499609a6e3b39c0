"""Speech to text (Radford et al., arXiv 2212.04356): convolutions and an encoder once a window, a decoder a token."""

from scaleout.models.nets.convolution import Image, convolution
from scaleout.models.nets.operators import EACH, ONCE, Attention, Operator, Stage
from scaleout.models.nets.transformer import encoder_layers, feed_forward, linear, norm
from scaleout.specs.net import Whisper

__all__ = ["operators"]


def operators(net: Whisper, batch: float) -> tuple[Operator, ...]:
    """Operators of a batch of windows; the decoder's attention is that of a reply's middle."""
    sound = Image(batch, (net.frames,), net.mel)
    width = net.encoder.hidden
    first, sound = convolution("convolution 1", sound, width, 3, norm=False)
    second, sound = convolution("convolution 2", sound, width, 3, 2, norm=False)
    heard = sound.sides[0]
    # of every decoder layer keys and values of what was heard, once
    crossed = linear("cross keys and values", batch * heard, 2 * width, width, net.decoder_layers)
    return (
        first,
        second,
        *encoder_layers(net.encoder, batch, heard, "encoder "),
        crossed,
        *_decoder(net, batch, net.prompt, net.prompt, heard, ONCE),
        *(_decoder(net, batch, 1.0, net.prompt + net.reply / 2.0, heard, EACH) if net.reply > 1 else ()),
    )


def _decoder(net: Whisper, batch: float, new: float, context: float, heard: int, stage: Stage) -> list[Operator]:
    """All layers for `new` tokens of each window, the last of `context`."""
    width, heads, layers, rows = net.encoder.hidden, net.encoder.heads, net.decoder_layers, batch * new
    size = width / heads
    found: list[Operator] = [
        linear("queries, keys, values", rows, 3 * width, width, layers, stage=stage),
        Attention(
            "attention", batch, new, context, heads, heads, size, causal=True, cached=stage == EACH, repeat=layers,
            stage=stage,
        ),
        linear("output", rows, width, width, layers, stage=stage),
        linear("cross queries", rows, width, width, layers, stage=stage),
        Attention(
            "cross attention", batch, new, heard, heads, heads, size, cached=stage == EACH, repeat=layers, stage=stage
        ),
        linear("cross output", rows, width, width, layers, stage=stage),
        norm("residual and norm", rows, width, 3 * layers, stage=stage),
        *feed_forward(rows, width, net.encoder.ffn, False, layers, stage=stage),
        linear("logits", batch, net.vocabulary, width, bias=False, stage=stage),
    ]  # fmt: skip
    prefix = "prompt" if stage == ONCE else "reply"
    return [one._replace(name=f"{prefix} {one.name}") for one in found]
