"""Every legal layout of a model on so many chips: the axes, and what `TrainingExperiment` accepts of their product.

Points are not listed one by one: for each pair of tp and cp there is a table of `Shards`, which are what one rank
computes, and for each pp a list of `Pipe`, which are how ranks are joined. Any of the one goes with any of the other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from scaleout.errors import SpecError, near
from scaleout.specs import Batch, Layout, TrainingExperiment
from scaleout.specs.experiment import LARGEST_STEP
from scaleout.training.registry import SCHEDULES

__all__ = ["AXES", "Axes", "Cut", "Pipe", "Point", "axes_of", "cuts", "legal_micro", "pipes", "point", "recompute_sets"]

_DENSE: tuple[tuple[str, ...], ...] = (
    (),
    ("core_attention",),
    ("norm",),
    ("norm", "mlp_product"),
    ("norm", "mlp_product", "core_attention"),
    ("norm", "mlp"),
    ("full",),
)
_OF_EXPERTS: tuple[tuple[str, ...], ...] = (
    (),
    ("core_attention",),
    ("norm",),
    ("norm", "moe_act"),
    ("norm", "moe_act", "shared_experts"),
    ("norm", "moe"),
    ("full",),
)
_USUAL = ("1f1b", "interleaved")
_CONTEXTS = ("ring", "all_gather", "all_to_all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """What a search goes through; empty: everything that is legal.

    Parameters
    ----------
    tp, cp, pp, vpp, ep, etp, micro, zero, sequence_parallel, context, schedule
        As in `Layout` and `Batch`; schedules without a name here are those of Megatron-LM alone, 1F1B and interleaved.
    recompute
        Lists of modules; by default `recompute_sets`.
    """

    tp: tuple[int, ...] = ()
    cp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    vpp: tuple[int, ...] = ()
    ep: tuple[int, ...] = ()
    etp: tuple[int, ...] = ()
    micro: tuple[int, ...] = ()
    zero: tuple[int, ...] = ()
    sequence_parallel: tuple[bool, ...] = ()
    context: tuple[str, ...] = ()
    schedule: tuple[str, ...] = ()
    recompute: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        for name in self.schedule:
            if name not in SCHEDULES:
                raise SpecError(f"schedule: {name!r:.40} is unknown; {near(name, SCHEDULES)}")

    def of(self, name: str, values: Sequence[Any]) -> list[Any]:
        """Values of an axis, without those that are not asked for."""
        asked = getattr(self, name)
        return [value for value in values if not asked or value in asked]


AXES = tuple(f.name for f in fields(Axes))
"""Names of the axes."""


def axes_of(given: Mapping[str, Sequence[Any]]) -> Axes:
    """Axes from lists by name.

    Raises
    ------
    SpecError
        No axis has this name, or its values are no list.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for name, values in given.items():
        if name not in AXES:
            raise SpecError(f"axes: {name!r:.40} is no axis; {near(str(name), AXES)}")
        if isinstance(values, str) or not isinstance(values, Sequence):
            raise SpecError(f"axes.{name}: {values!r:.40} is not accepted; expected a list such as [1, 2]")
        found[name] = tuple(tuple(one) if isinstance(one, list) else one for one in values)
    return Axes(**found)


class Cut(NamedTuple):
    """What one rank computes, beside tp and cp: see `Layout`, `Batch`; modules that are recomputed."""

    tp: int
    cp: int
    ep: int
    etp: int
    sequence_parallel: bool
    context: str
    micro: int
    recompute: tuple[str, ...]


class Pipe(NamedTuple):
    """How ranks are joined: chunks a stage, schedule, and what is cut over data-parallel ranks; see `Layout`."""

    pp: int
    vpp: int
    schedule: str
    zero: int


class Point(NamedTuple):
    """A layout."""

    cut: Cut
    pipe: Pipe


def recompute_sets(base: TrainingExperiment) -> tuple[tuple[str, ...], ...]:
    """Lists of modules that a search goes through, from light to heavy."""
    sets = _DENSE if base.model.experts is None else _OF_EXPERTS
    if base.model.experts is not None and not base.model.experts.shared_ffn:
        sets = tuple(names for names in sets if "shared_experts" not in names)
    if base.model.latent is None:
        return sets
    return (*sets[:3], *((*names, "mla_up_proj") for names in sets[2:-1]), sets[-1])


def divisors(number: int) -> list[int]:
    """In order."""
    return [n for n in range(1, number + 1) if number % n == 0] if number < 4096 else _divisors(number)


