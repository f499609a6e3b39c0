from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scaleout.engine import ledger
from scaleout.engine.program import RECEIVE, SEND
from scaleout.evaluate.event import evaluate
from scaleout.io.experiments import experiment
from scaleout.models import parameters
from scaleout.parallel import shard
from scaleout.specs import TrainingExperiment
from scaleout.training import build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]
LADDER = [[], ["norm"], ["norm", "mlp_product"], ["norm", "mlp"], ["full"]]
RECOMPUTE = [*LADDER, ["core_attention"], ["attention"], ["mlp"]]


@pytest.mark.parametrize("recompute", RECOMPUTE, ids=lambda names: "+".join(names) or "none")
@pytest.mark.parametrize("layout", [{}, {"vpp": 1}, {"sequence_parallel": False, "zero": 0}])
def test_memory_returns_to_its_start(small: Make, recompute: list[str], layout: dict[str, object]) -> None:
    recording = evaluate(small(recompute=recompute, layout=layout))
    job = recording.job
    for cls, times in enumerate(recording.timeline.classes):
        program = recording.class_program(cls)
        book = ledger(job.programs[program], job.static[program], job.memory_kinds, times)
        assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)
        assert (book.held >= -1.0).all()
        assert (np.diff(book.time) >= 0).all()


def test_peak_in_time_equals_peak_in_program_order(small: Make) -> None:
    for stack in ("pytorch", "megatron-lm"):
        recording = evaluate(small(stack=stack, recompute=["norm"]))
        job = recording.job
        for cls, times in enumerate(recording.timeline.classes):
            program = recording.class_program(cls)
            book = ledger(job.programs[program], job.static[program], job.memory_kinds, times)
            assert sum(book.at_peak().values()) == pytest.approx(sum(stage_peaks(job)[program].values()), rel=0.02)


def test_heavier_recomputation_holds_less_and_takes_longer(small: Make) -> None:
    specs = [small(recompute=modules) for modules in LADDER]
    peaks = [max(sum(kinds.values()) for kinds in stage_peaks(build(spec))) for spec in specs]
    ends = [evaluate(spec).timeline.end for spec in specs]
    assert peaks == sorted(peaks, reverse=True)
    assert ends == sorted(ends)


def test_activations_of_a_layer_are_those_counted_by_hand() -> None:
    # Llama-3.1 405B, tp 8 with sequence parallelism, 8,192 tokens, bf16: [norm, mlp_product] keeps
    # input, middle, attention output (each 8192 x 16384 / 8), queries, keys, values, both inputs
    # of the product (53248 / 8 wide) and the softmax statistics
    spec = experiment("llama-3.1-405b-16k", ("recompute=[norm, mlp_product]",))
    tokens, h, f = 8192, 16384 // 8, 53248 // 8
    by_hand = 2 * tokens * (3 * h + (h + 2 * 128) + 2 * f) + 4 * tokens * 16
    peaks = stage_peaks(build(spec))
    # stage 1 runs all its 128 forwards before the first backward that frees something
    assert peaks[1]["activations"] == pytest.approx(128 * by_hand, rel=1e-3)


def test_weights_of_all_ranks_are_the_model_once_a_replica(small: Make) -> None:
    spec = small(layout={"vpp": 1})
    job = build(spec)
    held = sum(static["weights"] for static in job.static) / 2 * spec.layout.tp
    norms = spec.model.hidden * (2 * spec.model.layers + 1)
    assert held == pytest.approx(parameters(spec.model) + (spec.layout.tp - 1) * norms)


def test_zero_1_divides_the_optimizer_and_nothing_else(small: Make) -> None:
    with_, without = (build(small(layout={"zero": zero})).static[1] for zero in (1, 0))
    assert without["optimizer"] == pytest.approx(4 * with_["optimizer"])
    assert (without["weights"], without["gradients"]) == (with_["weights"], with_["gradients"])


@pytest.mark.parametrize("vpp", [1, 2])
def test_what_is_sent_is_received(small: Make, vpp: int) -> None:
    spec = small(layout={"vpp": vpp})
    job = build(spec)
    sent, received = (
        sum(job.messages[item].nbytes for p in job.programs for item in p.item[p.kind == kind].tolist())
        for kind in (SEND, RECEIVE)
    )
    boundaries = spec.layout.pp * vpp - 1
    activation = spec.batch.sequence * spec.model.hidden * 2 / spec.layout.tp
    assert sent == received == 2 * boundaries * spec.micro_batches * activation


