"""Fair rates of the lanes that share links with one another, kept up as lanes come and go.

Each link has a level: the rate at which it is full, inf where its lanes cannot fill it. A lane runs at
the lowest of the levels of its links and its rate alone. What a lane may have at the most by all but
one link is its limit there, and the level of a link follows from the limits of its lanes that are
below it, whatever the others are; so there is one set of levels that agree (docs/chunks.md). When
lanes come or go, the levels of their links are worked out again, then those of the links on which a
lane has changed by that, and so on until nothing changes: far from all lanes that are joined change.

Lanes of a kind (a link with one of the weights on it) are counted in whole numbers before anything is
added up, and no sum depends on the order in which lanes came: eight equal lanes and one that counts
eight get the same bits.
"""

import math

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing
from scaleout.network.filling import share, total

__all__ = ["settle"]

Reals = Floats | list[float]
Whole = Ints | list[int]


@borrowing
def settle(
    turn: int, dirty: int, changed: int, queue: Whole, queued: Whole, full: Reals, was: Reals, moved: Whole,
    links: Whole, stamp: int, alone: Reals, first: Whole, link: Whole, bound: Whole, number: Whole, kind: Whole,
    capacity: Reals, low: Whole, weight: Reals, users: Whole, room: Whole, using: Whole, lane_of: Whole,
    flows: Whole, limits: Reals, keys: Reals, items: Whole, open_: Whole, leaving: Whole,
) -> tuple[int, int, int]:  # fmt: skip
    """Levels of the `dirty` links that are in the ring `queue` from `turn` on, and of all that depend on them.

    Written: `full`, the levels; `links`, those that have changed at this stamp, and in `was` what they
    were; `moved`, their stamps. `flows` counts the lanes of each kind that send now;
    ``users[room[l]:]`` are the entries on link l of those lanes, `using[l]` of them. Scratch: `limits`,
    `keys`, `items` (lanes on a link); `open_` (kinds); `leaving` (kinds) = 0. The new turn, how many
    links have changed, how many were worked out.
    """
    count = 0
    while dirty:
        on = queue[turn]
        turn = turn + 1 if turn + 1 < len(queue) else 0
        dirty -= 1
        queued[on] = 0
        if not bound[on] and full[on] == math.inf:
            continue
        count += 1
        begin, size, lowest = room[on], using[on], math.inf
        for i in range(size):
            e = users[begin + i]
            a = lane_of[e]
            limit = alone[a]
            for f in range(first[a], first[a + 1]):
                if link[f] != on:
                    limit = min(limit, full[link[f]])
            limits[i] = limit
            lowest = min(lowest, limit)
        level = math.inf
        if bound[on]:
            level = share(capacity[on], 0.0, total(weight, flows, low[on], low[on + 1]))
            if lowest < level:
                level = filled(
                    on, level, size, begin, limits, kind, number, capacity, low, weight, users, flows, keys, items,
                    open_, leaving,
                )  # fmt: skip
        old = full[on]
        if level != old:
            full[on] = level
            if moved[on] != stamp:
                moved[on], was[on] = stamp, old
                links[changed] = on
                changed += 1
            for i in range(size):
                if min(limits[i], old) != min(limits[i], level):
                    a = lane_of[users[begin + i]]
                    for f in range(first[a], first[a + 1]):
                        other = link[f]
                        if other != on and bound[other] and not queued[other]:
                            queued[other] = 1
                            at = turn + dirty
                            queue[at if at < len(queue) else at - len(queue)] = other
                            dirty += 1
    return turn, changed, count


@borrowing
def filled(
    on: int, level: float, size: int, begin: int, limits: Reals, kind: Whole, number: Whole, capacity: Reals,
    low: Whole, weight: Reals, users: Whole, flows: Whole, keys: Reals, items: Whole, open_: Whole, leaving: Whole,
) -> float:  # fmt: skip
    """At which rate a link is full whose lanes have these limits by all else; without them, it were at `level`."""
    end = low[on + 1]
    for i in range(size):
        keys[i], items[i] = limits[i], users[begin + i]
    for k in range(low[on], end):
        open_[k] = flows[k]
    for i in range(size // 2 - 1, -1, -1):
        sift(keys, items, i, size)
    used = 0.0
    while size and keys[0] < level:
        lowest = keys[0]
        while size and keys[0] == lowest:
            leaving[kind[items[0]]] += number[items[0]]
            size -= 1
            keys[0], items[0] = keys[size], items[size]
            sift(keys, items, 0, size)
        for k in range(low[on], end):
            if leaving[k]:
                used += weight[k] * lowest * leaving[k]
                open_[k] -= leaving[k]
                leaving[k] = 0
        # rounding never takes a level down again
        level = max(level, share(capacity[on], used, total(weight, open_, low[on], end)))
    return level


@borrowing
def sift(keys: Reals, items: Whole, at: int, size: int) -> None:
    """Move an element of a binary heap down to where it belongs."""
    key, item, child = keys[at], items[at], 2 * at + 1
    moving = child < size
    while moving:
        if child + 1 < size and keys[child + 1] < keys[child]:
            child += 1
        moving = keys[child] < key
        if moving:
            keys[at], items[at] = keys[child], items[child]
            at, child = child, 2 * child + 1
            moving = child < size
    keys[at], items[at] = key, item
