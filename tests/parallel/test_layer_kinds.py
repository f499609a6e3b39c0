"""Layers of every kind against what their model holds and computes, and against dense ones where they must agree."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.errors import PlanError
from scaleout.hardware import Rates, pack
from scaleout.models import LayerKind, layer_kinds, parameters, training_flops
from scaleout.parallel import kept_of, layer_costs, options, rows, shard
from scaleout.parallel.routing import busiest
from scaleout.parallel.shapes import ATTENTION, kernels, pairs
from scaleout.specs import Experts, Routing, TrainingExperiment

Make = Callable[..., TrainingExperiment]
WHOLE = {"tp": 1, "pp": 1, "dp": 8, "vpp": 1, "sequence_parallel": False}
CUT = {"tp": 2, "pp": 1, "dp": 4, "vpp": 1, "sequence_parallel": True}
MODELS = [
    "llama-3.1-8b", "mixtral-8x7b", "deepseek-v2-lite", "deepseek-v3", "qwen3-30b-a3b", "qwen3-next-80b-a3b",
    "gpt-oss-20b", "llama-4-scout", "gemma2-9b", "grok-1", "bert-large", "t5-3b",
]  # fmt: skip


def on(small: Make, model: str, layout: dict[str, Any], sequence: int = 1024, **changes: Any) -> TrainingExperiment:
    batch = {"global": 8, "sequence": 512 if model == "bert-large" else sequence}
    return small(model=model, chips=8, layout=layout, batch=batch, **{"stack": "megatron-lm", **changes})


def rates_of(spec: TrainingExperiment) -> Rates:
    return pack(spec.system.chip, spec.stack, spec.precision)


def named(spec: TrainingExperiment, kind: LayerKind | None = None) -> dict[str, np.ndarray]:
    return dict(zip(rows.LABELS, layer_costs(shard(spec, kind), rates_of(spec)), strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cut", [{}, {"ep": 4}, {"ep": 2, "etp": 2}], ids=str)
@pytest.mark.parametrize("layout", [WHOLE, CUT], ids=["tp 1", "tp 2"])
def test_parts_of_all_ranks_are_the_parameters_of_the_model(
    small: Make, model: str, layout: dict[str, Any], cut: dict[str, int]
) -> None:
    spec = on(small, model, layout)
    if cut and spec.model.experts is None:
        return
    spec = replace(spec, layout=replace(spec.layout, **cut))
    tp, experts = spec.layout.tp, spec.layout.ep * spec.layout.etp
    held = 0.0
    for kind, times in Counter(layer_kinds(spec.model)).items():
        mine = shard(spec, kind)
        held += times * (mine.layer * tp + mine.expert_layer * experts)
    ends = shard(spec)
    held += (ends.embedding + ends.head) * tp
    tied = spec.model.tied_embeddings * spec.model.vocabulary * spec.model.hidden
    # vectors, routers and what compresses keys are whole on every rank, the vocabulary is padded
    assert held == pytest.approx(parameters(spec.model) + tied, rel=5e-4 if tp == 1 else 2.5e-2)
    assert held >= parameters(spec.model) + tied - 2 * spec.model.hidden


@pytest.mark.parametrize("model", [name for name in MODELS if name != "qwen3-next-80b-a3b"])
@pytest.mark.parametrize("layout", [WHOLE, CUT], ids=["tp 1", "tp 2"])
def test_the_arithmetic_of_all_kernels_is_that_of_the_model(small: Make, model: str, layout: dict[str, Any]) -> None:
    spec = on(small, model, layout)
    total = 0.0
    ends = 1
    for kind, layers in Counter(layer_kinds(spec.model)).items():
        mine = shard(spec, kind)
        # fused attention multiplies queries and keys once more in its backward pass
        size, value = mine.head_size, mine.value_size
        again = 2.0 * (size + value) / (3.0 * size + 2.0 * value)
        # a prediction has a head of its own
        heads = ends + layers * (kind.part == "prediction")
        for kernel in kernels(mine, rates_of(spec)):
            if kernel.row not in (rows.F_QKV_CORE, rows.F_INTO_MLP):
                backward = kernel.row in (rows.B_ATTENTION_DATA, rows.B_CROSS_DATA)
                work = kernel.work * (again if kernel.kind == ATTENTION and backward else 1.0)
                total += work * spec.layout.tp * (heads if kernel.once else layers)
        ends = 0
    expected = training_flops(spec.model, spec.batch.micro, spec.batch.sequence)
    assert total == pytest.approx(expected, rel=2e-3)


def test_a_window_as_long_as_the_sequence_is_none(small: Make) -> None:
    window = LayerKind(attention="window")
    for length, same in ((4096, True), (8192, False)):
        spec = on(small, "gemma2-9b", WHOLE, length)
        assert spec.model.window == 4096
        (full, cut) = (layer_costs(shard(spec, kind), rates_of(spec)) for kind in (LayerKind(), window))
        assert (full == cut).all() == same
        assert (cut <= full).all()


@pytest.mark.parametrize("blocks", [False, True])
@pytest.mark.parametrize("length", [8192, 9000])
def test_pairs_of_a_window_are_those_counted_one_by_one(small: Make, blocks: bool, length: int) -> None:
    spec = on(small, "gemma2-9b", WHOLE, length)
    spec = replace(spec, model=replace(spec.model, blocks=blocks))
    at, window = np.arange(length), 4096
    seen = at % window + 1 if blocks else np.minimum(at + 1, window)
    mine = shard(spec, LayerKind(attention="window"))
    # each pair off the diagonal counts twice, for the half that the mask hides
    assert pairs(mine) == 2 * int(seen.sum()) - length


def test_the_time_of_a_window_is_that_of_its_pairs_when_both_are_long(small: Make) -> None:
    spec = on(small, "gemma2-9b", WHOLE, 131072)
    full, cut = (shard(spec, kind) for kind in (LayerKind(), LayerKind(attention="window")))
    rates = rates_of(spec)
    ratio = (
        layer_costs(cut, rates)[rows.F_ATTENTION, rows.ATTENTION]
        / layer_costs(full, rates)[rows.F_ATTENTION, rows.ATTENTION]
    )
    assert ratio == pytest.approx(pairs(cut) / pairs(full), rel=0.1)


def with_experts(spec: TrainingExperiment, **experts: Any) -> TrainingExperiment:
    model = spec.model
    made = {"count": 1, "top_k": 1, "ffn": model.ffn, **experts}
    return replace(spec, model=replace(model, experts=Experts(**made)))


def test_one_expert_that_every_token_takes_is_the_dense_block(small: Make) -> None:
    dense = on(small, "llama-3.1-8b", WHOLE, 8192)
    spec = with_experts(dense)
    one, block = named(spec, LayerKind(experts=True)), named(dense)
    part = [rows.MATMUL, rows.ELEMENTWISE]
    assert one["experts"][part] == pytest.approx(block["mlp"][part], rel=1e-9)
    data = block["mlp out, data gradient"] + block["mlp in, data gradient"]
    assert one["experts, data gradient"][part] == pytest.approx(data[part], rel=1e-9)
    weights = block["mlp out, weight gradient"] + block["mlp in, weight gradient"]
    # and the router's, a column
    assert one["experts, weight gradient"][part] == pytest.approx(weights[part], rel=0.05)
    mine, plain = shard(spec, LayerKind(experts=True)), shard(dense)
    assert mine.layer + mine.expert_layer == plain.layer + spec.model.hidden


def test_experts_cut_finer_take_longer_for_the_same_arithmetic(small: Make) -> None:
    base = on(small, "llama-3.1-8b", WHOLE, 2048)
    taken = []
    for count in (2, 8, 32, 128):
        spec = with_experts(base, count=count, top_k=2, ffn=2048)
        taken.append(float(named(spec, LayerKind(experts=True))["experts"][rows.MATMUL]))
    assert taken == sorted(taken)
    work = 2 * 2048 * 2 * 3 * 4096 * 2048
    assert taken[0] >= work / base.system.chip.flops("bf16")


@pytest.mark.parametrize("skew", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("capacity", [None, 1.25])
def test_the_busiest_rank_bounds_the_others_and_no_token_is_lost(
    small: Make, skew: float, capacity: float | None
) -> None:
    layout = {**WHOLE, "ep": 8}
    spec = replace(on(small, "qwen3-30b-a3b", layout), routing=Routing(skew=skew, capacity=capacity))
    load = busiest(spec)
    kind = LayerKind(experts=True)
    mine = shard(spec, kind)
    assert mine.received == pytest.approx(mine.routed * load)
    if skew == 0.0:
        assert load == pytest.approx(1.0)
    elif capacity is None:
        assert 1.0 < load < 8.0
    if capacity is not None:
        assert load <= capacity
    alone = replace(spec, layout=replace(spec.layout, ep=1))
    if capacity is None:
        # one rank holds all: nothing is dropped, nobody is busier
        assert busiest(alone) == pytest.approx(1.0)


def test_activations_of_experts_are_those_counted_by_hand(small: Make) -> None:
    spec = on(small, "mixtral-8x7b", {**WHOLE, "ep": 8}, 4096)
    tokens, h, f, q, k = 4096, 4096, 14336, 4096, 1024
    attention = 2 * tokens * (2 * h + (q + 2 * k) + q) + 4 * tokens * 32
    feed = 2 * tokens * 2 * h + 2 * (2 * tokens) * (h + 3 * f) + 8 * tokens * 8
    kind = layer_kinds(spec.model)[0]
    kept = kept_of(shard(spec, kind), options(spec, kind), rates_of(spec))
    assert kept.layer == attention + feed
    spec = replace(spec, recompute=("moe",))
    kept = kept_of(shard(spec, kind), options(spec, kind), rates_of(spec))
    assert kept.layer == attention + 2 * tokens * h
    assert kept.layer + kept.again == attention + feed


def test_activations_of_compressed_attention_are_those_counted_by_hand(small: Make) -> None:
    # DeepSeek-V3: 128 heads of 192 and 128, latents of 1,536 and 512 + 64
    spec = on(small, "deepseek-v3", {**WHOLE, "ep": 8}, 4096)
    kind = layer_kinds(spec.model)[0]
    tokens, h, f = 4096, 7168, 18432
    latents = 2 * (1536 + 512) + 64
    inner = 128 * (192 + 192 + 128) + 128 * 128
    by_hand = 2 * tokens * (4 * h + latents + inner + 3 * f) + 4 * tokens * 128
    kept = kept_of(shard(spec, kind), options(spec, kind), rates_of(spec))
    assert kept.layer == by_hand
    spec = replace(spec, recompute=("mla_up_proj",))
    kept = kept_of(shard(spec, kind), options(spec, kind), rates_of(spec))
    assert kept.again == 2 * tokens * 128 * (192 + 192 + 128)


@pytest.mark.parametrize("model", MODELS)
def test_compiled_is_plain_to_the_bit_for_every_kind(small: Make, model: str) -> None:
    spec = on(small, model, CUT, recompute=["norm", "moe_act", "shared_experts", "mla_up_proj"])
    for kind in dict.fromkeys(layer_kinds(spec.model)):
        mine, rates = shard(spec, kind), rates_of(spec)
        assert layer_costs.compiled(mine, rates).tolist() == layer_costs(mine, rates).tolist()
        assert kept_of.compiled(mine, options(spec, kind), rates) == kept_of(mine, options(spec, kind), rates)


def test_layouts_that_do_not_divide_experts_are_refused(small: Make) -> None:
    for layout, words in (
        ({**WHOLE, "ep": 3, "dp": 9}, "does not divide the 8 experts"),
        ({**CUT, "sequence_parallel": False}, "each rank routes its own tokens"),
    ):
        with pytest.raises(PlanError, match=words):
            small(model="mixtral-8x7b", chips=layout["tp"] * layout["dp"], layout=layout, batch={"global": 72})
    with pytest.raises(PlanError, match="has no experts"):
        on(small, "llama-3.1-8b", {**WHOLE, "ep": 2})
