"""The chunk engine: lanes of sends over shared links, asynchronously, in whole picoseconds.

Lanes that nobody can hold up are worked out by a recurrence (`scaleout.engine.chunks.rows`), all others
by events with exact max-min rates (`scaleout.engine.chunks.loop`); both give the same ticks. Folded,
lanes that must behave alike run once (`scaleout.engine.chunks.fold`).
"""

from collections.abc import Callable

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.engine.chunks.fold import folded
from scaleout.engine.chunks.lanes import LIMIT, LaneRun, Lanes, concatenate
from scaleout.engine.chunks.loop import DONE, OVERFLOW, STALLED, STUCK, Outcome, by_events
from scaleout.engine.chunks.rows import by_rows, rows_apply
from scaleout.engine.chunks.wires import Wired, free, picked, wired
from scaleout.errors import WorkloadError

__all__ = ["LaneRun", "Lanes", "concatenate", "run_lanes"]

COMPILED_FROM = 30_000
"""Sends from which on events run compiled: plain they take some 10 us each, loading numba 0.5 s."""
ROWS_COMPILED_FROM = 300_000
"""The same for the recurrence, which takes 1 us a send."""
NAMED = 4
"""Lanes that a message names before it says how many more there are."""


def run_lanes(
    lanes: Lanes,
    capacity: Floats,
    *,
    compiled: bool | None = None,
    fold: bool = False,
    record: bool = False,
    lane_name: Callable[[int], str] = "lane {}".format,
    link_name: Callable[[int], str] = "link {}".format,
) -> LaneRun:
    """Run lanes over links.

    Parameters
    ----------
    capacity
        Of each link [byte/s], shape (links,).
    compiled
        Whether machine code runs; None chooses by the number of sends. The times are the same.
    fold
        Run lanes that must behave alike once. The times are the same.
    record
        Keep start and end of every send, not only of the last one of each lane.
    lane_name, link_name
        How messages call them.

    Raises
    ------
    WorkloadError
        Lanes wait for each other in a circle, or stand still on links without capacity, or times
        pass 2**62 ticks; or a link is none of those given.
    """
    capacity = np.asarray(capacity, dtype=np.float64)
    bad = np.flatnonzero(~(capacity >= 0))
    if len(bad):
        raise WorkloadError(f"{link_name(int(bad[0]))} has capacity {capacity[bad[0]]}; accepted: 0 byte/s or more")
    if len(lanes.link) and not (lanes.link.min() >= 0 and lanes.link.max() < len(capacity)):
        wrong = lanes.link[(lanes.link < 0) | (lanes.link >= len(capacity))][0]
        raise WorkloadError(f"lanes load link {wrong}; there are links 0 to {len(capacity) - 1}")
    full = wired(lanes, capacity)
    outcome = _run(full, compiled, fold, record)
    if outcome.status == OVERFLOW:
        raise WorkloadError(f"{lane_name(outcome.where)} takes more than {LIMIT} ticks (53 days)")
    if outcome.status == STUCK:
        raise WorkloadError(_stuck(lanes, capacity, full, outcome, lane_name, link_name))
    last = np.cumsum(lanes.steps) - 1 if record else np.arange(len(lanes.steps))
    lane_end = full.begin.copy()
    some = lanes.steps > 0
    lane_end[some] = outcome.ended[last[some]] + full.latency[some]
    late = np.flatnonzero(lane_end >= LIMIT)
    if len(late):
        raise WorkloadError(f"{lane_name(int(late[0]))} takes more than {LIMIT} ticks (53 days)")
    return LaneRun(
        end=int(lane_end.max(initial=0)),
        lane_end=lane_end,
        started=outcome.started,
        ended=outcome.ended,
        link_bytes=np.bincount(lanes.link, lanes.weight * lanes.bytes[lanes.lane], len(capacity)).astype(np.float64),
        events=outcome.events,
        solves=outcome.solves,
    )


