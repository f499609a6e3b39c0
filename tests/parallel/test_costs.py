"""Times of a layer's operations against sums by hand: bytes of passes, kernels, bounds of products."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scaleout.hardware import Rates, pack
from scaleout.parallel import layer_costs, shard
from scaleout.parallel.rows import ATTENTION, ELEMENTWISE, KERNELS, LABELS, LAUNCH, MATMUL
from scaleout.parallel.shard import Shard, cut, dimensions, options
from scaleout.specs import TrainingExperiment

Make = Callable[..., TrainingExperiment]
ROW = {label: at for at, label in enumerate(LABELS)}

# GPT-3 1.3B, 2,048 tokens, two ranks without sequence parallelism; what a rank has of it (half of
# the 50,257 tokens is padded to a multiple of 128)
T, H, Q, F, HEADS, V = 2048, 2048, 1024, 4096, 8, 25216
SCORES = HEADS * T * T
SUM = 2 + 2 * 4
"""A bf16 gradient is read; an fp32 sum is read and written."""


def on(spec: TrainingExperiment, **stack: Any) -> TrainingExperiment:
    return replace(spec, stack=replace(spec.stack, **stack))


def gpt(small: Make, **stack: Any) -> TrainingExperiment:
    made = small(
        system="dgx-a100", chips=8, model="gpt3-1.3b", stack="megatron-lm-2020",
        layout={"tp": 2, "pp": 1, "dp": 4, "vpp": 1, "sequence_parallel": False, "zero": 0},
    )  # fmt: skip
    return on(made, **stack)


def llama(small: Make, **changes: Any) -> TrainingExperiment:
    return small(
        chips=32, stack="megatron-lm", layout={"tp": 4, "pp": 4, "dp": 2, "sequence_parallel": True}, **changes
    )


def costs(spec: TrainingExperiment) -> np.ndarray:
    return layer_costs(shard(spec), pack(spec.system.chip, spec.stack, spec.precision))


def moved(spec: TrainingExperiment) -> dict[str, float]:
    """Bytes of the passes of every operation."""
    rate = spec.system.chip.hbm_bandwidth * spec.stack.elementwise_efficiency
    return {name: row[ELEMENTWISE] * rate for name, row in zip(LABELS, costs(spec), strict=True) if row[KERNELS]}


def kernels(spec: TrainingExperiment) -> dict[str, float]:
    return {name: row[KERNELS] for name, row in zip(LABELS, costs(spec), strict=True) if row[KERNELS]}


SUMS = {
    "mlp out, backward": ("mlp out, data gradient", "mlp out, weight gradient"),
    "attention, backward": ("attention, data gradient", "attention out, weight gradient"),
}


def sums(rows: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    """Rows that do two others at once."""
    return {both: (rows[a][0] + rows[b][0], rows[a][1] + rows[b][1]) for both, (a, b) in SUMS.items()}


def test_passes_and_kernels_of_a_gpt_layer_are_those_counted_by_hand(small: Make) -> None:
    core = 4 * SCORES + 5 * SCORES + 4 * T * Q  # softmax, dropout with its mask, heads into rows
    by_hand = {
        "norm": (4 * T * H, 1),
        "attention": (core, 2 + 2 + 3),
        "add, norm": (7 * T * H + 4 * T * H, 2),
        "mlp": (4 * T * F, 3),
        "add": (7 * T * H, 1),
        "recompute attention": (core, 1 + 2 + 3),
        "recompute mlp": (4 * T * F, 2),
        "mlp out, data gradient": (5 * T * H + 6 * T * F + 2 * T * (F + H), 4),
        "mlp out, weight gradient": (F * H * SUM, 2),
        "mlp in, data gradient": (0, 1),
        "mlp in, weight gradient": (F * H * SUM, 2),
        "norm, backward": (12 * T * H, 2),
        "attention, data gradient": (5 * T * H + 11 * SCORES + 4 * T * Q + 2 * T * (3 * Q + H), 1 + 1 + 4 + 4),
        "attention out, weight gradient": (Q * H * SUM, 2),
        "qkv, data gradient": (0, 1),
        "qkv, weight gradient": (3 * Q * H * SUM, 2),
        "embedding": (4 * T * H, 1),
        "embedding out": (4 * T * H, 1),
        "embedding, backward": (T * H * SUM, 1),
        "logits": (38 * T * V, 7),
        "loss": (4 * T, 2),
        "logits, backward": (14 * T * V, 3),
        "head, weight gradient": (H * V * SUM, 2),
        "final norm, backward": (6 * T * H, 1),
    }
    for reduced in ("attention", "mlp", "mlp in, data gradient", "qkv, data gradient"):
        by_hand[reduced] = by_hand[reduced][0], by_hand[reduced][1] + 1
    by_hand |= sums(by_hand)
    spec = gpt(small)
    assert moved(spec) == pytest.approx({name: size for name, (size, _) in by_hand.items()}, rel=1e-12)
    assert kernels(spec) == {name: count for name, (_, count) in by_hand.items()}


def test_passes_and_kernels_of_a_llama_layer_are_those_counted_by_hand(small: Make) -> None:
    # Llama-3.1 8B over four ranks: 512 tokens for the norms, widths of queries, keys, feed-forward block
    local, h, q, k, f, v = 512, 4096, 1024, 256, 3584, 32064
    rotation = 4 * T * (q + k)
    by_hand = {
        "norm": (4 * local * h, 1),
        "attention": (rotation, 4),
        "add, norm": (10 * local * h, 2),
        "mlp": (6 * T * f, 3),
        "add": (6 * local * h, 1),
        "recompute attention": (rotation, 3),
        "recompute mlp": (6 * T * f, 2),
        "mlp out, data gradient": (10 * T * f, 2),
        "mlp out, weight gradient": (0, 1),
        "mlp in, data gradient": (0, 1),
        "mlp in, weight gradient": (0, 1),
        "norm, backward": (12 * local * h, 2),
        "attention, data gradient": (rotation, 3),
        "attention out, weight gradient": (0, 1),
        "qkv, data gradient": (0, 1),
        "qkv, weight gradient": (0, 1),
        "embedding": (4 * T * h, 1),
        "embedding out": (4 * local * h, 1),
        "embedding, backward": (T * h * SUM, 1),
        "logits": (38 * T * v, 7),
        "loss": (4 * T, 2),
        "logits, backward": (14 * T * v, 3),
        "head, weight gradient": (0, 1),
        "final norm, backward": (6 * local * h, 1),
    }
    for both in ("attention", "mlp", "mlp in, data gradient", "qkv, data gradient"):
        by_hand[both] = by_hand[both][0], by_hand[both][1] + 2
    for gathered in ("mlp out, data gradient", "attention, data gradient"):
        by_hand[gathered] = by_hand[gathered][0], by_hand[gathered][1] + 1
    by_hand |= sums(by_hand)
    spec = llama(small)
    assert moved(spec) == pytest.approx({name: size for name, (size, _) in by_hand.items()}, rel=1e-12)
    assert kernels(spec) == {name: count for name, (_, count) in by_hand.items()}


@pytest.mark.parametrize("case", ["gpt", "llama"])
def test_products_take_at_least_what_their_flops_need_and_not_much_more(small: Make, case: str) -> None:
    if case == "gpt":
        spec = gpt(small)
        core = 2 * 2 * HEADS * T * T * 128
        flops = {"attention": core + 2 * T * H * (3 * Q + Q), "mlp": 4 * T * H * F, "qkv, data gradient": 6 * T * Q * H,
                 "attention, backward": 2 * core + 2 * 2 * T * Q * H,
                 "qkv, weight gradient": 6 * T * Q * H, "mlp out, backward": 4 * T * H * F}  # fmt: skip
    else:
        spec = llama(small)
        flops = {"attention": 2 * T * 4096 * (1024 + 512 + 1024), "mlp": 2 * T * 4096 * 3584 * 3,
                 "mlp out, backward": 4 * T * 4096 * 3584, "mlp in, data gradient": 4 * T * 4096 * 3584,
                 "mlp in, weight gradient": 4 * T * 4096 * 3584, "logits": 2 * T * 4096 * 32064}  # fmt: skip
    times, chip = costs(spec)[:, MATMUL], spec.system.chip
    for name, work in flops.items():
        least = work / chip.sustained["bf16"]
        assert least <= times[ROW[name]] <= 2.0 * least + 30e-6, name


@pytest.mark.parametrize("sequence", [2048, 8192])
def test_unfused_attention_takes_longer_than_fused_and_than_its_bytes_and_flops(small: Make, sequence: int) -> None:
    spec = gpt(small, dropout=False)
    # one kind of model at any length
    mine = shard(spec)._replace(sequence=float(sequence), tokens=float(sequence), local_tokens=float(sequence))
    chip = spec.system.chip
    unfused, fused = (
        layer_costs(mine, pack(chip, replace(spec.stack, attention=name), "bf16"))
        for name in ("unfused", "flash-attention-2")
    )
    scores = HEADS * sequence**2
    for name, passes, products in (("attention", 4, 2), ("attention, backward", 6, 4)):
        parts = [MATMUL, ATTENTION, ELEMENTWISE]
        extra = unfused[ROW[name], parts] - fused[ROW[name], parts]
        assert extra.sum() > 0
        assert extra[0] >= products * 2 * scores * 128 / chip.flops("bf16")
        assert extra[2] >= passes * scores / chip.hbm_bandwidth
    others = [at for at, label in enumerate(LABELS) if "attention" not in label]
    assert (unfused[others] == fused[others]).all()


def test_dropout_adds_its_masks_and_passes_and_nothing_else(small: Make) -> None:
    on_, off = moved(gpt(small)), moved(gpt(small, dropout=False))
    added = {name: on_[name] - off[name] for name in on_ if on_[name] != off[name]}
    assert added == pytest.approx({
        "attention": 5 * SCORES,
        "recompute attention": 5 * SCORES,
        "add, norm": T * H,
        "add": T * H,
        "mlp out, backward": 5 * T * H,
        "attention, backward": 5 * T * H + 5 * SCORES,
        "mlp out, data gradient": 5 * T * H,
        "attention, data gradient": 5 * T * H + 5 * SCORES,
    }, rel=1e-9)  # fmt: skip


def test_no_operation_ends_before_the_host_has_launched_its_kernels(small: Make) -> None:
    for host in (0.0, 20e-6, 1e-3):
        spec = on(llama(small), host_launch=host)
        times = costs(spec)
        busy, count = times[:, :LAUNCH].sum(axis=1), times[:, KERNELS]
        expected = np.maximum(busy + count * spec.stack.kernel_gap, count * host)
        assert times[:, : LAUNCH + 1].sum(axis=1) == pytest.approx(expected, rel=1e-12)
    assert (times[count > 0, : LAUNCH + 1].sum(axis=1) >= 1e-3).all()


def test_low_precision_casts_what_goes_into_a_linear_layer_once(small: Make) -> None:
    h, q, k, f = 4096, 1024, 256, 3584
    cast = {
        "attention": [T * h, T * q],
        "mlp": [T * h, T * f],
        "recompute attention": [T * h],
        "recompute mlp": [T * h],
        "mlp out, backward": [T * h],
        "mlp in, data gradient": [T * 2 * f],
        "attention, backward": [T * h],
        "qkv, data gradient": [T * (q + 2 * k)],
        "mlp out, data gradient": [T * h],
        "attention, data gradient": [T * h],
    }
    wide, narrow = llama(small), llama(small, precision="fp8")
    pass_ = narrow.system.chip.gemm["fp8"].quantise
    assert pass_ is not None
    # delayed scaling reads 2 bytes and writes rows and columns; the measured kernel reads twice and writes rows
    rate = narrow.system.chip.hbm_bandwidth * pass_.hbm_efficiency * 5 / 3
    extra = costs(narrow)[:, ELEMENTWISE] - costs(wide)[:, ELEMENTWISE]
    more = costs(narrow)[:, KERNELS] - costs(wide)[:, KERNELS]
    for name in LABELS:
        expected = sum(pass_.launch / 2 + 4 * elements / rate for elements in cast.get(name, []))
        assert extra[ROW[name]] == pytest.approx(expected, rel=1e-9, abs=1e-15), name
        assert more[ROW[name]] == len(cast.get(name, [])), name
    assert costs(narrow)[ROW["logits"]].tolist() == costs(wide)[ROW["logits"]].tolist()


def test_compiled_is_plain_to_the_bit(small: Make) -> None:
    specs = [gpt(small), gpt(small, dropout=False, attention="flash-attention-2", fused_gradient_sum=True),
             llama(small), llama(small, precision="fp8", recompute=["norm", "mlp_product"]),
             on(llama(small, recompute=["core_attention"]), host_launch=15e-6)]  # fmt: skip
    for spec in specs:
        dims, chosen = dimensions(spec.model), options(spec)
        rates: Rates = pack(spec.system.chip, spec.stack, spec.precision)
        mine: Shard = cut.compiled(dims, chosen)
        assert mine == cut(dims, chosen)
        assert layer_costs.compiled(mine, rates).tolist() == layer_costs(mine, rates).tolist()


def test_a_host_that_waits_for_experts_binds_in_their_layers_alone(small: Make) -> None:
    plain = small(
        chips=8, model="mixtral-8x7b", layout={"tp": 1, "pp": 1, "vpp": 1, "dp": 8, "ep": 8}, stack="megatron-lm"
    )
    late = costs(on(plain, host_launch_experts=1.0))
    for name, row in zip(LABELS[: ROW["embedding"]], late, strict=False):
        assert row[:KERNELS].sum() == pytest.approx(row[KERNELS]), name
    np.testing.assert_array_equal(late[ROW["embedding"] :], costs(plain)[ROW["embedding"] :])
    dense = llama(small)
    np.testing.assert_array_equal(costs(on(dense, host_launch_experts=1.0)), costs(dense))


def test_parts_in_graphs_cost_the_host_nothing(small: Make) -> None:
    plain = small(
        chips=8, model="mixtral-8x7b", layout={"tp": 1, "pp": 1, "vpp": 1, "dp": 8, "ep": 8}, stack="megatron-lm"
    )
    np.testing.assert_array_equal(
        costs(on(plain, host_launch_experts=1.0, graphs=("attention", "router", "experts"))), costs(plain)
    )
    routed = costs(on(plain, host_launch_experts=1.0, graphs=("attention", "experts"))) - costs(plain)
    assert {LABELS[row] for row in np.nonzero(routed.any(axis=1))[0]} == {"route", "route, norm, backward"}
