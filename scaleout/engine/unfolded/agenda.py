"""What is to happen and when: items in one bucket for each date, buckets in a heap.

Thousands of like ranks do the same at the same instant, so most items find their bucket open: a
small table remembers the latest ones. A date may have several buckets. An item is a number, is on
the agenda once at most, and may be taken off; that may leave a bucket empty.

Everything is in few arrays, with names for rows and columns: what belongs together lies together.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Ints
from scaleout.compiled import borrowing

__all__ = [
    "BUCKET", "BUCKETS", "DATE", "HEAD", "HEAP", "HEAP_DATE", "Agenda", "agenda", "close_first", "schedule", "take",
]  # fmt: skip

Small = npt.NDArray[np.int32]
DATE, HEAD, TAIL, HEAP_DATE, HEAP, FREE = range(6)
"""Rows of `buckets`. Of each bucket: its date [tick], -1 where it is not in use; first and last
item, -1 for none. Then a binary heap of the buckets in use, by date, and a stack of the others."""
BEFORE, BEHIND, BUCKET = range(3)
"""Columns of `items`: the neighbours of each item in its bucket, and the bucket; -1 for none."""
BUCKETS, UNUSED = range(2)
"""In `size`: buckets in the heap and on the stack."""
RECENT = 256
"""Buckets that are remembered, by some bits of their dates."""


class Agenda(NamedTuple):
    """See `DATE`, `BEFORE`, `RECENT` and `BUCKETS`."""

    buckets: Ints
    items: Small
    recent: Small
    size: Ints


def agenda(items: int) -> Agenda:
    """An empty agenda; it has more buckets than items, so that some can always be freed."""
    count = 2 * items + 64
    buckets = np.full((6, count), -1)
    buckets[FREE] = np.arange(count)[::-1]
    return Agenda(
        buckets, np.full((items, 4), -1, dtype=np.int32), np.zeros(RECENT, dtype=np.int32), np.array([0, count])
    )


@borrowing
def sink(dates: Ints, heap: Ints, at: int, size: int) -> None:
    """Move an element of a binary heap down to where it belongs."""
    date, item = dates[at], heap[at]
    child = 2 * at + 1
    while child < size:
        if child + 1 < size and dates[child + 1] < dates[child]:
            child += 1
        if dates[child] >= date:
            break
        dates[at], heap[at] = dates[child], heap[child]
        at, child = child, 2 * child + 1
    dates[at], heap[at] = date, item


@borrowing
def rise(dates: Ints, heap: Ints, at: int) -> None:
    """Move an element of a binary heap up to where it belongs."""
    date, item = dates[at], heap[at]
    while at > 0:
        parent = (at - 1) >> 1
        if dates[parent] <= date:
            break
        dates[at], heap[at] = dates[parent], heap[parent]
        at = parent
    dates[at], heap[at] = date, item


@borrowing
def free(buckets: Ints, size: Ints, b: int) -> None:
    """Put a bucket onto the stack of those that are not in use."""
    buckets[DATE, b] = -1
    buckets[FREE, size[UNUSED]] = b
    size[UNUSED] += 1


@borrowing
def drop_empty(buckets: Ints, size: Ints) -> None:
    """Free the buckets that are empty, and build the heap again."""
    kept = 0
    for i in range(size[BUCKETS]):
        b = buckets[HEAP, i]
        if buckets[HEAD, b] < 0:
            free(buckets, size, b)
        else:
            buckets[HEAP, kept], buckets[HEAP_DATE, kept] = b, buckets[HEAP_DATE, i]
            kept += 1
    size[BUCKETS] = kept
    for i in range(kept // 2 - 1, -1, -1):
        sink(buckets[HEAP_DATE], buckets[HEAP], i, kept)


@borrowing
def open_bucket(buckets: Ints, recent: Small, size: Ints, date: int, slot: int) -> int:
    """A new bucket for a date."""
    if size[UNUSED] == 0:
        drop_empty(buckets, size)
    size[UNUSED] -= 1
    b, at = buckets[FREE, size[UNUSED]], size[BUCKETS]
    buckets[DATE, b], buckets[HEAD, b], buckets[TAIL, b] = date, -1, -1
    buckets[HEAP_DATE, at], buckets[HEAP, at] = date, b
    size[BUCKETS] += 1
    rise(buckets[HEAP_DATE], buckets[HEAP], at)
    recent[slot] = b
    return b  # type: ignore[no-any-return]


@borrowing
def schedule(buckets: Ints, items: Small, recent: Small, size: Ints, date: int, item: int) -> None:
    """Put an item that is not on the agenda onto it."""
    slot = (date ^ (date >> 8) ^ (date >> 16)) & (RECENT - 1)
    b = recent[slot]
    if buckets[DATE, b] != date:
        b = open_bucket(buckets, recent, size, date, slot)
    last = buckets[TAIL, b]
    items[item, BEFORE], items[item, BEHIND], items[item, BUCKET] = last, -1, b
    if last < 0:
        buckets[HEAD, b] = item
    else:
        items[last, BEHIND] = item
    buckets[TAIL, b] = item


@borrowing
def take(buckets: Ints, items: Small, item: int) -> None:
    """Take an item off the agenda."""
    b, before, behind = items[item, BUCKET], items[item, BEFORE], items[item, BEHIND]
    if before < 0:
        buckets[HEAD, b] = behind
    else:
        items[before, BEHIND] = behind
    if behind < 0:
        buckets[TAIL, b] = before
    else:
        items[behind, BEFORE] = before
    items[item, BUCKET] = -1


@borrowing
def close_first(buckets: Ints, size: Ints) -> None:
    """Free the bucket on top of the heap, which is empty."""
    free(buckets, size, buckets[HEAP, 0])
    last = size[BUCKETS] - 1
    size[BUCKETS] = last
    buckets[HEAP_DATE, 0], buckets[HEAP, 0] = buckets[HEAP_DATE, last], buckets[HEAP, last]
    sink(buckets[HEAP_DATE], buckets[HEAP], 0, last)
