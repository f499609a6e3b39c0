"""What the stages of a stream take on their chips, draw, and keep in memory; ``docs/streams.md``."""

from collections.abc import Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.errors import PlanError, SpecError
from scaleout.evaluate.net_energy import batch_joules
from scaleout.evaluate.nets import BatchTime, net_seconds, room
from scaleout.hardware.power import drawn
from scaleout.parallel.inference import stage_kinds
from scaleout.parallel.inference_counts import Composition
from scaleout.serving.closed_forms import prompts, replies
from scaleout.serving.lengths import lengths
from scaleout.serving.room import cache_bytes, weight_bytes
from scaleout.serving.steps import PoolSteps
from scaleout.serving.streams import Pieces
from scaleout.serving.work import Work
from scaleout.specs import (
    Arrivals,
    Chip,
    InferenceEngine,
    Length,
    Net,
    Pool,
    Requests,
    ServingExperiment,
    StreamExperiment,
)
from scaleout.specs.stream import StreamStage

__all__ = ["Kept", "NetStage", "ReplyStage", "StageTimes", "TimedStage", "stage_times"]

_LENGTHS = 2
"""Key of the random numbers of lengths; each stage has its own under it."""


class Kept(NamedTuple):
    """What a stage needs of its chip's memory [byte].

    Parameters
    ----------
    what
        Weights of one name are there once, however many stages share them.
    weights, activations, cache, reserved
        Activations are there while a stage works, one stage at a time.
    share
        Of the chip's memory that the engine uses [1].
    """

    what: str
    weights: float
    activations: float = 0.0
    cache: float = 0.0
    reserved: float = 0.0
    share: float = 1.0


class TimedStage:
    """A stage of which the time is told."""

    def __init__(self, stage: StreamStage) -> None:
        self.stage = stage
        self._pieces = Pieces((ticks(stage.time or 0.0),), 1)

    def pieces(self, items: int) -> Pieces:
        """Of a batch of so many items."""
        return self._pieces

    def kept(self) -> Kept:
        """Its weights."""
        return Kept(self.stage.name, self.stage.weights)


class NetStage:
    """A net: batches of one size are alike."""

    def __init__(self, stage: StreamStage, net: Net, engine: InferenceEngine, chip: Chip) -> None:
        self.stage, self.net, self.engine, self.chip = stage, net, engine, chip
        self._known: dict[int, Pieces] = {}

    def time(self, items: int) -> BatchTime:
        """Of a batch of so many items, by operator."""
        return net_seconds(self.net, self.chip, self.engine, self.stage.precision, items * self.stage.samples)

    def pieces(self, items: int) -> Pieces:
        """Of a batch of so many items: the batch, then each token, all with the host's share."""
        found = self._known.get(items)
        if found is None:
            took = self.time(items)
            times = (ticks(took.once + took.host), *[ticks(took.each)] * took.tokens)
            found = self._known[items] = Pieces(times, len(times), batch_joules(self.chip, self.stage.precision, took))
        return found

    def kept(self) -> Kept:
        """Weights, and what the largest batch needs."""
        parts = room(
            self.net, self.chip, self.engine, self.stage.precision, self.stage.gather * self.stage.samples
        ).parts
        return Kept(
            f"{self.net.name} in {self.stage.precision}", parts["weights"] + parts["tables"], parts["activations"],
            parts["keys and values"], parts["reserved"], self.engine.memory_share,
        )  # fmt: skip


