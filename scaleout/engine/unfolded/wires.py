"""Transfers under way, as loops over arrays: who uses which link, and fair rates for those who share.

The same rules as `scaleout.engine.flows`, integer for integer. Links whose users changed are noted;
one solve at the end of the instant follows them to the components they are in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.engine.unfolded.agenda import BUCKET, DATE, schedule, take
from scaleout.engine.unfolded.layout import (
    ALONE,
    CAP,
    FIRST_ENTRY,
    FIRST_KIND,
    FOREVER,
    KIND,
    LINK,
    MARKED,
    ROOM,
    USERS,
    Meetings,
    Wires,
)  # fmt: skip
from scaleout.network.fairshare import FEW, MOST
from scaleout.network.filling import levels, rounds, share, sift, total

__all__ = [
    "CHANGED", "EVENTS", "LEG", "SIZE", "SOLVES", "STARTED",
    "Scratch", "Traffic", "join", "later", "leave_links", "scratch", "solve", "traffic",
]  # fmt: skip

Small = npt.NDArray[np.int32]
LEG, STARTED, SINCE, WHOLE = range(4)
"""Columns of `dates`. Of the transfer at each place: its present leg; when it started; when its rate
was last set; how long all of the leg takes at that rate [tick]."""
SIZE, RATE, DONE = range(3)
"""Columns of `flows`: bytes of the leg's elementary flow [byte], its rate [byte/s], and the share
of the leg that was done when the rate was last set."""
USER, CROSSING = range(2)
"""Columns of `rooms`, which each link has for its users: place of the transfer, number of its crossing."""
CHANGED, STAMP, SOLVES, EVENTS = range(4)
"""In `count`: links whose users changed, number of the present solve, components solved, items that happened."""
SEEN, FLOW, FIRST, OPEN, CAPPED = range(5)
MET, OWN, GLOBAL, LOW, BLOCKED, TOUCHED, DIRTY, SIZES, BEGIN, START, FILL, TOP = range(12)
OF_LINK, NUMBER, OF_KIND, TIMES, OF_FLOW = range(5)
OPEN_FLOWS, LEAVING, LEFT = range(3)
"""Rows of `Scratch`."""
RATE_ROW, CAP_ROW, KEY_ROW = range(3)
CAPACITY_ROW, SHARE_ROW = range(2)
WEIGHT_ROW, USED_ROW = range(2)


class Traffic(NamedTuple):
    """Transfers, by the place of their meeting, and the users of links.

    Parameters
    ----------
    dates, flows, rooms, counts
        See `LEG`, `SIZE`, `USER`, `CHANGED`.
    where
        Room of each crossing.
    changed
        Links whose users have changed.
    """

    dates: Ints
    flows: Floats
    rooms: Small
    where: Ints
    changed: Small
    counts: Ints


class Scratch(NamedTuple):
    """Room for one component and its solvers: of flows, links, crossings and kinds, numbers and reals each.

    In a component flows, links and kinds have numbers of their own, in the order in which they are found.
    """

    flow: Ints
    flow_real: Floats
    link: Ints
    link_real: Floats
    crossing: Ints
    crossing_real: Floats
    kind: Ints
    kind_real: Floats


def traffic(wires: Wires, meetings: Meetings) -> Traffic:
    """No transfer yet."""
    places, links = len(meetings.places), len(wires.capacity)
    return Traffic(
        dates=np.zeros((places, 4), dtype=np.int64),
        flows=np.zeros((places, 3)),
        rooms=np.zeros((int(wires.links[-1, ROOM]), 2), dtype=np.int32),
        where=np.zeros(len(wires.entries) * meetings.most_places, dtype=np.int64),
        changed=np.zeros(links, dtype=np.int32),
        counts=np.zeros(4, dtype=np.int64),
    )


def scratch(wires: Wires, meetings: Meetings) -> Scratch:
    """Room for all flows in one component."""
    places, links, kinds = len(meetings.places), len(wires.capacity), len(wires.weight)
    crossings = len(wires.entries) * meetings.most_places
    crossing = np.zeros((5, crossings + 1), dtype=np.int64)
    crossing[NUMBER] = 1
    return Scratch(
        flow=np.zeros((5, places + 1), dtype=np.int64),
        flow_real=np.zeros((3, max(places, FEW) + 1)),
        link=np.zeros((12, links + 1), dtype=np.int64),
        link_real=np.zeros((2, links + 1)),
        crossing=crossing,
        crossing_real=np.zeros(crossings + 1),
        kind=np.zeros((3, kinds + 1), dtype=np.int64),
        kind_real=np.zeros((2, kinds + 1)),
    )


@borrowing
def ticks(seconds: float) -> int:
    """As `scaleout.engine.program.ticks`; at most for ever."""
    time = np.rint(seconds * TICKS_PER_SECOND)
    return np.int64(time) if time < 9.2e18 else FOREVER  # type: ignore[return-value]


@borrowing
def later(now: int, delay: int) -> int:
    """The date so many ticks from now; at most for ever."""
    return now + delay if delay < FOREVER - now else FOREVER


@borrowing
def change(at: int, links: Ints, changed: Small, count: Ints) -> None:
    """Note that the users of a link have changed."""
    if not links[at, MARKED]:
        links[at, MARKED] = 1
        changed[count[CHANGED]] = at
        count[CHANGED] += 1


@borrowing
def join(
    now: int, m: int, extra: int, legs: Ints, entries: Small, links: Ints,
    dates: Ints, flows: Floats, rooms: Small, where: Ints, changed: Small, count: Ints,
) -> None:  # fmt: skip
    """Let the present leg of a transfer flow."""
    leg = dates[m, LEG]
    dates[m, SINCE], dates[m, WHOLE], flows[m, RATE], flows[m, DONE] = now, 0, 0.0, 0.0
    for e in range(legs[leg, FIRST_ENTRY], legs[leg + 1, FIRST_ENTRY]):
        at = entries[e, LINK]
        room = links[at, ROOM] + links[at, USERS]
        links[at, USERS] += 1
        rooms[room, USER], rooms[room, CROSSING] = m, e + extra
        where[e + extra] = room
        change(at, links, changed, count)


@borrowing
def leave_links(
    m: int, extra: int, legs: Ints, entries: Small, links: Ints, dates: Ints, rooms: Small, where: Ints,
    changed: Small, count: Ints,
) -> None:  # fmt: skip
    """Give back the links of a leg whose last byte has gone."""
    leg = dates[m, LEG]
    for e in range(legs[leg, FIRST_ENTRY], legs[leg + 1, FIRST_ENTRY]):
        at = entries[e, LINK]
        links[at, USERS] -= 1
        room, last = where[e + extra], links[at, ROOM] + links[at, USERS]
        rooms[room, USER], rooms[room, CROSSING] = rooms[last, USER], rooms[last, CROSSING]
        where[rooms[room, CROSSING]] = room
        change(at, links, changed, count)


@borrowing
def solve(
    now: int, streams: int, legs: Ints, leg_rates: Floats, entries: Small, links: Ints, capacity: Floats,
    weight: Floats, buckets: Ints, items: Small, recent: Small, size: Ints,
    dates: Ints, flows: Floats, rooms: Small, changed: Small, count: Ints, s: Scratch,
) -> None:  # fmt: skip
    """Give every flow on a link whose users changed, and all that share links with it, its fair rate."""
    count[STAMP] += 1
    stamp, flow, rate = count[STAMP], s.flow, s.flow_real[RATE_ROW]
    for i in range(count[CHANGED]):
        at = changed[i]
        links[at, MARKED] = 0
        # all users of a link are in one component
        if links[at, USERS] and flow[SEEN, rooms[links[at, ROOM], USER]] != stamp:
            m = rooms[links[at, ROOM], USER]
            found, crossed = component(
                m, stamp, legs, leg_rates, entries, links, dates, rooms, s.flow, s.flow_real, s.link, s.crossing
            )
            if found == 1:
                rate[0] = leg_rates[dates[m, LEG], ALONE]
            else:
                count[SOLVES] += 1
                fair(found, crossed, links, capacity, weight, s)
            for f in range(found):
                set_rate(now, streams, flow[FLOW, f], rate[f], buckets, items, recent, size, dates, flows)
    count[CHANGED] = 0


@borrowing
def component(
    m: int, stamp: int, legs: Ints, leg_rates: Floats, entries: Small, links: Ints, dates: Ints, rooms: Small,
    flow: Ints, flow_real: Floats, link: Ints, crossing: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Find all flows that are linked to this one by shared links; the numbers of flows and links."""
    flow[FLOW, 0], flow[SEEN, m] = m, stamp
    found, crossed, crossings, f = 1, 0, 0, 0
    link[LOW, 0] = 0
    while f < found:
        leg = dates[flow[FLOW, f], LEG]
        flow[FIRST, f], flow_real[CAP_ROW, f] = crossings, leg_rates[leg, CAP]
        for e in range(legs[leg, FIRST_ENTRY], legs[leg + 1, FIRST_ENTRY]):
            at = entries[e, LINK]
            if link[MET, at] != stamp:
                link[MET, at], link[OWN, at], link[GLOBAL, crossed] = stamp, crossed, at
                link[LOW, crossed + 1] = link[LOW, crossed] + links[at + 1, FIRST_KIND] - links[at, FIRST_KIND]
                crossed += 1
                for room in range(links[at, ROOM], links[at, ROOM] + links[at, USERS]):
                    other = rooms[room, USER]
                    if flow[SEEN, other] != stamp:
                        flow[SEEN, other], flow[FLOW, found] = stamp, other
                        found += 1
            crossing[OF_LINK, crossings] = link[OWN, at]
            crossing[OF_KIND, crossings] = link[LOW, link[OWN, at]] + entries[e, KIND] - links[at, FIRST_KIND]
            crossings += 1
        f += 1
    flow[FIRST, found] = crossings
    return found, crossed


