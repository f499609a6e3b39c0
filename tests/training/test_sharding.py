"""ZeRO 0 to 3, FSDP and HSDP: bytes on the wire and in HBM in closed form, and what overlaps with what."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.engine import ledger
from scaleout.engine.program import COMPUTE, Job, ticks
from scaleout.errors import PlanError
from scaleout.evaluate.event import Recording, evaluate
from scaleout.parallel import shard
from scaleout.specs import TrainingExperiment
from scaleout.training import build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]
DP = 8


def flat(
    small: Make, stack: dict[str, Any] | None = None, layers: int = 4, sequence: int = 2048, **changes: Any
) -> TrainingExperiment:
    """A short Llama on one node, everything data-parallel, two micro-batches; keys of the stack changed."""
    layout = {"tp": 1, "pp": 1, "dp": DP, "vpp": 1, "sequence_parallel": False, **changes.pop("layout", {})}
    chips = changes.pop("chips", layout["tp"] * layout["pp"] * layout["dp"])
    spec = small(
        chips=chips,
        layout=layout,
        batch={"global": 2 * layout["dp"], "sequence": sequence},
        stack="torchtitan",
        **changes,
    )
    return replace(spec, model=replace(spec.model, layers=layers), stack=replace(spec.stack, **(stack or {})))


def bytes_of(job: Job, program: int = 0) -> Counter[tuple[str, str]]:
    """Bytes of collectives of a program, by family and operation, on groups of more than one rank."""
    found: Counter[tuple[str, str]] = Counter()
    ran = job.programs[program]
    for item in ran.item[ran.kind != COMPUTE].tolist():
        message = job.messages[item]
        found[message.family, message.operation] += int(message.nbytes)
    return found


def parameters_of(spec: TrainingExperiment) -> tuple[float, float, float]:
    """Of a layer, of the embedding, of norm and head."""
    mine = shard(spec)
    return mine.layer, mine.embedding, mine.head


M = 2
"""Micro-batches."""


@pytest.mark.parametrize("gradients", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("zero", "stack", "gathers", "reductions"),
    [
        # how often layers and embedding, and the head, are gathered in a step; how often gradients are reduced
        (0, {}, (0, 0), 1),
        (1, {}, (1, 1), 1),
        (2, {"gather_units": False}, (1, 1), M),
        (2, {"gather_units": False, "no_sync": True}, (1, 1), 1),
        (2, {"gather_units": True}, (M, M), M),
        (3, {"reshard": "forward"}, (2 * M, M), M),
        (3, {"reshard": "forward", "no_sync": True}, (2 * M, M), 1),
        (3, {"reshard": "backward"}, (M, M), M),
        (3, {"reshard": "step"}, (1, 1), 1),
    ],
)
def test_bytes_of_a_step(
    small: Make, zero: int, stack: dict[str, Any], gathers: tuple[int, int], reductions: int, gradients: str
) -> None:
    spec = flat(small, stack, layout={"zero": zero}, gradients=gradients)
    layer, embedding, head = parameters_of(spec)
    layers = spec.model.layers * layer + embedding
    found = bytes_of(build(spec))
    width = {"fp32": 4, "bf16": 2}[gradients]
    assert found["dp", "all_gather"] == pytest.approx(2 * (gathers[0] * layers + gathers[1] * head))
    operation = "reduce_scatter" if zero else "all_reduce"
    assert found["dp", operation] == pytest.approx(reductions * width * (layers + head))
    assert found["world", "all_reduce"] == 0
    assert sum(found.values()) == pytest.approx(found["dp", "all_gather"] + found["dp", operation])


@pytest.mark.parametrize("size", [2, 4, 8])
def test_copies_of_a_shard_reduce_its_part(small: Make, size: int) -> None:
    spec = flat(small, layout={"zero": 3, "shard": size})
    layer, embedding, head = parameters_of(spec)
    whole = spec.model.layers * layer + embedding + head
    job = build(spec)
    found = bytes_of(job)
    assert found["shard", "reduce_scatter"] == pytest.approx(M * 4 * whole)
    assert found["copies", "all_reduce"] == pytest.approx(M * 4 * whole / size if size < DP else 0)
    # neighbours share, and every rank has its copies at the same place of other shards
    assert job.families["shard"].groups[0].tolist() == list(range(size))
    if size < DP:
        assert job.families["copies"].groups[0].tolist() == list(range(0, DP, size))
        return
    assert evaluate(spec).timeline.end == evaluate(flat(small, layout={"zero": 3})).timeline.end


def test_a_shard_of_what_is_not_cut_is_refused(small: Make) -> None:
    with pytest.raises(PlanError, match=r"layout\.shard: 4 .* nothing to cut"):
        build(flat(small, layout={"zero": 0, "shard": 4}))


@pytest.mark.parametrize("root", [False, True])
def test_a_root_is_gathered_once_a_micro_batch(small: Make, root: bool) -> None:
    spec = flat(small, {"root_unit": root}, layout={"zero": 3})
    layer, embedding, head = parameters_of(spec)
    once = head + embedding if root else head
    twice = spec.model.layers * layer + (0 if root else embedding)
    assert bytes_of(build(spec))["dp", "all_gather"] == pytest.approx(2 * M * (2 * twice + once))


# --- time --------------------------------------------------------------------------------------


def busy(recording: Recording, kind: bool) -> int:
    """Time of all kernels, or of all collectives, of the first rank [tick]."""
    times = recording.timeline.classes[0]
    program = recording.job.programs[recording.class_program(0)]
    return int((times.ended - times.started)[(program.kind == COMPUTE) == kind].sum())


def took(recording: Recording, at: int) -> int:
    """Time of the first rank's gather or reduction number `at` [tick]."""
    times = recording.timeline.classes[0]
    program = recording.job.programs[recording.class_program(0)]
    op = np.flatnonzero(program.kind != COMPUTE)[at]
    return int(times.ended[op] - times.started[op])


