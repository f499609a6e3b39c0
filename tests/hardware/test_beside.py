"""Kernels beside transfers on one chip: published slow-downs, and bounds."""

from itertools import pairwise

import pytest

from scaleout.hardware import pack
from scaleout.hardware.contention import beside, hbm_passes, left
from scaleout.hardware.gemm import gemm_beside, gemm_seconds, gemm_vector
from scaleout.io.catalogue import load
from scaleout.models import layer_kinds
from scaleout.parallel import layer_costs, shard
from scaleout.parallel.rows import LABELS, PARTS
from scaleout.specs import Batch, Layout, TrainingExperiment

H100 = load("chip", "h100-sxm-80gb")
FORWARD = ("norm", "attention", "add, norm", "mlp", "add")
BACKWARD = (
    "mlp out, backward", "mlp in, data gradient", "mlp in, weight gradient", "norm, backward", "attention, backward",
    "qkv, data gradient", "qkv, weight gradient",
)  # fmt: skip


def test_a_product_of_132_blocks_beside_an_all_gather_of_24_falls_from_80_to_47_percent() -> None:
    # forums.developer.nvidia.com, 337991: 1.70 times as long
    burst = gemm_vector(H100, "bf16")
    shape = (11 * 128, 12 * 256, 8192, 2.0)
    assert 2.0 * shape[0] * shape[1] * shape[2] / gemm_seconds(*shape, burst) / H100.flops("bf16") > 0.75
    slower = gemm_seconds(*shape, gemm_beside(burst, *left(H100, 24, 0)))
    assert 1.55 < slower / gemm_seconds(*shape, burst) < 1.85


@pytest.mark.parametrize("chip", ["h100-sxm-80gb", "a100-sxm-80gb", "b200-sxm-180gb"])
def test_no_product_is_faster_with_less_and_a_large_one_slows_as_cores_go(chip: str) -> None:
    spec = load("chip", chip)
    burst = gemm_vector(spec, "bf16")
    for shape in ((128, 4096, 4096), (1000, 3000, 5000), (2048, 4096, 4096), (8192, 8192, 8192)):
        times = [gemm_seconds(*shape, 2.0, gemm_beside(burst, *left(spec, cores, 0))) for cores in range(0, 40, 4)]
        assert times[0] == gemm_seconds(*shape, 2.0, burst)
        assert min(times) == times[0]
        # waves are whole numbers: what a few cores less cost may come a little sooner or later
        assert all(later >= 0.95 * sooner for sooner, later in pairwise(times))
    assert times[6] / times[0] == pytest.approx(spec.cores / (spec.cores - 24), rel=0.08)


def test_what_hbm_bounds_runs_at_the_rate_that_is_left() -> None:
    burst = gemm_vector(H100, "bf16")
    cores, hbm = left(H100, 0, 0.25 * H100.hbm_bandwidth)
    assert (cores, hbm) == (1.0, 0.75)
    launch = gemm_seconds(1, 1, 1, 0.0, burst)
    alone, slower = (gemm_seconds(16, 16384, 16384, 2.0, c) - launch for c in (burst, gemm_beside(burst, cores, hbm)))
    assert slower / alone == pytest.approx(1 / 0.75, rel=0.03)
    # transfers leave half
    assert left(H100, 0, H100.hbm_bandwidth)[1] == 0.5


def test_an_all_reduce_moves_as_its_halves_and_a_switch_that_adds_reads_once() -> None:
    assert hbm_passes("all_reduce", "ring/Simple") == pytest.approx(
        (hbm_passes("reduce_scatter", "ring/Simple") + hbm_passes("all_gather", "ring/Simple")) / 2
    )
    assert hbm_passes("all_reduce", "nvls/NVLS") == 1.0


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-2-13b", "llama-3.1-70b"])
def test_a_layer_beside_its_gathers_slows_by_10_to_25_percent(model: str) -> None:
    # arXiv 2507.03114: 18.9 % on average, 40 % at most, with FSDP on A100, H100 and MI250
    spec = TrainingExperiment(
        system=load("system", "dgx-h100"), chips=8, model=load("model", model), layout=Layout(dp=8),
        batch=Batch(global_=8, micro=1, sequence=4096), stack=load("stack", "nemo"),
    )  # fmt: skip
    mine = shard(spec, layer_kinds(spec.model)[0])
    rates, wire = pack(H100, spec.stack, "bf16"), 0.9 * spec.system.scale_up.payload
    # rings of 24 blocks in a node: gathers all the time, and backward every other transfer a reduce-scatter
    passes = {FORWARD: 2.0, BACKWARD: 2.5}
    alone, slower = 0.0, 0.0
    for names, each in passes.items():
        rows = [LABELS.index(name) for name in names]
        alone += layer_costs(mine, rates)[rows, : len(PARTS)].sum()
        slower += layer_costs(mine, beside(rates, *left(H100, 24, each * wire)))[rows, : len(PARTS)].sum()
    assert 1.10 < slower / alone < 1.25