@borrowing
def fair(found: int, crossed: int, links: Ints, capacity: Floats, weight: Floats, s: Scratch) -> None:
    """Max-min fair rates of a component, as `scaleout.network.fairshare.max_min` finds them."""
    kinds, crossings = s.link[LOW, crossed], s.flow[FIRST, found]
    rate, cap, first = s.flow_real[RATE_ROW, :found], s.flow_real[CAP_ROW, :found], s.flow[FIRST, : found + 1]
    room_of, share_of = s.link_real[CAPACITY_ROW, :crossed], s.link_real[SHARE_ROW, :crossed]
    low, one = s.link[LOW, : crossed + 1], s.link[GLOBAL]
    link, kind = s.crossing[OF_LINK, :crossings], s.crossing[OF_KIND, :crossings]
    number = s.crossing[NUMBER, :crossings]
    weights, open_flows = s.kind_real[WEIGHT_ROW, :kinds], s.kind[OPEN_FLOWS, :kinds]
    for at in range(crossed):
        room_of[at] = capacity[one[at]]
        for k in range(low[at + 1] - low[at]):
            weights[low[at] + k] = weight[links[one[at], FIRST_KIND] + k]
    open_all(room_of, kind, low, weights, open_flows, share_of)
    if few(share_of, s.flow_real[KEY_ROW]):
        blocked, touched = s.link[BLOCKED, :crossed], s.link[TOUCHED, :crossed]
        sizes, begin = s.link[SIZES, :crossed], s.link[BEGIN, : crossed + 1]
        blocked[:], touched[:], sizes[:], begin[:] = 0, 0, 0, 0
        for e in range(crossings):
            begin[link[e] + 1] += 1
        for at in range(crossed):
            begin[at + 1] = begin[at] + min(begin[at + 1], MOST)
        for f in range(found):
            s.flow[OPEN, f] = f
        if rounds(
            rate, room_of, cap, first, link, number, kind, low, weights, open_flows, share_of, MOST, s.flow[OPEN],
            blocked, touched, s.link[DIRTY], begin, sizes, s.crossing_real, s.crossing[TIMES],
        ):  # fmt: skip
            return
        open_all(room_of, kind, low, weights, open_flows, share_of)
    capped = by_cap(cap, s.flow[CAPPED], s.flow[OPEN], s.flow_real[KEY_ROW])
    rate[:] = np.inf
    start, fill, heap = s.link[START, : crossed + 1], s.link[FILL, : crossed + 1], s.link[TOP]
    start[:] = 0
    for e in range(crossings):
        start[link[e] + 1] += 1
    for at in range(crossed):
        start[at + 1] += start[at]
        fill[at], heap[at] = start[at], at
    used, leaving = s.kind_real[USED_ROW, :kinds], s.kind[LEAVING, :kinds]
    used[:], leaving[:] = 0.0, 0
    levels(
        rate, room_of, cap, first, link, number, kind, low, weights, open_flows, share_of, s.flow[CAPPED, :capped],
        start, fill, s.crossing[OF_FLOW], heap, used, leaving, s.kind[LEFT],
    )  # fmt: skip


