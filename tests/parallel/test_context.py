"""Context parallelism: recurrences of the ring, bytes of every way, work and memory that are shared out."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.collectives import candidates
from scaleout.engine import Family, Job, equitable, quotient, run
from scaleout.engine.program import COLLECTIVE, COMPUTE, ticks
from scaleout.errors import PlanError
from scaleout.evaluate.event import evaluate
from scaleout.hardware import pack
from scaleout.io.experiments import experiment
from scaleout.network import ring
from scaleout.parallel import Block, Context, Tables, join, kept_of, options, shard
from scaleout.parallel.context import pieces
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
WAYS = ("ring", "all_gather", "all_to_all")
WHOLE = experiment(
    {
        "system": "dgx-h100", "chips": 64, "model": "llama-3.1-8b", "stack": "megatron-lm",
        "layout": {"dp": 64, "zero": 1}, "batch": {"global": 64, "sequence": 2048},
    }
)  # fmt: skip


@pytest.fixture
def long(small: Make) -> Make:
    def make(cp: int = 1, context: str = "ring", **changes: Any) -> TrainingExperiment:
        layout = {"tp": 2, "pp": 2, "dp": 16 // cp, "cp": cp, "vpp": 1, "context": context, **changes.pop("layout", {})}
        batch = {"global": 16, "sequence": 32768, **changes.pop("batch", {})}
        spec = small(stack="megatron-lm", layout=layout, batch=batch, **changes)
        return replace(spec, model=replace(spec.model, layers=4))

    return make


def context_of(spec: TrainingExperiment) -> Context:
    return Context(shard(spec), spec.layout.context, pack(spec.system.chip, spec.stack, spec.precision), 0)


def written(spec: TrainingExperiment, *, backward: bool) -> tuple[Tables, Any]:
    tables = Tables()
    block = Block(tables)
    made = context_of(spec)
    made.backward(block, ()) if backward else made.forward(block, ())
    return tables, block.freeze()


def times(spec: TrainingExperiment, *, backward: bool, bandwidth: float) -> tuple[int, list[int], list[int]]:
    """How long the group takes on a ring of links, its kernels and its messages [tick]."""
    cp = spec.layout.cp
    tables, block = written(spec, backward=backward)
    fabric, group = ring(cp, bandwidth=bandwidth, latency=1e-6), np.arange(cp)[None, :]
    job = Job(
        programs=[join([block], [""])],
        program_of=np.zeros(cp, dtype=np.int64),
        families={"cp": Family("cp", "cp", group)},
        labels=list(tables.labels),
        messages=list(tables.messages),
        memory_kinds=("temporary",),
        static=[{}],
    )
    patterns = {i: candidates(fabric, group, m.operation)["send/wires"](group) for i, m in enumerate(job.messages)}
    timeline = run(job, quotient(job, fabric, patterns, equitable(job, fabric, patterns)))
    kernels = [ticks(job.labels[i].seconds) for kind, _, i in block.ops.tolist() if kind == COMPUTE]
    sent = [1e-6 + job.messages[i].nbytes / bandwidth for kind, _, i in block.ops.tolist() if kind == COLLECTIVE]
    return timeline.end, kernels, [ticks(seconds) for seconds in sent]


@pytest.mark.parametrize("bandwidth", [5e9, 20e9, 50e9, 400e9])
@pytest.mark.parametrize("cp", [2, 4, 8])
def test_a_ring_forward_takes_the_longer_of_kernel_and_message_in_every_step(
    long: Make, cp: int, bandwidth: float
) -> None:
    end, kernels, sent = times(long(cp), backward=False, bandwidth=bandwidth)
    assert (len(kernels), len(sent)) == (cp, cp - 1)
    expected = sum(max(pair) for pair in zip(kernels, sent, strict=False)) + kernels[-1]
    assert end == pytest.approx(expected, abs=2 * cp)


@pytest.mark.parametrize("bandwidth", [5e9, 20e9, 50e9, 400e9])
@pytest.mark.parametrize("cp", [2, 4, 8])
def test_a_ring_backward_adds_up_gradients_after_every_step_but_the_first(
    long: Make, cp: int, bandwidth: float
) -> None:
    end, kernels, sent = times(long(cp), backward=True, bandwidth=bandwidth)
    attention, adds = [kernels[0], *kernels[1::2]], kernels[2::2]
    assert (len(attention), len(adds), len(sent)) == (cp, cp - 1, cp)
    assert end == pytest.approx(sum(map(max, attention, sent)) + sum(adds), abs=2 * cp)


def sent_by_rank(spec: TrainingExperiment, *, backward: bool) -> Counter[str]:
    """Bytes that a rank sends, by operation."""
    tables, block = written(spec, backward=backward)
    messages, cp = list(tables.messages), spec.layout.cp
    out: Counter[str] = Counter()
    for kind, _, item in block.ops.tolist():
        if kind == COLLECTIVE:
            message = messages[item]
            out[message.operation] += message.nbytes * (1.0 if message.operation == "shift" else (cp - 1) / cp)
    return out


@pytest.mark.parametrize("cp", [2, 4, 8, 16])
def test_bytes_that_a_rank_sends_are_those_counted_by_hand(long: Make, cp: int) -> None:
    made = {way: long(cp, way) for way in WAYS if way != "all_to_all" or cp <= 16}
    # Llama-3.1 8B, tp 2: 16 query heads and 4 key heads of 128 a rank, 16 bits
    queries, keys = 32768 / cp * 16 * 128 * 2, 2 * 32768 / cp * 4 * 128 * 2
    assert sent_by_rank(made["ring"], backward=False) == {"shift": pytest.approx((cp - 1) * keys)}
    assert sent_by_rank(made["ring"], backward=True) == {"shift": pytest.approx(2 * (cp - 1) * keys)}
    assert sent_by_rank(made["all_gather"], backward=False) == {"all_gather": pytest.approx((cp - 1) * keys)}
    assert sent_by_rank(made["all_gather"], backward=True) == {
        "all_gather": pytest.approx((cp - 1) * keys), "reduce_scatter": pytest.approx((cp - 1) * keys),
    }  # fmt: skip
    # a head of keys to each rank at least
    repeated = keys * max(1, cp / 4)
    moved = (cp - 1) / cp * (2 * queries + repeated)
    for backward in (False, True):
        assert sent_by_rank(made["all_to_all"], backward=backward) == {"all_to_all": pytest.approx(moved)}


@given(st.sampled_from(WAYS), st.sampled_from([1, 2, 4, 8]), st.integers(1, 64))
def test_pairs_of_queries_and_keys_are_shared_out_and_none_is_lost(way: Any, cp: int, length: int) -> None:
    sequence = 1024 * length
    layout = replace(WHOLE.layout, cp=cp, dp=64 // cp, context=way)
    spec = replace(WHOLE, layout=layout, batch=replace(WHOLE.batch, sequence=sequence))
    mine = shard(spec)
    # causal: each query of a piece sees what lies before the piece, and half of the piece
    pairs = [p.batch * p.heads * p.sequence * (p.before + (p.sequence + 1) / 2) for p in pieces(mine, way)]
    whole = mine.batch * mine.heads * sequence * (sequence + 1) / 2
    # a ring counts its own diagonal in every step
    assert sum(pairs) * cp == pytest.approx(whole, rel=1e-12 if way != "ring" else 2 * cp / sequence)


def parts(spec: TrainingExperiment) -> Counter[str]:
    """Seconds of a step's kernels by part, of the ranks of the first stage."""
    job = evaluate(spec).job
    out: Counter[str] = Counter()
    program = job.programs[0]
    for kind, item in zip(program.kind.tolist(), program.item.tolist(), strict=True):
        if kind == COMPUTE and job.labels[item].category == "compute":
            out.update(dict(job.labels[item].parts))
    return out


