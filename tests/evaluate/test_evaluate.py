from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.evaluate.breakdown import CATEGORIES, breakdown, computing, critical_path, per_class
from scaleout.evaluate.event import evaluate
from scaleout.models import training_flops
from scaleout.specs import FrozenDict, TrainingExperiment

Make = Callable[..., TrainingExperiment]

CASES = [
    {},
    {"layout": {"vpp": 1}},
    {"layout": {"vpp": 1, "pp": 1, "dp": 16}},
    {"layout": {"vpp": 1, "sequence_parallel": False, "zero": 0}},
    {"stack": "megatron-lm"},
    {"slow": {"chips": {5: 0.5}}},
    {"slow": {"ports": {5: 0.2}}},
    {"chips": 1, "layout": {"tp": 1, "pp": 1, "dp": 1, "vpp": 1}, "batch": {"global": 2}},
    # one of its kernels is a label without parts, and takes no time
    {
        "model": "deepseek-v3",
        "recompute": ["full"],
        "batch": {"global": 64},
        "layout": {"tp": 1, "pp": 4, "dp": 16, "ep": 16, "vpp": 1, "sequence_parallel": False},
    },
]


@pytest.mark.parametrize("case", CASES)
def test_breakdown_sums_exactly_to_the_step_for_every_class(small: Make, case: dict[str, object]) -> None:
    recording = evaluate(small(**case))
    table = per_class(recording)
    assert table.shape == (recording.wiring.classes, len(CATEGORIES))
    assert (table.sum(axis=1) == recording.timeline.end).all()
    assert (table >= 0).all()
    assert (computing(recording) == table[:, CATEGORIES.index("compute")]).all()
    assert (per_class(recording, [0]) == table[:1]).all()


@pytest.mark.parametrize("case", CASES)
def test_the_longest_chain_sums_exactly_to_the_step(small: Make, case: dict[str, object]) -> None:
    recording = evaluate(small(**case))
    assert sum(critical_path(recording).values()) == recording.timeline.end


def test_a_single_chip_only_computes(small: Make) -> None:
    recording = evaluate(small(chips=1, layout={"tp": 1, "pp": 1, "dp": 1, "vpp": 1}, batch={"global": 2}))
    parts = breakdown(recording, 0)
    assert parts["compute"] + parts["optimizer"] == recording.timeline.end


def scaled(spec: TrainingExperiment, *, network: float = 1.0, latency: float = 1.0):  # type: ignore[no-untyped-def]
    """The system with bandwidths and latencies multiplied."""
    system = spec.system
    return replace(
        system,
        scale_up=replace(
            system.scale_up, bandwidth=system.scale_up.bandwidth * network, latency=system.scale_up.latency * latency
        ),
        network=replace(
            system.network,
            bandwidth=system.network.bandwidth * network,
            latency=system.network.latency * latency,
            hop_latency=system.network.hop_latency * latency,
        ),
        library=replace(
            system.library,
            protocols={
                name: replace(
                    rules,
                    launch=rules.launch * latency,
                    scale_up_step=rules.scale_up_step * latency,
                    network_step=rules.network_step * latency,
                )
                for name, rules in system.library.protocols.items()
            },
        ),
    )


@pytest.mark.parametrize("case", CASES[:6])
def test_rates_times_c_and_latencies_over_c_divide_the_time_by_c(small: Make, case: dict[str, object]) -> None:
    c, spec = 8.0, small(**case)
    chip, stack = spec.system.chip, spec.stack
    gemm = chip.gemm["bf16"]
    attention = chip.attention["flash-attention-2"]
    forward = attention.for_prefill("bf16")
    faster = replace(
        chip,
        peak_flops=FrozenDict({k: v * c for k, v in chip.peak_flops.items()}),
        sustained=FrozenDict({k: v * c for k, v in chip.sustained.items()}),
        hbm_bandwidth=chip.hbm_bandwidth * c,
        gemm={
            "bf16": replace(
                gemm,
                launch=gemm.launch / c,
                tile_overhead=gemm.tile_overhead / c,
                split_overhead=gemm.split_overhead / c,
            )
        },
        attention={
            "flash-attention-2": replace(
                attention,
                prefill={"bf16": replace(forward, launch=forward.launch / c, row_overhead=forward.row_overhead / c)},
            )
        },
    )
    system = replace(scaled(spec, network=c, latency=1 / c), chip=faster)
    quick = replace(spec, system=system, stack=replace(stack, kernel_gap=stack.kernel_gap / c))
    before = evaluate(spec)
    # every operation is rounded to a picosecond, before and after
    rounding = (c + 1) * max(len(program) for program in before.job.programs)
    assert evaluate(quick).timeline.end * c == pytest.approx(before.timeline.end, rel=1e-9, abs=rounding)


@pytest.mark.parametrize("case", CASES)
def test_a_step_takes_at_least_its_compute_and_hbm_and_network_bounds(small: Make, case: dict[str, object]) -> None:
    spec = small(**case)
    recording = evaluate(spec)
    step = recording.timeline.end / TICKS_PER_SECOND
    chip, layout = spec.system.chip, spec.layout
    # the causal half of attention is not computed
    flops = training_flops(spec.model, spec.batch.global_, spec.batch.sequence)
    q = spec.model.heads * spec.model.head_size
    skipped = 6 * spec.model.layers * spec.batch.sequence * q * spec.batch.tokens
    assert step >= (flops - skipped) / spec.chips / chip.flops("bf16")
    weights = max(static["weights"] for static in recording.job.static)
    assert step >= 3 * weights * spec.micro_batches / chip.hbm_bandwidth
    if layout.dp > 1:
        gradients = max(static["gradients"] for static in recording.job.static)
        port = max(spec.system.network.bandwidth, spec.system.scale_up.bandwidth)
        assert step >= (layout.dp - 1) / layout.dp * gradients / port


def test_equal_experiments_give_equal_times(small: Make) -> None:
    a, b = evaluate(small()), evaluate(small())
    for x, y in zip(a.timeline.classes, b.timeline.classes, strict=True):
        assert np.array_equal(x.ended, y.ended)


def test_more_of_everything_on_the_wires_takes_no_longer(small: Make) -> None:
    spec = small()
    ends = [evaluate(replace(spec, system=scaled(spec, network=f))).timeline.end for f in (0.5, 1.0, 2.0)]
    assert ends == sorted(ends, reverse=True)
