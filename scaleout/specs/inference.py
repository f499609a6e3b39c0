"""An inference engine: what serving software of one version adds to the hardware, and how it schedules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from scaleout.specs.fields import check_fields, freeze
from scaleout.units import Bytes, Count, Fraction, Seconds

__all__ = ["POLICIES", "InferenceEngine", "Policy"]

Policy = Literal["chunked", "whole", "prefill-first", "decode-first", "static"]
POLICIES: tuple[Policy, ...] = ("chunked", "whole", "prefill-first", "decode-first", "static")
"""How prompts and replies share steps; see `Scheduler`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceEngine:
    """Serving software, by name and version.

    Parameters
    ----------
    policy, max_sequences, max_batched_tokens
        What its scheduler does unless an experiment says otherwise; see `Scheduler`.
    block
        Tokens of a block of the KV cache.
    memory_share
        Of HBM that it fills [1]: of all ("total", as vLLM's gpu_memory_utilization), or of what
        weights and activations leave free ("free", as TensorRT-LLM's free_gpu_memory_fraction).
    memory_rule
        Which of the two.
    reserved
        HBM of driver, runtime and communication library [byte].
    graph_pool
        HBM of captured graphs [byte].
    kernel_gap
        Idle time of the chip between two kernels of a captured graph [s].
    host_launch
        The host's time to launch a kernel outside of graphs [s]; it binds where kernels are shorter.
    message_launch
        Added to a message outside of graphs: hosts of the ranks are not quite at one [s].
    graph_sizes
        Numbers of tokens that graphs are captured for; a step of fewer tokens is padded to the
        next, one of more runs outside of graphs. None captured: the host launches every kernel.
    graphs_mixed
        Steps with prompts in them run in graphs too, but for attention (piecewise graphs).
    step_overhead, sequence_overhead, prompt_overhead
        The host's time for a step, for each sequence in it, and for a step with prompts besides [s].
        All times of hosts are those of a DGX H100's; `Host.speed` brings them to others.
    overlapped
        The host prepares a step while the chip carries out the one before: it counts only where
        it is longer than that. Without pipeline parallelism alone.
    product_rate
        Rate of its matrix multiplications over that of the library whose constants the chip holds [1].
    micro_batch_tokens
        With pipeline parallelism a static batch is cut in as many parts as there are stages, where they
        divide it, and in halves until a part has no more tokens than this; None: not cut.
    elementwise_launch, elementwise_efficiency
        Fixed time of an elementwise kernel [s], and the share of HBM bandwidth that it reaches [1].
    fused
        Elementwise kernels that it fuses into one: "add_norm", residual with the norm after it;
        "activation", the gate's product with its activation; "rope_cache", rotary positions with
        the write to the KV cache; "quantise", casts of activations with what comes before them; "epilogue",
        functions and residuals that follow a convolution or a product, with it.
    prefill_attention, decode_attention
        Names of attention kernels in order of preference: the first whose constants the chip holds is
        taken, or any of the chip's where it holds none of them; "unfused" first: prompts by products and
        passes over matrices of scores.
    one_shot, two_shot
        Messages below which an all-reduce inside a node is the engine's own, in which everyone reads
        from everyone, in one step or in two, by the number of members [byte]; other numbers of members,
        and more than two without links of their own, are always the library's.
    own_launch, own_step, own_rate
        Of such an all-reduce: once, and once a step, beside the links [s]; share of a link's payload
        rate that its kernels drive [1].
    experts_exchange
        How tokens of attention ranks go to experts: "all_gather" gathers all tokens on all ranks and
        reduces what they give; or the name of a library among the system's `moe_kernels`.
    """

    name: str
    version: str
    policy: Policy = "chunked"
    max_sequences: Count
    max_batched_tokens: Count
    block: Count
    memory_share: Fraction
    memory_rule: Literal["total", "free"] = "total"
    reserved: Bytes
    graph_pool: Bytes = 0.0
    kernel_gap: Seconds
    host_launch: Seconds = 0.0
    message_launch: Seconds = 0.0
    graph_sizes: tuple[Count, ...] = ()
    graphs_mixed: bool = False
    step_overhead: Seconds = 0.0
    sequence_overhead: Seconds = 0.0
    prompt_overhead: Seconds = 0.0
    overlapped: bool = False
    product_rate: Fraction = 1.0
    micro_batch_tokens: Count | None = None
    elementwise_launch: Seconds = 0.0
    elementwise_efficiency: Fraction
    fused: tuple[Literal["add_norm", "activation", "rope_cache", "quantise", "epilogue"], ...] = ()
    prefill_attention: tuple[str, ...] = ()
    decode_attention: tuple[str, ...] = ()
    one_shot: Mapping[str, Bytes] = field(default_factory=dict)
    two_shot: Mapping[str, Bytes] = field(default_factory=dict)
    own_launch: Seconds = 0.0
    own_step: Seconds = 0.0
    own_rate: Fraction = 1.0
    experts_exchange: str = "all_gather"
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "one_shot", "two_shot")
