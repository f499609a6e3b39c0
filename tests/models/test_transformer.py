import re
from dataclasses import replace
from pathlib import Path

import pytest

from scaleout.io.catalogue import list_names, load
from scaleout.models import (
    LayerKind,
    active_parameters,
    layer_kinds,
    layer_parameters,
    parameters,
    scored_pairs,
    training_flops,
)

PUBLISHED = {
    # counts of the released checkpoints (model cards, safetensors indices)
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
    "llama-3.2-1b": 1_235_814_400,
    "llama-3.2-3b": 3_212_749_824,
    "llama-3.3-70b": 70_553_706_496,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "gemma-2b": 2_506_172_416,
    "gemma-7b": 8_537_680_896,
}
CLASSIC = {
    # no gate; counts of the released checkpoints
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "mpt-7b": 6_649_286_656,
    "bloom-560m": 559_214_592,
    "bloom-1b1": 1_065_314_304,
    "bloom-1b7": 1_722_408_960,
    "bloom-3b": 3_002_557_440,
    "bloom-7b1": 7_069_016_064,
    "bloom-176b": 176_247_271_424,
}
FOUNDRY = {
    # llm-foundry's table of benchmarks, in billions, by sequence length
    ("mpt-125m-foundry", 2048): 0.125,
    ("mpt-350m-foundry", 2048): 0.356,
    ("mpt-760m-foundry", 2048): 0.760,
    ("mpt-1b-foundry", 2048): 1.316,
    ("mpt-3b-foundry", 2048): 2.652,
    ("mpt-7b-foundry", 2048): 6.659,
    ("mpt-7b-foundry", 65536): 6.919,
    ("mpt-13b-foundry", 2048): 12.854,
    ("mpt-30b-foundry", 512): 29.964,
    ("mpt-30b-foundry", 2048): 29.975,
    ("mpt-70b-foundry", 2048): 64.862,
}
RELEASED = {
    # counts of the released checkpoints (safetensors indices), text part alone, without what the
    # file's source names as left out
    "mixtral-8x7b": 46_702_792_704,
    "mixtral-8x22b": 140_630_071_296,
    "deepseek-v2-lite": 15_706_484_224,
    "deepseek-v2": 235_741_434_880,
    "qwen3-0.6b": 596_049_920,
    "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
    "qwen3-30b-a3b": 30_532_122_624,
    "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-coder-480b-a35b": 480_154_875_392,
    "gemma2-2b": 2_614_341_888,
    "gemma2-9b": 9_241_705_984,
    "gemma2-27b": 27_227_128_320,
    "gemma3-1b": 999_885_952,
    # a number a head and layer is learned for the softmax besides
    "gpt-oss-20b": 20_914_757_184 - 24 * 64,
    "gpt-oss-120b": 116_829_156_672 - 36 * 64,
    # biases of relative positions: 32 a head, in encoder and decoder
    "t5-base": 222_903_552 - 32 * 12 * 2,
    "t5-3b": 2_851_598_336 - 32 * 32 * 2,
    "t5-11b": 11_307_321_344 - 32 * 128 * 2,
}
ROUNDED = {
    # billions in all, as the papers and cards of the files' sources give them
    "deepseek-v2-lite": 15.7,
    "deepseek-v2": 236,
    "kimi-k2": 1026,
    "qwen3-next-80b-a3b": 80,
    "llama-4-maverick": 400,
    "grok-1": 314,
    "nemotron4-15b": 15.6,
    "gemma3-4b": 3.88,
    "gemma3-12b": 11.8,
    "gemma3-27b": 27.0,
    "mt5-xxl": 13,
    "palm-540b": 540,
    "lamda-137b": 137,
    "olmo3-7b": 7.3,
    "olmo3-32b": 32.2,
    "bert-base": 0.1095,
    "bert-large": 0.335,
    "vit-b-16": 0.0866,
    "vit-l-16": 0.304,
    "vit-h-14": 0.632,
    "whisper-large-v3": 1.543,
}
ACTIVE = {
    # billions that a token goes through, and whether the source counts the embedding's and the head's
    "mixtral-8x7b": (12.9, 2),
    "mixtral-8x22b": (39, 2),
    "deepseek-v2": (21.4, 2),
    "deepseek-v2-lite": (2.4, 1),
    "deepseek-v3": (37, 2),
    "kimi-k2": (32.6, 2),
    "qwen3-30b-a3b": (3.3, 2),
    "qwen3-235b-a22b": (22, 2),
    "qwen3-coder-480b-a35b": (35, 2),
    "gpt-oss-20b": (3.61, 1),
    "gpt-oss-120b": (5.13, 1),
    "llama-4-scout": (17, 2),
    "llama-4-maverick": (17, 2),
}
GPT3 = {
    # arXiv 2005.14165, table 2.1, in millions
    "gpt3-125m": 125,
    "gpt3-350m": 356,
    "gpt3-760m": 760,
    "gpt3-1.3b": 1320,
    "gpt3-2.7b": 2650,
    "gpt3-6.7b": 6660,
    "gpt3-13b": 12850,
    "gpt3-175b": 174600,
}


