"""Transforms of shapes: parameters, arithmetic and cache by hand."""

import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import load
from scaleout.models import kv_bytes, layer_kinds, layer_parameters, parameters, training_flops
from scaleout.models.compress import reshape
from scaleout.specs.compress import transforms

LLAMA, MIXTRAL, DEEPSEEK, QWEN = (
    load("model", name) for name in ("llama-3.1-8b", "mixtral-8x7b", "deepseek-v3", "qwen3-next-80b-a3b")
)
H, HEADS, KV, SIZE, FFN, VOCABULARY, LAYERS = 4096, 32, 8, 128, 14336, 128256, 32
EMBEDDING = VOCABULARY * H


def shaped(*texts, model=LLAMA):
    return reshape(model, transforms(texts))


def cache(model):
    return sum(kv_bytes(model, kind, "bf16") for kind in layer_kinds(model))


def matrices(model):
    """Parameters of a layer without its norms."""
    return layer_parameters(model) - 2 * model.hidden


@pytest.mark.parametrize(
    ("text", "fewer"),
    [
        ("drop_layers=0.25", 8 * (2 * H * (HEADS + KV) * SIZE + 3 * H * FFN + 2 * H)),
        ("heads=24", LAYERS * 2 * H * 8 * SIZE),
        ("prune_heads=0.25", LAYERS * 2 * H * 8 * SIZE),
        ("width=0.75", LAYERS * 3 * H * FFN // 4),
        ("hidden=0.75", LAYERS * H // 4 * (2 * (HEADS + KV) * SIZE + 3 * FFN + 2) + H // 4 * (2 * VOCABULARY + 1)),
        ("tie", EMBEDDING),
        ("share_layers=4", 24 * (2 * H * (HEADS + KV) * SIZE + 3 * H * FFN + 2 * H)),
        ("gqa=4", LAYERS * 2 * H * 4 * SIZE),
        ("mqa", LAYERS * 2 * H * 7 * SIZE),
        ("low_rank=512", LAYERS * (2 * H * (HEADS + KV) * SIZE + 3 * H * FFN
                                   - 512 * (4 * H + 2 * (HEADS + KV) * SIZE + 3 * FFN))),
    ],
)  # fmt: skip
def test_parameters_are_fewer_by_what_is_cut(text, fewer):
    assert parameters(LLAMA) - parameters(shaped(text)) == fewer


def test_compressed_keys_are_counted_as_deepseek_counts_its_own():
    model = shaped("mla=512+64")
    entry = H * HEADS * (SIZE + 64) + H * (512 + 64) + 512 * HEADS * 2 * SIZE
    assert matrices(model) == entry + HEADS * SIZE * H + 3 * H * FFN + 512
    # 576 numbers a layer in place of two times 1,024
    assert cache(model) / cache(LLAMA) == 576 / 2048


@pytest.mark.parametrize(
    ("text", "share"),
    [("drop_layers=0.25", 0.75), ("gqa=2", 0.25), ("mqa", 0.125), ("share_layers=8", 1.0), ("heads=24", 1.0),
     ("heads=28", 0.875), ("width=0.5", 1.0), ("low_rank=0.25", 1.0)],
)  # fmt: skip
def test_the_cache_holds_what_is_left(text, share):
    assert cache(shaped(text)) == share * cache(LLAMA)


def test_arithmetic_is_that_of_the_matrices_that_are_left():
    def layers(model):
        return training_flops(model, 1, 2048) - 6.0 * 2048 * model.vocabulary * model.hidden

    assert layers(shaped("drop_layers=0.5")) == layers(LLAMA) / 2
    # used as often as before
    assert training_flops(shaped("share_layers=8"), 1, 2048) == training_flops(LLAMA, 1, 2048)
    assert training_flops(shaped("tie"), 1, 2048) == training_flops(LLAMA, 1, 2048)
    for text in ("gqa=4", "width=0.75", "low_rank=512"):
        saved = (matrices(LLAMA) - matrices(shaped(text))) * LAYERS
        assert training_flops(LLAMA, 1, 2048) - training_flops(shaped(text), 1, 2048) == 6.0 * 2048 * saved


def test_experts_are_narrowed_and_layers_of_experts_are_dropped_from_the_end():
    narrow = shaped("width=0.5", model=DEEPSEEK)
    assert (narrow.experts.ffn, narrow.experts.shared_ffn, narrow.ffn) == (1024, 1024, 9216)
    fewer = shaped("drop_layers=0.5", model=DEEPSEEK)
    assert [kind.experts for kind in layer_kinds(fewer)[:5]] == [False, False, False, True, True]


def test_a_name_tells_what_was_done_and_no_alias_finds_it():
    model = shaped("tie", "drop_layers=0.25")
    assert model.name == "llama-3.1-8b, tie, drop_layers=0.25"
    assert model.aliases == ()
    assert reshape(LLAMA, transforms(["w4a16"])) is LLAMA


def test_two_of_one_stage_go_in_the_order_that_is_given():
    # 28 heads are not 8 groups; of 4 groups they are
    assert shaped("gqa=4", "heads=28").kv_heads == 4
    assert shaped("heads=28", "gqa=4").kv_heads == 4
    assert shaped("heads=28").kv_heads == 7
    assert shaped("low_rank=0.25", "hidden=0.5").rank == 2 * shaped("hidden=0.5", "low_rank=0.25").rank


@pytest.mark.parametrize(
    ("text", "model", "words"),
    [
        ("drop_layers=1.5", LLAMA, "the share of the layers"),
        ("drop_layers=0.999", LLAMA, "0 of 32 layers"),
        ("drop_layers=0.98", DEEPSEEK, "has experts"),
        ("heads=31", LLAMA, "nearest: 28"),
        ("heads=32", LLAMA, "expected 1 to 31"),
        ("prune_heads=0.25", QWEN, "linear attention"),
        ("gqa=8", LLAMA, "accepted: 1, 2, 4"),
        ("gqa=3", LLAMA, "accepted: 1, 2, 4"),
        ("mqa", DEEPSEEK, "all heads share already"),
        ("mla=512", LLAMA, "two widths"),
        ("mla=512+64", DEEPSEEK, "has compressed keys"),
        ("share_layers=5", LLAMA, "does not divide the 32 layers"),
        ("share_layers=1", LLAMA, "at least 2"),
        ("share_layers=2", QWEN, "not all alike"),
        ("low_rank=4096", LLAMA, "hold more than one"),
        ("low_rank=64", MIXTRAL, "experts"),
        ("tie", load("model", "gemma-2-27b"), "one matrix already"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_text(text, model, words):
    with pytest.raises(SpecError, match=words) as caught:
        shaped(text, model=model)
    assert str(caught.value).startswith(text)
