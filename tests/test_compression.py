"""Transforms of experiments: bytes, room, order, refusals, and both evaluators of both kinds."""

from functools import cache

import pytest

import scaleout
from scaleout.models import parameters
from scaleout.parallel.inference import stage_kinds
from scaleout.parallel.shard import shard
from scaleout.serving.room import cache_bytes, room, weight_bytes
from scaleout.specs import Pool
from scaleout.specs.compress import KINDS, notes, transforms
from scaleout.training.memory import stage_peaks
from scaleout.training.step import build

SERVING = {
    "kind": "serving", "system": "hgx-h200", "model": "llama-3.1-70b", "engine": "vllm-0.19", "pools": [{"tp": 4}],
    "requests": {"trace": "chat-1000", "count": 3, "arrivals": {"process": "poisson", "rate": 2}},
}  # fmt: skip
TRAINING = {
    "kind": "training", "system": "dgx-h100", "chips": 8, "model": "llama-3.1-8b", "recompute": ["full"],
    "layout": {"tp": 1, "pp": 4, "dp": 2}, "batch": {"global": 8, "sequence": 1024},
}  # fmt: skip
BILLION = 1e9


@cache
def plain(kind):
    """What a file without transforms says; read once."""
    return scaleout.serving_experiment(SERVING) if kind == "serving" else scaleout.experiment(TRAINING)


@cache
def served(*texts):
    return scaleout.serve(scaleout.compress(plain("serving"), *texts))


def serving(*texts, **changes):
    return scaleout.serving_experiment({**SERVING, **changes, **({"compress": list(texts)} if texts else {})})


def training(*texts, **changes):
    return scaleout.experiment({**TRAINING, **changes, **({"compress": list(texts)} if texts else {})})


# --- texts ---------------------------------------------------------------------------------------


def test_shapes_come_before_sparsity_before_formats_before_gradients():
    mixed = ["gradients=int8", "w8a8", "kv=fp8", "prune=2:4", "gqa=2", "drop_layers=0.5"]
    assert [str(one) for one in transforms(mixed)] == [
        "gqa=2", "drop_layers=0.5", "prune=2:4", "w8a8", "kv=fp8", "gradients=int8",
    ]  # fmt: skip
    one, other = (serving(*texts) for texts in (("fp8", "gqa=4"), ("gqa=4", "fp8")))
    assert one == other
    assert one.compressed == ("gqa=4", "fp8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("w4a61", "did you mean 'w4a16'"),
        ("drop_layer=0.2", "did you mean 'drop_layers'"),
        ("drop_layers", "needs a value, drop_layers=the share"),
        ("tie=2", "takes no value"),
        ("weights=int5", "or 'int4'"),
        ("weights=int4/16", "unknown format"),
        ("activations=fp8", "activations beside such weights: bf16"),
        ("kv=int2", "expected fp8 or int8 or int4"),
        ("prune=3:4", "2:4, or the share"),
        ("fp32", "16 bits in every time model"),
        ("gradients=int8", "serving has no gradients"),
    ],
)
def test_what_is_wrong_is_told(text, words):
    with pytest.raises(scaleout.SpecError, match=words):
        scaleout.compress(plain("serving"), *text.split(", "))


@pytest.mark.parametrize("texts", [("w8a8", "w4a16"), ("fp8", "weights=int4"), ("kv=fp8", "kv=int8")])
def test_nothing_is_set_twice(texts):
    with pytest.raises(scaleout.SpecError, match="already"):
        scaleout.compress(plain("serving"), *texts)


def test_a_list_is_a_list_and_one_text_is_one():
    assert serving("w4a16") == serving(compress="w4a16")
    with pytest.raises(scaleout.SpecError, match="no list of transforms"):
        serving(compress={"w4a16": True})


def test_every_transform_has_a_form_or_stands_alone_and_notes_have_sources():
    for name, kind in KINDS.items():
        assert kind.form == "" or "=" not in name
        assert not kind.note or "arXiv" in kind.note or name in ("tie",)
    assert notes(["w8a16"]) == ()
    (line,) = notes(["prune=0.9"])
    assert "does nothing" in line


