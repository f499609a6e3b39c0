"""A sweep, carried out: what is missing of each stage is computed and recorded, batch by batch."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from scaleout.errors import SweepError
from scaleout.sweep.execute import executor_of
from scaleout.sweep.execute.batches import Batch, Executor, Finished, Job
from scaleout.sweep.identity import context_of, key_of, kind_of
from scaleout.sweep.outcomes import OBJECTIVES, Sense, sense_of
from scaleout.sweep.points import Points, points_of
from scaleout.sweep.progress import Course, Progress, value_of
from scaleout.sweep.results import SweepResults, results_from
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store

if TYPE_CHECKING:
    from scaleout.arrays import Ints

__all__ = ["Progress", "aim_of", "run_sweep", "screened", "stored_points"]

_CHUNK = 20_000
"""Points that are looked up in the store at a time."""


def run_sweep(
    sweep: Sweep,
    *,
    store: Path | None = None,
    ray: str | None = None,
    workers: int | None = None,
    told: Callable[[Progress], None] | None = None,
    retry_failed: bool = False,
) -> SweepResults:
    """Compute what is missing of a sweep, and give all of it.

    Each batch of points is recorded as soon as it is finished. Whatever ends this process, the next call goes on from
    there; a call that finds everything computes nothing.

    Parameters
    ----------
    store
        Folder in which results are kept; None keeps them for this call alone.
    ray
        None: in this process, or on a Ray of one's own where more than one worker is wanted; "local": on a Ray of one's
        own; otherwise the address of one, or "auto".
    workers
        Batches at a time; None for as many as there are cores.
    told
        Is called when a stage begins or ends, and after every batch.
    retry_failed
        Compute points that have failed once more.

    Raises
    ------
    SpecError
        The sweep is wrong.
    SweepError
        The store cannot be used, Ray cannot be reached or is lost, or no point can be compared with others.
    """
    points = points_of(sweep)
    objective, sense = aim_of(sweep)
    context = context_of(sweep)
    executor = executor_of(ray, workers)
    course = Course(len(sweep.stages), objective, sense, told)
    with closing(executor), Store.open(store, write=True) as opened:
        number = opened.begin(sweep, context, points=len(points))
        taken: Sequence[int] | Ints = range(len(points))
        for stage, spec in enumerate(sweep.stages):
            if stage:
                taken = screened(opened, number, stage - 1, objective, sense, spec.within)
            job = Job(sweep, spec.evaluator, context)
            with course.stage(stage + 1, spec.evaluator, len(taken)):
                missing = _Missing(opened, number, stage, points, taken, job, course, retry_failed)
                _compute(executor, missing, opened, job, course)
        return results_from(opened, number)


def aim_of(sweep: Sweep) -> tuple[str, Sense]:
    """The outcome that says which point is the best, and whether the least or the most of it is.

    Raises
    ------
    SweepError
        It is no outcome of this kind of experiment.
    """
    kind = kind_of(sweep)
    objective = sweep.objective or OBJECTIVES[kind][0]
    return objective, sense_of(kind, objective)


def screened(store: Store, number: int, stage: int, objective: str, sense: Sense, within: float | None) -> "Ints":
    """Positions of the points that a stage leaves to the next one: of the best objective, and little worse.

    Parameters
    ----------
    stage
        That was computed, from 0.
    within
        How much worse at most, as a share of the best [1]; None for all that can be simulated.

    Raises
    ------
    SweepError
        Points were simulated, but the objective is no outcome of this stage.
    """
    positions, values = array("q"), array("d")
    for row in store.rows(number, stage):
        if row.status == "done":
            value = None if within is None else value_of(row.outcome, objective)
            positions.append(row.position)
            values.append(np.nan if value is None else value)
    found, costs = np.array(positions, dtype=np.int64), np.array(values)
    if within is None or not len(found):
        return found
    if np.isnan(costs).all():
        raise SweepError(
            f"stages.{stage + 1}.within: stage {stage + 1} tells no {objective}, by which the next is to take points; "
            "leave within out, or give another objective"
        )
    if sense == "most":
        costs = -costs
    best = np.nanmin(costs)
    kept: Ints = found[costs <= best + within * abs(best)]
    return kept


def stored_points(store: Store, points: Points, context: str, evaluator: str) -> int:
    """How many points of a sweep the store has, as one evaluator gives them [1]."""
    count = 0
    for first in range(0, len(points), _CHUNK):
        texts = points.texts(range(first, min(first + _CHUNK, len(points))))
        count += len(store.known([key_of(context, evaluator, text) for text in texts]))
    return count


class _Missing:
    """Points of a stage that the store does not have, found a chunk at a time, so that few are held at once."""

    def __init__(
        self,
        store: Store,
        number: int,
        stage: int,
        points: Points,
        positions: "Sequence[int] | Ints",
        job: Job,
        course: Course,
        retry_failed: bool,
    ) -> None:
        self._store, self._number, self._stage = store, number, stage
        self._points, self._positions = points, positions
        self._job, self._course, self._failed = job, course, not retry_failed
        self._scanned = 0
        self._keys: list[bytes] = []
        self._texts: list[str] = []
        if stage:
            # which points a later stage takes changes when one of the stage before that failed is computed after all
            store.enlist(number, stage, self._all_keys(), positions, whole=True)

    @property
    def left(self) -> int:
        """Points that may still be taken, at most [1]."""
        return len(self._positions) - self._scanned + len(self._keys)

    def take(self, count: int) -> Batch | None:
        """The next points, at most so many; None where there are no more."""
        while len(self._keys) < count and self._scanned < len(self._positions):
            self._scan()
        if not self._keys:
            return None
        batch = Batch(self._keys[:count], self._texts[:count])
        del self._keys[:count], self._texts[:count]
        return batch

    def _all_keys(self) -> Iterator[bytes]:
        for first in range(0, len(self._positions), _CHUNK):
            yield from self._look_up(self._positions[first : first + _CHUNK])[0]

    def _look_up(self, positions: "Sequence[int] | Ints") -> tuple[list[bytes], list[str]]:
        """Keys and texts of points."""
        texts = self._points.texts(positions)
        return [key_of(self._job.context, self._job.evaluator, text) for text in texts], texts

    def _scan(self) -> None:
        """Look a chunk up."""
        positions = self._positions[self._scanned : self._scanned + _CHUNK]
        keys, texts = self._look_up(positions)
        if not self._stage:
            self._store.enlist(self._number, 0, keys, positions)
        known = self._store.known(keys, failed=self._failed)
        self._scanned += len(positions)
        if known and self._course.told is not None:
            self._course.kept += sum(key in known for key in keys)
            self._course.tell()
        # points of equal settings are one
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        self._keys += fresh
        self._texts += fresh.values()


def _compute(executor: Executor, missing: _Missing, store: Store, job: Job, course: Course) -> None:
    """Have what is missing computed, and record it."""
    pending: Finished | None = None

    def keep(finished: Finished) -> None:
        store.record(
            (key, job.evaluator, text, status, outcome) for key, text, (status, outcome) in zip(*finished, strict=True)
        )
        course.count(finished.texts, finished.outcomes)

    try:
        for finished in executor.map(job, missing):
            pending = finished
            keep(finished)
            pending = None
    except BaseException:
        # an interrupt, or Ray is lost: what is finished is kept; to record twice changes nothing
        with suppress(SweepError):
            if pending is not None:
                keep(pending)
            for finished in executor.rest():
                keep(finished)
        raise
