"""Times of lanes that nobody holds up: a recurrence, row by row, without events.

Row k holds step k of every lane. When no edge looks ahead in rows (lag >= 0) and those within a row
(lag 0) make no circle, a row follows from the rows before it:

    start(a, k) = max(left(a, k - 1), max over edges b -> a of left(b, k - lag) [+ latency(b)])
    left(a, k)  = start(a, k) + ticks(size / rate)

in whole ticks, the same that the event loop finds. Only as many rows are kept as the largest lag
looks back.
"""

import math
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import compilable
from scaleout.engine.chunks.lanes import LIMIT
from scaleout.engine.chunks.loop import DONE, OVERFLOW, RAN, Outcome, as_lists, span
from scaleout.engine.chunks.wires import Wired, begins

__all__ = ["by_rows", "rows_apply"]

DEEPEST = 1 << 22
"""Cells of kept rows up to which the recurrence is used: 32 MiB."""

Reals = Floats | list[float]
Whole = Ints | list[int]


class Rows(NamedTuple):
    """Lanes as `sweep` reads them: lanes in an order in which those of a row can be worked out.

    Parameters
    ----------
    order
        Lanes, each after those that it waits for within a row.
    steps, size, at, alone
        Of each lane.
    first, before, lag, wait
        In-edges of each lane: what it waits for, and the latency until that has arrived [tick].
    """

    order: Whole
    steps: Whole
    size: Reals
    at: Whole
    alone: Reals
    first: Whole
    before: Whole
    lag: Whole
    wait: Whole


def rows_apply(w: Wired) -> bool:
    """Whether the recurrence gives the times of these lanes."""
    return bool(w.flowing.all()) and bool((w.lag >= 0).all()) and w.lanes * _depth(w) <= DEEPEST


def by_rows(w: Wired, *, compiled: bool, record: bool) -> Outcome | None:
    """Times of all lanes; None where edges within a row make a circle."""
    count = w.lanes
    order = _order(w, compiled=compiled)
    if order is None:
        return None
    wait = np.where(w.arrived, w.latency[w.before], 0)
    rows = Rows(order, w.steps, w.size, w.at, w.alone, begins(np.bincount(w.behind, minlength=count)),
                w.before, w.lag, wait)  # fmt: skip
    depth = _depth(w)
    started, ended = np.full((2, w.sends if record else count), -1, dtype=np.int64)
    place = np.cumsum(w.steps) - w.steps if record else np.arange(count)
    # durations of lanes whose last size was NaN, that is none, are worked out at once
    scratch = (np.zeros(count * depth, dtype=np.int64), depth - 1, depth.bit_length() - 1, w.begin.copy(),
               np.full(count, math.nan), np.zeros(count, dtype=np.int64))  # fmt: skip
    status = np.zeros(2, dtype=np.int64)
    if compiled:
        sweep.compiled(rows, w.stride, place, int(record), started, ended, *scratch, status)
    else:
        out = as_lists((started, ended, status))
        rest = [*out[:2], *as_lists(scratch), out[2]]
        sweep(Rows(*as_lists(rows)), w.stride, place.tolist(), int(record), *rest)
        started[:], ended[:], status[:] = out
    return Outcome(int(status[0]), int(status[1]), started, ended, 0, 0, w.steps, np.full(count, DONE))


@compilable
def sweep(
    rows: Rows, stride: int, place: Whole, every: int, started: Whole, ended: Whole,
    left: Whole, mask: int, shift: int, free: Whole, last: Reals, taken: Whole, status: Whole,
) -> None:  # fmt: skip
    """Row after row. Written: `started`, `ended` from ``place[a]`` on, of all steps where `every`, else of
    the last; `status`: what came of it, and at which lane. Scratch: `left`, kept rows lane by lane;
    `free`, begins of lanes; `last` (NaN), `taken`, size of the last send and its time [tick]."""
    order, steps, size, at, alone = rows.order, rows.steps, rows.size, rows.at, rows.alone
    first, before, lag, wait = rows.first, rows.before, rows.lag, rows.wait
    live, row = len(order), 0
    while live:
        still = 0
        for i in range(live):
            a = order[i]
            if steps[a] <= row:
                continue
            order[still] = a
            still += 1
            start = free[a]
            for e in range(first[a], first[a + 1]):
                k = row - lag[e]
                b = before[e]
                if 0 <= k < steps[b]:
                    there = left[(b << shift) + (k & mask)] + wait[e]
                    start = max(start, there)
            nbytes = size[at[a] + row * stride]
            if nbytes != last[a]:
                last[a] = nbytes
                taken[a] = span(nbytes / alone[a]) if nbytes > 0.0 else 0
            end = start + taken[a]
            if end >= LIMIT or start >= LIMIT:
                status[0], status[1] = OVERFLOW, a
                return
            free[a] = end
            left[(a << shift) + (row & mask)] = end
            at_row = place[a] + row * every
            started[at_row], ended[at_row] = start, end
        live = still
        row += 1
    status[0] = RAN


def _depth(w: Wired) -> int:
    """Rows to keep, a power of two."""
    return 1 << int(w.lag.max(initial=0)).bit_length()


def _order(w: Wired, *, compiled: bool) -> Ints | None:
    """Lanes, each after those it waits for within a row; None if there is a circle."""
    now = w.lag == 0
    lanes = np.arange(w.lanes)
    if not now.any():
        return lanes
    before, behind = w.before[now], w.behind[now]
    missing = np.bincount(behind, minlength=w.lanes)
    by_before = np.argsort(before, kind="stable")
    first = begins(np.bincount(before, minlength=w.lanes))
    order = lanes[missing == 0]
    queue = np.concatenate((order, np.zeros(w.lanes - len(order), dtype=np.int64)))
    if compiled:
        found = unwind.compiled(queue, len(order), first, behind[by_before], missing)
        return queue if found == w.lanes else None
    out = queue.tolist()
    found = unwind(out, len(order), first.tolist(), behind[by_before].tolist(), missing.tolist())
    return np.array(out) if found == w.lanes else None


@compilable
def unwind(queue: Whole, found: int, first: Whole, behind: Whole, missing: Whole) -> int:
    """Follow edges from the `found` lanes in `queue` that wait for nothing; how many lanes come up in all."""
    at = 0
    while at < found:
        a = queue[at]
        at += 1
        for e in range(first[a], first[a + 1]):
            b = behind[e]
            missing[b] -= 1
            if not missing[b]:
                queue[found] = b
                found += 1
    return found
