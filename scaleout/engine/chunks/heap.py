"""A heap of dates in which an item can be moved: each item has at most one date.

`when` holds the date of each item, `heap` the items, earliest on top, `place` where an item is in
the heap (-1 where it is not).
"""

from scaleout.arrays import Ints
from scaleout.compiled import borrowing

__all__ = ["put", "take"]

Whole = Ints | list[int]


@borrowing
def put(when: Whole, heap: Whole, place: Whole, size: int, item: int, date: int) -> int:
    """Give an item a date, whether it is in the heap or not; the new size."""
    at = place[item]
    later = at >= 0 and date > when[item]
    if at < 0:
        at = size
        size += 1
    when[item] = date
    at = sunk(when, heap, place, size, item, at) if later else lifted(when, heap, place, item, at)
    heap[at], place[item] = item, at
    return size


@borrowing
def take(when: Whole, heap: Whole, place: Whole, size: int) -> int:
    """Take the top off; the new size."""
    top, item = heap[0], heap[size - 1]
    at = sunk(when, heap, place, size - 1, item, 0)
    heap[at], place[item] = item, at
    place[top] = -1
    return size - 1


@borrowing
def lifted(when: Whole, heap: Whole, place: Whole, item: int, at: int) -> int:
    """Make room for an item at `at` or above, by its date; where."""
    date, above = when[item], (at - 1) >> 1
    moving = at > 0 and when[heap[above]] > date
    while moving:
        heap[at] = heap[above]
        place[heap[at]] = at
        at, above = above, (above - 1) >> 1
        moving = at > 0 and when[heap[above]] > date
    return at


@borrowing
def sunk(when: Whole, heap: Whole, place: Whole, size: int, item: int, at: int) -> int:
    """Make room for an item at `at` or below, by its date; where."""
    date, child = when[item], 2 * at + 1
    moving = child < size
    while moving:
        if child + 1 < size and when[heap[child + 1]] < when[heap[child]]:
            child += 1
        other = heap[child]
        moving = when[other] < date
        if moving:
            heap[at], place[other] = other, at
            at, child = child, 2 * child + 1
            moving = child < size
    return at