@pytest.mark.parametrize("cp", [2, 4])
def test_all_ways_compute_the_same_and_as_much_as_without(long: Make, cp: int) -> None:
    whole = parts(long(1, batch={"global": 16}))
    ways = [parts(long(cp, way)) for way in WAYS]
    # as many micro-batches a rank as there are fewer replicas, of so much less
    for way in ways:
        assert way["attention"] == pytest.approx(whole["attention"], rel=0.04)
        assert way["matmul"] == pytest.approx(whole["matmul"], rel=0.03)
    assert len({round(way["matmul"], 12) for way in ways}) == 1


@pytest.mark.parametrize("way", WAYS)
def test_no_cut_is_no_context(long: Make, way: str) -> None:
    assert evaluate(long(1, way)).timeline.end == evaluate(long(1)).timeline.end
    block = Block(Tables())
    made = context_of(long(1, way))
    assert made.forward(block, (7,)) == made.backward(block, (7,), again=True) == (7,)
    assert block.last == -1


@pytest.mark.parametrize("recompute", [(), ("core_attention",), ("full",), ("attention", "mlp")])
def test_a_rank_keeps_its_part_of_the_activations(long: Make, recompute: tuple[str, ...]) -> None:
    kept = {}
    for cp in (1, 4):
        spec = long(cp, recompute=recompute)
        mine, rates = shard(spec), pack(spec.system.chip, spec.stack, spec.precision)
        kept[cp] = np.array(kept_of(mine, options(spec), rates))
    assert kept[4] == pytest.approx(kept[1] / 4, rel=1e-12)


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "ring": ("ring", {}),
    "ring over nodes": ("ring", {"layout": {"tp": 8, "pp": 1, "dp": 2}, "batch": {"global": 4}}),
    "gathered, recomputed attention": ("all_gather", {"recompute": ["attention"]}),
    "exchanged, everything recomputed": ("all_to_all", {"recompute": ["full"]}),
    "ring, core recomputed": ("ring", {"recompute": ["core_attention"]}),
    "ring, stages first": ("ring", {"layout": {"order": ["pp", "tp", "cp", "dp"]}}),
    "gathered, copies first": ("all_gather", {"layout": {"order": ["dp", "cp", "tp", "pp"]}}),
    "exchanged, interleaved, two chips a port": (
        "all_to_all", {"layout": {"vpp": 2}, "system": "vtrain-a100-4xhdr200"}
    ),
    "ring, a slow chip": ("ring", {"slow": {"chips": {5: 0.8}}}),
    "gathered, a slow port": ("all_gather", {"slow": {"ports": {9: 0.4}}}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_folded_equals_unfolded_integer_for_integer(long: Make, name: str) -> None:
    way, changes = CASES[name]
    spec = long(4, way, **{**changes, "batch": {"sequence": 8192, **changes.get("batch", {})}})
    folded, unfolded = evaluate(spec), evaluate(spec, fold=False, compiled=False)
    assert folded.wiring.classes < spec.chips == unfolded.wiring.classes
    for rank in range(spec.chips):
        mine, other = (r.timeline.classes[int(r.wiring.class_of[rank])] for r in (folded, unfolded))
        for column in ("arrived", "started", "ended"):
            assert np.array_equal(getattr(mine, column), getattr(other, column))


def test_what_kernels_do_not_hide_is_exposed(long: Make) -> None:
    # over nodes, two groups on each port; work of a step grows with the square of its tokens, messages with them
    hidden, bare = (simulate(long(16, batch={"sequence": sequence})) for sequence in (524288, 16384))
    for result in (hidden, bare):
        assert sum(result.breakdown_ps.values()) == result.step_time_ps
    assert hidden.breakdown["exposed_cp"] < 0.01 * hidden.step_time
    assert bare.breakdown["exposed_cp"] > 0.05 * bare.step_time
    assert (bare.experiment["cp"], bare.experiment["context"]) == (16, "ring")


@pytest.mark.parametrize(("changes", "message"), [
    ({"cp": 8, "batch": {"sequence": 4104}}, "layout.cp: 16 blocks, 2 for each of 8 ranks, do not divide .* 4104"),
    (
        {"cp": 8, "context": "all_to_all", "layout": {"tp": 8, "pp": 1, "dp": 1}},
        "layout.cp: 8 does not divide the 4 attention heads",
    ),
    (
        {"cp": 2, "batch": {"sequence": 1028}, "layout": {"tp": 4, "dp": 4}},
        "layout.tp: 4 does not divide the sequence of 514 tokens",
    ),
    ({"layout": {"ep": 8}}, "layout.ep: ep 8 x etp 1, but .* has no experts"),
])  # fmt: skip
def test_what_cannot_be_cut_is_refused(long: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        long(**changes)


def test_experts_that_cannot_be_dealt_out_are_refused(long: Make) -> None:
    from scaleout.specs import Experts

    spec = long()
    model = replace(spec.model, experts=Experts(count=12, top_k=2, ffn=1023))
    for layout, message in (
        ({"ep": 8}, "layout.ep: 8 does not divide the 12 experts .*accepted: 1, 2, 3, 4, 6, 12"),
        ({"etp": 2}, "layout.etp: 2 does not divide the width 1023"),
        ({"ep": 4, "sequence_parallel": False}, "layout.sequence_parallel: experts with tp above 1 need it"),
    ):
        with pytest.raises(PlanError, match=message):
            replace(spec, model=model, layout=replace(spec.layout, **layout))  # type: ignore[arg-type]


def test_attention_without_a_way_over_ranks_is_not_cut(long: Make) -> None:
    spec = long(2)
    with pytest.raises(PlanError, match="is not causal, or keeps a state"):
        replace(spec, model=replace(spec.model, causal=False))
    with pytest.raises(PlanError, match="no ring attends within a window"):
        replace(spec, model=replace(spec.model, window=4096))
    with pytest.raises(PlanError, match="unfused, and needs whole sequences"):
        replace(spec, stack=replace(spec.stack, attention="unfused"))
