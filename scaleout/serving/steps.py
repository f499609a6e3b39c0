"""Times of serving steps of a pool's replicas: what `StepTimer` promises, out of kernels and messages.

Parts of a step are kept by what they depend on, whole steps by their works; both in tables of bounded
size. What is rounded, and by how much, is in ``docs/steps.md``.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cached_property
from operator import itemgetter
from typing import NamedTuple, TypeVar

import numpy as np

from scaleout.engine.program import Message, ticks
from scaleout.errors import PlanError
from scaleout.models import LayerKind
from scaleout.network import Fabric, machine
from scaleout.parallel.inference import Layers
from scaleout.parallel.inference_counts import Counts
from scaleout.parallel.inference_kernels import Cost
from scaleout.parallel.inference_wires import ReplicaWires
from scaleout.serving.work import IDLE, Work, upto
from scaleout.specs import Pool, ServingExperiment

__all__ = ["PoolSteps", "Segment"]

_MOST = 1 << 16
"""Entries of a table of steps or parts; the oldest half is dropped when it is full."""

_EAGER, _PIECEWISE, _GRAPH = range(3)
"""How kernels are launched: one by one, in graphs but for attention, in one graph."""
_NOTHING = Cost()
_seconds = itemgetter(0)

V = TypeVar("V")


class Segment(NamedTuple):
    """Kernels, then a message.

    Parameters
    ----------
    compute
        Of kernels and what lies between them [tick].
    message
        None where nothing is sent.
    alone
        Of the message with the network to itself [tick].
    """

    compute: int
    message: Message | None = None
    alone: int = 0


class _Table(dict[Hashable, V]):
    """Keeps what a function gave, of the latest arguments."""

    def __init__(self, make: Callable[..., V]) -> None:
        super().__init__()
        self.make = make

    def of(self, *key: Hashable) -> V:
        found = self.get(key)
        if found is None:
            if len(self) >= _MOST:
                for old in list(self)[: _MOST // 2]:
                    del self[old]
            found = self[key] = self.make(*key)
        return found


class _Piece(NamedTuple):
    """A segment before its time is known: kernels, those of attention, and what follows."""

    cost: Cost
    attention: Cost
    message: Message | None


class PoolSteps:
    """Step times of the replicas of a pool.

    Parameters
    ----------
    experiment
        Model, engine, precision.
    pool
        Of the experiment.
    start
        Rank of the first chip of the replica that stands for all.
    fabric
        The machine; None builds one that is large enough.
    like
        Steps of a pool of the same shape on the same links, of which these take all that does not depend on the chip.
    compiled
        Kernels are timed by machine code: for thousands of chips, not for one.

    Raises
    ------
    PlanError, SpecError
        The model has layers that nobody models, or the chip lacks constants.
    """

    def __init__(
        self,
        experiment: ServingExperiment,
        pool: Pool,
        start: int = 0,
        fabric: Fabric | None = None,
        like: "PoolSteps | None" = None,
        compiled: bool = False,
    ) -> None:
        self.experiment, self.pool, self.engine = experiment, pool, experiment.engine
        system, chip = experiment.system, pool.chip or experiment.system.chip
        if like is None:
            self.layers = Layers(
                experiment.model, system, chip, experiment.engine, pool, experiment.products, experiment.cache.dtype,
                experiment.routing, compiled,
            )  # fmt: skip
            ranks = start + np.arange(pool.chips_each).reshape(pool.pp, pool.dp, pool.tp)
            whole = fabric or machine(system, _whole(experiment, start + pool.chips_each))
            self.wires = ReplicaWires(whole, ranks, system, self.engine)
        else:
            self.layers, self.wires = like.layers.on(chip), like.wires
        self.around = _Table(self.layers.around)
        self.feed = _Table(self.layers.feed)
        self.experts = _Table(self.layers.experts)
        self.prefill = _Table(self.layers.prefill)
        self.decode = _Table(self.layers.decode)
        self.head = _Table(self.layers.head)
        self.alone = _Table(self._alone)
        self._fixed = _Table(self._fixed_of)
        self._steps = _Table(self._stages)
        self._counts: list[list[tuple[LayerKind, int]]] = (
            like._counts if like else [sorted(Counter(kinds).items()) for kinds in self.layers.stages]
        )
        self._speed = system.host.speed if system.host is not None else 1.0
        self._launch = self.engine.host_launch / self._speed
        engine = self.engine
        self._overheads = tuple(
            seconds / self._speed
            for seconds in (engine.step_overhead, engine.sequence_overhead, engine.prompt_overhead)
        )
        self._gap = engine.kernel_gap
        self._hidden = engine.overlapped and pool.pp == 1
        self._late = ticks(self.engine.message_launch / self._speed)
        self._sizes = tuple(sorted(self.engine.graph_sizes))
        self._drafting = _drafting(experiment, pool, start, self.wires.fabric)

    @cached_property
    def counts(self) -> Counts:
        """What a step computes, moves and sends."""
        spec, layers = self.experiment, self.layers
        chip = self.pool.chip or spec.system.chip
        return Counts(
            spec.model, spec.system, chip, self.engine, self.pool, layers.precision, spec.cache.dtype, spec.routing
        )

    def stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        """Time of each pipeline stage for a step [tick]; one `Work` for each attention rank."""
        return self._steps.of(works)

    def program(self, works: tuple[Work, ...]) -> tuple[tuple[Segment, ...], ...]:
        """The same step in pieces, stage by stage; times of kernels and of messages alone add up to `stages`."""
        out = []
        for stage, waiting, _ in self._timed(works):
            segments = [Segment(waiting)] if waiting else []
            out.append((*segments, *stage))
        return tuple(out)

    # --- inside ------------------------------------------------------------------------------

    def _alone(self, message: Message) -> int:
        return ticks(self.wires.seconds(message))

    def _padded(self, tokens: int, prompts: bool) -> int | None:
        """Tokens that a captured graph computes; None outside of graphs."""
        if prompts and not self.engine.graphs_mixed:
            return None
        at = bisect_left(self._sizes, tokens)
        return self._sizes[at] if at < len(self._sizes) else None

    def _launching(self, works: tuple[Work, ...]) -> tuple[tuple[int, ...], int]:
        """New tokens of each attention rank as they are computed, and how kernels are launched."""
        prompts, tokens = False, []
        for work in works:
            prompts = prompts or work.prompt_tokens > 0
            tokens.append(work.prompt_tokens + work.decode_tokens)
        padded = self._padded(max(tokens), prompts)
        if padded is None:
            # few numbers, so that they come again; products are computed in tiles of as many anyway
            return tuple(map(upto, tokens)), _EAGER
        return (padded,) * len(works), _PIECEWISE if prompts else _GRAPH

    def _stages(self, works: tuple[Work, ...]) -> tuple[int, ...]:
        tokens, how = self._launching(works)
        rows, one = works[0].rows, len(works) == 1
        if not one:
            if len(set(tokens)) > 1:
                return tuple(total for _, _, total in self._timed(works))
            rows = max(work.rows for work in works)
        out = []
        for stage, counts in enumerate(self._counts):
            # all that does not depend on what tokens see
            total, launched = self._fixed.of(stage, tokens, rows, how)
            for kind, times in counts:
                attention = self._attention(kind, works[0])
                if not one:
                    attention = max((self._attention(kind, work) for work in works), key=_seconds)
                total += times * self._ticks(attention)
                launched += times * attention.kernels * (how != _GRAPH)
            out.append(self._waiting(stage, works, total, launched)[1])
        return tuple(out)

    def _fixed_of(self, stage: int, tokens: tuple[int, ...], rows: int, how: int) -> tuple[int, int]:
        """Time of a stage without attention proper [tick], and what its host launches."""
        total = launched = 0
        idle = (IDLE,) * len(tokens)
        front, back = self._ends(stage, rows, max(tokens))
        layers = [(times, self._layer(kind, stage, idle, tokens)) for kind, times in self._counts[stage]]
        for times, pieces in [(1, front), *layers, (1, back)]:
            for piece in pieces:
                one = self._segment(piece, how)
                total += times * (one.compute + one.alone)
                launched += times * self._launches(piece, how)
        return total, launched

    def _timed(self, works: tuple[Work, ...]) -> list[tuple[tuple[Segment, ...], int, int]]:
        """Of each stage: segments, time that kernels wait for the host, and all of it [tick]."""
        tokens, how = self._launching(works)
        rows = max(work.rows for work in works)
        out = []
        for stage, kinds in enumerate(self.layers.stages):
            each = {kind: self._layer(kind, stage, works, tokens) for kind, _ in self._counts[stage]}
            front, back = self._ends(stage, rows, max(tokens))
            # layers of a kind are alike
            made = {kind: [self._segment(piece, how) for piece in pieces] for kind, pieces in each.items()}
            ends = [[self._segment(piece, how) for piece in pieces] for pieces in (front, back)]
            segments = (*ends[0], *(one for kind in kinds for one in made[kind]), *ends[1])
            total = sum(one.compute + one.alone for one in segments)
            launched = sum(self._launches(piece, how) for piece in (*front, *back))
            for kind, times in self._counts[stage]:
                launched += times * sum(self._launches(piece, how) for piece in each[kind])
            out.append((segments, *self._waiting(stage, works, total, launched)))
        return out

    def _ticks(self, cost: Cost) -> int:
        """Of kernels, with the gaps between them [tick]."""
        return ticks(cost.seconds + cost.kernels * self._gap)

    def _segment(self, piece: _Piece, how: int) -> Segment:
        compute = self._ticks(piece.cost) + self._ticks(piece.attention)
        if piece.message is None:
            return Segment(compute)
        late = self._late if how == _EAGER else 0
        return Segment(compute + late, piece.message, self.alone.of(piece.message))

    def _launches(self, piece: _Piece, how: int) -> int:
        """Kernels, messages and graphs that the host launches."""
        if how == _EAGER:
            return piece.cost.kernels + piece.attention.kernels + (piece.message is not None)
        # one graph up to attention, which the host launches, and one after it
        return piece.attention.kernels + 1 if how == _PIECEWISE else 0

    def _waiting(self, stage: int, works: tuple[Work, ...], total: int, launched: int) -> tuple[int, int]:
        """Time that is spent besides kernels and messages, and all of it [tick]."""
        waiting = max(0, ticks(launched * self._launch) - total) if launched else 0
        if self._drafting is not None and stage + 1 == self.pool.pp:
            waiting += self._drafting.of(works)
        if stage == 0:
            host = self._host(works)
            # several batches under way are prepared one by one, and none ahead of time
            waiting += max(0, host - total - waiting) if self._hidden else host
        return waiting, total + waiting

    def _host(self, works: tuple[Work, ...]) -> int:
        """The host's share of a step; attention ranks have hosts of their own [tick]."""
        most, prompts = 0, False
        for work in works:
            most = max(most, work.prompts + work.decodes)
            prompts = prompts or work.prompts > 0
        step, sequence, prompt = self._overheads
        return ticks(step + most * sequence + (prompt if prompts else 0.0))

    def _attention(self, kind: LayerKind, work: Work) -> Cost:
        """Attention proper of one rank."""
        found = _NOTHING
        if work.prompt_tokens:
            found = self.prefill.of(kind, work.prompts, work.prompt_tokens, work.prompt_scores)
        if work.decodes:
            more = self.decode.of(kind, work.decodes, work.decode_tokens, work.context, work.longest)
            found = found.plus(more) if found.kernels else more
        return found

    def _layer(self, kind: LayerKind, stage: int, works: tuple[Work, ...], tokens: tuple[int, ...]) -> list[_Piece]:
        """Pieces of a layer; attention ranks wait for the slowest of them."""
        ranks = [
            (self.around.of(kind, new), self._attention(kind, work)) for work, new in zip(works, tokens, strict=True)
        ]
        slowest = max(ranks, key=lambda pair: pair[0].seconds + pair[1].seconds)
        most, altogether = max(tokens), sum(tokens)
        layers = self.layers
        pieces = [_Piece(*slowest, layers.reduce(stage, most))]
        feed = self.feed.of(kind, most)
        if not kind.experts:
            pieces.append(_Piece(feed, _NOTHING, layers.reduce(stage, most)))
        elif self.pool.dp == 1:
            pieces.append(_Piece(feed.plus(self.experts.of(kind, altogether)), _NOTHING, layers.reduce(stage, most)))
        else:
            pieces.append(_Piece(feed, _NOTHING, layers.exchange(stage, most, altogether, back=False)))
            experts = self.experts.of(kind, altogether)
            pieces.append(_Piece(experts, _NOTHING, layers.exchange(stage, most, altogether, back=True)))
        return pieces

    def _ends(self, stage: int, rows: int, tokens: int) -> tuple[list[_Piece], list[_Piece]]:
        """What comes before and after the layers of a stage."""
        layers = self.layers
        front, back = [], []
        if stage == 0 and tokens:
            front.append(_Piece(layers.embedding(tokens), _NOTHING, layers.reduce(0, tokens)))
        if stage + 1 < self.pool.pp:
            back.append(_Piece(_NOTHING, _NOTHING, layers.send(stage, tokens)))
        else:
            back.append(_Piece(self.head.of(tokens, rows), _NOTHING, layers.gather_logits(stage, rows)))
        return front, back


