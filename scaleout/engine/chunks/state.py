"""What the event loop of lanes reads and writes: arrays when it runs compiled, lists when plain."""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.chunks.lanes import LIMIT
from scaleout.engine.chunks.wires import SLACK, Wired, begins
from scaleout.engine.program import TICKS_PER_SECOND

__all__ = ["Net", "State", "net_of", "state_of"]

Reals = Floats | list[float]
Whole = Ints | list[int]


class Net(NamedTuple):
    """What does not change.

    Parameters
    ----------
    steps, size, at, latency, begin, alone, first, link, number, capacity
        As in `Wired`.
    most
        Lanes that each link carries, whichever they are, without holding any of them.
    kind, low, weight
        Kind of each entry; where the kinds of each link begin; weight of each kind, ascending on a link.
    lane_of
        Lane of each entry.
    room
        Where the entries on each link are kept.
    in_first, in_source, in_lag, in_steps
        Edges into each lane: the counter to look at (2 b counts what has left lane b, 2 b + 1 what
        has arrived), the lag, and the steps of lane b.
    out_first, out_edge
        Edges that wait for each counter.
    behind
        Lane that each edge holds.
    line_of, queue_first
        Latency of each lane, among those that there are; where the arrivals of each latency that are
        under way are kept, in a ring.
    """

    steps: Whole
    size: Reals
    at: Whole
    latency: Whole
    begin: Whole
    alone: Reals
    first: Whole
    link: Whole
    number: Whole
    capacity: Reals
    most: Whole
    kind: Whole
    low: Whole
    weight: Reals
    lane_of: Whole
    room: Whole
    in_first: Whole
    in_source: Whole
    in_lag: Whole
    in_steps: Whole
    out_first: Whole
    out_edge: Whole
    behind: Whole
    line_of: Whole
    queue_first: Whole


class State(NamedTuple):
    """What changes.

    Parameters
    ----------
    step, phase, waits
        Of each lane: its step, what it does, and the edge for which it waits.
    nbytes, rate, done, since, whole
        Of the send under way: bytes, rate [byte/s], share done at `since` [tick], and ticks of all
        of it at the present rate.
    listed, noted, fresh
        Whether the lane is on its links; whether it began or ended a send at this instant; whether
        its send has no date yet.
    counts
        Of each counter.
    when, heap, place
        Dates, see `scaleout.engine.chunks.heap`: of lanes, then of the arrivals of each latency.
    queue, sender, head, under_way
        Arrivals under way of each latency: their dates and lanes in a ring, the place of the earliest, how many.
    users, spot, using
        Entries on each link, where each entry is among them, how many there are.
    flows, busy, bound
        Lanes of each kind, and on each link, equal ones one by one; whether these may fill the link.
    stack, changed
        Lanes to look at; lanes noted.
    full, was, moved, links
        Level of each link, see `scaleout.engine.chunks.fill`; what it was before the last change, and when
        that was; links changed.
    dirty, queued
        Links whose levels are to be worked out, in a ring; whether a link is in it.
    limits, keys, items, open, leaving
        Scratch of `settle`.
    """

    step: Whole
    phase: Whole
    waits: Whole
    nbytes: Reals
    rate: Reals
    done: Reals
    since: Whole
    whole: Whole
    listed: Whole
    noted: Whole
    fresh: Whole
    counts: Whole
    when: Whole
    heap: Whole
    place: Whole
    queue: Whole
    sender: Whole
    head: Whole
    under_way: Whole
    users: Whole
    spot: Whole
    using: Whole
    flows: Whole
    stack: Whole
    changed: Whole
    busy: Whole
    bound: Whole
    full: Reals
    was: Reals
    moved: Whole
    links: Whole
    dirty: Whole
    queued: Whole
    limits: Reals
    keys: Reals
    items: Whole
    open: Whole
    leaving: Whole


