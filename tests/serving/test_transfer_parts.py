"""Which chip sends what: every receiver gets its layers and heads once, from chips that hold them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.io.catalogue import load
from scaleout.models import LayerKind, cached_tokens, kv_bytes, layer_kinds, state_bytes
from scaleout.serving.parts import held_by, parts_between
from scaleout.serving.places import Place, heads_of, layers_of

NAMES = ("llama-3.1-8b", "deepseek-v2-lite", "gemma3-4b", "gpt-oss-20b", "qwen3-next-80b-a3b")
MODELS = {name: load("model", name) for name in NAMES}


def whole(name: str, tokens: int, dtype: str = "bf16") -> float:
    """Cache of a sequence over all layers [byte]."""
    model = MODELS[name]
    kinds = [kind for kind in layer_kinds(model) if kind.part == "decoder"]
    return sum(
        kv_bytes(model, kind, dtype) * cached_tokens(model, kind, tokens) + state_bytes(model, kind) for kind in kinds
    )


def test_published_sizes_of_a_token() -> None:
    # 2 x 8 heads x 128 x 2 bytes x 32 layers; (512 + 64) x 2 bytes x 61 layers
    llama = load("model", "llama-3.1-8b")
    assert kv_bytes(llama, LayerKind(), "bf16") * llama.layers == 131_072
    deepseek = load("model", "deepseek-v3")
    assert kv_bytes(deepseek, LayerKind(), "bf16") * deepseek.layers == 70_272
    assert kv_bytes(llama, LayerKind(), "fp8") * 2 == kv_bytes(llama, LayerKind(), "fp16")


def test_windows_and_states_do_not_grow_without_end() -> None:
    gemma, qwen = MODELS["gemma3-4b"], MODELS["qwen3-next-80b-a3b"]
    window = LayerKind("window")
    assert cached_tokens(gemma, window, 100) == 100
    assert cached_tokens(gemma, window, 10**6) == gemma.window
    linear = LayerKind("linear")
    assert kv_bytes(qwen, linear, "bf16") == 0 == cached_tokens(qwen, linear, 10**6)
    # 32 heads of values, 128 x 128 a state; 3 tokens of 2 x 16 x 128 + 32 x 128 numbers; 2 bytes each
    assert state_bytes(qwen, linear) == 2 * (32 * 128 * 128 + 3 * 8192)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)), *[st.sampled_from((1, 2, 4, 8, 16))] * 2, *[st.integers(1, 5)] * 2,
    st.integers(0, 1), st.integers(0, 2), st.integers(0, 5000),
)  # fmt: skip
def test_every_receiver_gets_its_share_and_every_sender_holds_what_it_sends(
    name: str, tp_a: int, tp_b: int, pp_a: int, pp_b: int, rank_a: int, rank_b: int, tokens: int
) -> None:
    model = MODELS[name]
    a, b = Place(0, tp_a, pp_a, 2), Place(1000, tp_b, pp_b, 3)
    parts = parts_between(model, a, rank_a, b, rank_b)
    # each pair once, from chips of the one attention rank to those of the other
    assert len({(part.source, part.target) for part in parts}) == len(parts)
    assert {part.source for part in parts} <= set(a.chips[:, rank_a].ravel().tolist())
    got: dict[int, float] = {}
    for part in parts:
        got[part.target] = got.get(part.target, 0.0) + part.nbytes(model, tokens, "bf16")
    held = {part.target: part.nbytes(model, tokens, "bf16") for part in held_by(model, b, rank_b)}
    assert sorted(held) == sorted(b.chips[:, rank_b].ravel().tolist())
    assert got == pytest.approx(held, rel=1e-12)
    # nobody sends a receiver more of a layer kind than it holds of it
    mine = {part.source: dict(part.shares) for part in held_by(model, a, rank_a)}
    for part in parts:
        for kind, share in part.shares:
            assert share <= mine[part.source][kind] * (1 + 1e-12)
    # copies of heads or of latent vectors are all that goes beyond one whole cache
    if model.latent is None and tp_b <= model.kv_heads:
        assert sum(got.values()) == pytest.approx(whole(name, tokens), rel=1e-12)
    else:
        assert sum(got.values()) >= whole(name, tokens) * (1 - 1e-12)


def test_latent_vectors_go_once_to_every_receiver() -> None:
    model = MODELS["deepseek-v2-lite"]
    for givers, takers in ((1, 8), (8, 1), (4, 4), (8, 2), (2, 8)):
        parts = parts_between(model, Place(0, givers), 0, Place(100, takers), 0)
        assert len(parts) == takers
        assert {part.nbytes(model, 7, "bf16") for part in parts} == {whole("deepseek-v2-lite", 7)}
        counts = [sum(part.source == chip for part in parts) for chip in range(givers)]
        # the load is spread as evenly as it can be
        assert max(counts) - min(counts) <= 1


def test_copies_of_a_head_share_the_receivers() -> None:
    # 8 heads on 16 chips: two hold each; 8 receivers of a head each take turns, whatever the way
    model = MODELS["llama-3.1-8b"]
    parts = parts_between(model, Place(0, 16), 0, Place(100, 16), 0)
    assert len({part.source for part in parts}) == 16
    assert heads_of(8, 16, 5) == range(2, 3)


def test_layers_are_dealt_out_whole_and_in_order() -> None:
    for layers in (1, 7, 61, 80):
        for pp in range(1, min(layers, 9) + 1):
            stages = layers_of(layers, pp)
            assert [at for stage in stages for at in stage] == list(range(layers))
            assert max(map(len, stages)) - min(map(len, stages)) <= 1