def test_python_does_what_files_do():
    assert scaleout.compress(plain("serving"), "w4a16", "kv=int8", "gqa=4") == serving("w4a16", "kv=int8", "gqa=4")
    assert scaleout.compress(plain("training"), "tie", "gradients=0.01 topk") == training("tie", "gradients=0.01 topk")
    model = scaleout.load("model", "llama-3.1-8b")
    assert scaleout.compress(model, "tie").tied_embeddings
    with pytest.raises(scaleout.SpecError, match="a shape alone"):
        scaleout.compress(model, "w4a16")


# --- serving -------------------------------------------------------------------------------------


def test_weights_of_a_70b_model_take_what_their_bits_say():
    count = parameters(plain("serving").model)
    assert count * 2.0 / BILLION == pytest.approx(141.1, abs=0.1)
    assert count * 0.5625 / BILLION == pytest.approx(39.7, abs=0.1)
    ends = 2 * 128256 * 8192
    one = Pool()
    for text, width in (("fp8", 1.0), ("w4a16", 0.53125), ("mxfp8", 1.03125), ("weights=nvfp4", 0.5625)):
        spec = scaleout.compress(plain("serving"), text)
        # embedding, head and norms stay in 16 bits
        expected = (count - ends) * width + ends * 2.0
        assert weight_bytes(spec, one) == pytest.approx(expected, rel=1e-3)
    pruned = scaleout.compress(plain("serving"), "prune=2:4", "fp8")
    assert weight_bytes(pruned, one) == pytest.approx((count - ends) * 0.625 + ends * 2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("text", "share"),
    [("kv=fp8", 0.5), ("kv=int8", 1.015625 / 2), ("kv=int4", 0.53125 / 2), ("gqa=4", 0.5), ("drop_layers=0.25", 0.75),
     ("share_layers=4", 1.0), ("mla=512+64", 576 / (2 * 2 * 128))],
)  # fmt: skip
def test_a_cached_token_takes_what_is_left_and_room_grows_by_it(text, share):
    specs = plain("serving"), scaleout.compress(plain("serving"), text)
    pool = specs[0].pools[0]
    tokens = [cache_bytes(spec, pool, stage_kinds(spec.model, 1)[0]) for spec in specs]
    # compressed keys are whole on each of four ranks, which hold two of the eight heads
    assert tokens[1] / tokens[0] == pytest.approx(share)
    rooms = [room(spec, pool) for spec in specs]
    if share < 1.0:
        assert rooms[1].blocks >= rooms[0].blocks / share * 0.999


def test_shared_layers_take_the_room_of_one_and_the_time_of_all():
    assert served().ttft == served("share_layers=8").ttft
    specs = plain("serving"), scaleout.compress(plain("serving"), "share_layers=8")
    rooms = [room(spec, spec.pools[0]).weights for spec in specs]
    ends = 2.0 * 2 * 128256 * 8192 / 4
    assert (rooms[1] - ends) / (rooms[0] - ends) == pytest.approx(1 / 8, rel=1e-3)
    with pytest.raises(scaleout.PlanError, match="share weights by 16"):
        serving("share_layers=16", pools=[{"pp": 2, "tp": 4}])


@pytest.mark.parametrize(
    "texts",
    [("w4a16", "kv=fp8"), ("fp8", "prune=2:4"), ("weights=mxfp4",), ("w8a8",), ("w4a8", "kv=int4"), ("low_rank=0.125",),
     ("mla=512+64", "fp8_block"), ("prune_heads=0.25", "width=0.75", "drop_layers=0.5")],
)  # fmt: skip
def test_compressed_models_are_served_sooner_and_tell_what_was_done(texts):
    made = served(*texts)
    assert made.tpot.mean < served().tpot.mean
    assert sorted(made.experiment["compressed"]) == sorted(texts)
    assert [line for line in made.warnings if line.startswith("compress: ")] == list(
        notes(made.experiment["compressed"])
    )


def test_scattered_zeros_change_nothing_but_the_warnings():
    made = served("prune=0.9")
    assert made.ttft == served().ttft
    assert any("multiply zeros as fast" in line for line in made.warnings)


def test_narrow_experts_are_read_in_few_bytes():
    whole = serving(model="mixtral-8x7b", pools=[{"tp": 2}])
    made = scaleout.compress(whole, "weights=mxfp4")
    assert scaleout.serve(made).tpot.mean < 0.7 * scaleout.serve(whole).tpot.mean
    with pytest.raises(scaleout.PlanError, match="was not measured"):
        scaleout.compress(whole, "fp8", "prune=2:4")


