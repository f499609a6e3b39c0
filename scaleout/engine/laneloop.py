"""The event loop of lanes: asynchronous, in whole ticks, with fair rates at every instant.

An instant goes like this. Everything of that instant happens: sends end, pieces arrive, and lanes
that waited for them start, in whatever order, since only counters grow. Then the lanes whose
sending began or ended and all that share links with them, directly or through others, get their
fair rates; a lane whose rate stays is not touched. A lane that ends a send and starts the next at
once leaves everybody's rate as it is. A lane has at most two dates in the heap: the end of its
send, and the arrival of the earliest piece under way.
"""

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing
from scaleout.engine.lanefill import fill, share, total
from scaleout.engine.laneheap import put, take
from scaleout.engine.lanes import LIMIT
from scaleout.engine.lanestate import Net, State, net_of, state_of
from scaleout.engine.lanewires import Wired
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
def component(
    seed: int, stamp: int, first: Whole, link: Whole, bound: Whole, lane_of: Whole, room: Whole, using: Whole,
    users: Whole, lane_seen: Whole, link_seen: Whole, part: Whole, links: Whole, mark: Whole,
) -> tuple[int, int, int]:  # fmt: skip
    """All lanes that are joined to this one by links that may hold them, and these links; how many of each, and
    the mark of these lanes, in whatever order."""
    part[0], lane_seen[seed] = seed, stamp
    lanes, size, at, code = 1, 0, 0, 0
    while at < lanes:
        a = part[at]
        at += 1
        code ^= mark[a]
        for e in range(first[a], first[a + 1]):
            on = link[e]
            if not bound[on] or link_seen[on] == stamp:
                continue
            link_seen[on] = stamp
            links[size] = on
            size += 1
            for u in range(room[on], room[on] + using[on]):
                b = lane_of[users[u]]
                if lane_seen[b] != stamp:
                    lane_seen[b] = stamp
                    part[lanes] = b
                    lanes += 1
    return lanes, size, code


