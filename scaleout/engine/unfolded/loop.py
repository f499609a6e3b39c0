"""The loop of an unfolded run: ranks' streams as pointers into shared programs, meetings as counters.

One instant after another. First everything that is due happens: kernels end, last bytes go,
latencies pass. Then all streams that this sets free carry on as far as they can, which may start
kernels and transfers, and so on until nothing more is due at this instant. Then transfers that
came or went are given fair rates, in one solve; one that has nothing left to send ends at the same
instant, and the instant goes round once more.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing
from scaleout.engine.unfolded.agenda import BUCKETS, HEAD, HEAP, HEAP_DATE, agenda, close_first, schedule, take
from scaleout.engine.unfolded.layout import (
    BASE,
    FIRST_ENTRY,
    FIRST_PLACE,
    FLOWING,
    FOREVER,
    HEARD,
    ITEM,
    LATENCY,
    MEMBERS,
    MESSAGE,
    NO_MORE,
    OP,
    OWNER,
    PACE,
    PART,
    PLACES,
    PRESENT,
    SEAT,
    SIDE,
    STEP,
    STREAM,
    WAITS,
    WIDTH,
    Meetings,
    Script,
    Wires,
)  # fmt: skip
from scaleout.engine.unfolded.wires import (
    CHANGED,
    EVENTS,
    LEG,
    SIZE,
    SOLVES,
    STARTED,
    Scratch,
    join,
    later,
    leave_links,
    scratch,
    solve,
    traffic,
)  # fmt: skip

__all__ = ["ARRIVED", "AT", "BEGUN", "ENDED", "run_loop"]

Small = npt.NDArray[np.int32]
AT, AWAITS = range(2)
"""Columns of `streams`. Of each stream: its present step, all before it have ended; and the step of another
stream of the rank that it waits for, -1 for none."""
FROM, TO = range(2)
"""In `queue`: where the streams begin that are ready to carry on, and where they end."""
ARRIVED, BEGUN, ENDED = range(3)
"""Columns of the record: dates of each operation of each rank [tick]."""


def run_loop(script: Script, meetings: Meetings, wires: Wires, *, plain: bool) -> tuple[Ints, Small, int, int]:
    """Play a whole job: the record, the streams at its end, what happened and what was solved, counted.

    Raises
    ------
    OverflowError
        Something would end beyond all dates.
    """
    count = len(script.first)
    streams = np.stack((script.first, np.full(count, -1, dtype=np.int32)), axis=1)
    ready, queue = np.arange(count + 1, dtype=np.int32), np.array([0, count])
    seated = np.zeros(meetings.seats, dtype=np.int32)
    moving = traffic(wires, meetings)
    record = np.empty((script.operations, 3), dtype=np.int64)
    loop: Callable[..., bool] = play if plain else play.compiled
    if not loop(
        0, script.steps, script.waits, script.ranks, script.duration, streams, ready, queue,
        meetings.group_of, meetings.groups, meetings.places.copy(), np.zeros_like(meetings.group_of), seated,
        wires.first_part, wires.size, wires.first_leg, wires.legs, wires.leg_rates,
        wires.entries, wires.links.copy(), wires.capacity, wires.weight, wires.private,
        *agenda(count + len(meetings.places)), *moving, scratch(wires, meetings), record,
    ):  # fmt: skip
        raise OverflowError("a date beyond 64-bit integers")
    return record, streams, int(moving.counts[EVENTS]), int(moving.counts[SOLVES])


@borrowing
def play(
    now: int, steps: Small, waits: Small, ranks: Ints, duration: Ints, streams: Small, ready: Small, queue: Ints,
    group_of: Small, groups: Small, places: Small, joined: Small, seated: Small,
    first_part: Small, size_of: Floats, first_leg: Ints, legs: Ints, leg_rates: Floats,
    entries: Small, links: Ints, capacity: Floats, weight: Floats, private: Ints,
    buckets: Ints, items: Small, recent: Small, size: Ints,
    dates: Ints, flows: Floats, rooms: Small, where: Ints, changed: Small, count: Ints, s: Scratch, record: Ints,
) -> bool:  # fmt: skip
    """Run all streams as far as they get from `now` on; False if something would end beyond all dates."""
    all_streams = len(streams)
    while True:
        carry_on(
            now, steps, waits, ranks, duration, streams, ready, queue, group_of, groups, places, joined, seated,
            first_part, size_of, first_leg, legs, entries, links, private,
            buckets, items, recent, size, dates, flows, rooms, where, changed, count, record,
        )  # fmt: skip
        if count[CHANGED] and (size[BUCKETS] == 0 or buckets[HEAP_DATE, 0] > now):
            solve(
                now, all_streams, legs, leg_rates, entries, links, capacity, weight,
                buckets, items, recent, size, dates, flows, rooms, changed, count, s,
            )  # fmt: skip
        if size[BUCKETS] == 0:
            return True
        now = buckets[HEAP_DATE, 0]
        if now == FOREVER:
            return False
        happen(
            now, steps, ranks, streams, ready, queue, groups, places, seated,
            first_part, size_of, first_leg, legs, entries, links,
            buckets, items, recent, size, dates, flows, rooms, where, changed, count, record,
        )  # fmt: skip
        close_first(buckets, size)


@borrowing
def happen(
    now: int, steps: Small, ranks: Ints, streams: Small, ready: Small, queue: Ints,
    groups: Small, places: Small, seated: Small,
    first_part: Small, size_of: Floats, first_leg: Ints, legs: Ints, entries: Small, links: Ints,
    buckets: Ints, items: Small, recent: Small, size: Ints,
    dates: Ints, flows: Floats, rooms: Small, where: Ints, changed: Small, count: Ints, record: Ints,
) -> None:  # fmt: skip
    """Whatever is in the first bucket: kernels end, last bytes go, latencies pass."""
    all_streams, bucket = len(streams), buckets[HEAP, 0]
    while buckets[HEAD, bucket] >= 0:
        item = buckets[HEAD, bucket]
        take(buckets, items, item)
        count[EVENTS] += 1
        if item < all_streams:
            end(now, item, steps, ranks, streams, ready, queue, record)
            continue
        m = item - all_streams
        if places[m, FLOWING]:
            places[m, FLOWING] = 0
            extra = (m - groups[places[m, OWNER], FIRST_PLACE]) * len(entries)
            leave_links(m, extra, legs, entries, links, dates, rooms, where, changed, count)
            schedule(buckets, items, recent, size, later(now, legs[dates[m, LEG], LATENCY]), item)
            continue
        places[m, PART] += 1
        if places[m, PART] < first_part[places[m, MESSAGE] + 1]:
            begin(
                now, m, all_streams, groups, places, size_of, first_leg, legs, entries, links,
                buckets, items, recent, size, dates, flows, rooms, where, changed, count,
            )  # fmt: skip
            continue
        for seat in range(places[m, SEAT], places[m, SEAT] + places[m, PRESENT]):
            stream = int(seated[seat])
            record[ranks[stream // WIDTH, BASE] + steps[streams[stream, AT], OP], BEGUN] = dates[m, STARTED]
            end(now, stream, steps, ranks, streams, ready, queue, record)
        places[m, PRESENT] = 0


@borrowing
def end(
    now: int, stream: int, steps: Small, ranks: Ints, streams: Small, ready: Small, queue: Ints, record: Ints
) -> None:
    """End the present operation of a stream: it, and those that waited for this, may carry on."""
    step, rank = streams[stream, AT], stream // WIDTH
    record[ranks[rank, BASE] + steps[step, OP], ENDED] = now
    streams[stream, AT] = step + 1
    get_ready(stream, ready, queue)
    if steps[step, HEARD]:
        for other in range(rank * WIDTH, (rank + 1) * WIDTH):
            if streams[other, AWAITS] == step:
                streams[other, AWAITS] = -1
                get_ready(other, ready, queue)


@borrowing
def get_ready(stream: int, ready: Small, queue: Ints) -> None:
    """Let a stream carry on."""
    at = queue[TO]
    ready[at] = stream
    queue[TO] = at + 1 if at + 1 < len(ready) else 0


@borrowing
def carry_on(
    now: int, steps: Small, waits: Small, ranks: Ints, duration: Ints, streams: Small, ready: Small, queue: Ints,
    group_of: Small, groups: Small, places: Small, joined: Small, seated: Small,
    first_part: Small, size_of: Floats, first_leg: Ints, legs: Ints, entries: Small, links: Ints, private: Ints,
    buckets: Ints, items: Small, recent: Small, size: Ints,
    dates: Ints, flows: Floats, rooms: Small, where: Ints, changed: Small, count: Ints, record: Ints,
) -> None:  # fmt: skip
    """Let every stream that is ready begin its next operation, unless that must wait for another stream."""
    all_streams, at = len(streams), queue[FROM]
    while at != queue[TO]:
        stream = int(ready[at])
        at = at + 1 if at + 1 < len(ready) else 0
        step, rank = streams[stream, AT], stream // WIDTH
        if steps[step, SIDE] == NO_MORE:
            continue
        for i in range(steps[step, WAITS], steps[step + 1, WAITS]):
            if streams[rank * WIDTH + waits[i, STREAM], AT] <= waits[i, STEP]:
                streams[stream, AWAITS] = waits[i, STEP]
                break
        if streams[stream, AWAITS] >= 0:
            continue
        row, side, item = ranks[rank, BASE] + steps[step, OP], steps[step, SIDE], steps[step, ITEM]
        record[row, ARRIVED] = now
        if side < 0:
            record[row, BEGUN] = now
            schedule(buckets, items, recent, size, later(now, duration[ranks[rank, PACE], item]), stream)
            continue
        # take a seat in the meeting; the last member to come starts the transfer
        group = group_of[side, rank]
        m = groups[group, FIRST_PLACE]
        if groups[group, PLACES] > 1:
            m += joined[side, rank] % groups[group, PLACES]
            joined[side, rank] += 1
        seated[places[m, SEAT] + places[m, PRESENT]] = stream
        places[m, PRESENT] += 1
        if places[m, PRESENT] < groups[group, MEMBERS]:
            continue
        dates[m, STARTED], places[m, MESSAGE], places[m, PART] = now, item, first_part[item]
        if private[item, group] >= 0:
            places[m, PART] = first_part[item + 1]
            schedule(buckets, items, recent, size, later(now, private[item, group]), all_streams + m)
        else:
            begin(
                now, m, all_streams, groups, places, size_of, first_leg, legs, entries, links,
                buckets, items, recent, size, dates, flows, rooms, where, changed, count,
            )  # fmt: skip
    queue[FROM] = at


@borrowing
def begin(
    now: int, m: int, all_streams: int, groups: Small, places: Small,
    size_of: Floats, first_leg: Ints, legs: Ints, entries: Small, links: Ints,
    buckets: Ints, items: Small, recent: Small, size: Ints,
    dates: Ints, flows: Floats, rooms: Small, where: Ints, changed: Small, count: Ints,
) -> None:  # fmt: skip
    """Begin the present part of a transfer: its bytes, or where there are none its latency."""
    group, part = places[m, OWNER], places[m, PART]
    leg = first_leg[part] + group
    dates[m, LEG], flows[m, SIZE] = leg, size_of[part]
    if size_of[part] > 0.0 and legs[leg + 1, FIRST_ENTRY] > legs[leg, FIRST_ENTRY]:
        places[m, FLOWING] = 1
        extra = (m - groups[group, FIRST_PLACE]) * len(entries)
        join(now, m, extra, legs, entries, links, dates, flows, rooms, where, changed, count)
    else:
        schedule(buckets, items, recent, size, later(now, legs[leg, LATENCY]), all_streams + m)