def _divisors(number: int) -> list[int]:
    low = [n for n in range(1, int(number**0.5) + 1) if number % n == 0]
    return sorted({*low, *(number // n for n in low)})


def cuts(base: TrainingExperiment, chips: int, axes: Axes) -> Iterator[tuple[int, int, list[Cut]]]:
    """For each tp and cp: what a rank may compute, with micro-batches of one sequence and nothing recomputed."""
    model, batch, experts = base.model, base.batch, base.model.experts
    for tp in axes.of("tp", [n for n in divisors(model.heads) if chips % n == 0]):
        if (model.kv_heads % tp and tp % model.kv_heads) or model.ffn % tp or (model.rank and tp > 1):
            continue
        if experts is not None and experts.shared_ffn % tp:
            continue
        whole = model.causal and not model.encoder and model.linear is None and base.stack.attention != "unfused"
        for cp in axes.of("cp", [n for n in divisors(batch.sequence) if chips % (tp * n) == 0 and (n == 1 or whole)]):
            local = batch.sequence // cp
            parallel = [value for value in (False, True) if (tp > 1 or not value) and not (value and local % tp)]
            if experts is not None and tp > 1:
                parallel = [value for value in parallel if value]
            found = [
                Cut(tp, cp, ep, etp, cut, context, 1, ())
                for ep, etp in _of_experts(base, axes)
                for cut in axes.of("sequence_parallel", parallel)
                for context in axes.of("context", _contexts(base, tp, cp))
            ]
            if found:
                yield tp, cp, found


def _of_experts(base: TrainingExperiment, axes: Axes) -> list[tuple[int, int]]:
    experts = base.model.experts
    if experts is None:
        return [(1, 1)]
    # width of an expert is cut like anything else that tp cuts: within a node
    widths = [n for n in divisors(experts.ffn) if n <= base.system.chips_per_node]
    return [(ep, etp) for ep in axes.of("ep", divisors(experts.count)) for etp in axes.of("etp", widths)]


def _contexts(base: TrainingExperiment, tp: int, cp: int) -> list[str]:
    """How a sequence may be cut over so many ranks."""
    if cp == 1:
        return ["ring"]
    model, sequence = base.model, base.batch.sequence
    heads, keys = model.heads // tp, max(1, model.kv_heads // tp)
    found = []
    if sequence % (2 * cp) == 0:
        if model.window is None or sequence <= model.window:
            found.append("ring")
        found.append("all_gather")
    if heads % cp == 0 and (keys % cp == 0 or cp % keys == 0):
        found.append("all_to_all")
    return found


def pipes(base: TrainingExperiment, tp: int, cp: int, chips: int, axes: Axes) -> Iterator[tuple[int, int, list[Pipe]]]:
    """For each pp: the data-parallel degree, and how ranks may be joined."""
    model, balanced = base.model, base.stack.stages == "balanced"
    most = model.layers + 2 * balanced
    for pp in axes.of("pp", [n for n in range(1, most + 1) if chips % (tp * cp * n) == 0]):
        if pp > 1 and model.encoder:
            continue
        dp = chips // (tp * cp * pp)
        ways = [
            (vpp, name)
            for vpp in axes.of("vpp", list(range(1, most // pp + 1 if pp > 1 else 2)))
            for name in _schedules(axes, pp, vpp)
            if model.shared_layers == 1 or model.layers % (pp * vpp * model.shared_layers) == 0
        ]
        levels = axes.of("zero", [0, 1, 2, 3] if cp * dp > 1 else [0])
        if base.sent is not None:
            levels = [level for level in levels if level == 0]
        found = [Pipe(pp, vpp, name, zero) for vpp, name in ways for zero in levels]
        if found:
            yield pp, dp, found


def _schedules(axes: Axes, pp: int, vpp: int) -> list[str]:
    """Schedules that are made for so many stages and chunks."""
    found = []
    for name in axes.schedule or _USUAL:
        schedule = SCHEDULES[name]
        if schedule.chunks is not None and schedule.chunks != vpp:
            continue
        if pp == 1 and name != "1f1b":
            continue
        # with one chunk a stage it is 1F1B
        if name == "interleaved" and vpp == 1:
            continue
        found.append(name)
    return found


def legal_micro(base: TrainingExperiment, dp: int, axes: Axes) -> list[int]:
    """Sequences of a micro-batch with which the batch divides."""
    if base.batch.global_ % dp:
        return []
    return axes.of("micro", divisors(base.batch.global_ // dp))


def steps(base: TrainingExperiment, micro_batches: int, chunks: int) -> bool:
    """Whether so many passes are simulated."""
    return micro_batches * (base.model.layers + chunks) <= LARGEST_STEP


def point(base: TrainingExperiment, chips: int, at: Point) -> TrainingExperiment:
    """The experiment of a layout.

    Raises
    ------
    PlanError
        It is none.
    """
    cut, pipe = at
    usual = "interleaved" if pipe.vpp > 1 else "1f1b"
    layout = Layout(
        tp=cut.tp,
        cp=cut.cp,
        pp=pipe.pp,
        dp=chips // (cut.tp * cut.cp * pipe.pp),
        vpp=pipe.vpp,
        ep=cut.ep,
        etp=cut.etp,
        sequence_parallel=cut.sequence_parallel,
        zero=pipe.zero,  # type: ignore[arg-type]
        context=cut.context,  # type: ignore[arg-type]
        schedule=None if pipe.schedule == usual else pipe.schedule,
    )
    batch = Batch(
        global_=base.batch.global_,
        micro=cut.micro,
        sequence=base.batch.sequence,
        encoder_sequence=base.batch.encoder_sequence,
    )
    return replace(base, chips=chips, layout=layout, batch=batch, recompute=cut.recompute)
