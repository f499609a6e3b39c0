"""The loop of an unfolded run: ranks' streams as pointers into shared programs, meetings as counters.

One instant after another. First everything that is due happens: kernels end, latencies pass, last
bytes go. Then all streams that this sets free carry on, as far as they can, which may start
kernels and transfers, and so on until nothing more is due at this instant. Then transfers that
came or went are given fair rates, in one solve; one that has nothing left to send ends at the same
instant, and the instant goes round once more.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Ints
from scaleout.compiled import compilable
from scaleout.engine.agenda import BUCKETS, Agenda, agenda, close_first, schedule, take
from scaleout.engine.unfolded import FOREVER, WIDTH, Meetings, Script, Wires
from scaleout.engine.wireloop import CHANGED, EVENTS, Scratch, Traffic, join, later, leave_links, scratch, solve, traffic

__all__ = ["Record", "State", "play", "state"]

Small = npt.NDArray[np.int32]
FROM, TO = range(2)
"""In `queue`: where the streams begin that are ready to carry on, and where they end."""


class Record(NamedTuple):
    """When each operation of each rank arrived, started and ended [tick], shape (all operations,)."""

    arrived: Ints
    started: Ints
    ended: Ints


class State(NamedTuple):
    """Where all streams and meetings stand.

    Parameters
    ----------
    step
        Present step of each stream: all before it have ended.
    awaits
        Step of another stream of the rank that a stream waits for, -1 for none.
    ready, queue
        A ring of streams that may carry on, and where it begins and ends.
    present
        Members that have come to the open meeting of each place.
    seated
        Streams that have, in the order in which they came.
    joined
        Meetings that each rank has come to so far, shape (sides, ranks): only of communicators with several places.
    """

    step: Small
    awaits: Small
    ready: Small
    queue: Ints
    present: Small
    seated: Small
    joined: Small


def state(script: Script, meetings: Meetings) -> State:
    """All streams at their beginnings and ready."""
    streams, places = len(script.first), len(meetings.owner)
    return State(
        step=script.first.copy(),
        awaits=np.full(streams, -1, dtype=np.int32),
        ready=np.arange(streams + 1, dtype=np.int32),
        queue=np.array([0, streams]),
        present=np.zeros(places, dtype=np.int32),
        seated=np.zeros(int(meetings.seat[-1]), dtype=np.int32),
        joined=np.zeros(meetings.group.shape, dtype=np.int32),
    )


@compilable
def play(
    script: Script, meetings: Meetings, w: Wires, state: State, a: Agenda, t: Traffic, s: Scratch, record: Record
) -> bool:
    """Run all streams as far as they get; False if something would end beyond all dates."""
    streams, now = len(script.first), 0
    carry_on(now, script, meetings, w, state, a, t, record)
    while t.count[CHANGED] or a.size[BUCKETS]:
        if t.count[CHANGED] and (a.size[BUCKETS] == 0 or a.heap_date[0] > now):
            solve(now, streams, a, t, w, s)
        else:
            now = a.heap_date[0]
            if now == FOREVER:
                return a.head[a.heap_bucket[0]] < 0
            happen(now, script, meetings, w, state, a, t, record)
            close_first(a)
            carry_on(now, script, meetings, w, state, a, t, record)
    return True


@compilable
def happen(
    now: int, script: Script, meetings: Meetings, w: Wires, state: State, a: Agenda, t: Traffic, record: Record
) -> None:
    """Whatever is in the first bucket: kernels end, legs end, latencies pass."""
    streams, b = len(script.first), a.heap_bucket[0]
    head = a.head
    while head[b] >= 0:
        item = head[b]
        take(a, item)
        t.count[EVENTS] += 1
        if item < streams:
            end(now, item, script, state, record)
            continue
        m = item - streams
        if t.flowing[m]:
            g = meetings.owner[m]
            leave_links(m, (m - meetings.place[g]) * len(w.link), t, w)
            schedule(a, later(now, w.latency[t.leg[m]]), item)
            continue
        t.part[m] += 1
        if t.part[m] < w.part[t.message[m] + 1]:
            begin(now, m, streams, meetings, w, a, t)
            continue
        state.present[m] = 0
        low = meetings.seat[m]
        for seat in range(low, low + meetings.members[meetings.owner[m]]):
            stream = state.seated[seat]
            rank = stream // WIDTH
            record.started[script.base[rank] + script.op[state.step[stream]]] = t.started[m]
            end(now, stream, script, state, record)


@compilable
def end(now: int, stream: int, script: Script, state: State, record: Record) -> None:
    """End the present operation of a stream; it, and those that waited for this, may carry on."""
    step, rank = state.step[stream], stream // WIDTH
    record.ended[script.base[rank] + script.op[step]] = now
    state.step[stream] = step + 1
    get_ready(stream, state.ready, state.queue)
    if script.heard[step]:
        for other in range(rank * WIDTH, (rank + 1) * WIDTH):
            if state.awaits[other] == step:
                state.awaits[other] = -1
                get_ready(other, state.ready, state.queue)


@compilable
def get_ready(stream: int, ready: Small, queue: Ints) -> None:
    """Let a stream carry on."""
    at = queue[TO]
    ready[at] = stream
    queue[TO] = at + 1 if at + 1 < len(ready) else 0


@compilable
def carry_on(
    now: int, script: Script, meetings: Meetings, w: Wires, state: State, a: Agenda, t: Traffic, record: Record
) -> None:
    """Let every stream that is ready begin its next operation, unless that must wait for another stream."""
    streams, ready, queue = len(script.first), state.ready, state.queue
    while queue[FROM] != queue[TO]:
        stream = ready[queue[FROM]]
        queue[FROM] = queue[FROM] + 1 if queue[FROM] + 1 < len(ready) else 0
        step = state.step[stream]
        if step == script.last[stream]:
            continue
        rank = stream // WIDTH
        for i in range(script.wait_first[step], script.wait_first[step + 1]):
            if state.step[rank * WIDTH + script.wait_stream[i]] <= script.wait_step[i]:
                state.awaits[stream] = script.wait_step[i]
                break
        if state.awaits[stream] >= 0:
            continue
        at = script.base[rank] + script.op[step]
        record.arrived[at] = now
        if script.side[step] < 0:
            record.started[at] = now
            schedule(a, later(now, script.duration[script.pace[rank], script.item[step]]), stream)
        else:
            arrive(now, stream, rank, step, streams, script, meetings, w, state, a, t)


@compilable
def arrive(
    now: int, stream: int, rank: int, step: int, streams: int,
    script: Script, meetings: Meetings, w: Wires, state: State, a: Agenda, t: Traffic,
) -> None:  # fmt: skip
    """Take a seat in the meeting; the last member to come starts the transfer."""
    side = script.side[step]
    g = meetings.group[side, rank]
    m = meetings.place[g]
    if meetings.places[g] > 1:
        m += state.joined[side, rank] % meetings.places[g]
        state.joined[side, rank] += 1
    state.seated[meetings.seat[m] + state.present[m]] = stream
    state.present[m] += 1
    if state.present[m] < meetings.members[g]:
        return
    message = script.item[step]
    t.message[m], t.started[m], t.part[m] = message, now, w.part[message]
    if w.private[message, g] >= 0:
        t.part[m] = w.part[message + 1]
        schedule(a, later(now, w.private[message, g]), streams + m)
    else:
        begin(now, m, streams, meetings, w, a, t)


@compilable
def begin(now: int, m: int, streams: int, meetings: Meetings, w: Wires, a: Agenda, t: Traffic) -> None:
    """Begin the present part of a transfer: its bytes, or where there are none its latency."""
    g, part = meetings.owner[m], t.part[m]
    leg = w.leg[part] + g
    t.leg[m], t.size[m] = leg, w.size[part]
    if w.size[part] > 0.0 and w.entry[leg + 1] > w.entry[leg]:
        join(now, m, (m - meetings.place[g]) * len(w.link), t, w)
    else:
        schedule(a, later(now, w.latency[leg]), streams + m)


def run_loop(script: Script, meetings: Meetings, wires: Wires, *, plain: bool = False) -> "tuple[Record, State, Traffic] | None":
    """Play a whole job; None if it would end beyond all dates."""
    record = Record(*(np.full(int(script.base[-1]), -1) for _ in range(3)))
    begun, moving = state(script, meetings), traffic(wires, meetings)
    items = len(script.first) + len(meetings.owner)
    loop = play if plain else play.compiled
    played = loop(script, meetings, wires, begun, agenda(items), moving, scratch(wires, meetings), record)
    return (record, begun, moving) if played else None
