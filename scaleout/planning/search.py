"""Best-first branch and bound over candidates whose bounds come in levels, cheap ones first.

Every candidate has a lower bound of its value. The one with the least is looked at again by the next level, which
costs more and bounds it closer; the last level gives its value. What is left when the best value found is not above
any open bound needs no look: no candidate behind it can be better.
"""

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.errors import PlanError

__all__ = ["Broken", "Level", "Search", "Stand", "search"]

ROUNDING = 1e-9
"""By how much a value may be below its bound, over it [1]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """A way to look at candidates.

    Parameters
    ----------
    name
        In words.
    values
        Of candidates by number, in their order: lower bounds; of the last level the values themselves. Infinite:
        the candidate does not do the job.
    batch
        Candidates that are looked at in one call, at most; more than one where that is cheaper.
    """

    name: str
    values: Callable[[Sequence[int]], Sequence[float]]
    batch: int = 1


class Stand(NamedTuple):
    """How far a search is: least value found and least open bound (infinite: none), open candidates, looks by level."""

    best: float
    bound: float
    open: int
    looks: tuple[int, ...]


class Broken(NamedTuple):
    """A candidate whose value came out below its bound: then nothing is proven."""

    candidate: int
    bound: float
    value: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Search:
    """What a search found.

    Parameters
    ----------
    best
        Number of the candidate of the least value, the first of equals; None where no candidate does the job, or
        none was found before the search was cut short.
    gap
        By how much its value may be above the least of all candidates, over it [1]; 0: it is the least. Infinite:
        nothing was found, and something is open.
    exact
        Candidates whose value is known and finite, and their values, least first.
    least
        Least open bound: no candidate whose value is not known is below it; infinite where all are known.
    bounds
        Closest bound of each candidate; the value where it is known; infinite where it does not do the job.
    reached
        Levels that each candidate went through [1].
    looks
        Candidates that each level looked at [1].
    broken
        Bounds that were none.
    """

    best: int | None
    gap: float
    least: float
    exact: tuple[tuple[int, float], ...]
    bounds: Floats
    reached: Ints
    looks: tuple[int, ...]
    broken: tuple[Broken, ...]


def search(
    bounds: npt.ArrayLike,
    levels: Sequence[Level],
    *,
    gap: float = 0.0,
    more: int = 0,
    known: float = math.inf,
    enough: Callable[[], bool] | None = None,
    told: Callable[[Stand], None] | None = None,
) -> Search:
    """Find the candidate of the least value. Equals are told apart by their number: same input, same search.

    Parameters
    ----------
    bounds
        Lower bound of the value of each candidate, infinite where it does not do the job. Shape (candidates,).
    levels
        Closer looks, the dearest last: it gives values.
    gap
        The search ends as soon as the best found is proven to be no further above the least of all, over it [1].
    more
        Candidates that are evaluated beyond the proof, the most promising first: neighbours of the best.
    known
        A value that was found elsewhere: only what may be below it is looked for.
    enough
        Asked before each look: True ends the search where it stands, with the gap that is proven then.
    told
        Is told where the search stands after each look.

    Raises
    ------
    PlanError
        A bound or a value is no number.
    """
    state = _State(bounds, levels, known)
    cut = False
    while (level := state.next(gap)) is not None:
        if enough is not None and enough():
            cut = True
            break
        state.look(level, state.batch(level, gap))
        if told is not None:
            told(state.stand())
    proven = state.gap()
    while more > 0 and not cut and state.best < math.inf and (level := state.deepest()) is not None:
        if enough is not None and enough():
            break
        more -= level == len(levels) - 1
        state.look(level, state.batch(level, None))
        if told is not None:
            told(state.stand())
    return state.outcome(min(proven, state.gap()))


class _State:
    """Open candidates: a heap of (bound, number) before each level."""

    def __init__(self, bounds: npt.ArrayLike, levels: Sequence[Level], known: float) -> None:
        self.bounds = np.array(bounds, dtype=np.float64).reshape(-1)
        if np.isnan(self.bounds).any():
            raise PlanError(f"search: the bound of candidate {int(np.isnan(self.bounds).argmax())} is no number")
        self.levels, self.known = tuple(levels), known
        self.reached = np.zeros(len(self.bounds), dtype=np.int64)
        first = np.flatnonzero(np.isfinite(self.bounds))
        self.heaps: list[list[tuple[float, int]]] = [[] for _ in self.levels]
        # a sorted list is a heap
        order = first[np.lexsort((first, self.bounds[first]))]
        self.heaps[0] = list(zip(self.bounds[order].tolist(), order.tolist(), strict=True))
        self.found: list[tuple[float, int]] = []
        self.looks = [0] * len(self.levels)
        self.broken: list[Broken] = []

    @property
    def best(self) -> float:
        return min(self.known, self.found[0][0]) if self.found else self.known

    @property
    def least(self) -> float:
        return min((heap[0][0] for heap in self.heaps if heap), default=math.inf)

    def gap(self) -> float:
        least = self.least
        if least == math.inf:
            return 0.0
        if self.best == math.inf:
            return math.inf
        return 0.0 if self.best <= least else self.best / least - 1.0 if least > 0.0 else math.inf

    def next(self, gap: float) -> int | None:
        """Level whose open candidate is to be looked at; None where the best is proven."""
        if self.least == math.inf or self.gap() <= gap:
            return None
        if self.best == math.inf:
            # straight down to a first value: without one, no gap is proven
            return self.deepest()
        heads = [(heap[0], level) for level, heap in enumerate(self.heaps) if heap]
        return min(heads)[1]

    def deepest(self) -> int | None:
        return max((level for level, heap in enumerate(self.heaps) if heap), default=None)

    def batch(self, level: int, gap: float | None) -> list[int]:
        """The most promising before a level; not those that the best value rules out, beyond the first."""
        heap, limit = self.heaps[level], math.inf if gap is None else self.best / (1.0 + gap)
        taken = [heapq.heappop(heap)[1]]
        while heap and len(taken) < self.levels[level].batch and heap[0][0] < limit:
            taken.append(heapq.heappop(heap)[1])
        return taken

    def look(self, level: int, taken: list[int]) -> None:
        values = self.levels[level].values(taken)
        self.looks[level] += len(taken)
        last = level == len(self.levels) - 1
        for candidate, given in zip(taken, values, strict=True):
            value, bound = float(given), float(self.bounds[candidate])
            if math.isnan(value):
                raise PlanError(f"search: {self.levels[level].name}: of candidate {candidate} it gives no number")
            self.reached[candidate] = level + 1
            if last and value < bound * (1.0 - ROUNDING):
                self.broken.append(Broken(candidate, bound, value))
            self.bounds[candidate] = value if last else max(value, bound)
            if value == math.inf:
                continue
            if last:
                heapq.heappush(self.found, (value, candidate))
            else:
                heapq.heappush(self.heaps[level + 1], (float(self.bounds[candidate]), candidate))

    def stand(self) -> Stand:
        return Stand(self.best, self.least, sum(map(len, self.heaps)), tuple(self.looks))

    def outcome(self, gap: float) -> Search:
        exact = tuple((candidate, value) for value, candidate in sorted(self.found))
        for column in (self.bounds, self.reached):
            column.setflags(write=False)
        return Search(
            best=exact[0][0] if exact else None,
            gap=gap,
            least=self.least,
            exact=exact,
            bounds=self.bounds,
            reached=self.reached,
            looks=tuple(self.looks),
            broken=tuple(self.broken),
        )
