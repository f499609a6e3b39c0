"""What the kernels of a layer need of one chip under one stack, packed for compiled code."""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats
from scaleout.compiled import compilable
from scaleout.errors import SpecError, near
from scaleout.hardware.attention import attention_vector, prefill_seconds
from scaleout.hardware.formats import Recipe, format_of, recipe_of
from scaleout.hardware.gemm import gemm_seconds, gemm_vector, quantise_seconds, quantise_vector
from scaleout.hardware.power import throttled
from scaleout.once import once
from scaleout.specs import Chip, Stack

__all__ = ["UNFUSED", "Rates", "attend", "grouped", "matmul", "matmuls", "pack", "preferred_attention", "quantise"]

UNFUSED = "unfused"
"""Attention as matrix products and passes over the scores in HBM."""
_WIDTH = 2.0
"""Of an element in 16 bits [byte]."""
_GRID = 8.0
"""Elements that a side of a 16-bit product must be a multiple of to run on tensor cores
(NVIDIA, Matrix Multiplication Background User's Guide: 16 bytes)."""
_OFF_GRID = 0.5
"""Share of the fp32 rate that products off the grid reach: operands in 16 bits are widened on the way
to the vector units (docs/training.md)."""


class Rates(NamedTuple):
    """Constants of kernels as numbers and vectors; flags are 0 or 1.

    Parameters
    ----------
    linear, plain
        Matrix multiplication at the precision of the linear layers, and in 16 bits.
    attention
        The fused attention kernel; unused without `fused`.
    quantise
        The pass that casts an activation or its gradient to low precision; unused without `low`.
    fused, low, dropout, fused_sum
        Attention is one kernel; linear layers have less than 16 bits; dropout is applied;
        gradients are summed inside the kernel of the weight gradient.
    elementwise
        Rate of elementwise passes [byte/s].
    vector
        Rate of products that miss the tensor cores [flop/s].
    gap, host
        Idle time between two kernels, and the host's time to launch one [s].
    fused_loss
        1 where the cross-entropy is one kernel over logits in 16 bits.
    weight_cast, weight_copies
        Of a parameter of the linear layers: traffic of its cast once a step, and what it takes in
        low precision beside its 16 bits [byte]; negative where it is less and replaces them.
    host_experts, host_router, host_attention
        As `host`, in layers of experts: of most kernels, of the router's, and of those of attention [s].
    kept
        Of an element of what goes into a linear layer, from forward to the gradient of its weights [byte].
    gate_kept, attention_kept
        Likewise of the input of a feed-forward activation, and of attention's output for all its readers [byte].
    """

    linear: Floats
    plain: Floats
    attention: Floats
    quantise: Floats
    fused: float
    low: float
    dropout: float
    fused_sum: float
    elementwise: float
    vector: float
    gap: float
    host: float
    fused_loss: float = 0.0
    weight_cast: float = 0.0
    weight_copies: float = 0.0
    host_experts: float = 0.0
    host_router: float = 0.0
    host_attention: float = 0.0
    kept: float = 2.0
    gate_kept: float = 2.0
    attention_kept: float = 2.0


def pack(chip: Chip, stack: Stack, precision: str) -> Rates:
    """Rates of a chip under a stack, as its power limit leaves them.

    Parameters
    ----------
    precision
        Of the linear layers: bf16, fp16, or one of `RECIPES`.

    Raises
    ------
    SpecError
        The chip has no constants for the precision or for the stack's attention kernel; or its power limit is
        not above what it draws at rest.
    """
    chip = once(throttled, chip)
    recipe = recipe_of(precision, chip)
    low = precision not in ("bf16", "fp16")
    plain = "bf16" if low else precision
    fused = stack.attention != UNFUSED
    if fused and stack.attention not in chip.attention:
        raise SpecError(
            f"chip {chip.name!r} has no constants for the attention kernel {stack.attention!r} "
            f"of stack {stack.name!r}; {near(stack.attention, (*chip.attention, UNFUSED))}; "
            f"choose another with --set stack.attention={preferred_attention(chip)}"
        )
    elementwise = chip.hbm_bandwidth * stack.elementwise_efficiency
    host = max(stack.host_launch, stack.host_launch_experts)
    return Rates(
        linear=once(_sustained, chip, precision),
        plain=once(_sustained, chip, plain),
        attention=once(attention_vector, chip, stack.attention) if fused else np.zeros(1),
        quantise=_cast(recipe, chip, precision, elementwise),
        fused=float(fused),
        low=float(low),
        dropout=float(stack.dropout),
        fused_sum=float(stack.fused_gradient_sum),
        elementwise=elementwise,
        vector=_OFF_GRID * chip.peak_flops["fp32"] if "fp32" in chip.peak_flops else chip.flops(plain),
        gap=stack.kernel_gap,
        host=stack.host_launch,
        host_experts=0.0 if "experts" in stack.graphs else host,
        host_router=0.0 if "router" in stack.graphs else host,
        host_attention=0.0 if "attention" in stack.graphs else host,
        fused_loss=float(stack.fused_loss),
        weight_cast=recipe.cast_bytes(chip) if recipe else 0.0,
        weight_copies=recipe.held_bytes(chip) - _WIDTH * stack.low_precision_weights if recipe else 0.0,
        kept=recipe.width if recipe else _WIDTH,
        gate_kept=_WIDTH if recipe is None or stack.gate_cache is None else stack.gate_cache,
        attention_kept=_attention_kept(recipe, stack),
    )


