"""The two solvers of max-min fair sharing, as loops over numbers: `rounds` and `levels`.

They take lists when run plain and arrays when compiled; `scaleout.network.fairshare` says which
one is taken when, and its `Network` what their first arguments are. A *kind* is a link with one
of the weights that flows have on it. Flows of a kind are counted in whole numbers and rates are
merged into counts before anything is added up: eight equal flows and one flow that counts eight
give the same bits.
"""

import math

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing, compilable

__all__ = ["levels", "rounds"]

Reals = Floats | list[float]
Whole = Ints | list[int]


@borrowing
def total(values: Reals, counts: Whole, low: int, high: int) -> float:
    """Sum of value x count, in order."""
    result = 0.0
    for i in range(low, high):
        result += values[i] * counts[i]
    return result


@borrowing
def share(capacity: float, used: float, load: float) -> float:
    """What a link leaves to its open flows, per unit of weight; inf where it has none (5)."""
    return max(capacity - used, 0.0) / load if load > 0.0 else math.inf


@compilable
def add(values: Reals, counts: Whole, low: int, size: int, high: int, value: float, count: int) -> int:
    """Count a value in the ascending table of `size` values from `low` on; its new size, -1 if it would pass `high`."""
    at = low + size
    while at > low and values[at - 1] >= value:
        at -= 1
    if at < low + size and values[at] == value:
        counts[at] += count
        return size
    if low + size == high:
        return -1
    for i in range(low + size, at, -1):
        values[i], counts[i] = values[i - 1], counts[i - 1]
    values[at], counts[at] = value, count
    return size + 1


@compilable
def rounds(
    rate: Reals, capacity: Reals, cap: Reals, first: Whole, link: Whole, number: Whole, kind: Whole,
    low: Whole, weight: Reals, flows: Whole, share_of: Reals, limit: int, open_: Whole,
    blocked: Whole, touched: Whole, changed: Whole, room: Whole, sizes: Whole, used: Reals, times: Whole,
) -> bool:  # fmt: skip
    """Local bottlenecks, round after round (7); False if it takes too many rounds, or rates on a link.

    Written: `rate`, inf where nothing holds a flow. Scratch: `open_` (flows) = 0, 1, 2, ...;
    `blocked`, `touched`, `changed`, `sizes` (links) = 0; `used`, `times` from `room[l]` to
    `room[l + 1]` are the table of what link l gives to settled flows.
    """
    left = len(rate)
    for now in range(1, limit + 1):
        for i in range(left):
            f = open_[i]
            least = cap[f]
            for e in range(first[f], first[f + 1]):
                least = min(least, share_of[link[e]])
            rate[f] = least
        # a link is a bottleneck unless one of its open flows is slower elsewhere
        for i in range(left):
            f = open_[i]
            for e in range(first[f], first[f + 1]):
                if rate[f] < share_of[link[e]]:
                    blocked[link[e]] = now
        still, dirty = 0, 0
        for i in range(left):
            f = open_[i]
            settled = cap[f] <= rate[f]
            for e in range(first[f], first[f + 1]):
                settled = settled or (blocked[link[e]] != now and share_of[link[e]] == rate[f])
            if not settled:
                open_[still] = f
                still += 1
                continue
            for e in range(first[f], first[f + 1]):
                at, k = link[e], kind[e]
                flows[k] -= number[e]
                sizes[at] = add(used, times, room[at], sizes[at], room[at + 1], weight[k] * rate[f], number[e])
                if sizes[at] < 0:
                    return False
                if touched[at] != now:
                    touched[at] = now
                    changed[dirty] = at
                    dirty += 1
        left = still
        if not left:
            return True
        for i in range(dirty):
            at = changed[i]
            given = total(used, times, room[at], room[at] + sizes[at])
            share_of[at] = share(capacity[at], given, total(weight, flows, low[at], low[at + 1]))
    return False


@compilable
def sift(keys: Reals, items: Whole, at: int, size: int) -> None:
    """Move an element of a binary heap down to where it belongs."""
    key, item = keys[at], items[at]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        if keys[child] >= key:
            break
        keys[at], items[at] = keys[child], items[child]
        at, child = child, 2 * child + 1
    keys[at], items[at] = key, item


@compilable
def leave(low: int, high: int, number: Whole, kind: Whole, leaving: Whole, changed: Whole, dirty: int) -> int:
    """Note that a flow settles in its kinds; the new number of kinds that have changed."""
    for e in range(low, high):
        if not leaving[kind[e]]:
            changed[dirty] = kind[e]
            dirty += 1
        leaving[kind[e]] += number[e]
    return dirty


@compilable
def levels(
    rate: Reals, capacity: Reals, cap: Reals, first: Whole, link: Whole, number: Whole, kind: Whole,
    low: Whole, weight: Reals, flows: Whole, share_of: Reals, capped: Whole,
    start: Whole, fill: Whole, flow_of: Whole, heap: Whole, used: Reals, leaving: Whole, changed: Whole,
) -> bool:  # fmt: skip
    """Progressive filling, one level after another; False if nothing holds some flow.

    All links and caps of a level settle together. Shares only rise, so the key of a link in the
    heap may be an old share: it is brought up to date when it comes up. `capped` lists the flows
    with a cap, lowest first. Written: `rate`, which must be inf and stays so where nothing holds a
    flow. Scratch: `start` where the entries of a link begin, `fill` its copy, `flow_of` (entries);
    `heap` (links) = 0, 1, 2, ...; `used`, `leaving`, `changed` (kinds) = 0. `share_of` becomes the
    keys of the heap.
    """
    size = len(capacity)
    for f in range(len(rate)):
        for e in range(first[f], first[f + 1]):
            flow_of[fill[link[e]]] = f
            fill[link[e]] += 1
    for at in range(size // 2 - 1, -1, -1):
        sift(share_of, heap, at, size)
    settled, lowest = 0, 0
    while settled < len(rate):
        while lowest < len(capped) and rate[capped[lowest]] < math.inf:
            lowest += 1
        level = cap[capped[lowest]] if lowest < len(capped) else math.inf
        if size:
            level = min(level, share_of[0])
        if level == math.inf:
            return False
        dirty = 0
        while lowest < len(capped) and cap[capped[lowest]] <= level:
            f = capped[lowest]
            lowest += 1
            if rate[f] == math.inf:
                rate[f] = level
                settled += 1
                dirty = leave(first[f], first[f + 1], number, kind, leaving, changed, dirty)
        while size and share_of[0] <= level:
            at = heap[0]
            given = 0.0
            for k in range(low[at], low[at + 1]):
                given += used[k]
            present = share(capacity[at], given, total(weight, flows, low[at], low[at + 1]))
            if present > level:
                share_of[0] = present
            else:
                for i in range(start[at], start[at + 1]):
                    f = flow_of[i]
                    if rate[f] == math.inf:
                        rate[f] = level
                        settled += 1
                        dirty = leave(first[f], first[f + 1], number, kind, leaving, changed, dirty)
                size -= 1
                share_of[0], heap[0] = share_of[size], heap[size]
            sift(share_of, heap, 0, size)
        for i in range(dirty):
            k = changed[i]
            used[k] += weight[k] * level * leaving[k]
            flows[k] -= leaving[k]
            leaving[k] = 0
    return True