@borrowing
def open_all(capacity: Floats, kind: Ints, low: Ints, weight: Floats, open_flows: Ints, share_of: Floats) -> None:
    """Count the flows of each kind, all of them open, and find the shares of the links."""
    open_flows[:] = 0
    for e in range(len(kind)):
        open_flows[kind[e]] += 1
    for at in range(len(capacity)):
        share_of[at] = share(capacity[at], 0.0, total(weight, open_flows, low[at], low[at + 1]))


@borrowing
def few(share_of: Floats, found: Floats) -> bool:
    """Whether there are at most `FEW` different shares; they are written to `found`."""
    kept = 0
    for at in range(len(share_of)):
        value = share_of[at]
        known = not np.isfinite(value)
        for i in range(kept):
            known = known or found[i] == value
        if not known:
            if kept == FEW:
                return False
            found[kept] = value
            kept += 1
    return True


@borrowing
def by_cap(cap: Floats, capped: Ints, heap: Ints, keys: Floats) -> int:
    """List the flows that have a cap, lowest first; how many they are."""
    size = 0
    for f in range(len(cap)):
        if np.isfinite(cap[f]):
            heap[size], keys[size] = f, cap[f]
            size += 1
    for at in range(size // 2 - 1, -1, -1):
        sift(keys, heap, at, size)
    for i in range(size):
        last, capped[i] = size - 1 - i, heap[0]
        keys[0], heap[0] = keys[last], heap[last]
        sift(keys, heap, 0, last)
    return size


@borrowing
def set_rate(
    now: int, streams: int, m: int, rate: float,
    buckets: Ints, items: Small, recent: Small, size: Ints, dates: Ints, flows: Floats,
) -> None:  # fmt: skip
    """Give a flow its rate, and its end a new date; a flow whose rate stays is not touched."""
    if rate == flows[m, RATE]:
        return
    if dates[m, WHOLE] > 0:
        flows[m, DONE] += (now - dates[m, SINCE]) / dates[m, WHOLE]
    dates[m, SINCE], flows[m, RATE] = now, rate
    seconds = flows[m, SIZE] / rate
    dates[m, WHOLE] = ticks(seconds)
    date, item = later(now, max(ticks((1.0 - flows[m, DONE]) * seconds), 0)), streams + m
    if items[item, BUCKET] >= 0:
        if buckets[DATE, items[item, BUCKET]] == date:
            return
        take(buckets, items, item)
    schedule(buckets, items, recent, size, date, item)
