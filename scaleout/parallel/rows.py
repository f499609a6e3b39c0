"""Operations of a rank as rows of a table of times, and the kernels that rows are made of."""

from scaleout.compiled import compilable
from scaleout.hardware.rates import grouped, matmul, matmuls, quantise

__all__ = ["LABELS", "PARTS", "ROWS"]

PARTS = ("matmul", "attention", "elementwise", "launch")
"""What an operation's time is made of; the last is time between kernels."""
MATMUL, ATTENTION, ELEMENTWISE, LAUNCH, KERNELS = range(5)

LABELS = (
    "norm", "attention", "add, norm", "mlp", "add", "recompute attention", "recompute mlp",
    "mlp out, backward", "mlp in, data gradient", "mlp in, weight gradient", "norm, backward",
    "attention, backward", "qkv, data gradient", "qkv, weight gradient",
    "mlp out, data gradient", "mlp out, weight gradient",
    "attention, data gradient", "attention out, weight gradient", "attention out",
    "norm, compress", "compress, norm, backward", "compress, weight gradient",
    "cross attention", "cross attention, data gradient", "cross attention out, weight gradient",
    "cross qkv, data gradient", "cross qkv, weight gradient",
    "prediction in", "prediction in, data gradient", "prediction in, weight gradient",
    "route", "experts", "shared experts", "combine, add", "combine, backward",
    "experts, data gradient", "experts, weight gradient",
    "shared experts, data gradient", "shared experts, weight gradient", "route, norm, backward",
    "embedding", "embedding out", "embedding, backward", "logits", "loss", "logits, backward",
    "head, weight gradient", "final norm, backward",
)  # fmt: skip
"""Operations, in the order of the rows. "mlp out, backward" and "attention, backward" are the sums of
their data and weight gradients, for passes that do both at once. Where a sequence is cut over ranks,
"attention" ends before attention proper, which `Context` writes, and "attention out" comes after it."""
ROWS = len(LABELS)
(
    F_NORM, F_ATTENTION, F_ADD_NORM, F_MLP, F_ADD, F_QKV_CORE, F_INTO_MLP,
    B_MLP_OUT, B_MLP_DATA, B_MLP_WEIGHT, B_NORM,
    B_ATTENTION, B_QKV_DATA, B_QKV_WEIGHT,
    B_MLP_OUT_DATA, B_MLP_OUT_WEIGHT, B_ATTENTION_DATA, B_ATTENTION_WEIGHT, F_ATTENTION_OUT,
    F_COMPRESS, B_COMPRESS, B_COMPRESS_WEIGHT,
    F_CROSS, B_CROSS_DATA, B_CROSS_WEIGHT, B_CROSS_IN_DATA, B_CROSS_IN_WEIGHT,
    F_PREDICT, B_PREDICT_DATA, B_PREDICT_WEIGHT,
    F_ROUTE, F_EXPERTS, F_SHARED, F_COMBINE, B_COMBINE,
    B_EXPERTS_DATA, B_EXPERTS_WEIGHT, B_SHARED_DATA, B_SHARED_WEIGHT, B_ROUTE,
    F_EMBEDDING, F_EMBEDDED, B_EMBEDDING, F_LOGITS, F_LOSS, B_LOGITS,
    B_HEAD_WEIGHT, B_FINAL_NORM,
) = range(len(LABELS))  # fmt: skip

LOSS_FORWARD = 38.0
"""Cross-entropy in fp32, kernel by kernel: cast 2 + 4, maximum 4, subtract 8, exponential 8, sum 4,
divide 8 [byte per logit]."""
LOSS_BACKWARD = 14.0
"""Gradient in place 8, cast 4 + 2 [byte per logit]."""
FUSED_LOSS_FORWARD, FUSED_LOSS_BACKWARD = 2.0, 4.0
"""One kernel over logits in 16 bits: read; gradient in place [byte per logit]."""


@compilable
def passes(out, row, nbytes, rates):  # type: ignore[no-untyped-def]
    """One elementwise kernel that moves so many bytes."""
    out[row, ELEMENTWISE] += nbytes / rates.elementwise
    out[row, KERNELS] += 1.0


@compilable
def linear(out, row, m, n, k, rates, quantised):  # type: ignore[no-untyped-def]
    """A linear layer's product; at low precision an operand of `quantised` elements is cast first."""
    out[row, MATMUL] += matmul(m, n, k, 2.0, rates)
    out[row, KERNELS] += 1.0
    if rates.low > 0.0 and quantised > 0.0:
        out[row, ELEMENTWISE] += quantise(quantised, rates)
        out[row, KERNELS] += 1.0


@compilable
def weight_gradient(out, row, m, n, k, gradient_width, rates):  # type: ignore[no-untyped-def]
    """Added to the sum over micro-batches: inside the kernel, or in a pass of its own."""
    if rates.fused_sum > 0.0:
        out[row, MATMUL] += matmul(m, n, k, 2.0 * gradient_width, rates)
        out[row, KERNELS] += 1.0
    else:
        out[row, MATMUL] += matmul(m, n, k, 2.0, rates)
        out[row, KERNELS] += 1.0
        passes(out, row, m * n * (2.0 + 2.0 * gradient_width), rates)


@compilable
def batched(out, row, batch, m, n, k, out_bytes, kernels, rates):  # type: ignore[no-untyped-def]
    """So many kernels of independent products in 16 bits."""
    out[row, MATMUL] += kernels * matmuls(batch, m, n, k, rates, out_bytes)
    out[row, KERNELS] += kernels


@compilable
def grouped_linear(out, row, groups, m, n, k, rates, quantised):  # type: ignore[no-untyped-def]
    """As `linear`, so many products in one kernel."""
    out[row, MATMUL] += grouped(groups, m, n, k, 2.0, rates)
    out[row, KERNELS] += 1.0
    if rates.low > 0.0 and quantised > 0.0:
        out[row, ELEMENTWISE] += quantise(quantised, rates)
        out[row, KERNELS] += 1.0


@compilable
def grouped_gradient(out, row, groups, m, n, k, gradient_width, rates):  # type: ignore[no-untyped-def]
    """As `weight_gradient`, so many products in one kernel."""
    sums = 2.0 * gradient_width if rates.fused_sum > 0.0 else 2.0
    out[row, MATMUL] += grouped(groups, m, n, k, sums, rates)
    out[row, KERNELS] += 1.0
    if rates.fused_sum == 0.0:
        passes(out, row, groups * m * n * (2.0 + 2.0 * gradient_width), rates)