def _sustained(chip: Chip, precision: str) -> Floats:
    """Constants of products in a long run."""
    return gemm_vector(chip, precision, sustained=True)


def _attention_kept(recipe: Recipe | None, stack: Stack) -> float:
    """Attention's own backward reads 16 bits of what it puts out, the projection after it the recipe's format."""
    if recipe is None:
        return _WIDTH
    return _WIDTH + recipe.width if stack.attention_cache is None else stack.attention_cache


def _cast(recipe: Recipe | None, chip: Chip, precision: str, elementwise: float) -> Floats:
    """Fixed time and time an element of a cast.

    At the rate of the chip's measured cast, by the bytes and reads of both; where the chip has none,
    an elementwise pass.
    """
    if recipe is None:
        return np.zeros(2)
    launch, element = quantise_vector(chip, precision)
    if not element:
        return np.array([0.0, recipe.cast_bytes(chip) / elementwise])
    measured = 2.0 * recipe.measured + format_of(precision).left
    return np.array([launch * recipe.reads / recipe.measured, element * recipe.cast_bytes(chip) / measured])


def preferred_attention(chip: Chip) -> str:
    """A kernel that the chip has constants of, those made for training first."""
    return next(
        (name for name in ("cudnn", "flash-attention-3", *sorted(chip.attention)) if name in chip.attention), UNFUSED
    )


@compilable
def matmul(m: float, n: float, k: float, out_bytes: float, rates: Rates) -> float:
    """C[m, n] = A[m, k] B[k, n] at the precision of the linear layers [s].

    `out_bytes` is the traffic per element of C: 2, or twice the width of a sum that is kept.
    """
    return gemm_seconds(m, n, k, out_bytes, rates.linear)


@compilable
def grouped(groups: float, m: float, n: float, k: float, out_bytes: float, rates: Rates) -> float:
    """So many products, each with operands of its own, at the precision of the linear layers in one kernel [s]."""
    return gemm_seconds(m, n, k, out_bytes, rates.linear, groups)


@compilable
def matmuls(batch: float, m: float, n: float, k: float, rates: Rates, out_bytes: float = 2.0) -> float:
    """So many independent products in 16 bits, in one kernel [s]."""
    # stacked along m; every product reads a B of its own
    extra = 2.0 * k / m * (batch - 1.0) / batch
    seconds = gemm_seconds(batch * m, n, k, out_bytes + extra, rates.plain)
    if n % _GRID != 0.0 or k % _GRID != 0.0:
        seconds = max(seconds, 2.0 * batch * m * n * k / rates.vector)
    return seconds


@compilable
def attend(
    batch: float,
    sequence: float,
    heads: float,
    kv_heads: float,
    head_size: float,
    backward: bool,
    rates: Rates,
    value_size: float = 0.0,
    window: float = 0.0,
    causal: bool = True,
    kv_len: float = 0.0,
) -> float:
    """Fused attention of whole sequences, to themselves or to `kv_len` tokens of others; see `prefill_seconds` [s]."""
    seen = kv_len if kv_len > 0.0 else sequence
    return prefill_seconds(
        batch, sequence, seen, heads, kv_heads, head_size, backward, rates.attention, value_size, window, causal
    )


@compilable
def quantise(elements: float, rates: Rates) -> float:
    """Cast of so many elements to low precision [s]."""
    return quantise_seconds(elements, rates.quantise)
