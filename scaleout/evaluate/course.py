"""Replicas over time, from what the simulation wrote down."""

from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Floats
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.served import Band, Course, Level, PoolCourse
from scaleout.serving.log import Course as Noted
from scaleout.serving.log import Log
from scaleout.specs import Pool

__all__ = ["course_of", "level_of"]

_STRETCHES = 200
"""Of a course: as many as a figure shows."""


def level_of(noted: Noted, name: str, end: int, over: float = 1.0) -> Level:
    """A column of what a replica noted, over time, in units of `over`."""
    time, values = _steps(noted, name, end)
    spans = np.diff(time)
    whole = float(spans.sum())
    if not whole:
        return Level(mean=0.0, p50=0.0, p90=0.0, p99=0.0, max=float(values.max(initial=0.0)) / over)
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(spans[order])
    at = np.minimum(np.searchsorted(ends, np.array([0.5, 0.9, 0.99]) * whole), len(values) - 1)
    p50, p90, p99 = (values[order][at] / over).tolist()
    mean = float((values * spans).sum()) / whole / over
    return Level(mean=mean, p50=p50, p90=p90, p99=p99, max=float(values.max()) / over)


def _steps(noted: Noted, name: str, end: int) -> tuple[Floats, Floats]:
    """Times [tick], one more than values, and what held between them."""
    last = max(end, *noted.time[-1:], 0)
    return np.append(np.asarray(noted.time, dtype=np.float64), last), np.asarray(getattr(noted, name), dtype=np.float64)


def course_of(log: Log, pools: Sequence[Pool], blocks: Sequence[int]) -> Course:
    """All pools in stretches of equal length.

    Parameters
    ----------
    blocks
        KV blocks of a replica of each pool.
    """
    start = min(log.arrival) if len(log) else 0
    edges = np.linspace(start, max(log.end, start + 1), _STRETCHES + 1)
    width = float(edges[1] - edges[0])
    found, first = [], 0
    for pool, room in zip(pools, blocks, strict=True):
        mine = log.courses[first : first + pool.replicas]
        first += pool.replicas
        bands = {
            name: _band([_means(one, column, log.end, edges) / over for one in mine])
            for name, column, over in (("running", "running", 1), ("waiting", "waiting", 1), ("cache", "blocks", room))
        }
        found.append(PoolCourse(role=pool.role, replicas=pool.replicas, **bands))
    rate = TICKS_PER_SECOND / width

    def rates(times: Sequence[int]) -> tuple[float, ...]:
        return _rounded(np.histogram(np.asarray(times, dtype=np.float64), edges)[0] * (rate * log.weight))

    return Course(
        time=tuple(((edges - start) / TICKS_PER_SECOND).tolist()),
        came=rates(log.arrival),
        ended=rates(log.finish),
        waiting=_rounded(_waiting(log, edges) * log.weight),
        pools=tuple(found),
    )


def _waiting(log: Log, edges: Floats) -> Floats:
    """Requests that came and had no seat yet, on the average over each stretch."""
    arrival, scheduled, finish = (
        np.asarray(getattr(log, name), dtype=np.float64) for name in ("arrival", "scheduled", "finish")
    )
    left = np.where(scheduled >= 0.0, scheduled, finish)

    def spent(times: Floats) -> Floats:
        # from each of the times on until each of the edges
        ordered = np.sort(times)
        sums = np.concatenate([[0.0], np.cumsum(ordered - edges[0])])
        before = np.searchsorted(ordered, edges)
        found: Floats = before * (edges - edges[0]) - sums[before]
        return found

    means: Floats = np.maximum(np.diff(spent(arrival) - spent(left)) / np.diff(edges), 0.0)
    return means


def _means(noted: Noted, name: str, end: int, edges: Floats) -> Floats:
    """Mean of a column in each stretch."""
    time, values = _steps(noted, name, end)
    if not len(values):
        return np.zeros(len(edges) - 1)
    # its integral is a straight line between the times
    integral = np.concatenate([[0.0], np.cumsum(values * np.diff(time))])
    means: Floats = np.diff(np.interp(edges, time, integral)) / np.diff(edges)
    return means


def _band(rows: Sequence[Floats]) -> Band:
    table = np.stack(rows)
    return Band(mean=_rounded(table.mean(axis=0)), low=_rounded(table.min(axis=0)), high=_rounded(table.max(axis=0)))


def _rounded(values: Floats) -> tuple[float, ...]:
    """As many digits as a figure shows."""
    return tuple(np.round(values, 6).tolist())