@pytest.mark.parametrize(("name", "count"), (PUBLISHED | CLASSIC | RELEASED).items())
def test_parameters_are_the_published_count(name: str, count: int) -> None:
    assert parameters(load("model", name)) == count


@pytest.mark.parametrize(("name", "billions"), ROUNDED.items())
def test_parameters_are_within_a_percent_of_what_papers_say(name: str, billions: float) -> None:
    assert parameters(load("model", name)) / 1e9 == pytest.approx(billions, rel=0.01)


@pytest.mark.parametrize(("name", "case"), ACTIVE.items())
def test_active_parameters_are_what_papers_say(name: str, case: tuple[float, int]) -> None:
    billions, ends = case
    model = load("model", name)
    counted = active_parameters(model) - (2 - ends) * model.vocabulary * model.hidden
    assert counted / 1e9 == pytest.approx(billions, rel=0.025)


def test_deepseek_v3_is_the_main_model_and_its_prediction() -> None:
    # README_WEIGHTS of the release: 671B of the main model, 11.5B that are the prediction's alone
    model = load("model", "deepseek-v3")
    main = parameters(replace(model, predictions=0))
    assert main == 671_026_404_352
    assert (parameters(model) - main) / 1e9 == pytest.approx(11.5, rel=0.01)


def test_scout_lacks_its_images_and_gopher_and_chinchilla_their_relative_positions() -> None:
    # 109B with 0.86B of the vision part; 280B and 70B with a width squared a layer
    assert parameters(load("model", "llama-4-scout")) / 1e9 == pytest.approx(109 - 0.86, rel=0.01)
    for name, billions in (("gopher-280b", 280), ("chinchilla-70b", 70)):
        model = load("model", name)
        assert (parameters(model) + model.layers * model.hidden**2) / 1e9 == pytest.approx(billions, rel=0.01)


def test_a_quarter_of_groks_weights_is_active() -> None:
    # xai-org/grok-1: "25% of the weights active on a given token"
    model = load("model", "grok-1")
    assert active_parameters(model) / parameters(model) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "llama-4-maverick", "deepseek-v3", "gpt-oss-120b"])
def test_a_token_goes_through_all_parameters_where_it_goes_to_all_experts(name: str) -> None:
    model = replace(load("model", name), predictions=0)
    assert model.experts is not None
    everywhere = replace(model, experts=replace(model.experts, top_k=model.experts.count))
    assert active_parameters(everywhere) == parameters(model)
    assert active_parameters(model) < parameters(model)


@pytest.mark.parametrize("name", sorted(ACTIVE))
def test_six_flops_an_active_parameter_and_token_but_for_attention(name: str) -> None:
    # of one token attention is next to nothing; vectors (norms, biases) and the embedding take no products
    model = replace(load("model", name), predictions=0)
    matrices = active_parameters(model) - model.vocabulary * model.hidden
    assert training_flops(model, 1, 1) == pytest.approx(6 * matrices, rel=3e-3)


def test_flops_of_latent_attention_equal_those_of_the_heads_it_stands_for() -> None:
    model = load("model", "deepseek-v2-lite")
    latent = model.latent
    assert latent is not None
    growth = training_flops(model, 1, 8192) / 8192 - training_flops(model, 1, 4096) / 4096
    assert growth == 6 * 4096 * model.layers * model.heads * (latent.nope + latent.rope + latent.value)


def test_flops_of_linear_attention_grow_with_tokens_alone() -> None:
    model = load("model", "qwen3-next-80b-a3b")
    assert model.linear is not None
    linear = replace(model, linear=replace(model.linear, every=model.layers + 1))
    assert training_flops(linear, 1, 8192) == pytest.approx(8 * training_flops(linear, 1, 1024), rel=1e-12)
    # a quarter of the layers attends to all tokens
    growth = training_flops(model, 1, 8192) / 8192 - training_flops(model, 1, 4096) / 4096
    assert growth == 6 * 4096 * 12 * 2 * model.heads * model.head_size


def test_encoder_decoder_flops_are_those_of_its_parts() -> None:
    model = load("model", "t5-base")
    h, s = model.hidden, 512
    encoder = 4 * h * h + 2 * h * model.ffn + 2 * s * h
    decoder = encoder + 4 * h * h + 2 * s * h
    head = model.vocabulary * h
    assert training_flops(model, 4, s) == 6 * 4 * s * (12 * encoder + 12 * decoder + head)


