"""A model: the shape of a transformer."""

from dataclasses import dataclass
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count, Number

__all__ = ["Experts", "Latent", "LinearAttention", "Model"]

_Some = Annotated[int, Number(low=0, high=1e12, above=False, integer=True)]
"""A whole number that may be 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Feed-forward blocks of which each token takes a few.

    Parameters
    ----------
    count, top_k
        Experts of a layer, and those that a token goes to.
    ffn
        Inner width of one.
    shared_ffn
        Inner width of what every token goes through besides, all shared experts together; 0 for none.
    first
        Layers before the first that has experts: those are dense, of the model's `ffn`.
    every
        From there on each so-many-th layer has experts (1: all; 2: the second, the fourth ...).
    groups, group_limit
        Experts lie in so many groups, and a token's are picked from at most so many of them; None
        for no limit. With expert parallelism a group is what its share of the ranks holds.
    """

    count: Count
    top_k: Count
    ffn: Count
    shared_ffn: _Some = 0
    first: _Some = 0
    every: Count = 1
    groups: Count | None = None
    group_limit: Count | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.top_k > self.count:
            raise SpecError(f"model.experts.top_k: {self.top_k} of {self.count} experts; at most all of them")
        if (self.groups is None) != (self.group_limit is None):
            raise SpecError("model.experts: groups and group_limit are given together or not at all")
        if self.groups is not None and self.count % self.groups:
            raise SpecError(f"model.experts.groups: {self.groups} does not divide the {self.count} experts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Latent:
    """Keys and values compressed to a vector that all heads share (multi-head latent attention).

    Parameters
    ----------
    query_rank, key_rank
        Width of the compressed queries (0: queries are not compressed), and of keys and values.
    nope, rope, value
        Size of a head: of queries and keys without and with rotary positions, and of values.

    References
    ----------
    DeepSeek-V2, arXiv 2405.04434, section 2.1.
    """

    query_rank: _Some = 0
    key_rank: Count
    nope: Count
    rope: Count
    value: Count

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearAttention:
    """Layers whose attention keeps a state of fixed size (gated delta rule) in place of keys and values.

    Parameters
    ----------
    key_heads, value_heads, key_size, value_size
        Heads of queries and keys, of values, and their sizes.
    convolution
        Tokens that the short convolution before it spans.
    every
        Each so-many-th layer attends to all tokens in the ordinary way.
    """

    key_heads: Count
    value_heads: Count
    key_size: Count
    value_size: Count
    convolution: Count = 4
    every: Count = 4

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A transformer: a decoder, dense or with experts, or an encoder and a decoder.

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
        A token attends to this many before it [token]; None for all.
    global_every
        Of a model with a window, each so-many-th layer attends to all tokens; None for no layer.
    blocks
        The window is a block that tokens share (they attend to those before them in their own), not
        one that moves along with each token.
    embedding_norm
        A norm follows the token embedding.
    post_norms
        What attention and feed-forward block give has a norm besides that before them (Gemma 2, Grok-1).
    query_norm
        Queries and keys of each head have a norm.
    output_gate
        What attention gives is multiplied by a gate as wide, computed beside the queries (Qwen3-Next).
    experts, latent, linear
        Mixture of experts, compressed keys and values, layers of linear attention; None for none.
    predictions
        Layers that predict tokens after the next while training (multi-token prediction), each with
        a projection from twice the width; they share embedding and head.
    encoder
        Layers of an encoder, of the same widths, whose output every decoder layer attends to besides;
        0 for a decoder alone.
    causal
        A token of the decoder attends to those before it; false for a model that is an encoder alone.
    shared_layers
        So many layers that follow each other are one set of weights, used several times (ALBERT); 1 for none.
    rank
        Matrices of the layers, stacked as kernels read them, are two of this inner width; 0 for whole ones.
    aliases
        Other names that it is known by.
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
    global_every: Count | None = None
    blocks: bool = False
    embedding_norm: bool = False
    post_norms: bool = False
    query_norm: bool = False
    output_gate: bool = False
    experts: Experts | None = None
    latent: Latent | None = None
    linear: LinearAttention | None = None
    predictions: _Some = 0
    encoder: _Some = 0
    causal: bool = True
    shared_layers: Count = 1
    rank: _Some = 0
    aliases: tuple[str, ...] = ()
    source: str

    def __post_init__(self) -> None:
        check_fields(self)
        if self.heads % self.kv_heads:
            raise SpecError(
                f"model.kv_heads: {self.kv_heads} does not divide the {self.heads} query heads of {self.name!r}"
            )
        if self.shared_layers > 1:
            self._check_shared()
        if self.rank and (self.experts or self.latent or self.linear or self.encoder or self.predictions):
            raise SpecError(
                f"model.rank: matrices of {self.name!r} are not those of a plain decoder (experts, latent or linear "
                "attention, an encoder, predictions); no time model exists for two in place of each"
            )
        if not self.causal and (self.encoder or self.predictions):
            raise SpecError(f"model.causal: {self.name!r} is an encoder alone, it has no encoder and no predictions")

    def _check_shared(self) -> None:
        """Refuse weights that several layers share, and that are not alike."""
        experts = self.experts
        mixed = experts is not None and (experts.first > 0 or experts.every > 1)
        if self.layers % self.shared_layers:
            raise SpecError(
                f"model.shared_layers: {self.shared_layers} does not divide the {self.layers} layers of {self.name!r}"
            )
        if mixed or self.linear is not None or self.global_every is not None or self.encoder or self.predictions:
            raise SpecError(
                f"model.shared_layers: layers of {self.name!r} are not all alike, so that none can take the weights of "
                "another; accepted: 1"
            )
