"""Fair rates of the lanes that share links with one another at an instant.

Progressive filling, one level after another, as `scaleout.network.filling.levels` does it, over the
links and lanes of one component in place. Lanes of a kind (a link with one of the weights on it)
are counted in whole numbers before anything is added up, and no sum depends on the order in which
lanes came: eight equal lanes and one that counts eight get the same bits.
"""

import math

from scaleout.arrays import Floats, Ints
from scaleout.compiled import borrowing

__all__ = ["fill"]

Reals = Floats | list[float]
Whole = Ints | list[int]


@borrowing
def fill(
    rate: Reals, lanes: Whole, count: int, links: Whole, size: int, alone: Reals, first: Whole, link: Whole,
    bound: Whole, number: Whole, kind: Whole, capacity: Reals, low: Whole, weight: Reals,
    users: Whole, room: Whole, using: Whole, lane_of: Whole, flows: Whole,
    keys: Reals, items: Whole, open_: Whole, used: Reals, leaving: Whole, changed: Whole,
) -> None:  # fmt: skip
    """Rates of ``lanes[:count]``, which load ``links[:size]`` and no others that are `bound`.

    Nobody else loads these links. Written: `rate`. `flows` counts the lanes of each kind that send
    now; ``users[room[l]:]`` are the entries on link l of those lanes, `using[l]` of them. Scratch:
    `keys`, `items` (links); `open_`, `used`, `changed` (kinds); `leaving` (kinds) = 0.
    """
    for i in range(size):
        at = links[i]
        for k in range(low[at], low[at + 1]):
            open_[k], used[k] = flows[k], 0.0
        keys[i], items[i] = share(capacity[at], 0.0, total(weight, flows, low[at], low[at + 1])), at
    for i in range(size // 2 - 1, -1, -1):
        sift(keys, items, i, size)
    lowest = math.inf
    for i in range(count):
        rate[lanes[i]] = -1.0
        lowest = min(lowest, alone[lanes[i]])
    settled = 0
    while settled < count:
        level, dirty = min(keys[0], lowest) if size else lowest, 0
        if lowest <= level:
            lowest = math.inf
            for i in range(count):
                a = lanes[i]
                if rate[a] < 0.0:
                    if alone[a] <= level:
                        rate[a] = level
                        settled += 1
                        dirty = leave(first[a], first[a + 1], link, bound, number, kind, leaving, changed, dirty)
                    else:
                        lowest = min(lowest, alone[a])
        while size and keys[0] <= level:
            at = items[0]
            present = share(
                capacity[at], sum_of(used, low[at], low[at + 1]), total(weight, open_, low[at], low[at + 1])
            )
            if present > level:
                keys[0] = present
            else:
                for u in range(room[at], room[at] + using[at]):
                    a = lane_of[users[u]]
                    if rate[a] < 0.0:
                        rate[a] = level
                        settled += 1
                        dirty = leave(first[a], first[a + 1], link, bound, number, kind, leaving, changed, dirty)
                size -= 1
                keys[0], items[0] = keys[size], items[size]
            sift(keys, items, 0, size)
        if settled < count:
            for i in range(dirty):
                k = changed[i]
                used[k] += weight[k] * level * leaving[k]
                open_[k] -= leaving[k]
                leaving[k] = 0
        else:
            for i in range(dirty):
                leaving[changed[i]] = 0


@borrowing
def leave(
    low: int, high: int, link: Whole, bound: Whole, number: Whole, kind: Whole, leaving: Whole, changed: Whole,
    dirty: int,
) -> int:  # fmt: skip
    """Note that a lane settles in its kinds; the new number of kinds that have changed."""
    for e in range(low, high):
        if bound[link[e]]:
            if not leaving[kind[e]]:
                changed[dirty] = kind[e]
                dirty += 1
            leaving[kind[e]] += number[e]
    return dirty


@borrowing
def sum_of(values: Reals, low: int, high: int) -> float:
    """Sum, in order."""
    result = 0.0
    for i in range(low, high):
        result += values[i]
    return result


@borrowing
def total(values: Reals, counts: Whole, low: int, high: int) -> float:
    """Sum of value x count, in order."""
    result = 0.0
    for i in range(low, high):
        result += values[i] * counts[i]
    return result


@borrowing
def share(capacity: float, used: float, load: float) -> float:
    """What a link leaves to its open lanes, per unit of weight; inf where it has none."""
    return max(capacity - used, 0.0) / load if load > 0.0 else math.inf


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
