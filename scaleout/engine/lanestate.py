"""What the event loop of lanes reads and writes: arrays when it runs compiled, lists when plain."""

from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.lanes import LIMIT
from scaleout.engine.lanewires import SLACK, Wired, begins
from scaleout.engine.program import TICKS_PER_SECOND

__all__ = ["Net", "State", "net_of", "state_of"]

KEPT = 17
"""Components whose rates are kept: two to this power at most, 8 lanes each on average."""

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
    queue_first
        Where the arrivals of each lane that are under way are kept, in a ring.
    mark
        Random bits of each lane: those of several, together by exclusive or, say where their rates are kept.
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
    queue_first: Whole
    mark: Whole


class State(NamedTuple):
    """What changes.

    Parameters
    ----------
    step, phase, waits
        Of each lane: its step, what it does, and the edge for which it waits.
    nbytes, rate, done, since, whole
        Of the send under way: bytes, rate [byte/s], share done at `since` [tick], and ticks of all
        of it at the present rate.
    fair
        New rates.
    listed, noted, fresh
        Whether the lane is on its links; whether it began or ended a send at this instant; whether
        its send has no date yet.
    counts
        Of each counter.
    when, heap, place
        Dates, see `scaleout.engine.laneheap`: of lanes, then of their arrivals.
    queue, head, under_way
        Arrivals under way of each lane: their dates in a ring, the place of the earliest, how many.
    users, spot, using
        Entries on each link, where each entry is among them, how many there are.
    flows, busy, bound
        Lanes of each kind, and on each link, equal ones one by one; whether these may fill the link.
    stack, changed, seeds, part, links
        Lanes to look at; lanes noted; lanes whose components are solved; lanes and links of one.
    lane_seen, link_seen, link_hit, lane_seed
        Last solve in which a lane or link was in a component; before which lanes came or left on a
        link; for which a lane was listed among `seeds`.
    kept_at, kept_size, kept_lane, kept_rate
        Rates of components that have been solved: of each slot, where its lanes and their rates are, and how many.
    keys, items, open, used, leaving, kinds
        Scratch of `fill`.
    """

    step: Whole
    phase: Whole
    waits: Whole
    nbytes: Reals
    rate: Reals
    fair: Reals
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
    head: Whole
    under_way: Whole
    users: Whole
    spot: Whole
    using: Whole
    flows: Whole
    stack: Whole
    changed: Whole
    seeds: Whole
    part: Whole
    links: Whole
    lane_seen: Whole
    link_seen: Whole
    link_hit: Whole
    lane_seed: Whole
    busy: Whole
    bound: Whole
    kept_at: Whole
    kept_size: Whole
    kept_lane: Whole
    kept_rate: Reals
    keys: Reals
    items: Whole
    open: Whole
    used: Reals
    leaving: Whole
    kinds: Whole


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
        queue_first=begins(_under_way(w)),
        mark=np.random.default_rng(0).integers(0, LIMIT, count),
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

    # a power of two; a component has a handful of lanes, and as many solves as sends at most
    slots = 1 << min(max(w.sends.bit_length(), 4), KEPT)

    def whole(size: int) -> Ints:
        return np.zeros(size, dtype=np.int64)

    return State(
        step=whole(lanes),
        phase=whole(lanes),
        waits=whole(lanes),
        nbytes=np.zeros(lanes),
        rate=np.zeros(lanes),
        fair=np.zeros(lanes),
        done=np.zeros(lanes),
        since=whole(lanes),
        whole=whole(lanes),
        listed=whole(lanes),
        noted=whole(lanes),
        fresh=whole(lanes),
        counts=whole(2 * lanes),
        when=whole(2 * lanes),
        heap=whole(2 * lanes),
        place=np.full(2 * lanes, -1, dtype=np.int64),
        queue=whole(int(net.queue_first[-1])),
        head=whole(lanes),
        under_way=whole(lanes),
        users=whole(entries),
        spot=whole(entries),
        using=whole(links),
        flows=whole(kinds),
        stack=whole(lanes),
        changed=whole(lanes),
        seeds=whole(lanes),
        part=whole(lanes),
        links=whole(links),
        lane_seen=whole(lanes),
        link_seen=whole(links),
        link_hit=whole(links),
        lane_seed=whole(lanes),
        busy=whole(links),
        bound=whole(links),
        kept_at=whole(slots),
        kept_size=whole(slots),
        kept_lane=whole(8 * slots),
        kept_rate=np.zeros(8 * slots),
        keys=np.zeros(links),
        items=whole(links),
        open=whole(kinds),
        used=np.zeros(kinds),
        leaving=whole(kinds),
        kinds=whole(kinds),
    )