@borrowing
def recalled(
    at: int, size: int, lanes: int, stamp: int, lane_seen: Whole, kept_lane: Whole, kept_rate: Reals, fair: Reals
) -> bool:
    """Whether the rates kept there are those of the lanes seen last, so many; then they are `fair`."""
    same, end = size == lanes, at + size
    while same and at < end:
        a = kept_lane[at]
        fair[a] = kept_rate[at]
        same = lane_seen[a] == stamp
        at += 1
    return same


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
    out_first, out_edge, behind, queue_first = net.out_first, net.out_edge, net.behind, net.queue_first
    step, phase, waits, count = state.step, state.phase, state.waits, state.counts
    nbytes, rate, fair, done, since, whole = (
        state.nbytes, state.rate, state.fair, state.done, state.since, state.whole,
    )  # fmt: skip
    when, heap, place, queue, head, under_way = (
        state.when, state.heap, state.place, state.queue, state.head, state.under_way,
    )  # fmt: skip
    listed, noted, fresh, users, spot, using, flows = (
        state.listed, state.noted, state.fresh, state.users, state.spot, state.using, state.flows,
    )  # fmt: skip
    stack, changed, seeds, part, links = state.stack, state.changed, state.seeds, state.part, state.links
    lane_seen, link_seen, link_hit, lane_seed = state.lane_seen, state.link_seen, state.link_hit, state.lane_seed
    busy, bound = state.busy, state.bound
    keys, items, open_, used, leaving, kinds = (
        state.keys, state.items, state.open, state.used, state.leaving, state.kinds,
    )  # fmt: skip
    mark, kept_at, kept_size, kept_lane, kept_rate = (
        net.mark, state.kept_at, state.kept_size, state.kept_lane, state.kept_rate,
    )  # fmt: skip
    lanes, kept = len(steps), 0

    pending, top, changes, events, solves, stamp, now = 0, 0, 0, 0, 0, 0, 0
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
                            ring = queue_first[a + 1] - queue_first[a]
                            at = head[a] + under_way[a]
                            queue[queue_first[a] + (at if at < ring else at - ring)] = now + latency[a]
                            if not under_way[a]:
                                pending = put(when, heap, place, pending, lanes + a, now + latency[a])
                            under_way[a] += 1
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
            events += 1
            a = heap[0]
            if a < lanes:
                pending = take(when, heap, place, pending)
                if listed[a] and not noted[a]:
                    noted[a] = 1
                    changed[changes] = a
                    changes += 1
                phase[a] = CALLED if phase[a] == BEFORE else ENDED
                stack[top] = a
                top += 1
            else:
                a -= lanes
                under_way[a] -= 1
                head[a] += 1
                if head[a] == queue_first[a + 1] - queue_first[a]:
                    head[a] = 0
                if under_way[a]:
                    pending = put(when, heap, place, pending, lanes + a, queue[queue_first[a] + head[a]])
                else:
                    pending = take(when, heap, place, pending)
                top = happened(2 * a + 1, top, count, out_first, out_edge, behind, waits, phase, stack)
        elif changes:
            # all has happened: who sends on which links, then fair rates
            stamp += 1
            instant = stamp
            some, hit = 0, 0
            for i in range(changes):
                a = changed[i]
                noted[a] = 0
                if listed[a] == (phase[a] == SENDING):
                    continue
                for e in range(first[a], first[a + 1]):
                    on = link[e]
                    if link_hit[on] != stamp:
                        link_hit[on] = stamp
                        links[hit] = on
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
                listed[a] = 1 - listed[a]
                if listed[a]:
                    seeds[some], lane_seed[a] = a, stamp
                    some += 1
            for i in range(hit):
                # lanes on a link that may hold them are all in one component; those on a link that no
                # longer holds them may be in several
                on = links[i]
                held, bound[on] = bound[on], busy[on] > most[on]
                for u in range(room[on], room[on] + (min(using[on], 1) if bound[on] else using[on] * held)):
                    a = lane_of[users[u]]
                    if lane_seed[a] != stamp:
                        seeds[some], lane_seed[a] = a, stamp
                        some += 1
            for i in range(some):
                if lane_seen[seeds[i]] > instant:
                    continue
                stamp += 1
                together, size_of, code = component(
                    seeds[i], stamp, first, link, bound, lane_of, room, using, users, lane_seen, link_seen, part,
                    links, mark,
                )  # fmt: skip
                solves += size_of > 0
                level = math.inf
                if size_of == 1:
                    level = share(capacity[links[0]], 0.0, total(weight, flows, low[links[0]], low[links[0] + 1]))
                for j in range(together):
                    fair[part[j]] = level
                    level = min(level, alone[part[j]])
                if not size_of:
                    fair[part[0]] = level
                elif size_of > 1 or level < fair[part[0]]:
                    # not one link alone whose share is below every cap
                    slot = code & (len(kept_at) - 1)
                    at = kept_at[slot]
                    if not recalled(at, kept_size[slot], together, stamp, lane_seen, kept_lane, kept_rate, fair):
                        fill(
                            fair, part, together, links, size_of, alone, first, link, bound, number, kind, capacity,
                            low, weight, users, room, using, lane_of, flows, keys, items, open_, used, leaving, kinds,
                        )  # fmt: skip
                        if kept + together > len(kept_lane):
                            kept = 0
                            for j in range(len(kept_at)):
                                kept_size[j] = 0
                        if together <= len(kept_lane):
                            kept_at[slot], kept_size[slot] = kept, together
                            for j in range(together):
                                kept_lane[kept], kept_rate[kept] = part[j], fair[part[j]]
                                kept += 1
                for j in range(together):
                    a = part[j]
                    if fresh[a] or fair[a] != rate[a]:
                        date = retimed(a, now, fair[a], nbytes, rate, done, since, whole, fresh)
                        pending = put(when, heap, place, pending, a, date)
            for i in range(changes):
                a = changed[i]
                if fresh[a] and listed[a]:
                    date = retimed(a, now, rate[a], nbytes, rate, done, since, whole, fresh)
                    pending = put(when, heap, place, pending, a, date)
                if whole[a] >= LIMIT:
                    report[0], report[1] = OVERFLOW, a
                    return
            changes = 0
        elif pending:
            now = when[heap[0]]
            if now >= LIMIT:
                report[0], report[1] = OVERFLOW, heap[0] % lanes
                return
        else:
            break
    report[2], report[3] = events, solves
    for a in range(lanes - 1, -1, -1):
        if phase[a] != DONE:
            report[0], report[1] = STUCK, a
