"""A serving experiment: a model on replicas, requests to them, and what is promised."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import PlanError, SpecError
from scaleout.specs.chip import Chip
from scaleout.specs.experiment import LARGEST_MACHINE, Routing, TrainingExperiment
from scaleout.specs.facility import Facility
from scaleout.specs.fields import check_fields
from scaleout.specs.inference import InferenceEngine, Policy
from scaleout.specs.model import Model
from scaleout.specs.requests import Requests
from scaleout.specs.system import System
from scaleout.units import Bytes, Count, Fraction, Number, Positive, Seconds

__all__ = ["Cache", "Failure", "Pool", "Router", "Scheduler", "ServingExperiment", "Slo", "Speculation"]

_PRUNED = ("bf16", "fp16", "fp8", "int8")
"""Precisions whose weights may be pruned 2:4."""
Index = Annotated[int, Number(low=0, high=LARGEST_MACHINE, above=False, integer=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """Replicas that are alike.

    Parameters
    ----------
    role
        "both" prefills prompts and decodes replies; "prefill" hands the KV cache of a prompt over to a
        replica of a "decode" pool.
    replicas
        How many.
    tp, pp
        Tensor- and pipeline-parallel degree.
    dp
        Attention ranks of one replica that have requests and KV cache of their own, and share its experts:
        they go from step to step together.
    ep
        Experts are dealt out over so many ranks of a stage (1, or tp x dp of them).
    chip
        Theirs, where it is not the system's.
    """

    role: Literal["both", "prefill", "decode"] = "both"
    replicas: Count = 1
    tp: Count = 1
    pp: Count = 1
    dp: Count = 1
    ep: Count = 1
    chip: Chip | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.ep not in (1, self.tp * self.dp):
            raise SpecError(f"pool.ep: {self.ep} is neither 1 nor tp {self.tp} x dp {self.dp} = {self.tp * self.dp}")

    @property
    def chips_each(self) -> int:
        """Chips of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def chips(self) -> int:
        """Chips of all."""
        return self.replicas * self.chips_each


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheduler:
    """How a replica forms its steps; None stands for what the engine does.

    Parameters
    ----------
    policy
        "chunked": every step has a token of each reply, and as much of prompts as fits; "whole": the
        same with prompts in one piece; "prefill-first": prompts have steps of their own, before any
        reply goes on; "decode-first": prompts are let in when no reply is left; "static": so, and all
        replies of a batch leave together.
    order
        Of those who wait: first come first served, by priority, or the shortest prompt first.
    max_sequences
        Sequences that are worked on at a time, on each attention rank.
    max_batched_tokens
        Tokens of a step, on each attention rank.
    max_length
        Prompt and reply together [token]; None for the model's.
    preemption
        What is done with a sequence that the KV cache has no room for: its cache is thrown away and
        computed again, or kept in the host's memory, where that has room (`Cache.host`).
    preempt_for
        With order "priority", for whom the lowest priority that runs loses its seat: for replies that run and need
        a block (vLLM since its engine V1), or also for one that waits with a higher priority (vLLM's V0).
    """

    policy: Policy | None = None
    order: Literal["fcfs", "priority", "shortest"] = "fcfs"
    max_sequences: Count | None = None
    max_batched_tokens: Count | None = None
    max_length: Count | None = None
    preemption: Literal["recompute", "swap"] = "recompute"
    preempt_for: Literal["replies", "waiting"] = "replies"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.preempt_for == "waiting" and self.order != "priority":
            raise SpecError(f"scheduler.preempt_for: 'waiting' needs order 'priority', not {self.order!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """The KV cache of a replica.

    Parameters
    ----------
    dtype
        Of keys and values; int8 and int4 with scales for each 128 of them.
    prefix
        Blocks of prompts are kept and found again by other requests.
    host
        Host memory of a replica for blocks that HBM has no room for [byte].
    blocks
        Blocks on each attention rank; None: as many as the engine finds room for.
    pieces
        Between pools: the layers of a stage leave in so many parts, each as soon as it is computed and the one
        before has arrived; as many as layers is layer by layer. 1: all after the prompt.
    """

    dtype: Literal["bf16", "fp16", "fp8", "int8", "int4"] = "bf16"
    prefix: bool = False
    host: Bytes = 0.0
    blocks: Count | None = None
    pieces: Count = 1

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speculation:
    """Several tokens a step: drafted, then verified together.

    Parameters
    ----------
    tokens
        Drafted tokens of a step.
    acceptance
        Probability that a drafted token is taken, if those before it were [1].
    draft
        Model that drafts, on the same chips; None: the model's own layers of multi-token prediction.
    seed
        Of the draws.
    """

    tokens: Count
    acceptance: Fraction
    draft: Model | None = None
    seed: Annotated[int, Number(low=0, high=2**63, above=False, integer=True)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """Which replica a request goes to.

    Parameters
    ----------
    policy
        One after the other; the one with the fewest tokens to do; the less loaded of two drawn at random;
        the one that was sent most of the prompt's blocks, unless it is overloaded; always the same one for a
        session. Where there are no blocks in common, or no session, the one with the fewest tokens to do.
    max_waiting
        Requests that may wait for a replica; what comes when all have so many is rejected. None: any number.
    match
        Share of a prompt that a replica has to hold to be preferred, of "prefix" [1].
    overload, spare
        It is overloaded with more than `overload` times [1] the requests of the one with the fewest tokens to do, and
        more than `spare` beyond them. Defaults of all three are those of SGLang's router.
    seed
        Of the draws.
    """

    policy: Literal["round_robin", "least_load", "power_of_two", "prefix", "sticky"] = "round_robin"
    max_waiting: Count | None = None
    match: Fraction = 0.3
    overload: Positive = 1.5
    spare: Annotated[int, Number(low=0, high=1e9, above=False, integer=True)] = 64
    seed: Annotated[int, Number(low=0, high=2**63, above=False, integer=True)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """What is promised to `share` of the requests; None for no promise.

    Parameters
    ----------
    ttft, tpot, latency
        Time to the first token, time per token after it, and time to the last [s].
    share
        Of the requests, which have to meet all of them [1].
    """

    ttft: Seconds | None = None
    tpot: Seconds | None = None
    latency: Seconds | None = None
    share: Fraction = 0.99

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A replica that is lost, with everything in it.

    Parameters
    ----------
    replica
        Its number over all pools.
    at, until
        From when to when [s]; None: for good.
    requests
        What becomes of the requests in it: sent to other replicas, or failed.
    """

    replica: Index
    at: Seconds
    until: Seconds | None = None
    requests: Literal["retried", "failed"] = "retried"

    def __post_init__(self) -> None:
        check_fields(self)
        if self.until is not None and self.until <= self.at:
            raise SpecError(f"failure.until: {self.until:g} s is not after at, {self.at:g} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingExperiment:
    """One model, served.

    Parameters
    ----------
    pools
        Its replicas, on chips one after the other.
    precision
        Of the linear layers. "w8a16" (int8), "fp8_wo", "w4a16" (int4 in groups of 128, "_g64" and "_g32" of fewer),
        "mxfp4_wo" and "nvfp4_wo" keep weights in 8 and 4 bits and compute in 16; "w4a8" and "w4a8_int8" keep them in
        4 and compute in 8.
    sparsity
        "2:4": of four weights that follow each other in the linear layers two are zero, and are not kept.
    requests
        What comes.
    slo
        What is promised.
    routing
        Which experts tokens choose.
    training
        A training job on the chips after the pools', whose traffic shares the network.
    facility
        Where the machine stands: what power costs and what it is paid off over. None: no cost is worked out.
    compressed
        Transforms that were carried out on model and precision (key `compress` of a file), for the record.
    settings
        Overrides ``key=value`` that were carried out, for the record.
    """

    kind: Literal["serving"] = "serving"
    system: System
    model: Model
    engine: InferenceEngine
    pools: tuple[Pool, ...] = (Pool(),)
    precision: Literal[
        "bf16", "fp16", "fp8", "fp8_current", "fp8_block", "int8", "mxfp8", "mxfp4", "nvfp4", "w8a16", "fp8_wo",
        "w4a16", "w4a16_g64", "w4a16_g32", "mxfp4_wo", "nvfp4_wo", "w4a8", "w4a8_int8",
    ] = "bf16"  # fmt: skip
    sparsity: Literal["none", "2:4"] = "none"
    requests: Requests
    scheduler: Scheduler = field(default_factory=Scheduler)
    cache: Cache = field(default_factory=Cache)
    speculation: Speculation | None = None
    router: Router = field(default_factory=Router)
    slo: Slo = field(default_factory=Slo)
    routing: Routing = field(default_factory=Routing)
    failures: tuple[Failure, ...] = ()
    training: TrainingExperiment | None = None
    facility: Facility | None = None
    compressed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        mistakes = []
        if not self.pools:
            mistakes.append("pools: none; expected at least one, such as {replicas: 1, tp: 4}")
        roles = {pool.role for pool in self.pools}
        if "both" in roles and len(roles) > 1:
            mistakes.append("pools: of role both beside prefill or decode; take either")
        elif len(roles) == 1 and "both" not in roles:
            mistakes.append(f"pools: all of role {roles.pop()}; prefill and decode pools need each other")
        for number, pool in enumerate(self.pools):
            mistakes += [f"pools.{number}.{line}" for line in self._check_pool(pool)]
        for number, pool in enumerate(self.pools):
            if pool.role == "prefill" and self.cache.pieces > max(1, self.model.layers // pool.pp):
                mistakes.append(
                    f"cache.pieces: {self.cache.pieces} of the {self.model.layers // pool.pp} layers of a stage of "
                    f"pools.{number}; at most each by itself"
                )
        replicas = sum(pool.replicas for pool in self.pools)
        for number, failure in enumerate(self.failures):
            if failure.replica >= replicas:
                mistakes.append(
                    f"failures.{number}.replica: {failure.replica} is not one of the {replicas} (0 to {replicas - 1})"
                )
        if self.sparsity != "none" and (self.model.experts is not None or self.model.latent is not None):
            mistakes.append(f"sparsity: {self.sparsity} of experts or compressed keys was not measured; accepted: none")
        if self.sparsity != "none" and self.precision not in _PRUNED:
            mistakes.append(
                f"sparsity: {self.sparsity} at precision {self.precision} was not measured; accepted at "
                f"{', '.join(_PRUNED)}"
            )
        if mistakes:
            raise PlanError("\n".join(mistakes))

    def _check_pool(self, pool: Pool) -> list[str]:
        """What of a model the degrees of a pool do not divide."""
        model, found = self.model, []
        if model.heads % pool.tp:
            fits = ", ".join(str(n) for n in range(1, model.heads + 1) if model.heads % n == 0)
            found.append(
                f"tp: {pool.tp} does not divide the {model.heads} attention heads of {model.name}; accepted: {fits}"
            )
        elif model.kv_heads % pool.tp and pool.tp % model.kv_heads:
            found.append(
                f"tp: {pool.tp} neither divides the {model.kv_heads} key/value heads of {model.name} "
                "nor is a multiple of them"
            )
        if model.ffn % pool.tp:
            found.append(f"tp: {pool.tp} does not divide the feed-forward width {model.ffn} of {model.name}")
        if pool.pp > model.layers:
            found.append(f"pp: {pool.pp} stages, but {model.name} has {model.layers} layers")
        if model.shared_layers > 1 and model.layers % (pool.pp * model.shared_layers):
            found.append(
                f"pp: {pool.pp} stages cut {model.layers} layers of {model.name} apart that share weights by "
                f"{model.shared_layers}"
            )
        experts = model.experts
        if experts is None and (pool.ep > 1 or pool.dp > 1):
            found.append(
                f"{'ep' if pool.ep > 1 else 'dp'}: {model.name} has no experts; more of a dense model are replicas"
            )
        elif experts is not None and experts.count % pool.ep:
            found.append(f"ep: {pool.ep} does not divide the {experts.count} experts of {model.name}")
        if not model.causal or model.encoder:
            found.append(f"model: {model.name} is no decoder alone; only those are served")
        return found

    @property
    def chips(self) -> int:
        """Chips of all pools [1]."""
        return sum(pool.chips for pool in self.pools)

    @property
    def products(self) -> str:
        """Format of the products of linear layers: the precision, and whether weights are pruned."""
        return self.precision if self.sparsity == "none" else f"{self.precision}/{self.sparsity}"

    @property
    def policy(self) -> Policy:
        """How steps are formed."""
        return self.scheduler.policy or self.engine.policy

    @property
    def max_sequences(self) -> int:
        """Sequences at a time on an attention rank."""
        return self.scheduler.max_sequences or self.engine.max_sequences

    @property
    def max_batched_tokens(self) -> int:
        """Tokens of a step on an attention rank."""
        return self.scheduler.max_batched_tokens or self.engine.max_batched_tokens

    @property
    def max_length(self) -> int:
        """Longest prompt with its reply [token]."""
        return self.scheduler.max_length or self.model.max_sequence
