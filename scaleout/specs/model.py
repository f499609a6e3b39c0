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
        Feed-forward block with a gate (three matrices, whatever the activation: SwiGLU, GeGLU)
        or without (two).
    norm
        "rms" has one vector a norm, "layer" has two, "layer_no_shift" is a layer norm with its
        scale alone.
    bias
        Matrices of the layers carry a bias: all (true), none (false), or those of queries, keys
        and values ("qkv").
    positions
        "rope"; "learned": an embedding of `max_sequence` positions; "alibi": a slope a head, no
        parameters; "none".
    tied_embeddings
        Output head and embedding are one matrix.
    max_sequence
        Longest sequence that the model was made for [token].
    window
        A token attends to this many before it [token]; None for all. Sequences above it are
        refused, up to it a window changes nothing.
    embedding_norm
        A norm follows the token embedding.
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
    norm: Literal["rms", "layer", "layer_no_shift"]
    bias: Literal[True, False, "qkv"]
    positions: Literal["rope", "learned", "alibi", "none"]
    tied_embeddings: bool
    max_sequence: Count
    window: Count | None = None
    embedding_norm: bool = False
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        if self.heads % self.kv_heads:
            raise SpecError(
                f"model.kv_heads: {self.kv_heads} does not divide the {self.heads} query heads of {self.name!r}"
            )
