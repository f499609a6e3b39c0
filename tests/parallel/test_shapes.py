"""The list of a layer's kernels against closed forms."""

from collections.abc import Callable

import numpy as np
import pytest

from scaleout.hardware import pack
from scaleout.hardware.rates import attend, matmul, matmuls
from scaleout.models import training_flops
from scaleout.parallel import layer_costs, rows, shard
from scaleout.parallel.shapes import ATTENTION, LINEAR, PLAIN, Kernel, kernels
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
AGAIN = (rows.F_QKV_CORE, rows.F_INTO_MLP)


def listed(spec: TrainingExperiment) -> tuple[Kernel, ...]:
    return kernels(shard(spec), pack(spec.system.chip, spec.stack, spec.precision))


@pytest.mark.parametrize("stack", ["pytorch", "megatron-lm", "megatron-lm-2021", "megatron-deepspeed"])
@pytest.mark.parametrize("tp", [1, 4])
def test_the_arithmetic_is_that_of_the_model(small: Make, stack: str, tp: int) -> None:
    spec = small(stack=stack, chips=16 * tp, layout={"tp": tp, "dp": 4})
    layers = spec.model.layers
    total = 0.0
    for kernel in listed(spec):
        if kernel.row not in AGAIN:
            # fused attention multiplies queries and keys once more in its backward pass
            once = 4 / 5 if kernel.kind == ATTENTION and kernel.row == rows.B_ATTENTION_DATA else 1.0
            total += kernel.work * once * (1 if kernel.once else layers) * tp
    assert total == pytest.approx(training_flops(spec.model, spec.batch.micro, spec.batch.sequence), rel=1e-3)


@pytest.mark.parametrize("stack", ["pytorch", "megatron-lm", "megatron-lm-2021"])
def test_times_of_the_listed_kernels_are_those_of_the_costs(small: Make, stack: str) -> None:
    spec = small(stack=stack)
    mine, rates = shard(spec), pack(spec.system.chip, spec.stack, spec.precision)
    # sums of gradients that the kernels keep aside, a kernel moves 16-bit results
    rates = rates._replace(fused_sum=0.0)
    expected = layer_costs(mine, rates)
    found = np.zeros((len(rows.LABELS), 2))
    for kernel in kernels(mine, rates):
        shape = dict(kernel.shape)
        if kernel.kind == LINEAR:
            found[kernel.row, 0] += matmul(shape["m"], shape["n"], shape["k"], 2.0, rates)
        elif kernel.kind == PLAIN:
            m, n, k = shape["m"], shape["n"], shape["k"]
            # a whole batch in one kernel; two such kernels for the products of queries and keys backward
            batch = 1.0 if kernel.once else mine.batch * mine.heads
            found[kernel.row, 0] += kernel.work / (2 * batch * m * n * k) * matmuls(batch, m, n, k, rates)
        else:
            sizes = mine.batch, mine.sequence, mine.heads, mine.kv_heads, mine.head_size
            found[kernel.row, 1] += attend(*sizes, kernel.row == rows.B_ATTENTION_DATA, rates)
    found[rows.B_MLP_OUT] = found[rows.B_MLP_OUT_DATA] + found[rows.B_MLP_OUT_WEIGHT]
    found[rows.B_ATTENTION] = found[rows.B_ATTENTION_DATA] + found[rows.B_ATTENTION_WEIGHT]
    assert found == pytest.approx(expected[:, [rows.MATMUL, rows.ATTENTION]], rel=1e-12)


def test_ends_run_once_a_micro_batch(small: Make) -> None:
    ends = {rows.LABELS[kernel.row] for kernel in listed(small()) if kernel.once}
    assert ends == {"logits", "logits, backward", "head, weight gradient"}


@pytest.mark.parametrize("way", ["ring", "all_gather", "all_to_all"])
def test_attention_over_ranks_is_listed_with_what_its_kernels_see(small: Make, way: str) -> None:
    layout = {"tp": 2, "pp": 2, "dp": 4, "cp": 4, "vpp": 1, "context": way}
    spec = small(stack="megatron-lm", layout=layout, batch={"sequence": 8192})
    listed = kernels(shard(spec), pack(spec.system.chip, spec.stack, spec.precision), way)
    forward = [dict(kernel.shape) for kernel in listed if kernel.kind == ATTENTION and kernel.row == rows.F_ATTENTION]
    lengths = [(shape["q_len"], shape["kv_len"], shape["heads"]) for shape in forward]
    assert (
        lengths
        == {
            "ring": [(2048, 2048, 16)] * 4,
            "all_gather": [(1024, 1024, 16), (1024, 8192, 16)],
            "all_to_all": [(8192, 8192, 4)],
        }[way]
    )
