"""How far a sweep has come, for whoever watches."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from scaleout.sweep.evaluate import Outcome
from scaleout.sweep.outcomes import Sense

__all__ = ["Course", "Progress", "value_of"]

_LATELY = 60.0
"""Time over which the rate is taken [s]."""


class Progress(NamedTuple):
    """How far a sweep has come.

    Parameters
    ----------
    stage, stages
        The stage under way, from 1, of how many [1].
    evaluator
        Who evaluates it.
    points, kept
        Points of the stage, and those of them that were found in the store [1].
    done, infeasible, failed
        Points of the stage that were computed now, by what came of them [1].
    seconds
        Since it began [s].
    rate
        Points computed in a second, of late [1/s]; 0 before it is known.
    objective, best, settings
        What is to be the best, the best of it so far, and the settings that give it, as JSON; None before there is one.
    """

    stage: int
    stages: int
    evaluator: str
    points: int
    kept: int
    done: int
    infeasible: int
    failed: int
    seconds: float
    rate: float
    objective: str
    best: float | None
    settings: str | None

    @property
    def computed(self) -> int:
        """Points of the stage that were computed now [1]."""
        return self.done + self.infeasible + self.failed

    @property
    def left(self) -> float | None:
        """How long the stage will still take [s], at most: what is in the store is known when it gets there."""
        return (self.points - self.kept - self.computed) / self.rate if self.rate else None


Told = Callable[[Progress], None]


class Course:
    """Counts what a sweep has computed, and tells whoever watches."""

    def __init__(self, stages: int, objective: str, sense: Sense, told: Told | None) -> None:
        self.stages, self.objective, self.told = stages, objective, told
        self.kept = 0
        self._sign = -1.0 if sense == "most" else 1.0
        self._stage = self._points = 0
        self._evaluator = ""
        self._counts = {"done": 0, "infeasible": 0, "failed": 0}
        self._begun = 0.0
        self._best: tuple[float, str] | None = None
        self._marks: deque[tuple[float, int]] = deque()

    @contextmanager
    def stage(self, stage: int, evaluator: str, points: int) -> Iterator[None]:
        """Begin a stage; what a bound said is no rival of what is simulated, so that the best begins anew."""
        self._stage, self._evaluator, self._points, self.kept = stage, evaluator, points, 0
        self._counts = dict.fromkeys(self._counts, 0)
        self._begun = time.perf_counter()
        self._best = None
        self._marks.clear()
        self.tell()
        yield
        self.tell()

    def count(self, texts: Sequence[str], outcomes: Sequence[Outcome]) -> None:
        """A batch is recorded."""
        for text, (status, outcome) in zip(texts, outcomes, strict=True):
            self._counts[status] += 1
            self.see(text, status, outcome)
        self._marks.append((time.perf_counter(), sum(self._counts.values())))
        while self._marks[-1][0] > self._marks[0][0] + _LATELY:
            self._marks.popleft()
        self.tell()

    def see(self, text: str, status: str, outcome: str) -> None:
        """A point, computed now or before, that may be the best."""
        if status == "done" and (value := value_of(outcome, self.objective)) is not None:
            rank = self._sign * value
            if self._best is None or rank < self._best[0]:
                self._best = rank, text

    def tell(self) -> None:
        """To whoever watches."""
        if self.told is None:
            return
        best, settings = self._best or (None, None)
        # from one batch to another, for before the first there is what is done once
        (first, before), (last, now) = (self._marks[0], self._marks[-1]) if self._marks else ((0.0, 0), (0.0, 0))
        self.told(
            Progress(
                self._stage, self.stages, self._evaluator, self._points, self.kept, **self._counts,
                seconds=time.perf_counter() - self._begun,
                rate=(now - before) / (last - first) if last > first else 0.0, objective=self.objective,
                best=None if best is None else self._sign * best, settings=settings,
            )
        )  # fmt: skip


def value_of(outcome: str, name: str) -> float | None:
    """One number of outcomes in compact JSON, many times as fast as by reading all; None where it is not there."""
    # inside of a text the quotes would be escaped
    _, found, rest = outcome.partition(f'"{name}":')
    if not found:
        return None
    end = rest.find(",")
    try:
        return float(rest[: end if end >= 0 else rest.find("}")])
    except ValueError:
        return None