@pytest.mark.parametrize("blocks", [True, False])
@pytest.mark.parametrize(("tokens", "window"), [(1, 1), (7, 3), (12, 4), (12, 12), (5, 9), (13, 1)])
def test_pairs_in_a_window_are_those_of_the_mask(tokens: int, window: int, blocks: bool) -> None:
    model = replace(load("model", "mistral-7b-v0.1"), window=window, blocks=blocks)
    seen = sum(
        (i // window == j // window) if blocks else abs(i - j) < window for i in range(tokens) for j in range(tokens)
    )
    assert scored_pairs(model, LayerKind("window"), tokens) == seen
    assert scored_pairs(model, LayerKind("full"), tokens) == tokens**2


def test_layers_by_kind_sum_to_the_model() -> None:
    for name in ("deepseek-v3", "qwen3-next-80b-a3b", "gemma3-4b", "t5-11b", "llama-4-maverick"):
        model = load("model", name)
        layers = sum(layer_parameters(model, kind) for kind in layer_kinds(model))
        ends = parameters(replace(model, layers=1, encoder=0, predictions=0, experts=None, linear=None, window=None))
        first = layer_parameters(replace(model, encoder=0, experts=None, linear=None), LayerKind())
        assert parameters(model) == layers + ends - first + (model.hidden if model.encoder else 0), name


@pytest.mark.parametrize(("case", "billions"), FOUNDRY.items())
def test_parameters_of_the_benchmark_models_are_those_of_its_table(case: tuple[str, int], billions: float) -> None:
    name, sequence = case
    model = replace(load("model", name), max_sequence=sequence)
    assert round(parameters(model) / 1e9, 3) == billions


@pytest.mark.parametrize(("name", "millions"), GPT3.items())
def test_gpt3_parameters_are_those_of_the_paper(name: str, millions: float) -> None:
    assert parameters(load("model", name)) / 1e6 == pytest.approx(millions, rel=5e-3)


@pytest.mark.parametrize("name", sorted(GPT3))
def test_flops_of_gpt_equal_the_formula_of_megatron(name: str) -> None:
    # arXiv 2104.04473: 96 B s l h^2 (1 + s/6h + V/16lh) with full recomputation, a quarter of the
    # layers' part being the second forward; without it 72 B s l h^2 (1 + s/6h + V/12lh)
    model = load("model", name)
    batch, s, layers, h, v = 512, 2048, model.layers, model.hidden, model.vocabulary
    formula = 72 * batch * s * layers * h**2 * (1 + s / (6 * h) + v / (12 * layers * h))
    assert training_flops(model, batch, s) == pytest.approx(formula, rel=1e-3)


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_flops_with_grouped_queries_and_gate_equal_the_formula_of_megatron(name: str) -> None:
    # Megatron-LM, num_floating_point_operations: the form with query groups and SwiGLU
    model = replace(load("model", name), window=None)
    batch, s, h = 16, 8192, model.hidden
    width = model.heads * model.head_size / h  # 1 but for models whose heads are wider or narrower
    attention = width * (1 + model.kv_heads / model.heads + s / h)
    mlp = model.ffn / h * 1.5
    logits = model.vocabulary / (2 * model.layers * h)
    formula = 12 * batch * s * model.layers * h**2 * (attention + mlp + logits)
    assert training_flops(model, batch, s) == pytest.approx(formula, rel=1e-3)


def test_six_flops_a_parameter_and_token_but_for_attention_and_the_embedding() -> None:
    model = load("model", "llama-3.1-405b")
    weights = parameters(model) - model.vocabulary * model.hidden
    per_token = training_flops(model, 1, 8192) / 8192
    attention = 12 * model.layers * 8192 * model.hidden
    assert per_token == pytest.approx(6 * weights + attention, rel=1e-4)


def test_a_layer_of_gpt_has_twelve_squares_of_its_width() -> None:
    model = load("model", "gpt3-175b")
    assert layer_parameters(model) == 12 * model.hidden**2 + 13 * model.hidden


@pytest.mark.parametrize("kind", ["qkv", True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_biases_are_one_number_a_column_of_their_matrices(kind: bool | str, gated: bool) -> None:
    model = replace(load("model", "qwen2.5-7b"), bias=kind, gated=gated)
    queries, keys = model.heads * model.head_size, model.kv_heads * model.head_size
    columns = {"qkv": [queries, keys, keys], False: []}
    columns[True] = [queries, keys, keys, model.hidden, *[model.ffn] * (1 + gated), model.hidden]
    extra = layer_parameters(model) - layer_parameters(replace(model, bias=False))
    assert extra == sum(columns[kind])


def test_a_norm_on_the_embedding_and_norms_without_shift_count() -> None:
    model = load("model", "bloom-7b1")
    assert parameters(model) - parameters(replace(model, embedding_norm=False)) == 2 * model.hidden
    norms = 2 * model.layers + 2
    assert parameters(model) - parameters(replace(model, norm="layer_no_shift")) == norms * model.hidden


@pytest.mark.parametrize("positions", ["rope", "alibi", "none"])
def test_only_learned_positions_have_parameters(positions: str) -> None:
    model = load("model", "gpt2")
    assert parameters(model) - parameters(replace(model, positions=positions)) == 1024 * 768


def test_the_page_on_models_lists_all_of_them_with_their_counts() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    rows = dict(re.findall(r"^\| `(\S+)` \|.*\| ([\d,]+) \|$", page, re.MULTILINE))
    assert {name: int(count.replace(",", "")) for name, count in rows.items()} == {
        name: parameters(load("model", name)) for name in list_names("model")
    }