def _drafting(experiment: ServingExperiment, pool: Pool, start: int, fabric: Fabric) -> "_Table[int] | None":
    """Time of what drafts the next tokens, by the works of the step that verified the ones before [tick]."""
    speculation, model = experiment.speculation, experiment.model
    if speculation is None:
        return None
    # the draft's steps are launched with the model's own
    engine = replace(experiment.engine, step_overhead=0.0, sequence_overhead=0.0, prompt_overhead=0.0)
    last = start + (pool.pp - 1) * pool.tp * pool.dp
    if speculation.draft is not None:
        # on each tensor-parallel group a copy of its own
        layout, draft, joined = replace(pool, pp=1, dp=1, ep=1), speculation.draft, 0.0
    else:
        if not model.predictions:
            raise PlanError(
                f"speculation.draft: {model.name} has no layers of multi-token prediction; name a model that drafts"
            )
        layout, joined = replace(pool, pp=1), 2.0 * model.hidden
        experts = replace(model.experts, first=0, every=1) if model.experts is not None else None
        draft = replace(model, layers=1, predictions=0, experts=experts)
    alone = replace(
        experiment, model=draft, speculation=None, engine=engine, pools=(replace(layout, role="both"),), failures=(),
        training=None,
    )  # fmt: skip
    if speculation.draft is not None:
        alone = replace(alone, precision="bf16", sparsity="none")
    steps = PoolSteps(alone, layout, last, fabric)

    def one(works: tuple[Work, ...]) -> int:
        groups = [works] if layout.dp > 1 or len(works) == 1 else [(work,) for work in works]
        most = max(sum(work.prompt_tokens + work.decodes for work in group) for group in groups)
        product = steps.layers.kernels.linear(float(most), draft.hidden / layout.tp, joined) if joined else _NOTHING
        return max(sum(steps.stages(group)) for group in groups) + ticks(product.seconds)

    def all_of(works: tuple[Work, ...]) -> int:
        # a first step with the prompts, and tokens that were taken last; the others draft one a sequence
        first = tuple(work._replace(decode_tokens=work.decodes, rows=work.decodes + work.prompts) for work in works)
        again = tuple(
            Work(0, 0, 0, 0, work.decodes, work.decodes, work.context, work.longest, work.decodes) for work in works
        )
        further = (speculation.tokens - 1) * one(again) if any(work.decodes for work in works) else 0
        return one(first) + further

    return _Table(all_of)


def _whole(experiment: ServingExperiment, chips: int) -> int:
    """Chips of a machine that has at least so many: whole nodes beyond the first."""
    each = experiment.system.chips_per_node
    return chips if chips <= each else -(-chips // each) * each