class ReplyStage:
    """A decoder of text: a prompt, then tokens one by one; lengths are drawn anew for each item."""

    def __init__(self, stage: StreamStage, spec: ServingExperiment, seed: np.random.SeedSequence) -> None:
        self.stage, self.spec = stage, spec
        self.timer = PoolSteps(spec, spec.pools[0])
        seeds = seed.spawn(3)
        self._prompts, self._firsts, self._replies = (
            None if length is None else lengths(length, own)
            for length, own in zip((stage.prompt, stage.first, stage.reply), seeds, strict=True)
        )

    def pieces(self, items: int) -> Pieces:
        """Of the next item."""
        assert self._prompts is not None and self._firsts is not None  # noqa: S101  (the spec sees to it)
        prompt, first = next(self._prompts), next(self._firsts)
        return self.reply(prompt, first, first if self._replies is None else max(first, next(self._replies)))

    def reply(self, prompt: int, first: int, tokens: int) -> Pieces:
        """Of a prompt and a reply of so many tokens, with whose `first` the next stages begin.

        Raises
        ------
        PlanError
            They are longer than the model takes.
        """
        if prompt + tokens > self.spec.max_length:
            raise PlanError(
                f"stage {self.stage.name!r}: prompt of {prompt:,} and reply of {tokens:,} tokens; "
                f"{self.spec.model.name} takes {self.spec.max_length:,} at most"
            )
        chunks = [self.timer.stages((work,))[0] for work in self._chunks(prompt)]
        # the first token comes with the prompt
        each = [self.timer.stages((replies(1, prompt + done),))[0] for done in range(1, tokens)]
        seconds = sum(chunks) / TICKS_PER_SECOND, sum(each) / TICKS_PER_SECOND
        return Pieces((*chunks, *each), len(chunks) + first - 1, self._joules(prompt, tokens, seconds))

    def _chunks(self, prompt: int) -> Iterator[Work]:
        most, done = self.spec.max_batched_tokens, 0
        if prompt <= most:
            yield prompts(1, prompt)
            return
        while done < prompt:
            new = min(most, prompt - done)
            last = int(done + new == prompt)
            yield Work(new, new * done + new * (new + 1) // 2, done + new, 1, rows=last)
            done += new

    def _joules(self, prompt: int, tokens: int, seconds: tuple[float, float]) -> tuple[float, float, float]:
        counts, total = self.timer.counts, np.zeros(3)
        whole = counts.step(Composition(1.0, prompt, prompt * (prompt + 1) / 2, rows=1.0))
        one = counts.step(Composition(decodes=1.0, decode_tokens=1.0, context=prompt + tokens / 2, rows=1.0))
        chip = self.spec.system.chip
        rate = chip.hbm_bandwidth * self.spec.engine.elementwise_efficiency
        for work, took in ((whole, seconds[0]), (one * (tokens - 1), seconds[1])):
            passes = min(work[2] / rate, 0.9 * took)
            found = drawn(chip, counts.rates, work, np.array(took - passes), np.array(passes), np.array(took))
            total += np.array([found.compute, found.vector, found.hbm], dtype=np.float64)
        return float(total[0]), float(total[1]), float(total[2])

    def kept(self) -> Kept:
        """Weights, and keys and values of the longest reply; activations of a prompt are small beside them."""
        stage, spec, pool = self.stage, self.spec, self.spec.pools[0]
        ends = [_most(length) for length in (stage.prompt, stage.reply or stage.first) if length is not None]
        tokens = min(sum(ends), spec.max_length)
        cache = cache_bytes(spec, pool, stage_kinds(spec.model, 1)[0]) * tokens
        return Kept(
            f"{spec.model.name} in {spec.precision}", weight_bytes(spec, pool), 0.0, cache,
            spec.engine.reserved + spec.engine.graph_pool, spec.engine.memory_share,
        )  # fmt: skip

    @cached_property
    def typical(self) -> tuple[int, int, int]:
        """Prompt, first tokens and reply on the average."""
        stage = self.stage
        prompt, first = _mean(stage.prompt), _mean(stage.first)
        return prompt, first, first if stage.reply is None else max(first, _mean(stage.reply))


StageTimes = TimedStage | NetStage | ReplyStage


def stage_times(experiment: StreamExperiment) -> tuple[StageTimes, ...]:
    """What tells the times of each stage.

    Raises
    ------
    SpecError
        The chip has no rate or no constants for a precision or for attention.
    PlanError
        A model is no decoder that is served.
    """
    system, found = experiment.system, []
    seeds = np.random.SeedSequence(experiment.seed, spawn_key=(_LENGTHS,)).spawn(len(experiment.stages))
    for stage, seed in zip(experiment.stages, seeds, strict=True):
        try:
            found.append(_times(stage, experiment, seed))
        except SpecError as error:
            raise SpecError(f"stage {stage.name!r}, on {system.chip.name}: {error}") from None
        except PlanError as error:
            raise PlanError(f"stage {stage.name!r}: {error}") from None
    return tuple(found)


def _times(stage: StreamStage, experiment: StreamExperiment, seed: np.random.SeedSequence) -> StageTimes:
    system, engine = experiment.system, stage.engine
    if engine is None:
        return TimedStage(stage)
    if stage.net is not None:
        net = NetStage(stage, stage.net, engine, system.chip)
        net.pieces(stage.gather)
        return net
    assert stage.model is not None and stage.prompt is not None  # noqa: S101  (the spec sees to it)
    spec = ServingExperiment(
        system=system, model=stage.model, engine=engine, pools=(Pool(),), precision=stage.precision,  # type: ignore[arg-type]
        requests=Requests(
            count=1, input=stage.prompt, output=stage.first, arrivals=Arrivals(process="closed", clients=1)
        ),
    )  # fmt: skip
    model = ReplyStage(stage, spec, seed)
    model.reply(*model.typical)
    return model


def _most(length: Length) -> int:
    return int(length.mean or 0) if length.kind == "constant" else length.high


def _mean(length: Length | None) -> int:
    if length is None:
        return 0
    return max(1, round(length.mean if length.mean is not None else (length.low + length.high) / 2))
