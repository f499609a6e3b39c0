"""An inference engine: what serving software of one version adds to the hardware, and how it schedules."""

from dataclasses import dataclass
from typing import Literal

from scaleout.specs.fields import check_fields
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
    graph_sizes
        Numbers of tokens that graphs are captured for; a step of fewer tokens is padded to the
        next, one of more runs outside of graphs. None captured: the host launches every kernel.
    graphs_mixed
        Steps with prompts in them run in graphs too, but for attention (piecewise graphs).
    step_overhead, sequence_overhead
        The host's time for a step, and for each sequence in it [s].
    overlapped
        The host prepares a step while the chip carries out the one before: it counts only where
        it is longer than that.
    elementwise_efficiency
        Share of HBM bandwidth that elementwise kernels reach [1].
    fused
        Elementwise kernels that it fuses into one: "add_norm", residual with the norm after it;
        "activation", the gate's product with its activation; "rope_cache", rotary positions with
        the write to the KV cache.
    prefill_attention, decode_attention
        Names of attention kernels, whose constants the chip holds.
    one_shot, two_shot
        Messages up to which an all-reduce inside a node is the engine's own, in which everyone reads
        from everyone, in one step or in two [byte]; 0: always the library's.
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
    graph_sizes: tuple[Count, ...] = ()
    graphs_mixed: bool = False
    step_overhead: Seconds = 0.0
    sequence_overhead: Seconds = 0.0
    overlapped: bool = False
    elementwise_efficiency: Fraction
    fused: tuple[Literal["add_norm", "activation", "rope_cache"], ...] = ()
    prefill_attention: str
    decode_attention: str
    one_shot: Bytes = 0.0
    two_shot: Bytes = 0.0
    source: str
    unverified: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