@pytest.mark.parametrize(("zero", "gradients"), [(0, "fp32"), (1, "fp32"), (1, "bf16")])
def test_every_gradient_is_reduced_once(small: Make, zero: int, gradients: str) -> None:
    spec = small(layout={"zero": zero}, gradients=gradients)
    job, mine = build(spec), shard(spec)
    operation = "reduce_scatter" if zero else "all_reduce"
    for program, static in zip(job.programs, job.static, strict=True):
        comm = program.kind > 0
        messages = [job.messages[item] for item in program.item[comm].tolist()]
        reduced = sum(m.nbytes for m in messages if (m.family, m.operation) == ("dp", operation))
        assert reduced == pytest.approx(static["gradients"])
        gathered = sum(m.nbytes for m in messages if (m.family, m.operation) == ("dp", "all_gather"))
        assert gathered == pytest.approx(static["weights"] if zero else 0)
    assert mine.gradient_width == {"fp32": 4, "bf16": 2}[gradients]


def test_layer_communication_with_and_without_sequence_parallelism(small: Make) -> None:
    def volume(sequence_parallel: bool) -> dict[str, float]:
        spec = small(chips=4, layout={"pp": 1, "dp": 1, "vpp": 1, "zero": 0, "sequence_parallel": sequence_parallel})
        job = build(spec)
        counts: dict[str, float] = {}
        (program,) = job.programs
        for item in program.item[program.kind == 1].tolist():
            message = job.messages[item]
            if message.nbytes > 1e6:
                counts[message.operation] = counts.get(message.operation, 0) + 1
        return {name: count / spec.micro_batches for name, count in counts.items()}

    layers = 32
    # embedding and loss add: scatter of the embedding, gather before and scatter behind the logits
    assert volume(True) == {"all_gather": 6 * layers + 3, "reduce_scatter": 4 * layers + 2}
    assert volume(False) == {"all_reduce": 4 * layers + 2}


@pytest.mark.parametrize("model", ["qwen2.5-7b", "bloom-3b", "gemma-2b", "mpt-7b", "gpt2-medium", "mistral-7b-v0.1"])
def test_the_stages_of_any_model_hold_all_its_parameters(small: Make, model: str) -> None:
    spec = small(model=model, layout={"tp": 1, "pp": 4, "dp": 16, "vpp": 1}, batch={"sequence": 1024})
    held = sum(static["weights"] for static in build(spec).static) / 2
    # the last stage has its own copy of a tied head
    copy = spec.model.vocabulary * spec.model.hidden if spec.model.tied_embeddings else 0
    # a vocabulary off the tensor cores' grid is padded to a multiple of 128, in embedding and head
    vocabulary = spec.model.vocabulary
    padding = -vocabulary % 128 if vocabulary % 8 else 0
    assert held == parameters(spec.model) + copy + 2 * padding * spec.model.hidden


def test_the_norm_on_an_embedding_takes_time_and_its_input_is_kept(small: Make) -> None:
    layout = {"tp": 2, "pp": 1, "dp": 32, "vpp": 1}
    with_norm = small(model="bloom-1b1", layout=layout)
    without = replace(with_norm, model=replace(with_norm.model, embedding_norm=False))
    ends = [evaluate(spec).timeline.end for spec in (with_norm, without)]
    assert ends[0] > ends[1]
    kept = [stage_peaks(build(spec))[0]["activations"] for spec in (with_norm, without)]
    assert kept[0] - kept[1] == 2048 / 2 * 1536 * 2
    recording = evaluate(with_norm)
    (cls, *_), job = recording.timeline.classes, recording.job
    book = ledger(job.programs[0], job.static[0], job.memory_kinds, cls)
    assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)


def test_biases_of_queries_and_keys_alone_cost_less_than_all(small: Make) -> None:
    layout = {"tp": 2, "pp": 1, "dp": 32, "vpp": 1}
    spec = small(model="qwen2.5-1.5b", layout=layout)
    ends = [evaluate(replace(spec, model=replace(spec.model, bias=bias))).timeline.end for bias in (False, "qkv", True)]
    assert ends[0] < ends[1] < ends[2]
