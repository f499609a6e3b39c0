"""The event loop of lanes: asynchronous, in whole ticks, with fair rates at every instant.

An instant goes like this. Everything of that instant happens: sends end, pieces arrive, and lanes
that waited for them start, in whatever order, since only counters grow. Then the levels of links on
which lanes have come or gone are worked out again, and all that depend on them, and lanes get their
fair rates; a lane whose rate stays is not touched. A lane that ends a send and starts the next at
once leaves everybody's rate as it is. In the heap are the end of the send of each lane, and the
earliest arrival of each latency: pieces of equal latencies arrive in the order in which they left.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing
from scaleout.engine.chunks.fill import settle
from scaleout.engine.chunks.heap import put, take
from scaleout.engine.chunks.lanes import LIMIT
from scaleout.engine.chunks.state import Net, State, net_of, state_of
from scaleout.engine.chunks.wires import Wired
from scaleout.engine.program import TICKS_PER_SECOND

__all__ = ["DONE", "OVERFLOW", "RAN", "STALLED", "STUCK", "Outcome", "as_lists", "by_events", "span"]

RAN, STUCK, OVERFLOW = 0, 1, 2
BEFORE, WAITING, CALLED, SENDING, ENDED, STALLED, DONE = 0, 1, 2, 3, 4, 5, 6
"""What a lane is doing: it may not begin yet, waits for others, is about to be looked at, sends,
has sent a piece to its end, sends at rate 0, has sent everything."""

Reals = Floats | list[float]
Whole = Ints | list[int]


class Outcome(NamedTuple):
    """What came of a run.

    Parameters
    ----------
    status, where
        `RAN`, `STUCK` (lanes wait, and nothing can happen) or `OVERFLOW`, and at which lane.
    started, ended
        Of the last send of each lane, or of all [tick]; -1 where it did not happen.
    events, solves
        As in `LaneRun`.
    step, phase
        Where each lane stood: its step, and what it did.
    """

    status: int
    where: int
    started: Ints
    ended: Ints
    events: int
    solves: int
    step: Ints
    phase: Ints


def by_events(w: Wired, *, compiled: bool, record: bool) -> Outcome:
    """Run the lanes."""
    net = net_of(w)
    state = state_of(w, net)
    started, ended = np.full((2, w.sends if record else w.lanes), -1, dtype=np.int64)
    place = np.cumsum(w.steps) - w.steps if record else np.arange(w.lanes)
    report = np.zeros(4, dtype=np.int64)
    if compiled:
        play.compiled(net, state, w.stride, place, int(record), started, ended, report)
        step, phase = np.asarray(state.step), np.asarray(state.phase)
    else:
        lists, out = State(*as_lists(state)), as_lists((started, ended, report))
        play(Net(*as_lists(net)), lists, w.stride, place.tolist(), int(record), *out)
        started[:], ended[:], report[:] = out
        step, phase = np.array(lists.step, dtype=np.int64), np.array(lists.phase, dtype=np.int64)
    status, where, events, solves = report.tolist()
    return Outcome(status, where, started, ended, events, solves, step, phase)


def as_lists(columns: Iterable[Any]) -> list[Any]:
    """Arrays as lists, for plain Python, which is slow to read single elements of arrays; all else as it is."""
    return [column.tolist() if isinstance(column, np.ndarray) else column for column in columns]


@borrowing
def span(seconds: float) -> int:
    """Seconds as whole ticks; `LIMIT` where they are too many."""
    ticks = seconds * TICKS_PER_SECOND
    return round(ticks) if ticks < LIMIT else LIMIT


@borrowing
def ready(
    a: int, k: int, waits: Whole, in_first: Whole, in_source: Whole, in_lag: Whole, in_steps: Whole, count: Whole
) -> bool:
    """Whether everything has happened that step k of lane a waits for; `waits[a]` moves on to what has not."""
    # one way out of the loop: else numba counts references to the arrays on every call
    e, last = waits[a], in_first[a + 1]
    more = e < last
    while more:
        j = k - in_lag[e]
        more = False
        if j < 0 or j >= in_steps[e] or count[in_source[e]] > j:
            e += 1
            more = e < last
    waits[a] = e
    return e == last


@borrowing
def happened(
    source: int, top: int, count: Whole, out_first: Whole, out_edge: Whole, behind: Whole,
    waits: Whole, phase: Whole, stack: Whole,
) -> int:  # fmt: skip
    """Count one more, and call the lanes that wait for this counter; the new size of the stack."""
    count[source] += 1
    for o in range(out_first[source], out_first[source + 1]):
        e = out_edge[o]
        a = behind[e]
        if phase[a] == WAITING and waits[a] == e:
            phase[a] = CALLED
            stack[top] = a
            top += 1
    return top


@borrowing
def retimed(
    a: int, now: int, rate: float, nbytes: Reals, rates: Reals, done: Reals, since: Whole, whole: Whole, fresh: Whole
) -> int:
    """Give the send of a lane another rate from now on; when it ends."""
    # a send that takes no time at all ends at once: nothing has been done of it since
    part = (now - since[a]) / max(whole[a], 1)
    done[a] = 0.0 if fresh[a] else done[a] + part
    fresh[a] = 0
    since[a], rates[a] = now, rate
    seconds = nbytes[a] / rate
    whole[a] = span(seconds)
    return now + span(max(1.0 - done[a], 0.0) * seconds)


@borrowing
def fair(a: int, alone: Reals, first: Whole, link: Whole, full: Reals) -> float:
    """The rate of a lane by the levels of its links."""
    rate = alone[a]
    for e in range(first[a], first[a + 1]):
        rate = min(rate, full[link[e]])
    return rate


@borrowing
def play(
    net: Net, state: State, stride: int, place_of: Whole, every: int, started: Whole, ended: Whole, report: Whole
) -> None:
    """Run until nothing happens any more.

    Written: `state`; `started` and `ended`, from ``place_of[a]`` on, of all sends where `every`, else
    of the last ones; `report`: status, lane, events, solves.
    """
    steps, size, at_of, latency, alone = net.steps, net.size, net.at, net.latency, net.alone
    first, link, number, kind, lane_of, room = net.first, net.link, net.number, net.kind, net.lane_of, net.room
    capacity, most, low, weight = net.capacity, net.most, net.low, net.weight
    in_first, in_source, in_lag, in_steps = net.in_first, net.in_source, net.in_lag, net.in_steps
    out_first, out_edge, behind = net.out_first, net.out_edge, net.behind
    line_of, queue_first, sender = net.line_of, net.queue_first, state.sender
    step, phase, waits, count = state.step, state.phase, state.waits, state.counts
    nbytes, rate, done, since, whole = state.nbytes, state.rate, state.done, state.since, state.whole
    when, heap, place, queue, head, under_way = (
        state.when, state.heap, state.place, state.queue, state.head, state.under_way,
    )  # fmt: skip
    listed, noted, fresh, users, spot, using, flows = (
        state.listed, state.noted, state.fresh, state.users, state.spot, state.using, state.flows,
    )  # fmt: skip
    stack, changed, links, busy, bound = state.stack, state.changed, state.links, state.busy, state.bound
    full, was, dirty, queued, moved = state.full, state.was, state.dirty, state.queued, state.moved
    limits, keys, items, open_, leaving = state.limits, state.keys, state.items, state.open, state.leaving
    lanes = len(steps)

    pending, top, changes, events, solves, stamp, turn, now = 0, 0, 0, 0, 0, 0, 0, 0
    for a in range(lanes):
        waits[a] = in_first[a]
        if not steps[a]:
            phase[a] = DONE
        elif net.begin[a]:
            pending = put(when, heap, place, pending, a, net.begin[a])
        else:
            phase[a] = CALLED
            stack[top] = a
            top += 1

    while True:
        if top:
            # one lane goes as far as it can at this instant
            top -= 1
            a = stack[top]
            ending = phase[a] == ENDED
            phase[a] = CALLED
            while True:
                if ending:
                    k = step[a]
                    ended[place_of[a] + k * every] = now
                    step[a], waits[a] = k + 1, in_first[a]
                    top = happened(2 * a, top, count, out_first, out_edge, behind, waits, phase, stack)
                    if out_first[2 * a + 1] < out_first[2 * a + 2]:
                        if not latency[a]:
                            top = happened(2 * a + 1, top, count, out_first, out_edge, behind, waits, phase, stack)
                        else:
                            line = line_of[a]
                            at, end = queue_first[line] + head[line] + under_way[line], queue_first[line + 1]
                            at = at if at < end else at - end + queue_first[line]
                            queue[at], sender[at] = now + latency[a], a
                            if not under_way[line]:
                                pending = put(when, heap, place, pending, lanes + line, now + latency[a])
                            under_way[line] += 1
                    if step[a] == steps[a]:
                        phase[a] = DONE
                        break
                k = step[a]
                if not ready(a, k, waits, in_first, in_source, in_lag, in_steps, count):
                    phase[a] = WAITING
                    break
                started[place_of[a] + k * every] = now
                nbytes[a] = size[at_of[a] + k * stride]
                if nbytes[a] > 0.0:
                    if alone[a] == 0.0:
                        phase[a] = STALLED
                        break
                    if first[a] < first[a + 1]:
                        phase[a], fresh[a] = SENDING, 1
                        if not noted[a]:
                            noted[a] = 1
                            changed[changes] = a
                            changes += 1
                        break
                    taken = span(nbytes[a] / alone[a])
                    if taken:
                        phase[a] = SENDING
                        pending = put(when, heap, place, pending, a, now + taken)
                        break
                ending = True
        elif pending and when[heap[0]] <= now:
            a = heap[0]
            if a < lanes:
                events += 1
                pending = take(when, heap, place, pending)
                if listed[a] and not noted[a]:
                    noted[a] = 1
                    changed[changes] = a
                    changes += 1
                phase[a] = CALLED if phase[a] == BEFORE else ENDED
                stack[top] = a
                top += 1
            else:
                line = a - lanes
                more = True
                while more:
                    events += 1
                    a = sender[queue_first[line] + head[line]]
                    under_way[line] -= 1
                    head[line] += 1
                    if head[line] == queue_first[line + 1] - queue_first[line]:
                        head[line] = 0
                    top = happened(2 * a + 1, top, count, out_first, out_edge, behind, waits, phase, stack)
                    more = under_way[line] > 0 and queue[queue_first[line] + head[line]] <= now
                if under_way[line]:
                    date = queue[queue_first[line] + head[line]]
                    pending = put(when, heap, place, pending, lanes + line, date)
                else:
                    pending = take(when, heap, place, pending)
        elif changes:
            # all has happened: who sends on which links, then fair rates
            stamp += 1
            hit = 0
            for i in range(changes):
                a = changed[i]
                noted[a] = 0
                if listed[a] == (phase[a] == SENDING):
                    continue
                for e in range(first[a], first[a + 1]):
                    on = link[e]
                    if not queued[on]:
                        queued[on] = 1
                        at = turn + hit
                        dirty[at if at < len(dirty) else at - len(dirty)] = on
                        hit += 1
                    if listed[a]:
                        flows[kind[e]] -= number[e]
                        busy[on] -= number[e]
                        using[on] -= 1
                        other = users[room[on] + using[on]]
                        users[spot[e]], spot[other] = other, spot[e]
                    else:
                        flows[kind[e]] += number[e]
                        busy[on] += number[e]
                        spot[e] = room[on] + using[on]
                        users[spot[e]] = e
                        using[on] += 1
                    bound[on] = busy[on] > most[on]
                listed[a] = 1 - listed[a]
            turn, hit, worked = settle(
                turn, hit, 0, dirty, queued, full, was, moved, links, stamp, alone, first, link, bound, number, kind,
                capacity, low, weight, users, room, using, lane_of, flows, limits, keys, items, open_, leaving,
            )  # fmt: skip
            solves += worked
            for i in range(hit):
                on = links[i]
                if full[on] == was[on]:
                    continue
                for u in range(room[on], room[on] + using[on]):
                    a = lane_of[users[u]]
                    present = fair(a, alone, first, link, full)
                    if not fresh[a] and present != rate[a]:
                        date = retimed(a, now, present, nbytes, rate, done, since, whole, fresh)
                        pending = put(when, heap, place, pending, a, date)
            for i in range(changes):
                a = changed[i]
                if fresh[a] and listed[a]:
                    present = fair(a, alone, first, link, full)
                    date = retimed(a, now, present, nbytes, rate, done, since, whole, fresh)
                    pending = put(when, heap, place, pending, a, date)
                if whole[a] >= LIMIT:
                    report[0], report[1] = OVERFLOW, a
                    return
            changes = 0
        elif pending:
            now = when[heap[0]]
            if now >= LIMIT:
                a = heap[0]
                report[0] = OVERFLOW
                report[1] = a if a < lanes else sender[queue_first[a - lanes] + head[a - lanes]]
                return
        else:
            break
    report[2], report[3] = events, solves
    for a in range(lanes - 1, -1, -1):
        if phase[a] != DONE:
            report[0], report[1] = STUCK, a
