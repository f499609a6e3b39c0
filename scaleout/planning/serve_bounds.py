"""Least time that a replica's steps take for a work, whatever the order of its requests; proofs in the docs.

The steps of a run are taken apart into kinds by how many sequences decode in them and how many tokens of prompts they
have. Of each kind the least time is known, and the most that it brings on. How many steps of which kind do a work in
the least time is a linear programme; any point of its dual is a bound (``docs/planning_serving.md``).
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import TICKS_PER_SECOND, ticks
from scaleout.serving.room import Room
from scaleout.serving.steps import PoolSteps
from scaleout.serving.work import Work
from scaleout.specs import Pool, ServingExperiment

__all__ = ["MARGIN", "Demand", "least_time"]

MARGIN = 0.97
"""Of the least time that was seen of steps with as much to do or more, what counts as a bound [1]: the times of steps
dip by some per cent where tiles or graphs come out even, and not every size is looked at."""
_COARSE, _FINE = 1.5, 1.12
"""Between sizes that are looked at, below and from a sixteenth of the largest."""
_TURNS = 200
_SMALL = 1e-12


class Demand(NamedTuple):
    """What must be done for the promise to be kept, at least.

    Parameters
    ----------
    decodes
        Tokens of replies after the first of each.
    prompts
        Tokens of prompts.
    context
        Tokens that the former see, altogether.
    before
        Of these, those of prompts and first tokens: what each reply sees at least, for each of its tokens.
    least, most
        Tokens that a reply sees at least, and at most.
    span
        Time in which it must be done [s]; infinite where nothing says so.
    tpot
        Time per token that is promised [s]; infinite where none is.
    """

    decodes: float
    prompts: float
    context: float
    before: float
    least: float
    most: float
    span: float
    tpot: float


def least_time(experiment: ServingExperiment, pool: Pool, timer: PoolSteps, room: Room, demand: Demand) -> float:
    """Time for which replicas of a pool must work, all together, at least [s]; infinite where the promise cannot be.

    Parameters
    ----------
    pool
        Its role says which part of the demand is its own.
    """
    decoding, prefilling = pool.role != "prefill", pool.role != "decode"
    demand = demand._replace(
        decodes=demand.decodes if decoding else 0.0,
        context=demand.context if decoding else 0.0,
        before=demand.before if decoding else 0.0,
        prompts=demand.prompts if prefilling else 0.0,
    )
    if not demand.decodes and not demand.prompts:
        return 0.0
    steps = _Least(experiment, pool, timer, demand, decoding=decoding, prefilling=prefilling)
    return steps.time(room)


class _Least:
    """Least times of steps, by size."""

    def __init__(
        self,
        experiment: ServingExperiment,
        pool: Pool,
        timer: PoolSteps,
        demand: Demand,
        *,
        decoding: bool,
        prefilling: bool,
    ) -> None:
        self.pool, self.timer, self.demand = pool, timer, demand
        engine = experiment.engine
        hidden = engine.overlapped and pool.pp == 1
        # the host's share, where it is no more than added, is left out: a second bound has it
        bare = replace(engine, host_launch=0.0, sequence_overhead=0.0, prompt_overhead=0.0)
        if hidden:
            bare = replace(bare, step_overhead=0.0)
        self.bare = PoolSteps(replace(experiment, engine=bare), pool, like=timer)
        seats = experiment.max_sequences
        tokens = max(experiment.max_batched_tokens, seats)
        if experiment.policy != "chunked":
            # a prompt that is longer than a step has one of its own
            tokens = max(tokens, experiment.max_length)
        self.seats = seats * pool.dp
        self.decoding = _edges(min(seats, tokens)) if decoding else np.zeros(1, dtype=np.int64)
        self.prefilling = _edges(tokens) if prefilling else np.zeros(1, dtype=np.int64)
        self.largest = tokens
        middle = self._times(self.bare, Work(decode_tokens=min(256, tokens), rows=1))
        # every step passes every stage, and one stage has one step at a time
        self.stage = int(middle.argmax())

    def _times(self, timer: PoolSteps, work: Work) -> Floats:
        found: Floats = np.array(timer.stages((work,) * self.pool.dp)) / TICKS_PER_SECOND
        return found

    def _attention(self) -> tuple[float, float]:
        """Least time that a token in the cache takes of a step: of the stage, and of all stages [s]."""
        layers, rates = self.timer.layers, []
        sizes = [1 << power for power in range(4, 20)]
        each = [size for size in sizes if size < self.demand.most] + [int(self.demand.most)]
        for kinds in layers.stages:
            counts, least = sorted(Counter(kinds).items()), math.inf
            for decodes in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024):
                for tokens in each[-10:]:
                    took = sum(
                        times * layers.decode(kind, decodes, decodes, decodes * tokens, tokens).seconds
                        for kind, times in counts
                    )
                    least = min(least, took / (decodes * tokens))
            rates.append(MARGIN * least)
        return rates[self.stage] / self.pool.dp, sum(rates) / self.pool.dp

    def time(self, room: Room) -> float:
        """Of the demand [s]."""
        demand, ranks = self.demand, self.pool.dp
        b, m = self._kinds()
        sizes = _edges(self.largest)
        plain = _under([self._times(self.bare, Work(decode_tokens=max(1, n), rows=1)) for n in sizes.tolist()])
        beside = plain
        if len(self.prefilling) > 1:
            beside = _under([self._mixed(max(1, n)) for n in sizes.tolist()])
        at = np.searchsorted(sizes, np.maximum(b.low + m.low, 1), side="right") - 1
        kernels = np.where((m.high > 0)[:, None], beside[at], plain[at])
        whole = np.maximum(*self._whole(b, m))
        stage, every = kernels[:, self.stage], kernels.sum(axis=1)
        slow = int(whole.mean(axis=0).argmax())
        rate, rate_all = self._attention() if demand.decodes else (0.0, 0.0)
        latency = np.maximum(every + rate_all * ranks * b.low * demand.least, whole.sum(axis=1))
        decoding, floor, steps = b.high > 0, 0.0, 0.0
        if demand.decodes:
            # steps that decode: of each, what its sequences see is in the cache
            steps = demand.context / (room.tokens * ranks)
            floor = float(every[decoding].min())
            if demand.tpot <= floor:
                return math.inf
            if rate_all > 0.0:
                # and no more on the average than the promise leaves time for
                steps = max(steps, demand.before * rate_all / (demand.tpot - floor))
        slack = np.zeros(len(stage))
        if math.isfinite(demand.tpot):
            over = latency - demand.tpot
            slack = ranks * np.where(over > 0.0, b.low, b.high) * over
        # rows of the dual: tokens of replies, of prompts, steps, time per token, and which bound of time counts
        columns = np.stack(
            [
                ranks * b.high * 1.0, ranks * m.high * 1.0, decoding * 1.0, -slack,
                stage - whole[:, slow], stage - ranks * b.low * latency / self.seats,
            ],
            axis=1,
        )  # fmt: skip
        fixed = rate * demand.context
        worth = np.array([demand.decodes, demand.prompts, steps, 0.0, -fixed, -fixed])
        found = fixed + float(_dual(columns, stage, worth) @ worth)
        # what a sequence sees stays in the cache for as long as its step is in any stage
        return max(found, demand.context * floor / (room.tokens * ranks))

    def _kinds(self) -> "tuple[_Sizes, _Sizes]":
        """Kinds of steps: sequences that decode and tokens of prompts, on an attention rank."""
        one, other = (_cells(edges, whole=self.pool.dp == 1) for edges in (self.decoding, self.prefilling))
        b, m = (grid.ravel() for grid in np.meshgrid(np.arange(len(one.low)), np.arange(len(other.low)), indexing="ij"))
        kept = (one.high[b] + other.high[m] > 0) & (one.low[b] + other.low[m] <= self.largest)
        b, m = b[kept], m[kept]
        return _Sizes(one.low[b], one.high[b]), _Sizes(other.low[m], other.high[m])

    def _whole(self, b: "_Sizes", m: "_Sizes") -> tuple[Floats, Floats]:
        """Of steps of these kinds with the host's share: of what decodes alone, and of prompts alone [s]."""
        out = []
        for sizes, work in ((b, partial(_decoding, self.demand)), (m, _prompt)):
            asked, where = np.unique(np.maximum(sizes.low, 1), return_inverse=True)
            times = _under([self._times(self.timer, work(n)) for n in asked.tolist()])
            out.append(np.where((sizes.high > 0)[:, None], times[where], 0.0))
        return out[0], out[1]

    def _mixed(self, tokens: int) -> Floats:
        """Of a step with so many tokens of prompts, without their attention [s]."""
        work = Work(tokens, tokens * (tokens + 1) // 2, tokens, 1, rows=1)
        out = []
        for ticks_, kinds in zip(self.bare.stages((work,) * self.pool.dp), self.timer.layers.stages, strict=True):
            for kind, times in Counter(kinds).items():
                cost = self.timer.layers.prefill(kind, work.prompts, work.prompt_tokens, work.prompt_scores)
                ticks_ -= times * (ticks(cost.seconds + cost.kernels * self.timer.engine.kernel_gap) + 1)
            out.append(max(0, ticks_) / TICKS_PER_SECOND)
        found: Floats = np.array(out)
        return found


class _Sizes(NamedTuple):
    """At least, and at most."""

    low: Ints
    high: Ints


def _decoding(demand: Demand, sequences: int) -> Work:
    seen = max(1, int(demand.least))
    return Work(0, 0, 0, 0, sequences, sequences, sequences * seen, seen, sequences)


def _prompt(tokens: int) -> Work:
    return Work(tokens, tokens, tokens, 1)


def _edges(most: int) -> Ints:
    """Sizes from 0 to the largest, the closer the larger they are."""
    found, size = [0], 1
    while size < most:
        found.append(size)
        size = max(size + 1, int(size * (_FINE if size * 16 >= most else _COARSE)))
    return np.array([*found, most], dtype=np.int64)


def _cells(edges: Ints, *, whole: bool) -> _Sizes:
    """Nothing at all, then from one size to the next; of means over ranks more than the first, of one rank one more."""
    return _Sizes(np.concatenate(([0], edges[:-1] + whole)).astype(np.int64), edges)


def _under(times: Sequence[Floats]) -> Floats:
    """What no step of a size or a larger one is below, by size."""
    found: Floats = MARGIN * np.minimum.accumulate(np.array(times)[::-1], axis=0)[::-1]
    return found


def _dual(columns: Floats, times: Floats, worth: Floats) -> Floats:
    """Weights y >= 0 with columns y <= times and y4 + y5 <= 1 for which worth y is the largest; by the simplex method.

    Whatever the rounding, what comes back keeps all conditions.
    """
    rows = np.vstack([columns, np.array([[0.0, 0.0, 0.0, 0.0, 1.0, 1.0]])])
    limits = np.append(times, 1.0)
    # scales of columns differ by many powers of ten
    scale = np.abs(rows).max(axis=0)
    scale[scale == 0.0] = 1.0
    height = limits.max() or 1.0
    count, size = rows.shape
    table = np.zeros((count + 1, size + 1))
    table[:count, :size], table[:count, size] = rows / scale, limits / height
    table[count, :size] = -worth / scale
    table[count, :size] /= np.abs(table[count, :size]).max() or 1.0
    basis, loose = np.arange(size, size + count), np.arange(size)
    for _ in range(_TURNS):
        enter = int(table[count, :size].argmin())
        if table[count, enter] >= -1e-9:
            break
        column = table[:count, enter]
        able = column > _SMALL
        if not able.any():
            break
        ratio = np.full(count, math.inf)
        ratio[able] = table[:count, size][able] / column[able]
        leave = int(ratio.argmin())
        pivot = table[leave, enter]
        row = table[leave] / pivot
        old = table[:, enter].copy()
        table -= np.outer(old, row)
        table[:, enter] = -old / pivot
        table[leave] = row
        table[leave, enter] = 1.0 / pivot
        basis[leave], loose[enter] = loose[enter], basis[leave]
    found: Floats = np.zeros(size)
    for place, name in enumerate(basis.tolist()):
        if name < size:
            found[name] = max(0.0, table[place, size])
    found *= height / scale
    # a little less of what is gained, until every condition holds to the last digit
    gains = rows[:, :3] @ found[:3]
    left = limits - rows[:, 3:] @ found[3:]
    if (left < 0.0).any():
        return np.zeros(size)
    tight = gains > 0.0
    found[:3] *= min(1.0, float((left[tight] / gains[tight]).min())) if tight.any() else 1.0
    return found
