"""Networks beyond decoders of text, by their dimensions."""

from dataclasses import dataclass
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.specs.model import Model
from scaleout.units import Count, Number, Positive, Seconds

__all__ = [
    "FAMILIES", "Bert", "Detector", "Dlrm", "Encoder", "Family", "Net", "ResNet", "UNet3d", "VisionLanguage", "Vit",
    "Whisper",
]  # fmt: skip

Family = Literal["resnet", "detector", "unet3d", "vit", "bert", "whisper", "dlrm", "vision_language"]
FAMILIES: tuple[Family, ...] = ("resnet", "detector", "unet3d", "vit", "bert", "whisper", "dlrm", "vision_language")
"""Keys of a net of which exactly one is given."""

_Some = Annotated[int, Number(low=0, high=1e12, above=False, integer=True)]
"""A whole number that may be 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResNet:
    """A residual network of images.

    Parameters
    ----------
    image, channels
        Side of the square input [pixel], and its channels.
    stem
        Channels after the first convolution (7 x 7, stride 2).
    blocks
        Blocks of each stage; every stage but the first halves the image.
    width
        Inner width of the first stage's blocks; it doubles from stage to stage.
    expansion
        Output width of a block over its inner width: 4 or 2 with three convolutions (bottleneck), 1 with two.
    groups
        Of channels of the 3 x 3 convolution of a bottleneck, each by itself (ResNeXt).
    stride_late
        The 3 x 3 convolution of a bottleneck has the stride (version 1.5); otherwise the first 1 x 1.
    classes
        Of the classifier.
    """

    image: Count = 224
    channels: Count = 3
    stem: Count = 64
    blocks: tuple[Count, ...]
    width: Count = 64
    expansion: Literal[1, 2, 4] = 4
    groups: Count = 1
    stride_late: bool = True
    classes: Count = 1000

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.blocks:
            raise SpecError("net.resnet.blocks: none; expected blocks of each stage, such as [3, 4, 6, 3]")
        if self.width % self.groups or (self.groups > 1 and self.expansion == 1):
            raise SpecError(f"net.resnet.groups: {self.groups} do not divide a bottleneck of width {self.width}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detector:
    """A detector of one stage: boxes and classes at every place of a pyramid of features (RetinaNet).

    Parameters
    ----------
    backbone
        Its stages but the first feed the pyramid; its classifier is left out.
    width
        Channels of pyramid and heads.
    extra_levels
        Of the pyramid above the backbone's last stage, each half as large.
    head_layers
        Convolutions of either head before its last.
    anchors
        Boxes of each place.
    classes
        Scored for each box.
    """

    backbone: ResNet
    width: Count = 256
    extra_levels: _Some = 2
    head_layers: Count = 4
    anchors: Count = 9
    classes: Count

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.backbone.blocks) < 2:
            raise SpecError("net.detector.backbone.blocks: one stage; a pyramid needs two at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class UNet3d:
    """A U-net of volumes, moved over an image window by window.

    Parameters
    ----------
    window
        Sides of a window [voxel].
    channels, classes
        Of input and output.
    filters
        Channels of each level, from the full resolution down; every level below the first halves the sides.
    windows
        Of an image of the data set, on the average [1].
    """

    window: tuple[Count, ...] = (128, 128, 128)
    channels: Count = 1
    filters: tuple[Count, ...]
    classes: Count
    windows: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        levels = len(self.filters)
        if len(self.window) != 3 or any(side % 2 ** max(0, levels - 1) for side in self.window):
            raise SpecError(
                f"net.unet3d.window: {list(self.window)} is not accepted; expected three sides that are multiples of "
                f"{2 ** max(0, levels - 1)}, for {levels} levels"
            )
        if levels < 2:
            raise SpecError(f"net.unet3d.filters: {list(self.filters)} is not accepted; expected two levels at least")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """Layers of a transformer that see all tokens.

    Parameters
    ----------
    layers, hidden, heads, ffn
        Depth, width, heads, inner width of the feed-forward block.
    gated
        Its feed-forward blocks have a gate.
    window, full
        All layers but `full` of them attend inside windows of so many tokens; None: all attend to all.
    """

    layers: Count
    hidden: Count
    heads: Count
    ffn: Count
    gated: bool = False
    window: Count | None = None
    full: _Some = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.hidden % self.heads:
            raise SpecError(f"encoder.heads: {self.heads} heads do not divide the width {self.hidden}")
        if self.full > self.layers:
            raise SpecError(f"encoder.full: {self.full} of {self.layers} layers; at most all of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Vit:
    """A transformer of images.

    Parameters
    ----------
    image, channels, patch
        Side of the input [pixel], its channels, side of a patch [pixel].
    frames
        Images that a patch spans in time (a still image is repeated).
    class_token
        One token more than there are patches.
    classes
        Of the classifier; 0 where there is none.
    """

    image: Count
    channels: Count = 3
    patch: Count
    frames: Count = 1
    encoder: Encoder
    class_token: bool = True
    classes: _Some = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if self.image % self.patch:
            raise SpecError(f"net.vit.image: {self.image} pixels are no multiple of patches of {self.patch}")

    @property
    def tokens(self) -> int:
        """Of an image [token]."""
        return (self.image // self.patch) ** 2 + int(self.class_token)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bert:
    """A transformer of text that is an encoder alone, with a question-answering head.

    Parameters
    ----------
    vocabulary, positions
        Rows of the embeddings of words, and of positions.
    sequence
        Longest sequence of the task; a shorter one is padded to it [token].
    tokens
        Of a sequence of the task on the average, where padding is left out; None: it is computed along [token].
    """

    encoder: Encoder
    vocabulary: Count
    positions: Count = 512
    sequence: Count
    tokens: Positive | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.tokens is not None and self.tokens > self.sequence:
            raise SpecError(f"net.bert.tokens: {self.tokens} of {self.sequence}; at most all of them")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whisper:
    """Speech to text: an encoder of a window of sound, a decoder that attends to it.

    Parameters
    ----------
    mel, frames
        Channels and frames of the spectrogram of a window; the second convolution halves the frames.
    seconds
        Of sound in a window [s].
    encoder
        Its layers.
    decoder_layers
        Of the same widths.
    vocabulary, positions
        Of the text: tokens, and how many of them at most.
    prompt, reply
        Tokens of a window that the decoder is given, and that it puts out.
    """

    mel: Count
    frames: Count
    seconds: Seconds = 30.0
    encoder: Encoder
    decoder_layers: Count
    vocabulary: Count
    positions: Count = 448
    prompt: Count = 4
    reply: _Some

    def __post_init__(self) -> None:
        check_fields(self)
        if self.prompt + self.reply > self.positions:
            raise SpecError(
                f"net.whisper.reply: {self.reply} tokens after {self.prompt} of the prompt; at most {self.positions} "
                "in all"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dlrm:
    """A recommender: embedding tables, a cross network of low rank, perceptrons.

    Parameters
    ----------
    dense
        Numbers that go into the bottom perceptron.
    bottom, top
        Widths of the layers of the perceptrons.
    dimension
        Elements of a row of a table.
    rows, lookups
        Rows of each table, and rows of it that an item reads and sums.
    cross_layers, cross_rank
        Of the cross network (DCNv2).
    pairs
        Pairs of a user and an item in a sample, on the average [1].
    """

    dense: Count
    bottom: tuple[Count, ...]
    top: tuple[Count, ...]
    dimension: Count
    rows: tuple[Count, ...]
    lookups: tuple[Count, ...]
    cross_layers: Count
    cross_rank: Count
    pairs: Positive = 1.0

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.rows) != len(self.lookups) or not self.rows:
            raise SpecError(
                f"net.dlrm.lookups: {len(self.lookups)} for {len(self.rows)} tables; expected one for each table"
            )
        if not self.top or self.bottom[-1:] != (self.dimension,):
            raise SpecError(
                f"net.dlrm.bottom: {list(self.bottom)} is not accepted; its last layer gives the {self.dimension} "
                "elements of a row, and top has one layer at least"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionLanguage:
    """A decoder of text that is given images: a vision encoder, a projector, then the net's `model`.

    Parameters
    ----------
    vision
        The encoder.
    merge
        Side of the square of patches that become one token.
    projector
        Widths of its layers; the last is the decoder's.
    images
        Of a sample.
    text, reply
        Tokens of the question, and of the answer.
    """

    vision: Vit
    merge: Count = 1
    projector: tuple[Count, ...]
    images: Count = 1
    text: Count
    reply: _Some

    def __post_init__(self) -> None:
        check_fields(self)
        side = self.vision.image // self.vision.patch
        if side % self.merge:
            raise SpecError(f"net.vision_language.merge: {self.merge} does not divide the {side} patches of a side")
        if not self.projector:
            raise SpecError("net.vision_language.projector: none; expected the widths of its layers")

    @property
    def image_tokens(self) -> int:
        """Tokens that the decoder is given for all images of a sample [token]."""
        return self.images * (self.vision.image // self.vision.patch // self.merge) ** 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A network by its dimensions: exactly one of the families is given.

    Parameters
    ----------
    model
        The decoder of a vision-language net.
    sample
        What one sample is, in a word or two.
    source
        Where the dimensions come from.
    unverified
        Fields that nobody has checked against a source.
    """

    name: str
    resnet: ResNet | None = None
    detector: Detector | None = None
    unet3d: UNet3d | None = None
    vit: Vit | None = None
    bert: Bert | None = None
    whisper: Whisper | None = None
    dlrm: Dlrm | None = None
    vision_language: VisionLanguage | None = None
    model: Model | None = None
    sample: str = "sample"
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        given = [name for name in FAMILIES if getattr(self, name) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise SpecError(f"net {self.name!r}: expected exactly one of {', '.join(FAMILIES)}; found {found}")
        if (self.vision_language is None) != (self.model is None):
            raise SpecError(f"net {self.name!r}: vision_language and model are given together or not at all")
        if self.vision_language is not None and self.model is not None:
            self._check_decoder(self.vision_language, self.model)

    def _check_decoder(self, body: VisionLanguage, model: Model) -> None:
        if model.experts or model.latent or model.linear or model.encoder or not model.causal:
            raise SpecError(f"net.model: {model.name} is no dense decoder; only those see images here")
        if body.projector[-1] != model.hidden:
            raise SpecError(
                f"net.vision_language.projector: its last layer gives {body.projector[-1]}, and {model.name} takes "
                f"{model.hidden}"
            )

    @property
    def family(self) -> Family:
        """Which of the families it is."""
        return next(name for name in FAMILIES if getattr(self, name) is not None)