def net_of(w: Wired) -> Net:
    """Rows, kinds and counters of these lanes."""
    count, links = w.lanes, len(w.capacity)
    order = np.lexsort((w.weight, w.link))
    on, weight = w.link[order], w.weight[order]
    new = np.ones(len(on), dtype=bool)
    new[1:] = (on[1:] != on[:-1]) | (weight[1:] != weight[:-1])
    kind = np.empty(len(on), dtype=np.int64)
    kind[order] = np.cumsum(new) - 1
    source = 2 * w.before + w.arrived
    line = np.unique(w.latency, return_inverse=True)[1]
    return Net(
        steps=w.steps,
        size=w.size,
        at=w.at,
        latency=w.latency,
        begin=w.begin,
        alone=w.alone,
        first=w.first,
        link=w.link,
        number=w.number,
        capacity=w.capacity,
        most=_most(w),
        kind=kind,
        low=np.searchsorted(on[new], np.arange(links + 1)),
        weight=weight[new],
        lane_of=w.lane,
        room=begins(np.bincount(w.link, minlength=links)),
        in_first=begins(np.bincount(w.behind, minlength=count)),
        in_source=source,
        in_lag=w.lag,
        in_steps=w.steps[w.before],
        out_first=begins(np.bincount(source, minlength=2 * count)),
        out_edge=np.argsort(source, kind="stable"),
        behind=w.behind,
        line_of=line,
        queue_first=begins(np.bincount(line, _under_way(w)).astype(np.int64)),
    )


def _most(w: Wired) -> Ints:
    """Lanes that each link carries, whichever they are, without holding any of them."""
    largest = np.zeros(len(w.capacity))
    np.maximum.at(largest, w.link, w.weight * w.alone[w.lane])
    return np.minimum(w.capacity * (1 + SLACK) / largest, LIMIT).astype(np.int64)


def _under_way(w: Wired) -> Ints:
    """Most pieces of each lane that can be under way at once, rounding included."""
    fastest = np.divide(w.least, w.alone, out=np.zeros(w.lanes), where=w.alone > 0) * TICKS_PER_SECOND
    most = np.where(fastest >= 4, w.latency / np.maximum(fastest / 2 - 1, 1), np.inf) + 3
    return np.where(w.latency > 0, np.minimum(most, w.steps), 0).astype(np.int64)


def state_of(w: Wired, net: Net) -> State:
    """Before anything has happened."""
    lanes, links, entries, kinds = w.lanes, len(w.capacity), len(w.link), len(net.weight)
    lines = len(net.queue_first) - 1
    most = int(np.diff(net.room).max(initial=0))

    def whole(size: int) -> Ints:
        return np.zeros(size, dtype=np.int64)

    return State(
        step=whole(lanes),
        phase=whole(lanes),
        waits=whole(lanes),
        nbytes=np.zeros(lanes),
        rate=np.zeros(lanes),
        done=np.zeros(lanes),
        since=whole(lanes),
        whole=whole(lanes),
        listed=whole(lanes),
        noted=whole(lanes),
        fresh=whole(lanes),
        counts=whole(2 * lanes),
        when=whole(lanes + lines),
        heap=whole(lanes + lines),
        place=np.full(lanes + lines, -1, dtype=np.int64),
        queue=whole(int(net.queue_first[-1])),
        sender=whole(int(net.queue_first[-1])),
        head=whole(lines),
        under_way=whole(lines),
        users=whole(entries),
        spot=whole(entries),
        using=whole(links),
        flows=whole(kinds),
        stack=whole(lanes),
        changed=whole(lanes),
        busy=whole(links),
        bound=whole(links),
        full=np.full(links, np.inf),
        was=np.zeros(links),
        moved=whole(links),
        links=whole(links),
        dirty=whole(links),
        queued=whole(links),
        limits=np.zeros(most),
        keys=np.zeros(most),
        items=whole(most),
        open=whole(kinds),
        leaving=whole(kinds),
    )
