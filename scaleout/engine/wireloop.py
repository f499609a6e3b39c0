"""Transfers under way, as loops over arrays: who uses which link, and fair rates for those who share.

The same rules as `scaleout.engine.flows`, integer for integer. Links whose users changed are noted;
one solve at the end of the instant follows them to the components they are in.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.compiled import compilable
from scaleout.engine.agenda import Agenda, schedule, take
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.engine.unfolded import FOREVER, Meetings, Wires
from scaleout.network.fairshare import FEW, MOST
from scaleout.network.filling import levels, rounds, share, total

__all__ = ["Scratch", "Traffic", "join", "leave_links", "scratch", "solve", "traffic"]

Small = npt.NDArray[np.int32]
CHANGED, STAMP, SOLVES, EVENTS = range(4)
"""In `count`: links whose users changed, the number of the present solve, components solved, and items that happened."""


class Traffic(NamedTuple):
    """Transfers by the place of their meeting, and links.

    Parameters
    ----------
    message, part, leg
        What it carries: message, present part of the message, its leg.
    started
        When the transfer did [tick].
    flowing
        Whether bytes flow; otherwise the transfer waits for a latency to pass.
    size, rate
        Bytes of the leg's elementary flow [byte], present rate [byte/s].
    done, since, whole
        Share of the leg that was done at `since`, and time of all of it at the present rate [tick].
    users
        Flows on each link now.
    user, entry
        In the rooms of each link: place of the flow, and number of its crossing.
    where
        Room of each crossing.
    marked, changed
        Whether the users of a link have changed, and the list of those links.
    count
        See `CHANGED` and others.
    """

    message: Small
    part: Small
    leg: Ints
    started: Ints
    flowing: npt.NDArray[np.bool_]
    size: Floats
    rate: Floats
    done: Floats
    since: Ints
    whole: Ints
    users: Small
    user: Small
    entry: Small
    where: Ints
    marked: npt.NDArray[np.bool_]
    changed: Small
    count: Ints


class Scratch(NamedTuple):
    """Room for one component: its flows and links under numbers of their own, and what the solvers need."""

    seen: Ints
    met: Ints
    own: Small
    flow: Small
    link: Small
    rate: Floats
    capacity: Floats
    cap: Floats
    first: Ints
    links: Ints
    number: Ints
    kind: Ints
    low: Ints
    weight: Floats
    flows: Ints
    share: Floats
    open: Ints
    four: Ints
    room: Ints
    used: Floats
    times: Ints
    capped: Ints
    start: Ints
    fill: Ints
    flow_of: Ints
    heap: Ints
    leaving: Ints
    changed: Ints


def traffic(wires: Wires, meetings: Meetings) -> Traffic:
    """No transfer yet."""
    places, links = len(meetings.owner), len(wires.capacity)
    crossings = len(wires.link) * int(meetings.places.max(initial=1))

    def whole(size: int) -> Ints:
        return np.zeros(size, dtype=np.int64)

    def small(size: int) -> Small:
        return np.zeros(size, dtype=np.int32)

    return Traffic(
        small(places), small(places), whole(places), whole(places), np.zeros(places, dtype=bool),
        np.zeros(places), np.zeros(places), np.zeros(places), whole(places), whole(places),
        small(links), small(int(wires.room[-1])), small(int(wires.room[-1])), whole(crossings),
        np.zeros(links, dtype=bool), small(links), whole(4),
    )  # fmt: skip


def scratch(wires: Wires, meetings: Meetings) -> Scratch:
    """Room for all flows in one component."""
    places, links, kinds = len(meetings.owner), len(wires.capacity), len(wires.weight)
    crossings = len(wires.link) * int(meetings.places.max(initial=1))

    def whole(size: int) -> Ints:
        return np.zeros(size + 1, dtype=np.int64)

    def real(size: int) -> Floats:
        return np.zeros(size + 1)

    small = np.zeros((2, links), dtype=np.int32)
    return Scratch(
        seen=whole(places), met=whole(links), own=small[0], flow=np.zeros(places, dtype=np.int32), link=small[1],
        rate=real(places), capacity=real(links), cap=real(places), first=whole(places), links=whole(crossings),
        number=np.ones(crossings + 1, dtype=np.int64), kind=whole(crossings), low=whole(links), weight=real(kinds),
        flows=whole(kinds), share=real(links), open=whole(places), four=np.zeros((4, links), dtype=np.int64),
        room=whole(links), used=real(max(crossings, kinds)), times=whole(crossings), capped=whole(places),
        start=whole(links), fill=whole(links), flow_of=whole(crossings), heap=whole(links), leaving=whole(kinds),
        changed=whole(kinds),
    )  # fmt: skip


@compilable
def ticks(seconds: float) -> int:
    """As `scaleout.engine.program.ticks`; at most for ever."""
    time = np.rint(seconds * TICKS_PER_SECOND)
    return np.int64(time) if time < 9.2e18 else FOREVER  # type: ignore[return-value]


@compilable
def later(now: int, delay: int) -> int:
    """The date so many ticks from now; at most for ever."""
    return now + delay if delay < FOREVER - now else FOREVER


@compilable
def join(now: int, m: int, extra: int, t: Traffic, w: Wires) -> None:
    """Let the present leg of a transfer flow."""
    leg = t.leg[m]
    t.flowing[m], t.done[m], t.since[m], t.rate[m], t.whole[m] = True, 0.0, now, 0.0, 0
    for e in range(w.entry[leg], w.entry[leg + 1]):
        at = w.link[e]
        room = w.room[at] + t.users[at]
        t.users[at] += 1
        t.user[room], t.entry[room] = m, e + extra
        t.where[e + extra] = room
        if not t.marked[at]:
            t.marked[at] = True
            t.changed[t.count[CHANGED]] = at
            t.count[CHANGED] += 1


@compilable
def leave_links(m: int, extra: int, t: Traffic, w: Wires) -> None:
    """Give back the links of a leg whose last byte has gone."""
    leg = t.leg[m]
    t.flowing[m] = False
    for e in range(w.entry[leg], w.entry[leg + 1]):
        at = w.link[e]
        t.users[at] -= 1
        room, last = t.where[e + extra], w.room[at] + t.users[at]
        t.user[room], t.entry[room] = t.user[last], t.entry[last]
        t.where[t.entry[room]] = room
        if not t.marked[at]:
            t.marked[at] = True
            t.changed[t.count[CHANGED]] = at
            t.count[CHANGED] += 1


@compilable
def solve(now: int, streams: int, a: Agenda, t: Traffic, w: Wires, s: Scratch) -> None:
    """Give every flow on a link whose users changed, and all that share links with it, its fair rate."""
    t.count[STAMP] += 1
    stamp = t.count[STAMP]
    for i in range(t.count[CHANGED]):
        at = t.changed[i]
        t.marked[at] = False
        for room in range(w.room[at], w.room[at] + t.users[at]):
            if s.seen[t.user[room]] == stamp:
                # all users of a link are in one component
                break
            flows, links = component(t.user[room], stamp, t, w, s)
            if flows == 1:
                s.rate[0] = w.alone[t.leg[s.flow[0]]]
            else:
                t.count[SOLVES] += 1
                fair(flows, links, w, s)
            for f in range(flows):
                set_rate(now, streams, s.flow[f], s.rate[f], a, t)
    t.count[CHANGED] = 0


@compilable
def component(m: int, stamp: int, t: Traffic, w: Wires, s: Scratch) -> tuple[int, int]:
    """Find all flows that are linked to this one by shared links; the numbers of flows and links."""
    s.flow[0], s.seen[m] = m, stamp
    flows, links, entries, f = 1, 0, 0, 0
    s.low[0] = 0
    while f < flows:
        leg = t.leg[s.flow[f]]
        s.first[f], s.cap[f] = entries, w.cap[leg]
        for e in range(w.entry[leg], w.entry[leg + 1]):
            at = w.link[e]
            if s.met[at] != stamp:
                s.met[at], s.own[at], s.link[links] = stamp, links, at
                s.low[links + 1] = s.low[links] + w.low[at + 1] - w.low[at]
                links += 1
                for room in range(w.room[at], w.room[at] + t.users[at]):
                    other = t.user[room]
                    if s.seen[other] != stamp:
                        s.seen[other], s.flow[flows] = stamp, other
                        flows += 1
            s.links[entries] = s.own[at]
            s.kind[entries] = s.low[s.own[at]] + w.kind[e] - w.low[at]
            entries += 1
        f += 1
    s.first[flows] = entries
    return flows, links


@compilable
def fair(flows: int, links: int, w: Wires, s: Scratch) -> None:
    """Max-min fair rates of a component, as `scaleout.network.fairshare.max_min` finds them."""
    kinds, entries = s.low[links], s.first[flows]
    rate, cap, first = s.rate[:flows], s.cap[:flows], s.first[: flows + 1]
    capacity, low, share_of = s.capacity[:links], s.low[: links + 1], s.share[:links]
    link, number, kind = s.links[:entries], s.number[:entries], s.kind[:entries]
    weight, count = s.weight[:kinds], s.flows[:kinds]
    for at in range(links):
        one = s.link[at]
        capacity[at] = w.capacity[one]
        for k in range(w.low[one], w.low[one + 1]):
            weight[low[at] + k - w.low[one]] = w.weight[k]
    if few(open_all(capacity, kind, low, weight, count, share_of)):
        blocked, touched, changed, sizes = s.four[0, :links], s.four[1, :links], s.four[2, :links], s.four[3, :links]
        room = s.room[: links + 1]
        for at in range(links):
            blocked[at], touched[at], changed[at], sizes[at], room[at] = 0, 0, 0, 0, 0
        for e in range(entries):
            room[link[e]] += 1
        begin = 0
        for at in range(links):
            size = min(room[at], MOST)
            room[at] = begin
            begin += size
        room[links] = begin
        for f in range(flows):
            s.open[f] = f
        if rounds(
            rate, capacity, cap, first, link, number, kind, low, weight, count, share_of, MOST, s.open[:flows],
            blocked, touched, changed, room, sizes, s.used, s.times,
        ):  # fmt: skip
            return
        open_all(capacity, kind, low, weight, count, share_of)
    by_levels(capacity, cap, first, link, number, kind, low, weight, count, share_of, rate, s)


@compilable
def open_all(capacity: Floats, kind: Ints, low: Ints, weight: Floats, count: Ints, share_of: Floats) -> Floats:
    """Count the flows of each kind, all of them open, and find the shares of the links."""
    for k in range(len(count)):
        count[k] = 0
    for e in range(len(kind)):
        count[kind[e]] += 1
    for at in range(len(capacity)):
        share_of[at] = share(capacity[at], 0.0, total(weight, count, low[at], low[at + 1]))
    return share_of


@compilable
def few(share_of: Floats) -> bool:
    """Whether there are at most `FEW` different shares."""
    found, kept = np.empty(FEW), 0
    for value in share_of:
        known = not np.isfinite(value)
        for i in range(kept):
            known = known or found[i] == value
        if not known:
            if kept == FEW:
                return False
            found[kept] = value
            kept += 1
    return True


@compilable
def by_levels(
    capacity: Floats, cap: Floats, first: Ints, link: Ints, number: Ints, kind: Ints, low: Ints,
    weight: Floats, count: Ints, share_of: Floats, rate: Floats, s: Scratch,
) -> None:  # fmt: skip
    """Progressive filling."""
    links, kinds = len(capacity), len(weight)
    order, capped = np.argsort(cap), 0
    for f in order:
        rate[f] = np.inf
        if np.isfinite(cap[f]):
            s.capped[capped] = f
            capped += 1
    start, fill = s.start[: links + 1], s.fill[: links + 1]
    for at in range(links + 1):
        start[at] = 0
    for e in range(len(link)):
        start[link[e] + 1] += 1
    for at in range(links):
        start[at + 1] += start[at]
        fill[at], s.heap[at] = start[at], at
    for k in range(kinds):
        s.used[k], s.leaving[k], s.changed[k] = 0.0, 0, 0
    levels(
        rate, capacity, cap, first, link, number, kind, low, weight, count, share_of, s.capped[:capped],
        start, fill, s.flow_of, s.heap, s.used, s.leaving, s.changed,
    )  # fmt: skip


@compilable
def set_rate(now: int, streams: int, m: int, rate: float, a: Agenda, t: Traffic) -> None:
    """Give a flow its rate, and its end a new date; a flow whose rate stays is not touched."""
    if rate == t.rate[m]:
        return
    if t.whole[m] > 0:
        t.done[m] += (now - t.since[m]) / t.whole[m]
    t.since[m], t.rate[m] = now, rate
    seconds = t.size[m] / rate
    t.whole[m] = ticks(seconds)
    date = later(now, max(ticks((1.0 - t.done[m]) * seconds), 0))
    if a.bucket[streams + m] >= 0:
        if a.date[a.bucket[streams + m]] == date:
            return
        take(a, streams + m)
    schedule(a, date, streams + m)
