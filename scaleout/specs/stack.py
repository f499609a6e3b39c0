"""A software stack: what a training framework of one version adds to the hardware."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Bytes, Fraction, NotNegative, Number, Seconds

__all__ = ["Stack"]

Ahead = Annotated[int, Number(low=0, high=1e6, above=False, integer=True)]
Kept = Literal["forward", "backward", "step"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """A training framework, by name and version.

    Parameters
    ----------
    kernel_gap
        Idle time between two kernels [s].
    host_launch
        The host's time to launch a kernel [s]; it binds where kernels are shorter.
    host_launch_experts
        The same in layers of experts, where the host waits in each for the number of tokens that every
        expert gets, and so is never ahead of the chip [s].
    graphs
        Parts of layers of experts that are launched as CUDA graphs, at no time of the host: "attention",
        with norms and residuals, "router", and "experts", which is all the rest.
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
        Buckets, or units, of gradients are reduced beside the rest of backward; otherwise buckets after it,
        and the kernels of a unit wait for the unit before.
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
    fused_loss
        The cross-entropy is one kernel over logits in 16 bits; otherwise passes over logits in fp32.
    low_precision_weights
        With a low-precision recipe, weights of linear layers are kept in its format alone; otherwise
        in 16 bits beside it.
    gate_cache, attention_cache
        With a low-precision recipe, what an element of the input of a feed-forward activation takes from
        forward to backward, and one of attention's output for all that read it [byte]. None: 16 bits; and 16
        bits beside the recipe's format, which the projection after it keeps.
    cores
        Cores that operations of a family hold ("tp", "ep") where the stack carries them by kernels of its
        own, instead of those of the library [1].
    experts_exchange
        How tokens go to their experts: "nccl" sends one copy for each choice by the all-to-all of the
        system's library; or the name of a library of kernels among the system's `moe_kernels`.
    bucket
        Gradients are reduced in buckets of at least this size [byte].
    gather_units
        With ZeRO-2, weights are gathered unit by unit in every forward pass and dropped in its
        backward pass (SHARD_GRAD_OP of PyTorch); otherwise all of them once, after the update.
    reshard, reshard_stages
        Until when the weights of a unit stay that ZeRO-3 has gathered: to the end of each pass, from
        a forward pass to the end of its backward pass, or to the last backward pass of the step, in
        which alone gradients are reduced. Without and with a pipeline.
    root_unit
        Embedding, last norm and head are one unit, gathered before the first layer's and kept to the
        end of backward; otherwise embedding is one, and norm and head are another.
    forward_prefetch, backward_prefetch
        Units whose weights may be gathered ahead of the one that computes.
    no_sync
        With ZeRO-2 and 3, gradients are summed whole over the micro-batches and reduced in the last;
        otherwise reduced in each, and their parts summed.
    one_communicator
        Gathers of weights and reductions of gradients run one after another, as operations of one
        NCCL communicator do; otherwise beside each other.
    copies_last
        Gradients of sharded weights are summed over the copies of a model after backward, all at once;
        otherwise unit by unit beside it.
    gather_dtype
        Dtype in which weights are gathered.
    gather_copies, reduction_copies
        HBM traffic of kernels that copy a unit's weights out of the buffer of their gather, and its
        gradients into that of their reduction [byte per parameter].
    master
        Where the optimizer keeps weights in fp32: a "copy" beside the 16-bit ones, the sharded weights
        their "own" masters (only what is gathered has 16 bits), or "none".
    optimizer_traffic
        HBM traffic of one update by Adam with states in fp32 [byte per parameter].
    reserved
        HBM that the driver, the runtime and the communication library keep [byte].
    """

    name: str
    version: str
    kernel_gap: Seconds
    host_launch: Seconds = 0.0
    host_launch_experts: Seconds = 0.0
    graphs: tuple[Literal["attention", "router", "experts"], ...] = ()
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
    fused_loss: bool = False
    low_precision_weights: bool = False
    gate_cache: Bytes | None = None
    attention_cache: Bytes | None = None
    cores: Mapping[str, NotNegative] = field(default_factory=dict)
    experts_exchange: str = "nccl"
    bucket: Bytes
    gather_units: bool = False
    reshard: Kept = "forward"
    reshard_stages: Kept = "step"
    root_unit: bool = False
    forward_prefetch: Ahead = 1
    backward_prefetch: Ahead = 1
    no_sync: bool = False
    one_communicator: bool = True
    copies_last: bool = False
    gather_dtype: Literal["fp32", "bf16", "fp8"] = "bf16"
    gather_copies: Bytes = 0.0
    reduction_copies: Bytes = 0.0
    master: Literal["copy", "own", "none"] = "copy"
    optimizer_traffic: Bytes
    reserved: Bytes
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "cores")
