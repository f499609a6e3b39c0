"""Room for the KV cache by both rules, and what is said where there is none."""

from dataclasses import replace

import pytest

from scaleout.errors import PlanError
from scaleout.io.catalogue import load
from scaleout.io.experiments import serving_experiment
from scaleout.models import parameters
from scaleout.parallel.inference import stage_kinds
from scaleout.serving.room import cache_bytes, room, weight_bytes
from scaleout.specs import Cache, Pool, Speculation

REQUESTS = {"input": {"mean": 1000}, "output": {"mean": 200}, "arrivals": {"process": "poisson", "rate": 1.0}}


def experiment(model="llama-3.1-8b", system="dgx-h100", engine="vllm-0.19", pool=None, **more):
    return serving_experiment(
        {"system": system, "model": model, "engine": engine, "pools": [pool or {"tp": 1}], "requests": REQUESTS, **more}
    )


def found(*args, **more):
    one = experiment(*args, **more)
    return room(one, one.pools[0])


def test_vllm_fills_a_share_of_all():
    one = found()
    total = one.weights + one.activations + one.graphs + one.reserved + one.cache
    hbm = load("chip", "h100-sxm-80gb").hbm_bytes
    assert 0 <= 0.9 * hbm - total < one.block_tokens * one.token


def test_tensorrt_llm_fills_a_share_of_what_is_free():
    one = found(engine="tensorrt-llm-1.0")
    hbm = load("chip", "h100-sxm-80gb").hbm_bytes
    free = hbm - one.weights - one.activations - one.graphs - one.reserved
    assert 0 <= 0.95 * free - one.cache < one.block_tokens * one.token


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gpt3-6.7b", "mixtral-8x7b", "gemma-7b"])
def test_weights_are_the_models_parameters(model):
    one = experiment(model)
    assert weight_bytes(one, one.pools[0]) == pytest.approx(2.0 * parameters(one.model), rel=0.01)


def test_precisions_of_weights():
    sizes = {
        name: weight_bytes(experiment(precision=name), Pool()) for name in ("bf16", "fp8", "w8a16", "w4a16", "nvfp4")
    }
    assert sizes["nvfp4"] < 0.5 * sizes["bf16"]
    assert sizes["w4a16"] < sizes["w8a16"] == sizes["fp8"] < sizes["bf16"]


def test_cached_tokens_of_known_models():
    for model, expected in (("llama-3.1-8b", 32 * 2 * 8 * 128 * 2), ("deepseek-v3", 61 * 576 * 2)):
        one = experiment(model, pool={"tp": 1}, precision="fp8_block")
        assert cache_bytes(one, one.pools[0], stage_kinds(one.model, 1)[0]) == expected


def test_heads_are_cut_down_to_one_and_latents_are_not():
    dense = [experiment("llama-3.1-70b", pool={"tp": tp}) for tp in (1, 2, 8)]
    tokens = [cache_bytes(one, one.pools[0], stage_kinds(one.model, 1)[0]) for one in dense]
    assert tokens[0] == 2 * tokens[1] == 8 * tokens[2]
    few = [experiment("qwen3-235b-a22b", pool={"tp": tp}) for tp in (4, 8)]
    assert len({cache_bytes(one, one.pools[0], stage_kinds(one.model, 1)[0]) for one in few}) == 1
    latent = [experiment("deepseek-v3", pool={"tp": tp}) for tp in (1, 8)]
    assert len({cache_bytes(one, one.pools[0], stage_kinds(one.model, 1)[0]) for one in latent}) == 1


def test_half_as_wide_a_cache_has_twice_the_room():
    wide, narrow = found(), found(cache={"dtype": "fp8"})
    assert narrow.token == wide.token / 2
    assert abs(narrow.blocks - 2 * wide.blocks) <= 2


def test_no_room_says_what_would_fit():
    with pytest.raises(PlanError, match=r"llama-3.1-70b .* GiB short; tp 2, pp 1 fits"):
        found("llama-3.1-70b")
    fitting = found("llama-3.1-70b", pool={"tp": 2})
    assert fitting.blocks > 0


def test_given_blocks_are_taken_if_they_fit():
    assert found(cache={"blocks": 100}).blocks == 100
    with pytest.raises(PlanError, match="that fit"):
        found(cache={"blocks": 10_000_000})


def test_drafts_take_room():
    one = experiment("llama-3.1-70b", pool={"tp": 4})
    more = replace(one, speculation=Speculation(tokens=3, acceptance=0.7, draft=load("model", "llama-3.2-1b")))
    assert room(more, more.pools[0]).tokens < room(one, one.pools[0]).tokens
    assert room(more, more.pools[0]).weights > room(one, one.pools[0]).weights
    with_cache = replace(one, cache=Cache(dtype="fp8"))
    assert room(with_cache, one.pools[0]).tokens > room(one, one.pools[0]).tokens
