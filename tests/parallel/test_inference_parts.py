"""Parts of a serving step against sums and bounds that can be written down."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.engine.program import Message
from scaleout.errors import PlanError, SpecError
from scaleout.io.catalogue import load
from scaleout.models import LayerKind, layer_parameters
from scaleout.network import machine
from scaleout.parallel.inference import Layers, serving_shard, stage_kinds
from scaleout.parallel.inference_kernels import Cost, Kernels
from scaleout.parallel.inference_wires import ReplicaWires
from scaleout.specs import Pool, Routing

SYSTEM = load("system", "dgx-h100")
ENGINE = load("engine", "vllm-0.19")
LLAMA = load("model", "llama-3.1-70b")
MIXTRAL = load("model", "mixtral-8x7b")
DEEPSEEK = load("model", "deepseek-v3")


def layers(model=LLAMA, pool=None, precision="bf16", cache="bf16", routing=None, chip=SYSTEM.chip, engine=ENGINE):
    return Layers(model, SYSTEM, chip, engine, pool or Pool(tp=4), precision, cache, routing or Routing())


def test_stages_deal_all_layers():
    for pp in (1, 2, 3, 7):
        stages = stage_kinds(LLAMA, pp)
        assert sum(map(len, stages)) == LLAMA.layers
        assert max(map(len, stages)) - min(map(len, stages)) <= 1


@pytest.mark.parametrize(("model", "tp"), [(LLAMA, 1), (LLAMA, 4), (MIXTRAL, 2), (DEEPSEEK, 8)])
def test_parts_of_a_layer_hold_its_parameters(model, tp):
    kind = stage_kinds(model, 1)[0][-1]
    s = serving_shard(model, kind, Pool(tp=tp))
    whole = layer_parameters(model, kind)
    # what every rank holds of its own, norms and what compresses, is counted once for each
    assert whole * 0.99 < tp * (s.layer + s.expert_layer) < whole * 1.35


@given(tokens=st.integers(1, 8192))
@settings(max_examples=30, deadline=None)
def test_weights_are_read_once(tokens):
    part, kind = layers(), LayerKind()
    s = part.shards[kind]
    seconds = part.around(kind, tokens).seconds + part.feed(kind, tokens).seconds
    assert seconds > (s.layer * 2.0) / SYSTEM.chip.hbm_bandwidth
    flops = 2.0 * tokens * (s.layer - 2.0 * s.hidden)
    assert seconds > flops / SYSTEM.chip.flops("bf16")


def test_narrow_weights_take_less_time_when_few_tokens_read_them():
    chip, kind = SYSTEM.chip, LayerKind()
    one = {name: layers(precision=name).feed(kind, 1).seconds for name in ("bf16", "w8a16", "w4a16", "fp8")}
    assert one["w4a16"] < one["w8a16"] < one["bf16"]
    assert one["fp8"] < one["bf16"]
    many = {name: layers(precision=name).feed(kind, 8192).seconds for name in ("bf16", "w4a16", "fp8")}
    # arithmetic is that of 16 bits and what it takes to widen the weights, or that of 8
    assert many["bf16"] * 1.05 < many["w4a16"] <= many["bf16"] * 1.1
    assert many["fp8"] < many["bf16"]
    assert chip.name == "h100-sxm-80gb"


def test_a_cache_of_eight_bits_is_read_in_half_the_time():
    kind = LayerKind()
    wide = layers().decode(kind, 256, 256, 256 * 8192, 8192).seconds
    narrow = layers(cache="fp8").decode(kind, 256, 256, 256 * 8192, 8192).seconds
    assert 0.4 < narrow / wide < 0.7


def test_attention_of_unequal_prompts_counts_their_pairs():
    part, kind = layers(), LayerKind()
    equal = part.prefill(kind, 2, 4096, 2 * 2048 * 2049 // 2).seconds
    unequal = part.prefill(kind, 2, 4096, 96 * 97 // 2 + 4000 * 4001 // 2).seconds
    assert equal < unequal < 2.2 * equal


def test_a_window_bounds_what_a_token_reads():
    model = load("model", "gemma3-27b")
    part = layers(model, Pool(tp=2))
    window, full = LayerKind("window"), LayerKind("full")
    short, long = 8 * model.window, 8 * 32 * model.window
    assert part.decode(window, 8, 8, long, long // 8) == part.decode(window, 8, 8, short, short // 8)
    assert part.decode(full, 8, 8, long, long // 8).seconds > part.decode(full, 8, 8, short, short // 8).seconds


def test_compressed_keys_are_read_by_every_rank_alike():
    one, eight = (layers(DEEPSEEK, Pool(tp=tp), "fp8_block") for tp in (1, 8))
    kind = LayerKind()
    # an eighth of the heads, and still the whole cache
    seconds = [part.decode(kind, 1, 1, 65536, 65536).seconds for part in (one, eight)]
    assert 1.0 < seconds[0] / seconds[1] < 1.5


@given(tokens=st.integers(1, 4096), skew=st.floats(0.0, 1.5))
@settings(max_examples=25, deadline=None)
def test_experts_are_chosen_top_k_times(tokens, skew):
    part = layers(MIXTRAL, Pool(tp=2), routing=Routing(skew=skew))
    assert part.chances.sum() == pytest.approx(MIXTRAL.experts.top_k)
    assert part.chances.max() <= 1.0 + 1e-9
    assert part.experts(LayerKind(experts=True), tokens).seconds > 0.0


def test_skew_makes_the_busiest_rank_slower_and_saves_weights():
    even, skewed = (layers(MIXTRAL, Pool(tp=2, ep=2), routing=Routing(skew=skew)) for skew in (0.0, 1.2))
    kind = LayerKind(experts=True)
    assert skewed.experts(kind, 8192).seconds > even.experts(kind, 8192).seconds
    all_of = layers(MIXTRAL, Pool(tp=2), routing=Routing(skew=1.2))
    fewer = layers(MIXTRAL, Pool(tp=2))
    # some experts are hardly chosen by a few tokens: their weights are not read
    assert all_of.experts(kind, 4).seconds < fewer.experts(kind, 4).seconds


def test_linear_attention_is_refused():
    with pytest.raises(PlanError, match="linear attention"):
        layers(load("model", "qwen3-next-80b-a3b"))


def test_a_chip_without_decode_constants_is_refused():
    bare = replace(SYSTEM.chip, attention={})
    with pytest.raises(SpecError, match="prefill attention"):
        layers(chip=bare)


def test_unfused_prompts_are_slower():
    unfused = replace(ENGINE, prefill_attention=("unfused",))
    kind = LayerKind()
    plain = layers(engine=unfused).prefill(kind, 4, 8192, 4 * 2048 * 2049 // 2)
    assert plain.seconds > layers().prefill(kind, 4, 8192, 4 * 2048 * 2049 // 2).seconds
    assert plain.kernels > 1


def test_costs_add_up():
    assert Cost(1.0, 2).plus(Cost(0.5, 1), Cost(0.25, 3)) == Cost(1.75, 6)


def test_slower_products_leave_memory_alone():
    half = Kernels(SYSTEM.chip, replace(ENGINE, product_rate=0.5), "bf16", "bf16")
    whole = Kernels(SYSTEM.chip, ENGINE, "bf16", "bf16")
    assert half.linear(8192.0, 8192.0, 8192.0).seconds > 1.6 * whole.linear(8192.0, 8192.0, 8192.0).seconds
    assert half.linear(1.0, 8192.0, 8192.0).seconds < 1.1 * whole.linear(1.0, 8192.0, 8192.0).seconds


# --- messages ---------------------------------------------------------------------------------


def wires(tp=4, pp=1, engine=ENGINE, chips=8):
    ranks = np.arange(tp * pp).reshape(pp, 1, tp)
    return ReplicaWires(machine(SYSTEM, chips), ranks, SYSTEM, engine)


def test_a_message_takes_the_time_of_what_carries_it():
    w = wires()
    for nbytes in (16e3, 1e6, 400e6):
        message = Message("tp0", "all_reduce", nbytes)
        assert w.seconds(message) == pytest.approx(w.pattern(message).alone(w.fabric, nbytes), rel=1e-9)


def test_small_messages_are_the_engines_own():
    own, library = wires(), wires(engine=replace(ENGINE, one_shot={}, two_shot={}))
    small, large = Message("tp0", "all_reduce", 64e3), Message("tp0", "all_reduce", 256e6)
    assert own.pattern(small).algorithm.startswith("one-shot")
    assert own.seconds(small) < library.seconds(small)
    assert own.seconds(large) == library.seconds(large)


def test_two_nodes_never_take_the_engines_own():
    w = wires(tp=16, chips=16, engine=replace(ENGINE, one_shot={"16": 1e9}))
    assert not w.pattern(Message("tp0", "all_reduce", 1e3)).algorithm.startswith("one-shot")


def test_a_send_leaves_a_stage_for_the_next():
    w = wires(tp=2, pp=2)
    assert w.groups["pp0"].tolist() == [[0, 2], [1, 3]]
    assert w.seconds(Message("pp0", "send", 1e6)) > 1e6 / SYSTEM.scale_up.payload