def test_without_prefetch_nothing_overlaps(small: Make) -> None:
    recording = evaluate(flat(small, {"forward_prefetch": 0, "backward_prefetch": 0}, layout={"zero": 3}))
    assert recording.timeline.end == busy(recording, True) + busy(recording, False)


def test_reductions_that_block_overlap_nothing(small: Make) -> None:
    stack = {"overlap_gradient_reduction": False, "overlap_parameter_gather": False}
    recording = evaluate(flat(small, stack, layout={"zero": 2}))
    assert recording.timeline.end == busy(recording, True) + busy(recording, False)


def test_units_that_reduce_alone_hide_their_gathers_only(small: Make) -> None:
    stack = {"overlap_gradient_reduction": False, "one_communicator": False, "gather_copies": 0.0}
    alone = evaluate(flat(small, stack, layout={"zero": 3}))
    reduced = sum(took(alone, at) for at in _reductions(alone.job))
    beside = evaluate(flat(small, stack | {"overlap_gradient_reduction": True}, layout={"zero": 3}))
    kernels = busy(alone, True)
    assert beside.timeline.end < kernels + reduced <= alone.timeline.end < kernels + busy(alone, False)
    # where gathers wait for reductions too, and for room, nothing at all overlaps
    keys = {**stack, "one_communicator": True, "forward_prefetch": 0, "backward_prefetch": 0}
    bare = evaluate(flat(small, keys, layout={"zero": 3}))
    assert bare.timeline.end == busy(bare, True) + busy(bare, False)


def _reductions(job: Job) -> list[int]:
    """Numbers, among the collectives of the first program, of those that reduce gradients."""
    program = job.programs[0]
    items = program.item[program.kind != COMPUTE].tolist()
    return [at for at, item in enumerate(items) if job.messages[item].operation == "reduce_scatter"]


def test_beside_slow_kernels_all_is_hidden_but_the_ends(small: Make) -> None:
    spec = flat(small, {"gather_copies": 0.0, "reduction_copies": 0.0}, layout={"zero": 3})
    slow = replace(spec, slow=replace(spec.slow, chips=dict.fromkeys(range(DP), 0.01)))
    recording = evaluate(slow)
    job = recording.job
    program = job.programs[0]
    comm = np.flatnonzero(program.kind != COMPUTE)
    operations = [job.messages[item].operation for item in program.item[comm].tolist()]
    gathers = [at for at, operation in enumerate(operations) if operation == "all_gather"]
    reductions = [at for at, operation in enumerate(operations) if operation == "reduce_scatter"]
    # embedding, layers, head forward; layers and embedding backward
    in_a_pass = 2 * (spec.model.layers + 1) + 1
    seconds = {label.name: label.seconds / 0.01 for label in job.labels}
    lookup, scatter = ticks(seconds["embedding"] + seconds["embedding out"]), ticks(seconds["embedding, backward"])
    exposed = took(recording, -1)
    for m in range(M):
        first, last = gathers[m * in_a_pass], reductions[(m + 1) * (spec.model.layers + 2) - 1]
        # the embedding is gathered before all, and reduced after all
        exposed += took(recording, first) + took(recording, last)
        # its few kernels hide less of the first layer's gather, and of its reduction
        exposed += max(0, took(recording, first + 1) - lookup) + max(0, took(recording, last - 1) - scatter)
    assert recording.timeline.end == pytest.approx(busy(recording, True) + exposed, abs=10)


