"""An experiment: everything that decides a result."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import PlanError, SpecError, near
from scaleout.specs.chip import Chip
from scaleout.specs.facility import Facility
from scaleout.specs.faults import Fault
from scaleout.specs.fields import check_fields, freeze
from scaleout.specs.layout import Batch, Layout
from scaleout.specs.model import Model
from scaleout.specs.published import Published
from scaleout.specs.stack import Stack
from scaleout.specs.system import System
from scaleout.units import Count, Fraction, NotNegative, Number, Positive, Share

__all__ = ["MODULES", "Offload", "Others", "Routing", "Slow", "TrainingExperiment"]

LARGEST_MACHINE = 1_048_576
"""Chips of the largest machine that is simulated."""
LARGEST_STEP = 200_000
"""Passes of micro-batches through layers and chunks that are simulated: about half a minute."""
MOST_FAULTS = 64
"""Faults of a step: each of them may make the whole network anew."""
MODULES = (
    "norm", "mlp_product", "core_attention", "attention", "mlp", "full",
    "mla_up_proj", "moe_act", "shared_experts", "moe",
)  # fmt: skip
"""What may be recomputed; ``mlp`` and ``mlp_product`` are of dense feed-forward blocks."""
_ALIASES = {"selective": "core_attention", "core_attn": "core_attention", "layernorm": "norm"}
"""Other names of modules."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """Machines that are not perfect: share of the nominal rate that is left [1].

    Parameters
    ----------
    chips
        Rank -> share of its compute and HBM rate.
    spread
        Standard deviation of the rates of all chips around the nominal rate, over it [1]: a normal
        distribution cut at three deviations, a draw for each chip. Chips of one node were seen to
        lie 5 % apart (stas00/ml-engineering 744d01e, compute/accelerator/README.md).
    seed
        Of those draws.
    ports, scale_up
        Rank -> share of the rate of its network port, and of its link into the node,
        both directions.
    """

    chips: Mapping[int, Fraction] = field(default_factory=dict)
    spread: Annotated[float, Number(high=0.3, above=False)] = 0.0
    seed: Annotated[int, Number(low=0, high=2**63, above=False, integer=True)] = 0
    ports: Mapping[int, Fraction] = field(default_factory=dict)
    scale_up: Mapping[int, Fraction] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        freeze(self, "chips", "ports", "scale_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """Which experts tokens choose.

    Parameters
    ----------
    skew
        Exponent of Zipf's law over the experts of a layer, dealt out by `seed`; 0: all alike.
    capacity
        Tokens that an expert takes at most, times its even share; what is over is dropped. None
        drops nothing.
    seed
        Of the order in which experts are popular.
    """

    skew: NotNegative = 0.0
    capacity: Positive | None = None
    seed: Annotated[int, Number(low=0, high=2**63, above=False, integer=True)] = 0

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offload:
    """What is kept in the host's memory: share of it [1].

    Parameters
    ----------
    activations
        Of what layers keep from forward to backward.
    optimizer
        Of the optimizer's state, which is updated on the chip after it came.
    parameters
        Of the weights, fetched before each use.
    """

    activations: Share = 0.0
    optimizer: Share = 0.0
    parameters: Share = 0.0

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def any(self) -> bool:
        """Whether something is."""
        return any((self.activations, self.optimizer, self.parameters))


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Ranks whose chip is not the system's; their links are.

    Parameters
    ----------
    chip
        Theirs.
    first, count
        The first of these ranks, and how many follow each other.
    """

    chip: Chip
    first: Annotated[int, Number(low=0, high=LARGEST_MACHINE, above=False, integer=True)]
    count: Count

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingExperiment:
    """One optimizer step of one model on one machine.

    Parameters
    ----------
    chips
        Chips of the job.
    precision
        Recipe of the linear layers: their dtype, and how operands are cast to it. "fp8" scales by the
        maxima of past steps, "fp8_current" by that of the tensor at hand, "fp8_block" by blocks of
        128; "mxfp8" and "mxfp4" by blocks of 32, "nvfp4" of 16 (OCP MX; NVIDIA).
    gradients
        Dtype in which gradients are kept.
    reduction
        Dtype in which gradients are reduced; None for that in which they are kept.
    compression
        Bytes of a gradient over those that are sent of it [1].
    sent
        Share of the gradients that each rank sends, the largest of them, each with its place [1]: they are gathered,
        since ranks choose others. None: all are reduced.
    optimizer, states
        Update rule, and dtype of its moments.
    recompute
        Modules (`MODULES`) whose activations are dropped and computed again.
    recompute_layers
        Layers of each chunk, from its first on, that recompute; None for all.
    offload
        What is kept in the host's memory.
    routing
        Which experts tokens choose.
    others
        Ranks that have other chips than the system's.
    slow
        Chips and links below their nominal rate.
    faults
        Parts of the network that lose rate, or die, during the step.
    contention
        What transfers take of the kernels beside them: cores, rate of HBM, both ("all"), or nothing.
    published
        What somebody measured of this step, to compare with; it decides nothing.
    facility
        Where the machine stands: what power costs and what it is paid off over. None: no cost is worked out.
    compressed
        Transforms that were carried out on model and precision (key `compress` of a file), for the record.
    settings
        Overrides ``key=value`` that were carried out, for the record.
    """

    kind: Literal["training"] = "training"
    system: System
    chips: Annotated[int, Number(low=1, high=LARGEST_MACHINE, above=False, integer=True)]
    model: Model
    layout: Layout
    batch: Batch
    precision: Literal["bf16", "fp16", "fp8", "fp8_current", "fp8_block", "mxfp8", "mxfp4", "nvfp4"] = "bf16"
    gradients: Literal["fp32", "bf16", "fp16"] = "fp32"
    reduction: Literal["fp32", "bf16", "fp16"] | None = None
    compression: Annotated[float, Number(low=1, high=1e6, above=False)] = 1.0
    sent: Fraction | None = None
    optimizer: Literal["adam", "adafactor", "muon"] = "adam"
    states: Literal["fp32", "bf16", "fp8"] = "fp32"
    recompute: tuple[str, ...] = ()
    recompute_layers: Annotated[int, Number(low=0, high=1e6, above=False, integer=True)] | None = None
    offload: Offload = field(default_factory=Offload)
    routing: Routing = field(default_factory=Routing)
    stack: Stack
    others: tuple[Others, ...] = ()
    slow: Slow = field(default_factory=Slow)
    faults: tuple[Fault, ...] = ()
    contention: Literal["none", "cores", "hbm", "all"] = "none"
    published: Published | None = None
    facility: Facility | None = None
    compressed: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        modules = tuple(_ALIASES.get(name, name) for name in self.recompute)
        object.__setattr__(self, "recompute", tuple(name for name in modules if name != "none"))
        for name in self.recompute:
            if name not in MODULES:
                raise SpecError(f"recompute: unknown module {name!r}; {near(name, (*MODULES, *_ALIASES, 'none'))}")
        for part in ("chips", "ports", "scale_up"):
            for rank in getattr(self.slow, part):
                if not 0 <= rank < self.chips:
                    raise SpecError(
                        f"slow.{part}: rank {rank} is not one of the {self.chips} chips (0 to {self.chips - 1})"
                    )
        end = 0
        for other in sorted(self.others, key=lambda other: other.first):
            if not end <= other.first <= self.chips - other.count:
                raise SpecError(
                    f"others: ranks {other.first} to {other.first + other.count - 1} of {other.chip.name} are not free "
                    f"among the {self.chips} chips; accepted from {end} on, each rank once"
                )
            end = other.first + other.count
        if len(self.faults) > MOST_FAULTS:
            raise SpecError(f"faults: {len(self.faults)} are more than the {MOST_FAULTS} that a step may have")
        for number, fault in enumerate(self.faults):
            rank = fault.port if fault.port is not None else fault.scale_up
            if rank is not None and rank >= self.chips:
                raise SpecError(
                    f"faults[{number}].{fault.part}: rank {rank} is not one of the {self.chips} chips "
                    f"(0 to {self.chips - 1})"
                )
        self._check_division()

    @property
    def micro_batches(self) -> int:
        """Micro-batches a dp rank works through in a step."""
        return self.batch.global_ // (self.layout.dp * self.batch.micro)

    @property
    def reshard(self) -> Literal["forward", "backward", "step", "never"]:
        """Until when weights stay that were gathered for a pass; "never": each rank keeps all of its own."""
        layout, stack = self.layout, self.stack
        if layout.zero == 3:
            return stack.reshard if layout.pp == 1 else stack.reshard_stages
        if layout.zero == 2 and stack.gather_units:
            return "backward" if layout.pp == 1 else "step"
        return "never"

    @property
    def reduces_each(self) -> bool:
        """Whether gradients are reduced in every micro-batch, and their parts summed."""
        return self.layout.zero > 1 and not self.stack.no_sync and self.reshard != "step"

    def _check_division(self) -> None:
        """Refuse, all at once, what does not divide."""
        layout, model, batch = self.layout, self.model, self.batch
        mistakes = []
        if layout.chips != self.chips:
            cp = f"cp {layout.cp} x " if layout.cp > 1 else ""
            mistakes.append(
                f"layout: tp {layout.tp} x {cp}pp {layout.pp} x dp {layout.dp} = {layout.chips} chips, "
                f"but chips is {self.chips}{self._suggest_dp()}"
            )
        if self.chips > self.system.chips_per_node and self.chips % self.system.chips_per_node:
            mistakes.append(
                f"chips: {self.chips} is not a multiple of the {self.system.chips_per_node} chips "
                f"of a {self.system.name} node"
            )
        if model.heads % layout.tp:
            mistakes.append(
                f"layout.tp: {layout.tp} does not divide the {model.heads} attention heads of {model.name}; "
                f"accepted: {_divisors(model.heads)}"
            )
        elif model.kv_heads % layout.tp and layout.tp % model.kv_heads:
            mistakes.append(
                f"layout.tp: {layout.tp} neither divides the {model.kv_heads} key/value heads of {model.name} "
                "nor is a multiple of them"
            )
        if model.ffn % layout.tp:
            mistakes.append(
                f"layout.tp: {layout.tp} does not divide the feed-forward width {model.ffn} of {model.name}"
            )
        mistakes += self._check_compressed()
        mistakes += self._check_context()
        mistakes += self._of_experts()
        balanced = self.stack.stages == "balanced"
        if layout.pp * layout.vpp > model.layers + 2 * balanced:
            ends = "embedding and loss may take a chunk each" if balanced else f"{self.stack.name} deals layers alone"
            mistakes.append(
                f"layout.pp: {layout.pp} stages x vpp {layout.vpp} = {layout.pp * layout.vpp} chunks, "
                f"but {model.name} has {model.layers} layers ({ends})"
            )
        if batch.global_ % (layout.dp * batch.micro):
            per = layout.dp * batch.micro
            below = batch.global_ // per * per
            nearest = f"{below} or {below + per}" if below else f"{per}"
            mistakes.append(
                f"batch.global: {batch.global_} is not a multiple of dp {layout.dp} x micro {batch.micro} = {per}; "
                f"nearest: {nearest}"
            )
        passes = self.micro_batches * (model.layers + layout.pp * layout.vpp)
        if passes > LARGEST_STEP:
            mistakes.append(
                f"batch.global, model.layers: {self.micro_batches:,} micro-batches a rank, {model.layers:,} layers "
                f"on {layout.pp * layout.vpp:,} chunks are {passes:,} passes; at most {LARGEST_STEP:,} are simulated"
            )
        if batch.sequence > model.max_sequence and model.positions == "learned":
            mistakes.append(
                f"batch.sequence: {batch.sequence} tokens are more than the {model.max_sequence} "
                f"learned positions of {model.name}"
            )
        if mistakes:
            raise PlanError("\n".join(mistakes))

    def _check_compressed(self) -> list[str]:
        """What is wrong with matrices that are shared or in two, and with gradients that are not all sent."""
        layout, model, mistakes = self.layout, self.model, []
        chunks = layout.pp * layout.vpp
        if model.shared_layers > 1 and (model.layers % (chunks * model.shared_layers) or layout.chunks is not None):
            mistakes.append(
                f"model.shared_layers: {chunks} chunks of {model.layers} layers cut some of {model.name} apart that "
                f"share weights by {model.shared_layers}; each chunk needs a multiple of them, dealt evenly"
            )
        if model.rank and layout.tp > 1:
            mistakes.append(
                f"layout.tp: {layout.tp} with matrices of rank {model.rank}: gradients of the halves that every rank "
                "holds are summed over tp, which has no time model yet; accepted: 1"
            )
        if (model.rank or model.shared_layers > 1) and self.optimizer != "adam":
            mistakes.append(
                f"optimizer: {self.optimizer} of matrices that are shared or in two has no time model; accepted: adam"
            )
        if self.sent is not None and (layout.zero or layout.shard is not None or self.compression > 1.0):
            mistakes.append(
                f"gradients: {self.sent:g} of them is gathered by every rank, which needs layout.zero 0, no "
                "layout.shard, and no other compression"
            )
        return mistakes

    def _check_context(self) -> list[str]:
        """What is wrong with how sequences are cut."""
        layout, model, batch = self.layout, self.model, self.batch
        exchanged = layout.context == "all_to_all"
        blocks = layout.cp * (1 if exchanged or layout.cp == 1 else 2)
        local, mistakes = batch.sequence // layout.cp, []
        if batch.sequence % blocks:
            mistakes.append(
                f"layout.cp: {blocks} blocks, {blocks // layout.cp} for each of {layout.cp} ranks, "
                f"do not divide the sequence of {batch.sequence} tokens"
            )
        elif layout.sequence_parallel and local % layout.tp:
            mistakes.append(f"layout.tp: {layout.tp} does not divide the sequence of {local} tokens")
        if layout.cp == 1:
            return mistakes
        heads, keys = model.heads // layout.tp, max(1, model.kv_heads // layout.tp)
        if exchanged and heads % layout.cp:
            mistakes.append(
                f"layout.cp: {layout.cp} does not divide the {heads} attention heads of a rank (tp {layout.tp}), which "
                f"all_to_all deals out; accepted: {_divisors(heads)}"
            )
        elif exchanged and keys % layout.cp and layout.cp % keys:
            mistakes.append(
                f"layout.cp: {layout.cp} neither divides the {keys} key/value heads of a rank (tp {layout.tp}) nor "
                "is a multiple of them, as all_to_all needs"
            )
        if layout.context == "ring" and model.window is not None and batch.sequence > model.window:
            mistakes.append("layout.context: no ring attends within a window; take all_gather or all_to_all")
        if not model.causal or model.encoder or model.linear is not None:
            mistakes.append(
                f"layout.cp: attention of {model.name} is not causal, or keeps a state; only causal attention is cut"
            )
        if self.stack.attention == "unfused":
            mistakes.append(
                f"layout.cp: attention of {self.stack.name} is unfused, and needs whole sequences; name a kernel, "
                "such as --set stack.attention=cudnn"
            )
        return mistakes

    def _of_experts(self) -> list[str]:
        """What of a layout does not divide experts, or has nothing to divide."""
        layout, experts = self.layout, self.model.experts
        if experts is None:
            if layout.ep * layout.etp > 1:
                return [f"layout.ep: ep {layout.ep} x etp {layout.etp}, but {self.model.name} has no experts"]
            return []
        found = []
        if experts.count % layout.ep:
            found.append(
                f"layout.ep: {layout.ep} does not divide the {experts.count} experts of {self.model.name}; "
                f"accepted: {_divisors(experts.count)}"
            )
        if experts.ffn % layout.etp:
            found.append(f"layout.etp: {layout.etp} does not divide the width {experts.ffn} of an expert")
        if experts.shared_ffn % layout.tp:
            found.append(f"layout.tp: {layout.tp} does not divide the width {experts.shared_ffn} of shared experts")
        if layout.tp > 1 and not layout.sequence_parallel:
            found.append("layout.sequence_parallel: experts with tp above 1 need it: each rank routes its own tokens")
        return found

    def _suggest_dp(self) -> str:
        fixed = self.layout.tp * self.layout.cp * self.layout.pp
        return f"; dp {self.chips // fixed} would fit" if self.chips % fixed == 0 else ""


def _divisors(number: int) -> str:
    return ", ".join(str(n) for n in range(1, number + 1) if number % n == 0)
