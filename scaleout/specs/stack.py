"""A software stack: what a training framework of one version adds to the hardware."""

from dataclasses import dataclass
from typing import Literal

from scaleout.specs.fields import check_fields
from scaleout.units import Bytes, Fraction, Seconds

__all__ = ["Stack"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A training framework, by name and version.

    Parameters
    ----------
    kernel_gap
        Idle time between two kernels [s].
    host_launch
        The host's time to launch a kernel [s]; it binds where kernels are shorter.
    elementwise_efficiency
        Share of HBM bandwidth that elementwise passes reach [1].
    attention
        Name of the attention kernel, whose constants the chip holds; "unfused" is products and
        passes over matrices of scores.
    dropout
        Dropout is applied to scores and residuals.
    overlap_tensor_parallel
        Backward collectives of the tensor-parallel group run beside the matrix
        multiplications that do not need them.
    overlap_experts
        Shared experts, and gradients of the experts' weights, run beside the exchange of tokens between
        experts; otherwise before or after it.
    overlap_parameter_gather
        Parameters are gathered beside the first forward passes; otherwise before them.
    overlap_gradient_reduction
        Buckets of gradients are reduced beside the rest of backward; otherwise after it.
    overlap_sends
        A rank goes on with its next pass while it sends to another stage; otherwise when the
        message is through.
    split_sends
        A rank sends 1/tp of an activation to the next stage, where it is gathered; otherwise
        every rank sends all of it.
    stages
        "balanced" gives embedding and loss a layer's place where that evens the stages out;
        "even" deals layers alone.
    fused_gradient_sum
        The kernel of a weight gradient adds to the sum over micro-batches; otherwise a pass
        of its own reads and writes it.
    bucket
        Gradients are reduced in buckets of at least this size [byte].
    optimizer_traffic
        HBM traffic of one update [byte per parameter].
    reserved
        HBM that the driver, the runtime and the communication library keep [byte].
    """

    name: str
    version: str
    kernel_gap: Seconds
    host_launch: Seconds = 0.0
    elementwise_efficiency: Fraction
    attention: str
    dropout: bool = False
    overlap_tensor_parallel: bool
    overlap_parameter_gather: bool
    overlap_experts: bool = False
    overlap_gradient_reduction: bool = True
    overlap_sends: bool = True
    split_sends: bool = True
    stages: Literal["balanced", "even"] = "balanced"
    fused_gradient_sum: bool
    bucket: Bytes
    optimizer_traffic: Bytes
    reserved: Bytes
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