def test_beside_fast_kernels_the_communicator_is_always_busy(small: Make) -> None:
    spec = flat(small, sequence=64, layout={"zero": 3})
    slow = replace(spec, slow=replace(spec.slow, scale_up=dict.fromkeys(range(DP), 1e-4)))
    recording = evaluate(slow)
    wires, kernels = busy(recording, False), busy(recording, True)
    assert wires <= recording.timeline.end <= wires + kernels
    assert kernels < 0.001 * wires


@pytest.mark.parametrize("reshard", ["forward", "backward", "step"])
def test_a_step_is_between_the_longer_of_both_and_their_sum(small: Make, reshard: str) -> None:
    recording = evaluate(flat(small, {"reshard": reshard}, layout={"zero": 3}))
    kernels, wires = busy(recording, True), busy(recording, False)
    assert max(kernels, wires) < recording.timeline.end <= kernels + wires


def test_more_prefetch_is_never_slower_and_holds_more(small: Make) -> None:
    # links so slow that gathers take as long as kernels
    ends, held = [], []
    for ahead in (0, 1, 2, 3):
        spec = flat(small, {"forward_prefetch": ahead, "backward_prefetch": ahead}, layers=6, layout={"zero": 3})
        spec = replace(spec, slow=replace(spec.slow, scale_up=dict.fromkeys(range(DP), 0.2)))
        recording = evaluate(spec)
        ends.append(recording.timeline.end)
        held.append(max(sum(kinds.values()) for kinds in stage_peaks(recording.job)))
    assert ends == sorted(ends, reverse=True)
    assert ends[0] > ends[1]
    assert held == sorted(held)
    assert held[0] < held[2]


def test_copies_of_buffers_take_kernels_of_every_parameter(small: Make) -> None:
    spec = flat(small, {"gather_copies": 4.0, "reduction_copies": 6.0}, layout={"zero": 3})
    job = build(spec)
    layer, embedding, head = parameters_of(spec)
    layers = spec.model.layers * layer + embedding
    rate = spec.system.chip.hbm_bandwidth * spec.stack.elementwise_efficiency
    program = job.programs[0]
    labels = [job.labels[item] for item in program.item[program.kind == COMPUTE].tolist()]
    for name, nbytes in (
        ("copies of weights", 4 * M * (2 * layers + head)),
        ("copies of gradients", 6 * M * (layers + head)),
    ):
        seconds = sum(dict(label.parts)["elementwise"] for label in labels if label.name == name)
        assert seconds == pytest.approx(nbytes / rate)


def test_two_communicators_are_never_slower_than_one(small: Make) -> None:
    # a machine whose links both directions of traffic share: gathers and reductions still add up on them
    one, two = (
        evaluate(flat(small, {"one_communicator": apart}, layout={"zero": 3})).timeline.end for apart in (True, False)
    )
    assert two <= one


@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("reshard", ["forward", "step"])
@pytest.mark.parametrize("size", [None, 2])
def test_folding_changes_nothing(small: Make, pp: int, reshard: str, size: int | None) -> None:
    layout = {"tp": 2, "pp": pp, "dp": 4, "zero": 3, "shard": size, "sequence_parallel": True}
    stack = {"reshard": reshard, "reshard_stages": reshard}
    spec = flat(small, stack, layout=layout, chips=8 * pp)
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False, compiled=False)
    assert folded.timeline.end == unfolded.timeline.end
    assert evaluate(spec, runs=False).timeline.end == folded.timeline.end
    for cls, members in enumerate(folded.timeline.classes):
        rank = int(folded.wiring.representatives[cls])
        assert np.array_equal(members.ended, unfolded.timeline.classes[rank].ended)


# --- memory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zero", "per_parameter"),
    # arXiv 1910.02054, figure 1: 2 + 2 + 12 bytes, of which optimizer, gradients and weights are cut in turn
    [(0, 16), (1, 4 + 12 / DP), (2, 2 + 14 / DP), (3, 16 / DP)],
)
def test_bytes_of_a_parameter_are_those_of_the_paper(small: Make, zero: int, per_parameter: float) -> None:
    stack = {"master": "copy", "bucket": 0.0}
    spec = flat(small, stack, layout={"zero": zero}, gradients="bf16")
    (static,) = build(spec).static
    whole = spec.model.layers * shard(spec).layer + shard(spec).embedding + shard(spec).head
    held = static["weights"] + static["gradients"] + static["optimizer"]
    assert held == pytest.approx(per_parameter * whole)


