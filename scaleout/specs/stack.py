"""A software stack: what a training framework of one version adds to the hardware."""

from dataclasses import dataclass

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
    elementwise_efficiency
        Share of HBM bandwidth that elementwise passes reach [1].
    attention
        Name of the attention kernel, whose constants the chip holds.
    overlap_tensor_parallel
        Backward collectives of the tensor-parallel group run beside the matrix
        multiplications that do not need them.
    overlap_parameter_gather
        Parameters are gathered beside the first forward passes; otherwise before them.
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
    elementwise_efficiency: Fraction
    attention: str
    overlap_tensor_parallel: bool
    overlap_parameter_gather: bool
    fused_gradient_sum: bool
    bucket: Bytes
    optimizer_traffic: Bytes
    reserved: Bytes
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
