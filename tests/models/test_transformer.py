import re
from dataclasses import replace
from pathlib import Path

import pytest

from scaleout.io.catalogue import list_names, load
from scaleout.models import layer_parameters, parameters, training_flops

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


@pytest.mark.parametrize(("name", "count"), (PUBLISHED | CLASSIC).items())
def test_parameters_are_the_published_count(name: str, count: int) -> None:
    assert parameters(load("model", name)) == count


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
    model = load("model", name)
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