def _run(w: Wired, compiled: bool | None, fold: bool, record: bool) -> Outcome:
    """Run lanes, folded where that pays."""
    if fold:
        small = folded(w)
        if small is not None:
            of = small.lane_class
            outcome = _run(small.wired, compiled, False, record)
            at = of
            if record:
                begin = np.cumsum(small.wired.steps) - small.wired.steps
                at = np.repeat(begin[of] - (np.cumsum(w.steps) - w.steps), w.steps) + np.arange(w.sends)
            return outcome._replace(
                where=int(np.flatnonzero(of == outcome.where)[0]) if w.lanes else 0,
                started=outcome.started[at],
                ended=outcome.ended[at],
                step=outcome.step[of],
                phase=outcome.phase[of],
            )
    if rows_apply(w):
        whole = _by_rows(w, compiled, record)
        if whole is not None:
            return whole
    some = free(w)
    rows = picked(w, some)
    first = _by_rows(rows, compiled, record) if some.any() and not some.all() and rows_apply(rows) else None
    if first is None or first.status == OVERFLOW:
        return _by_events(w, compiled, record)
    return _joined(w, some, first, _by_events(picked(w, ~some), compiled, record), record)


def _by_rows(w: Wired, compiled: bool | None, record: bool) -> Outcome | None:
    return by_rows(w, compiled=w.sends >= ROWS_COMPILED_FROM if compiled is None else compiled, record=record)


def _by_events(w: Wired, compiled: bool | None, record: bool) -> Outcome:
    return by_events(w, compiled=w.sends >= COMPILED_FROM if compiled is None else compiled, record=record)


def _joined(w: Wired, some: Bools, rows: Outcome, events: Outcome, record: bool) -> Outcome:
    """Some lanes by rows, the others by events."""

    def put(mask: Bools, yes: Ints, no: Ints) -> Ints:
        result = np.empty(len(mask), dtype=np.int64)
        result[mask], result[~mask] = yes, no
        return result

    sends = np.repeat(some, w.steps) if record else some
    return Outcome(
        events.status,
        int(np.flatnonzero(~some)[events.where]),
        put(sends, rows.started, events.started),
        put(sends, rows.ended, events.ended),
        events.events,
        events.solves,
        put(some, rows.step, events.step),
        put(some, rows.phase, events.phase),
    )


def _stuck(
    lanes: Lanes,
    capacity: Floats,
    w: Wired,
    outcome: Outcome,
    lane_name: Callable[[int], str],
    link_name: Callable[[int], str],
) -> str:
    """Why nothing happens any more."""
    step, waiting = outcome.step, int((outcome.phase != DONE).sum())
    stalled = np.flatnonzero(outcome.phase == STALLED).tolist()

    def standing(a: int) -> str:
        return f"{lane_name(a)}, step {step[a]} of {lanes.steps[a]}"

    if stalled:
        said = []
        for a in stalled[:NAMED]:
            row = slice(lanes.first[a], lanes.first[a + 1])
            dead = np.unique(lanes.link[row][(capacity[lanes.link[row]] == 0) & (lanes.weight[row] > 0)]).tolist()
            on = " and ".join(link_name(at) for at in dead[:NAMED])
            said.append(f"{standing(a)}, on {on} without capacity" if dead else f"{standing(a)}, whose cap is 0 byte/s")
        more = len(stalled) - NAMED
        if more > 0:
            said.append(f"and {more:,} more")
        return f"transfers are stalled and nothing else can happen: {'; '.join(said)}" + (
            f"; {waiting - len(stalled):,} other lanes wait" if waiting > len(stalled) else ""
        )
    # from a lane that waits, follow what it waits for until a lane comes up again
    path, a = [], outcome.where
    while a not in path:
        path.append(a)
        mine = slice(*np.searchsorted(w.behind, [a, a + 1]))
        need = step[a] - w.lag[mine]
        before = w.before[mine]
        a = int(before[(need >= 0) & (need < w.steps[before]) & (step[before] <= need)][0])
    circle = path[path.index(a) :]
    said = [standing(b) for b in circle[:NAMED]]
    if len(circle) > NAMED:
        said.append(f"and {len(circle) - NAMED:,} more")
    return f"deadlock: {waiting:,} lanes wait for each other in a circle: {'; '.join(said)}"