# --- training ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "texts",
    [("share_layers=4", "fp8"), ("low_rank=0.25",), ("gradients=0.01 topk",), ("tie", "gradients=int8", "gqa=4"),
     ("mla=512+64", "width=0.75")],
)  # fmt: skip
def test_both_evaluators_agree_on_a_compressed_step(texts):
    spec = scaleout.compress(plain("training"), *texts)
    analytic, event = (scaleout.simulate(spec, evaluator=name) for name in ("analytic", "event"))
    assert analytic.step_time <= event.step_time * (1.0 + 1e-12)
    assert analytic.step_time == pytest.approx(event.step_time, rel=0.01)
    assert analytic.memory.peak == pytest.approx(event.memory.peak)
    assert event.experiment["compressed"] == analytic.experiment["compressed"] == list(spec.compressed)
    assert set(notes(spec.compressed)) <= set(event.warnings)


def held(spec):
    return stage_peaks(build(spec))[0]


def test_what_a_code_leaves_out_waits_in_hbm():
    whole = plain("training")
    for text in ("gradients=int8", "gradients=0.01 topk"):
        assert held(scaleout.compress(whole, text))["gradients"] == 2.0 * held(whole)["gradients"]
    alone = training(chips=2, layout={"tp": 1, "pp": 2, "dp": 1})
    assert held(scaleout.compress(alone, "gradients=int8"))["gradients"] == held(alone)["gradients"]


@pytest.mark.parametrize("text", ["share_layers=4", "low_rank=0.25", "tie", "drop_layers=0.25", "hidden=0.75"])
def test_weights_gradients_and_optimizer_are_those_of_the_parameters_that_are_left(text):
    layout = {"tp": 1, "pp": 1, "dp": 8}
    whole = training(layout=layout)
    made = scaleout.compress(whole, text)
    left = parameters(made.model) / parameters(whole.model)
    for kind in ("weights", "gradients", "optimizer"):
        assert held(made)[kind] / held(whole)[kind] == pytest.approx(left, rel=1e-3)


def test_shared_layers_are_reduced_once():
    def sent(spec):
        job = build(spec)
        return sum(
            message.nbytes * int((job.programs[0].item[job.programs[0].kind != 0] == index).sum())
            for index, message in enumerate(job.messages)
            if message.family == "dp"
        )

    whole, made = (training(*texts, stack="megatron-bridge") for texts in ((), ("share_layers=4",)))
    layer = shard(whole).layer
    assert sent(whole) - sent(made) == pytest.approx(0.75 * 8 * layer * 4.0, rel=1e-6)


def test_gradients_that_are_gathered_grow_with_the_ranks_and_others_do_not():
    def reduced(text, dp):
        spec = training(text, chips=2 * dp, layout={"tp": 1, "pp": 2, "dp": dp}, batch={"global": dp, "sequence": 1024})
        job = build(spec)
        return {(message.operation): message.nbytes for message in job.messages if message.family == "dp"}

    two, four = (reduced("gradients=0.01 topk", dp) for dp in (2, 4))
    assert set(two) == {"all_gather"}
    assert four["all_gather"] == pytest.approx(2.0 * two["all_gather"])
    two, four, whole = reduced("gradients=int8", 2), reduced("gradients=int8", 4), reduced("gradients=1", 2)
    assert two == four
    assert whole["all_reduce"] == pytest.approx(4.0 * two["all_reduce"])


@pytest.mark.parametrize(
    ("texts", "changes", "words"),
    [
        (("w4a16",), {}, "no recipe trains"),
        (("kv=fp8",), {}, "training keeps no cache"),
        (("prune=2:4",), {}, "no time model exists"),
        (("gradients=0.5",), {}, "a number above 1"),
        (("gradients=0.01 topk",), {"layout": {"tp": 1, "pp": 2, "dp": 4, "zero": 1}}, "layout.zero 0"),
        (("low_rank=0.25",), {"layout": {"tp": 2, "pp": 2, "dp": 2}}, "no time model yet"),
        (("share_layers=32",), {}, "cut some"),
        (("share_layers=2",), {"optimizer": "muon"}, "accepted: adam"),
    ],
)
def test_what_no_time_model_covers_is_refused(texts, changes, words):
    with pytest.raises(scaleout.ScaleoutError, match=words):
        training(*texts, **changes)
