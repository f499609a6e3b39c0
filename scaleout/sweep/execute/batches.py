"""Points by the batch: how many make one, and what becomes of one whose worker died.

A task has to be long enough that sending it costs nothing, and short enough that little is lost with it and that all
workers end together. How long a point takes is not known beforehand and differs a thousandfold from sweep to sweep,
so batches start with one point and grow as they are measured.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

from scaleout.sweep.evaluate import Outcome
from scaleout.sweep.spec import Sweep

__all__ = ["Batch", "Executor", "Finished", "Job", "Pace", "Work", "after_death", "refused"]

_AIM = 1.0
"""Time that a batch is to take [s]."""
_LEAST = 0.5
"""Below this a batch is not made smaller for the sake of ending together [s]."""
_GROWTH = 8
"""A batch is at most so many times the largest that was measured."""
_MOST = 50_000
"""Points of a batch, and `_MOST_AT_ONCE` of all batches that are under way: what bounds the driver's memory."""
_MOST_AT_ONCE = 500_000
_DEATHS = 3
"""Workers that a single point may take with it before it is recorded as failed."""


class Job(NamedTuple):
    """What all points of a stage share: the sweep, who evaluates it, and the digest of all that they rest on."""

    sweep: Sweep
    evaluator: str
    context: str


class Batch(NamedTuple):
    """Points that are evaluated together, by key and text, and how many workers died over them."""

    keys: Sequence[bytes]
    texts: Sequence[str]
    deaths: int = 0


class Finished(NamedTuple):
    """A batch with what came out, point by point."""

    keys: Sequence[bytes]
    texts: Sequence[str]
    outcomes: Sequence[Outcome]


class Work(Protocol):
    """Where batches come from."""

    @property
    def left(self) -> int:
        """Points that may still be taken, at most."""

    def take(self, count: int) -> Batch | None:
        """The next points, at most so many; None where there are no more."""


class Executor(Protocol):
    """Computes."""

    def map(self, job: Job, work: Work) -> Iterator[Finished]:
        """Evaluate all that is to be had, and give each batch when it is finished.

        Raises
        ------
        SweepError
            Nothing can be computed any more, or not by the same code.
        """

    def rest(self) -> Iterator[Finished]:
        """After an interrupt: what is finished and was not given yet."""

    def close(self) -> None:
        """Stop what is under way, and give everything back."""


class Pace:
    """How many points the next batch takes.

    Parameters
    ----------
    workers
        Batches that are evaluated at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._each = 0.0
        self._largest = 0

    @property
    def most(self) -> int:
        """Batches that may be under way [1]: one a worker before it is known how long a point takes, then two."""
        return self.workers * (2 if self._largest else 1)

    def size(self, left: int) -> int:
        """Points of the next batch, of those that are left."""
        if not self._largest:
            return 1
        most = min(_GROWTH * self._largest, _MOST, max(1, _MOST_AT_ONCE // (2 * self.workers)))
        # towards the end each worker's share shrinks, so that none waits long for the last
        share = max(math.ceil(left / (2 * self.workers)), math.ceil(_LEAST / self._each))
        return max(1, min(int(_AIM / self._each), share, most))

    def took(self, points: int, seconds: float) -> None:
        """A batch of so many points has taken so long [s]."""
        each = max(seconds, 1e-9) / points
        if points > self._largest:
            # what is done once a batch, or once a worker, weighs less in a larger one
            self._each, self._largest = each, points
        elif 4 * points >= self._largest or seconds > _AIM:
            # a batch may have waited for something; none was quicker than points are
            self._each += (each - self._each) / (2 if each < self._each else 4)


def after_death(batch: Batch) -> list[Batch] | Finished:
    """What becomes of a batch whose worker died.

    It is sent once more; when that ends in the same way it is halved, and halved again, until the point that does it is
    alone. That one is given up after a few workers, as failed.
    """
    deaths = batch.deaths + 1
    count = len(batch.keys)
    if count == 1:
        if deaths < _DEATHS:
            return [batch._replace(deaths=deaths)]
        return Finished(batch.keys, batch.texts, [refused(f"its worker died {_DEATHS} times")])
    if deaths < 2:
        return [batch._replace(deaths=deaths)]
    half = count // 2
    return [
        # a half that is more than one point is under suspicion already; a single one has a record of its own
        Batch(batch.keys[part], batch.texts[part], deaths=int(len(batch.keys[part]) > 1))
        for part in (slice(0, half), slice(half, count))
    ]


def refused(words: str) -> Outcome:
    """A point that could not be evaluated, in words."""
    return Outcome("failed", json.dumps(words))
