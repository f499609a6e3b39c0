"""Models with fewer layers, heads, widths or weights: each transform a function from a model to a model.

What every one of them does to parameters, arithmetic and cache follows from the shape it gives; see
``docs/compression.md``.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from scaleout.errors import SpecError
from scaleout.models.transformer import parameters
from scaleout.specs import Latent, Model
from scaleout.specs.compress import STRUCTURE, Transform

__all__ = ["reshape"]

_GRID = 8
"""Widths that are cut by a share stay a multiple of this: tensor cores take no other at full rate."""


def reshape(model: Model, transforms: Iterable[Transform]) -> Model:
    """The model after all transforms of its shape, in their order; its name tells them.

    Raises
    ------
    SpecError
        One does not fit the model.
    """
    names = []
    for one in transforms:
        if one.stage == STRUCTURE:
            try:
                model = _RESHAPED[one.name](model, one)
            except SpecError as error:
                text = str(error)
                raise SpecError(text if text.startswith(str(one)) else f"{one}: {text}") from None
            names.append(str(one))
    if not names:
        return model
    return replace(model, name=f"{model.name}, {', '.join(names)}", aliases=())


def _dropped(model: Model, one: Transform) -> Model:
    """The last layers of the decoder, and of an encoder, are gone."""
    layers, encoder = (round(count * (1.0 - one.share)) for count in (model.layers, model.encoder))
    if not 1 <= layers < model.layers or (model.encoder and not encoder):
        raise SpecError(f"{one}: {layers} of {model.layers} layers are left; expected 1 to {model.layers - 1}")
    if model.experts is not None and layers < model.experts.first + model.experts.every:
        raise SpecError(f"{one}: none of the {layers} layers that are left has experts")
    return replace(model, layers=layers, encoder=encoder)


def _with_heads(model: Model, one: Transform) -> Model:
    """As many queries of every group go, which leaves the cache as it is; else whole groups with keys and values."""
    if model.linear is not None:
        raise SpecError(f"{one}: heads of linear attention are of several kinds; no rule says which go")
    heads = one.count if one.name == "heads" else round(model.heads * (1.0 - one.share))
    group = model.heads // model.kv_heads
    if not 1 <= heads < model.heads:
        raise SpecError(f"{one}: {heads} of {model.heads} heads are left; expected 1 to {model.heads - 1}")
    if model.latent is not None:
        return replace(model, heads=heads, kv_heads=heads)
    if heads % model.kv_heads == 0:
        return replace(model, heads=heads)
    if heads % group == 0:
        return replace(model, heads=heads, kv_heads=heads // group)
    raise SpecError(
        f"{one}: {heads} heads are neither whole groups of {group} nor as many of each of the {model.kv_heads} groups; "
        f"nearest: {max(group, heads // group * group)}"
    )


def _cut(width: int, one: Transform) -> int:
    """A share of a width, on the grid."""
    return max(_GRID, round(width * one.share / _GRID) * _GRID)


def _narrower(model: Model, one: Transform) -> Model:
    """Feed-forward blocks, those of experts too."""
    experts = model.experts
    if experts is not None:
        shared = _cut(experts.shared_ffn, one) if experts.shared_ffn else 0
        experts = replace(experts, ffn=_cut(experts.ffn, one), shared_ffn=shared)
    return replace(model, ffn=_cut(model.ffn, one), experts=experts)


def _thinner(model: Model, one: Transform) -> Model:
    """The width between layers; heads stay as they are."""
    return replace(model, hidden=_cut(model.hidden, one))


def _tied(model: Model, one: Transform) -> Model:
    if model.tied_embeddings:
        raise SpecError(f"{one}: embedding and output head of {model.name} are one matrix already")
    return replace(model, tied_embeddings=True)


def _shared(model: Model, one: Transform) -> Model:
    if one.count < 2:
        raise SpecError(f"{one}: expected at least 2 layers")
    return replace(model, shared_layers=model.shared_layers * one.count)


def _grouped(model: Model, one: Transform) -> Model:
    kept = 1 if one.name == "mqa" else one.count
    if model.latent is not None:
        raise SpecError(f"{one}: {model.name} keeps compressed keys, which all heads share already")
    if not 1 <= kept < model.kv_heads or model.heads % kept:
        fits = [str(n) for n in range(1, model.kv_heads) if model.heads % n == 0]
        raise SpecError(
            f"{one}: {model.name} has {model.heads} query and {model.kv_heads} key heads; "
            f"accepted: {', '.join(fits) or 'none'}"
        )
    return replace(model, kv_heads=kept)


def _latent(model: Model, one: Transform) -> Model:
    """Heads keep their size, and get a rotary part besides."""
    rank, plus, rope = one.value.partition("+")
    if not (plus and rank.strip().isdecimal() and rope.strip().isdecimal() and int(rank) > 0 and int(rope) > 0):
        raise SpecError(f"{one}: expected two widths, such as mla=512+64")
    has = {
        "compressed keys": model.latent, "linear attention": model.linear, "a window": model.window,
        "an encoder": model.encoder, "a gate on its attention": model.output_gate, "matrices in two": model.rank,
    }  # fmt: skip
    if found := [name for name, value in has.items() if value]:
        raise SpecError(f"{one}: {model.name} has {' and '.join(found)}; no time model has both")
    latent = Latent(key_rank=int(rank), nope=model.head_size, rope=int(rope), value=model.head_size)
    return replace(model, latent=latent, kv_heads=model.heads, query_norm=False)


def _low_rank(model: Model, one: Transform) -> Model:
    if model.rank:
        raise SpecError(f"{one}: matrices of {model.name} are in two already")
    rank = _cut(model.hidden, one) if one.number < 1.0 else one.count
    made = replace(model, rank=rank)
    if parameters(made) >= parameters(model):
        raise SpecError(f"{one}: two matrices of inner width {rank} hold more than one; take a smaller one")
    return made


_RESHAPED: dict[str, Callable[[Model, Transform], Model]] = {
    "drop_layers": _dropped, "heads": _with_heads, "prune_heads": _with_heads, "width": _narrower, "hidden": _thinner,
    "tie": _tied, "share_layers": _shared, "gqa": _grouped, "mqa": _grouped, "mla": _latent, "low_rank": _low_rank,
}  # fmt: skip
