"""What is not known, as data: errors that stand in where none was measured, and what rests on which constants."""

from typing import NamedTuple

from scaleout.hardware.likeness import UNFITTED

__all__ = ["DEFAULTS", "NETWORK", "NO_TIME", "RESTS_ON", "Default"]


class Default(NamedTuple):
    """A number in place of a measured error, and why this one."""

    value: float
    reason: str


DEFAULTS = {
    "software": Default(
        0.05,
        "of the whole step, always: the same kernel differs by 2 % between builds of one library, by 5 % between the "
        "libraries of two frameworks (matrix multiplications of ai-dynamo/aiconfigurator 095f58a), and by 5 % between "
        "chips of one node (stas00/ml-engineering 744d01e)",
    ),
    "unfitted": Default(
        UNFITTED,
        "constants carried over or quoted, with no residual: the form of matrix multiplications fitted on H100 alone "
        "is 11 % off on B200 and 14 % on A100, on A100 and H100 together 9 % on B200 (tables of "
        "ai-dynamo/aiconfigurator 095f58a); also transfers between nodes, since collectives were fitted inside one",
    ),
    "unverified": Default(
        0.05,
        "each constant that its file lists as unverified: the sustained clock, the best known of them, slows long "
        "runs by a factor of 1.08, give or take 0.05 (power columns of the same tables)",
    ),
    "one_rate": Default(
        0.10,
        "one rate stands for all elementwise passes of a stack: kernels profiled on H100 reach 0.47, 0.51 and 0.58 of "
        "HBM bandwidth where 0.55 is taken (docs/elementwise.md)",
    ),
    "gap": Default(
        0.5,
        "time between kernels, of which no stack was measured: 1 to 3 us with captured graphs, more without "
        "(PrincetonUniversity/LLMCompass 2e015fd)",
    ),
    "growth": Default(
        0.5,
        "exponent of the distance beyond a calibrated range: the error doubles with every factor of 4; assumed, as "
        "nothing was measured there",
    ),
}
"""Relative errors of the size of a mean absolute one [1], but for `growth`, an exponent [1]."""

RESTS_ON = {
    "matmul": ("chip.peak_flops", "chip.cores", "chip.gemm", "chip.best", "chip.sustained", "stack.fused_gradient_sum"),
    "attention": ("chip.attention.{attention}", "chip.exponentials", "stack.attention"),
    "elementwise": (
        "chip.hbm_bandwidth", "chip.elementwise", "chip.l2_bytes", "stack.elementwise_efficiency",
        "stack.optimizer_traffic", "stack.dropout", "stack.fused_loss",
        "stack.gather_copies", "stack.reduction_copies",
    ),
    "launch": ("stack.kernel_gap", "stack.host_launch", "stack.host_launch_experts"),
    "tp": ("system.scale_up", "system.library.protocols", "system.library.idle_step", "stack.overlap_tensor_parallel"),
    "cp": ("system.scale_up", "system.library.protocols", "system.library.idle_step"),
    "ep": (
        "system.scale_up", "system.library.protocols", "system.library.idle_step", "system.moe_kernels",
        "stack.experts_exchange", "stack.overlap_experts",
    ),
    "dp": (
        "system.scale_up", "system.library.protocols", "system.library.idle_step", "stack.bucket",
        "stack.overlap_parameter_gather", "stack.overlap_gradient_reduction", "stack.gather_units", "stack.reshard",
        "stack.reshard_stages", "stack.root_unit", "stack.forward_prefetch", "stack.backward_prefetch", "stack.no_sync",
        "stack.one_communicator", "stack.gather_dtype", "stack.copies_last",
    ),
    "pp": (
        "system.scale_up", "system.library.protocols", "system.library.idle_step", "stack.overlap_sends",
        "stack.split_sends", "stack.stages",
    ),
    "copy": ("system.host",),
}  # fmt: skip
"""Kind of a step's time -> constants, where a file that lists them as unverified widens its error."""
NETWORK = ("system.network", "system.library.network_step", "system.library.network_rate")
"""What a kind rests on beside these, where its groups go beyond a node."""
NO_TIME = (
    "chip.power",
    "chip.hbm_bytes",
    "chip.energy",
    "chip.price",
    "chip.process",
    "chip.year",
    "stack.reserved",
    "stack.master",
    "stack.low_precision_weights",
    "stack.gate_cache",
    "stack.attention_cache",
    "system.node",
    "system.tuner",
)
"""Constants on which no time of a training step rests."""