@pytest.mark.parametrize(
    ("master", "per_parameter"), [("copy", 2 + 4 + 4 + 8), ("own", 4 + 4 + 8), ("none", 2 + 4 + 8)]
)
def test_weights_in_fp32_are_copies_or_the_weights_themselves(small: Make, master: str, per_parameter: int) -> None:
    spec = flat(small, {"master": master}, layout={"zero": 3})
    (static,) = build(spec).static
    whole = spec.model.layers * shard(spec).layer + shard(spec).embedding + shard(spec).head
    held = static["weights"] + static["gradients"] + static["optimizer"]
    assert held == pytest.approx(per_parameter * whole / DP)


def test_no_more_units_are_whole_than_are_gathered_ahead(small: Make) -> None:
    spec = flat(small, layers=8, layout={"zero": 3}, recompute=["full"])
    layer, _, head = parameters_of(spec)
    job = build(spec)
    book = ledger(job.programs[0], job.static[0], job.memory_kinds)
    weights = book.held[:, 0] - job.static[0]["weights"]
    assert weights.max() == pytest.approx(2 * max(2 * layer, layer + head))
    gradients = book.held[:, 1] - job.static[0]["gradients"]
    # two units, each as it is written in 16 bits and as it is sent in fp32
    assert gradients.max() == pytest.approx(6 * max(2 * layer, layer + head))


@pytest.mark.parametrize("zero", [2, 3])
@pytest.mark.parametrize("pp", [1, 2])
@pytest.mark.parametrize("reshard", ["forward", "backward", "step"])
def test_memory_returns_to_its_start(small: Make, zero: int, pp: int, reshard: str) -> None:
    stack = {"reshard": reshard, "reshard_stages": "step" if reshard == "backward" else reshard, "gather_units": True}
    recording = evaluate(flat(small, stack, layout={"zero": zero, "pp": pp}))
    job = recording.job
    for cls, times in enumerate(recording.timeline.classes):
        program = recording.class_program(cls)
        book = ledger(job.programs[program], job.static[program], job.memory_kinds, times)
        assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)
        assert (book.held >= -1.0).all()
        assert sum(book.at_peak().values()) == pytest.approx(sum(stage_peaks(job)[program].values()), rel=1e-9)


@pytest.mark.parametrize(("schedule", "vpp"), [("gpipe", 1), ("zb-h1", 1), ("zb-v", 2), ("interleaved", 2)])
@pytest.mark.parametrize("reshard", ["forward", "step"])
def test_memory_returns_to_its_start_under_every_schedule(small: Make, schedule: str, vpp: int, reshard: str) -> None:
    spec = flat(small, {"reshard_stages": reshard}, layout={"zero": 3, "pp": 2, "vpp": vpp, "schedule": schedule})
    job = build(spec)
    for program, static in zip(job.programs, job.static, strict=True):
        book = ledger(program, static, job.memory_kinds)
        assert book.held[-1] == pytest.approx(book.held[0], abs=1.0)
        assert (book.held >= -1.0).all()


# --- dtypes and compression --------------------------------------------------------------------


def test_gradients_are_reduced_in_the_dtype_that_is_asked_for(small: Make) -> None:
    whole, half = (
        bytes_of(build(flat(small, layout={"zero": 3}, reduction=dtype)))["dp", "reduce_scatter"]
        for dtype in (None, "bf16")
    )
    assert whole == 2 * half


@pytest.mark.parametrize(("dtype", "width"), [("fp32", 4), ("bf16", 2), ("fp8", 1)])
def test_weights_are_gathered_in_the_dtype_of_the_stack(small: Make, dtype: str, width: int) -> None:
    found = bytes_of(build(flat(small, {"gather_dtype": dtype, "reshard": "backward"}, layout={"zero": 3})))
    spec = flat(small)
    layer, embedding, head = parameters_of(spec)
    assert found["dp", "all_gather"] == pytest.approx(M * width * (spec.model.layers * layer + embedding + head))


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
def test_compression_sends_less_and_costs_passes(small: Make, zero: int) -> None:
    plain, tight = (flat(small, layout={"zero": zero}, compression=ratio) for ratio in (1.0, 4.0))
    operation = ("dp", "reduce_scatter" if zero else "all_reduce")
    assert bytes_of(build(plain))[operation] == pytest.approx(4 * bytes_of(build(tight))[operation])
    names = Counter(label.name for label in build(tight).labels)
    assert names["encode"] >= 1
    assert names["decode"] == 1
    # on one node links are faster than the passes: compression does not pay
    assert evaluate(tight).timeline.end > evaluate(plain).timeline.end
