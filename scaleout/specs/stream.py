"""Streams with deadlines on a few chips: cameras, speech; stages that share the chips."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from scaleout.errors import SpecError, near
from scaleout.specs.facility import Facility
from scaleout.specs.fields import check_fields
from scaleout.specs.inference import InferenceEngine
from scaleout.specs.model import Model
from scaleout.specs.net import Net
from scaleout.specs.requests import Length
from scaleout.specs.system import System
from scaleout.units import Bytes, Count, Fraction, Number, Positive, Seconds

__all__ = ["StreamExperiment", "StreamSource", "StreamStage"]

_Whole = Annotated[int, Number(low=0, high=1e6, above=False, integer=True)]
"""A whole number that may be 0."""
_NETS = ("fp32", "bf16", "fp16", "fp8", "int8", "w8a16", "w4a16")
_MODELS = ("bf16", "fp16", "fp8", "fp8_current", "fp8_block", "mxfp8", "nvfp4", "w8a16", "w4a16")
_MOST_SECONDS, _MOST_ITEMS = 86_400.0, 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStage:
    """What is done with each item of a stream, on one chip; exactly one of `net`, `model` and `time` is given.

    Parameters
    ----------
    net
        A net, run once an item.
    model
        A decoder of text, one reply an item.
    time
        What the stage takes on the chip, whatever the item [s]; `weights` are what it keeps in memory [byte].
    engine, precision
        Of a net or model.
    prompt
        Of a model: tokens that it is given.
    first
        Of a model: tokens of the reply with which the next stages begin, such as a first clause.
    reply
        Of a model: tokens of the whole reply, which goes on meanwhile; None: it ends with `first`.
    samples
        Of a net: samples in each item that comes, such as the cameras of a batch that was gathered before.
    chip
        Number of the chip that it runs on.
    priority
        Who goes first when a chip is free: the larger number.
    after
        Stages whose results it waits for; none where sources come in.
    pre, post
        On the host, before the item waits for the chip and after it has left [s]; many items may be there at a time.
    gather
        Items that make one batch.
    timeout
        A batch that is not full goes after so long since its first item [s]; None: never.
    drop
        "latest": an item is thrown away when a newer one of the same source comes while it still waits.
    output
        Of an item that stages on other chips are sent [byte].
    """

    name: str
    net: Net | None = None
    model: Model | None = None
    time: Seconds | None = None
    weights: Bytes = 0.0
    engine: InferenceEngine | None = None
    precision: Literal[
        "fp32", "bf16", "fp16", "fp8", "fp8_current", "fp8_block", "mxfp8", "nvfp4", "int8", "w8a16", "w4a16"
    ] = "fp16"  # fmt: skip
    prompt: Length | None = None
    first: Length | None = None
    reply: Length | None = None
    samples: Count = 1
    chip: _Whole = 0
    priority: _Whole = 0
    after: tuple[str, ...] = ()
    pre: Seconds = 0.0
    post: Seconds = 0.0
    gather: Count = 1
    timeout: Seconds | None = None
    drop: Literal["none", "latest"] = "none"
    output: Bytes = 0.0

    def __post_init__(self) -> None:
        check_fields(self)
        mistakes = list(self._mistakes())
        if mistakes:
            raise SpecError("\n".join(f"stage {self.name!r}: {line}" for line in mistakes))

    def _mistakes(self) -> Iterator[str]:
        given = [name for name in ("net", "model", "time") if getattr(self, name) is not None]
        if len(given) != 1:
            yield f"expected exactly one of net, model and time; found {' and '.join(given) or 'none'}"
        elif self.time is None and self.engine is None:
            yield "engine: missing; a net or model needs one, such as tensorrt-10 or tensorrt-edge-llm"
        accepted = _MODELS if self.model is not None else _NETS
        if self.precision not in accepted:
            yield f"precision: {self.precision!r} is not accepted; expected {' or '.join(accepted)}"
        if self.model is not None:
            if self.prompt is None or self.first is None:
                yield "prompt and first: a model needs both, in tokens, such as {kind: constant, mean: 100}"
            if self.gather > 1 or self.samples > 1:
                yield "gather and samples: a model answers one item at a time here; leave both out"
        elif self.prompt or self.first or self.reply:
            yield "prompt, first and reply are for a model; leave them out"
        if self.time is None and self.weights:
            yield "weights: a net or model knows its own; leave it out"
        if self.timeout is not None and self.gather == 1:
            yield "timeout: is for a stage that gathers; leave it out, or say how many items it gathers"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSource:
    """Where items come from.

    Parameters
    ----------
    into
        Stages that each item enters.
    rate, period
        Items of each of `count` a second [1/s], or from one to the next [s]; exactly one.
    count
        Sources that are alike, such as cameras.
    process
        "periodic"; or "poisson", at random at this rate.
    phases
        Of periodic sources that are alike: "together", "even" over the period, or "random".
    jitter
        Each item comes up to so much late, evenly distributed [s].
    deadline
        From an item's coming to the end of its last stage [s]; None: nothing is promised.
    share
        Of the items that have to keep it [1].
    """

    name: str
    into: tuple[str, ...]
    rate: Positive | None = None
    period: Seconds | None = None
    count: Count = 1
    process: Literal["periodic", "poisson"] = "periodic"
    phases: Literal["together", "even", "random"] = "together"
    jitter: Seconds = 0.0
    deadline: Seconds | None = None
    share: Fraction = 0.99

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.rate is None) == (self.period is None) or self.period == 0.0:
            raise SpecError(f"source {self.name!r}: expected one of rate and period, above 0")
        if not self.into or len(set(self.into)) < len(self.into):
            raise SpecError(f"source {self.name!r}: into: expected the stages that its items enter, each once")
        if self.deadline == 0.0:
            raise SpecError(f"source {self.name!r}: deadline: 0; expected more, or none")

    @property
    def every(self) -> float:
        """From one item of one of them to its next, on the average [s]."""
        return self.period if self.period is not None else 1.0 / (self.rate or 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamExperiment:
    """Streams with deadlines on a few chips.

    Parameters
    ----------
    chips
        That stages run on, numbered from 0.
    duration
        In which items come; the simulation goes on until all are done [s].
    seed
        Of jitter, of random phases and times, and of lengths.
    facility
        Whose battery is asked how long it lasts.
    settings
        Overrides ``key=value`` that were carried out, for the record.
    """

    kind: Literal["stream"] = "stream"
    system: System
    chips: Count = 1
    stages: tuple[StreamStage, ...]
    sources: tuple[StreamSource, ...]
    duration: Seconds = 10.0
    seed: _Whole = 0
    facility: Facility | None = None
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        mistakes = list(self._mistakes()) or list(self._graph())
        if mistakes:
            raise SpecError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        if not self.stages or not self.sources:
            yield "stages and sources: expected one of each at least"
        names = [stage.name for stage in self.stages]
        for what, found in (("stages", names), ("sources", [source.name for source in self.sources])):
            for name in sorted({name for name in found if found.count(name) > 1}):
                yield f"{what}: {name!r} is there twice; names tell them apart"
        if not 0.0 < self.duration <= _MOST_SECONDS:
            yield f"duration: {self.duration:g} s is not accepted; expected up to {_MOST_SECONDS:,.0f} s, above 0"
        items = sum(source.count * self.duration / source.every for source in self.sources)
        if items > _MOST_ITEMS:
            yield f"duration: {items:,.0f} items would come; at most {_MOST_ITEMS:,} are simulated"
        for stage in self.stages:
            for name in stage.after:
                if name not in names or name == stage.name:
                    yield f"stage {stage.name!r}: after: {name!r} is no other stage; {near(name, names)}"
            if stage.chip >= self.chips:
                yield f"stage {stage.name!r}: chip: {stage.chip} is not one of the {self.chips}, numbered from 0"
        for source in self.sources:
            for name in source.into:
                if name not in names:
                    yield f"source {source.name!r}: into: {name!r} is no stage; {near(name, names)}"

    def _graph(self) -> Iterator[str]:
        """What is wrong with the order of the stages."""
        entered: dict[str, tuple[str, ...]] = {}
        for source in self.sources:
            for name in source.into:
                entered[name] = (*entered.get(name, ()), source.name)
        # of each stage: which gathered its items, and where they come from
        known: dict[str, tuple[str, tuple[str, ...]]] = {}
        left = list(self.stages)
        while left:
            ready = [stage for stage in left if all(name in known for name in stage.after)]
            if not ready:
                yield f"stages: {', '.join(stage.name for stage in left)} wait for each other; after goes one way"
                return
            for stage in ready:
                if stage.after and stage.name in entered:
                    yield f"stage {stage.name!r}: a source goes into it, but it waits for stages; take either"
                elif not stage.after and stage.name not in entered:
                    yield f"stage {stage.name!r}: no source goes into it, and it waits for no stage (after)"
                before = {known[name] for name in stage.after} or {("", entered.get(stage.name, ()))}
                if len(before) > 1:
                    yield (
                        f"stage {stage.name!r}: after: stages whose items come from other sources or other batches; "
                        "let one stage gather them before the ways part"
                    )
                by, sources = min(before)
                known[stage.name] = (stage.name if stage.gather > 1 else by, sources)
            left = [stage for stage in left if stage.name not in known]
