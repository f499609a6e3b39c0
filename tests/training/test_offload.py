"""Offload: bytes of copies in closed form, when they are hidden, what they leave of HBM, and who shares a link."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.engine import Job, ledger
from scaleout.engine.program import COMPUTE, TICKS_PER_SECOND, ticks
from scaleout.errors import PlanError
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.event import evaluate
from scaleout.parallel import HOST_IN, HOST_OUT, shard
from scaleout.specs import Offload, TrainingExperiment
from scaleout.training import build
from scaleout.training.memory import stage_peaks

Make = Callable[..., TrainingExperiment]
LAYERS, M = 4, 2


def flat(small: Make, offload: dict[str, float], chips: int = 1, **changes: Any) -> TrainingExperiment:
    """Four layers of Llama on a node of A100, two chips of which share a link into the host; two micro-batches."""
    layout = {"tp": 1, "pp": 1, "dp": chips, "vpp": 1, "sequence_parallel": False, **changes.pop("layout", {})}
    spec = small(
        system="dgx-a100",
        chips=chips,
        layout=layout,
        batch={"global": M * layout["dp"], "sequence": 2048},
        offload=offload,
        **changes,
    )
    return replace(spec, model=replace(spec.model, layers=LAYERS))


def with_host(spec: TrainingExperiment, **changes: Any) -> TrainingExperiment:
    """The same with another host."""
    assert spec.system.host is not None
    return replace(spec, system=replace(spec.system, host=replace(spec.system.host, **changes)))


def copied(job: Job) -> Counter[tuple[str, object]]:
    """Bytes of each way and kind that the first program copies."""
    found: Counter[tuple[str, object]] = Counter()
    program = job.programs[0]
    for item in program.item[program.kind != COMPUTE].tolist():
        message = job.messages[item]
        if message.operation == "copy":
            found[message.family, message.details] += message.nbytes
    return found


def kept_of_a_layer(spec: TrainingExperiment) -> float:
    """What a layer leaves for its backward, from the peaks of two models [byte]."""
    longer = replace(spec, model=replace(spec.model, layers=LAYERS + 1))
    peaks = [stage_peaks(build(one))[0]["activations"] for one in (spec, longer)]
    return peaks[1] - peaks[0]


def test_activations_go_and_come_but_for_the_last_layers(small: Make) -> None:
    plain = flat(small, {})
    layer = kept_of_a_layer(plain)
    job = build(flat(small, {"activations": 0.75}))
    moved = M * (LAYERS - 1) * 0.75 * layer
    assert copied(job) == pytest.approx({(HOST_OUT, "activations"): moved, (HOST_IN, "activations"): moved})
    # what is out is out; of each direction two buffers stay
    saved = stage_peaks(build(plain))[0]["activations"] - stage_peaks(job)[0]["activations"]
    assert saved == pytest.approx((LAYERS - 1) * 0.75 * layer - 4 * 0.75 * layer)


def test_copies_are_hidden_where_they_are_shorter_than_the_layers(small: Make) -> None:
    plain, spec = flat(small, {}), flat(small, {"activations": 1.0})
    nbytes = kept_of_a_layer(plain)
    step = evaluate(plain).timeline.end
    forward = _forward_of_a_layer(plain)
    hidden = with_host(spec, bandwidth=1.2 * nbytes / forward, efficiency=1.0, latency=0.0)
    assert evaluate(hidden).timeline.end == step
    # a micro-batch's copies out and in follow each other, whatever runs beside them
    slow = evaluate(with_host(spec, bandwidth=nbytes / (4.0 * forward), efficiency=1.0, latency=0.0)).timeline.end
    copies = M * 2 * (LAYERS - 1) * ticks(4.0 * forward)
    assert copies <= slow <= step + copies


def _forward_of_a_layer(spec: TrainingExperiment) -> float:
    """Time of the kernels of one layer forward [s]."""
    spans = []
    for layers in (LAYERS, LAYERS + 1):
        run = evaluate(replace(spec, model=replace(spec.model, layers=layers)))
        first = next(mark for mark in run.job.programs[0].marks if mark.name == "F0")
        times = run.timeline.classes[0]
        spans.append(int(times.ended[first.last] - times.started[first.first]))
    return (spans[1] - spans[0]) / TICKS_PER_SECOND


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_the_optimizer_comes_and_goes_around_its_update(small: Make, share: float) -> None:
    plain, spec = flat(small, {}), flat(small, {"optimizer": share})
    state = build(plain).static[0]["optimizer"]
    job = build(spec)
    moved = share * state
    assert copied(job) == pytest.approx({(HOST_OUT, "optimizer"): moved, (HOST_IN, "optimizer"): moved})
    assert job.static[0]["optimizer"] == pytest.approx((1.0 - share) * state)
    # copies in bound it: the last part is updated after them, and the passes do not wait for copies out
    assert spec.system.host is not None
    program = job.programs[0]
    parts = sum(job.messages[item].details == "optimizer" for item in program.item[program.kind != COMPUTE]) // 2
    update = next(label for label in build(plain).labels if label.name == "update").seconds
    longer = (evaluate(spec).timeline.end - evaluate(plain).timeline.end) / TICKS_PER_SECOND
    coming = moved / spec.system.host.payload + parts * spec.system.host.latency
    assert longer == pytest.approx(coming - update * (1.0 - 1.0 / parts), rel=1e-3)


@pytest.mark.parametrize("zero", [0, 1, 3])
def test_weights_are_fetched_for_each_pass(small: Make, zero: int) -> None:
    chips = 8
    spec = flat(
        small, {"parameters": 0.5}, chips, stack="torchtitan" if zero == 3 else "megatron-lm", layout={"zero": zero}
    )
    spec = replace(spec, stack=replace(spec.stack, master="copy", reshard="forward"))
    mine = shard(spec)
    part = 1.0 / chips if zero == 3 else 1.0
    layers, ends = LAYERS * mine.layer, mine.embedding + mine.head
    stored = 0.5 * mine.width * part
    passes = M * stored * (2 * layers + 2 * ends)
    if zero == 3:
        # head and loss stay until backward, and nobody gathers an embedding to differentiate it alone
        passes = copied(build(spec))[HOST_IN, "parameters"]
        assert M * stored * (2 * layers + ends) <= passes <= M * stored * 2 * (layers + ends)
    found = copied(build(spec))
    assert found[HOST_IN, "parameters"] == pytest.approx(passes)
    # once a step they are written back
    assert found[HOST_OUT, "parameters"] + found[HOST_OUT, "optimizer"] == pytest.approx(stored * (layers + ends))


@pytest.mark.parametrize(
    ("chips", "layout"),
    [
        (1, {}),
        (2, {}),
        (3, {}),
        (8, {"zero": 3}),
        (8, {"tp": 2, "pp": 2, "dp": 2, "vpp": 2, "sequence_parallel": True}),
        (4, {"pp": 4, "dp": 1, "schedule": "zb-h1"}),
        (4, {"pp": 4, "dp": 1, "schedule": "dualpipe"}),
    ],
)
def test_folded_is_unfolded_and_the_bound_is_below(small: Make, chips: int, layout: dict[str, Any]) -> None:
    batch = 8 if layout.get("pp") == 4 else M
    spec = flat(small, {"activations": 0.5, "optimizer": 0.5, "parameters": 0.5}, chips, layout=layout)
    layers = 8 if layout.get("pp", 1) * layout.get("vpp", 1) * (layout.get("schedule") == "dualpipe") >= 4 else LAYERS
    spec = replace(
        spec, model=replace(spec.model, layers=layers), batch=replace(spec.batch, global_=batch * spec.layout.dp)
    )
    folded = evaluate(spec).timeline.end
    assert folded == evaluate(spec, fold=False, compiled=False).timeline.end
    assert folded == evaluate(spec, fold=False, compiled=True).timeline.end
    assert analyse(spec, compiled=False).end <= folded


def test_two_chips_behind_one_link_take_twice_as_long(small: Make) -> None:
    offload = {"optimizer": 1.0}
    alone, both = flat(small, offload, 1), flat(small, offload, 2)
    apart = with_host(both, chips_per_link=1)
    plain = evaluate(flat(small, {}, 2)).timeline.end
    assert both.system.host is not None
    nbytes = build(both).static[0]
    assert nbytes["optimizer"] == 0.0
    moved = copied(build(both))[HOST_OUT, "optimizer"]
    shared, single = evaluate(both).timeline.end, evaluate(apart).timeline.end
    assert single < shared
    assert (shared - single) / 1e12 == pytest.approx(moved / both.system.host.payload, rel=0.02)
    assert evaluate(alone).timeline.end > 0
    assert plain < single


def test_links_to_the_host_are_counted(small: Make) -> None:
    recording = evaluate(flat(small, {"activations": 0.5}, 2))
    topology = recording.topology
    assert topology.kinds[-1] == "pcie"
    mine = topology.kind == len(topology.kinds) - 1
    # two chips to a switch, the switch to the host, both ways; all carry something
    assert int(mine.sum()) == 6
    assert (recording.busy_links()[mine] > 0).all()
    used = evaluate(flat(small, {}, 2)).topology
    assert "pcie" not in used.kinds
    assert np.array_equal(used.source, topology.source[: used.links])


def test_buffers_bound_what_is_in_hbm_at_any_time(small: Make) -> None:
    # the ledger in the order of the program is that in the order of time
    spec = with_host(flat(small, {"activations": 1.0}), bandwidth=5e9)
    recording = evaluate(spec)
    job = recording.job
    timed = ledger(job.programs[0], job.static[0], job.memory_kinds, recording.timeline.classes[0]).at_peak()
    assert timed == pytest.approx(stage_peaks(job)[0])


def test_a_host_that_is_full_or_not_there_is_refused(small: Make) -> None:
    spec = flat(small, {"optimizer": 1.0, "activations": 0.5}, 8)
    with pytest.raises(PlanError, match=r"offload: the host of node 0 needs .* more than the 10 GB of dgx-a100"):
        build(with_host(spec, memory=10e9))
    with pytest.raises(PlanError, match=r"offload: dgx-a100 says nothing of its host"):
        build(replace(spec, system=replace(spec.system, host=None)))


def test_copies_share_the_pcie_links_that_join_chips(small: Make) -> None:
    spec = small(
        system="l40s-8",
        chips=2,
        layout={"tp": 1, "pp": 1, "dp": 2, "vpp": 1, "sequence_parallel": False, "zero": 0},
        batch={"global": 4, "sequence": 512},
        offload={"activations": 0.5},
    )
    stack = replace(spec.stack, attention="unfused")
    spec = replace(spec, stack=stack, model=replace(spec.model, layers=2, vocabulary=1024))
    topology = evaluate(spec).topology
    assert topology.kinds == ("scale-up",)
    assert evaluate(spec).timeline.end > evaluate(replace(spec, offload=Offload())).timeline.end
