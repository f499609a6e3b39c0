import pytest

from scaleout.io.catalogue import load
from scaleout.models import layer_parameters, parameters, training_flops

PUBLISHED = {
    # counts of the released checkpoints (model cards, safetensors indices)
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800,
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


@pytest.mark.parametrize(("name", "count"), PUBLISHED.items())
def test_parameters_are_the_published_count(name: str, count: int) -> None:
    assert parameters(load("model", name)) == count


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
    attention = 1 + model.kv_heads / model.heads + s / h
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
