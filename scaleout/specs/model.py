"""A model: the shape of a transformer decoder."""

from dataclasses import dataclass
from typing import Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count

__all__ = ["Model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A dense decoder-only transformer.

    Parameters
    ----------
    layers, hidden, heads, kv_heads, head_size, ffn
        Depth, width, query heads, key and value heads (fewer for grouped queries), size of a
        head, inner width of the feed-forward block.
    vocabulary
        Tokens of the embedding and of the output head.
    gated
        Feed-forward block with a gate (three matrices) or without (two).
    norm
        "rms" has one vector a norm, "layer" has two.
    bias
        Matrices of the layers carry a bias.
    positions
        "rope", or "learned": an embedding of `max_sequence` positions.
    tied_embeddings
        Output head and embedding are one matrix.
    max_sequence
        Longest sequence that the model was made for [token].
    """

    name: str
    layers: Count
    hidden: Count
    heads: Count
    kv_heads: Count
    head_size: Count
    ffn: Count
    vocabulary: Count
    gated: bool
    norm: Literal["rms", "layer"]
    bias: bool
    positions: Literal["rope", "learned"]
    tied_embeddings: bool
    max_sequence: Count
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        if self.heads % self.kv_heads:
            raise SpecError(
                f"model.kv_heads: {self.kv_heads} does not divide the {self.heads} query heads of {self.name!r}"
            )
