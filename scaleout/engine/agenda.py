"""What is to happen and when: items in one bucket for each date, buckets in a heap.

Thousands of like ranks do the same at the same instant, so most items find their bucket open: a
small table remembers the latest ones. A date may have several buckets. An item is a number, is on
the agenda once at most, and may be moved; that may leave a bucket empty.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Ints
from scaleout.compiled import compilable

__all__ = ["Agenda", "agenda", "close_first", "schedule", "take"]

Small = npt.NDArray[np.int32]
RECENT = 256
"""Buckets that are remembered, by the lowest bits of their date's hash."""
BUCKETS, FREE = range(2)
"""In `size`: buckets in the heap, and buckets that are not in use."""


class Agenda(NamedTuple):
    """Buckets by number, and items by number.

    Parameters
    ----------
    date, head, tail
        Of each bucket [tick]; -1 if it is not in use. Its first and last item, -1 for none.
    before, behind, bucket
        Of each item: its neighbours in its bucket, -1 for none; and the bucket, -1 for none.
    heap_date, heap_bucket
        A binary heap of the buckets in use.
    free
        A stack of those that are not.
    recent
        Buckets that were filled lately.
    size
        See `BUCKETS`, `FREE`.
    """

    date: Ints
    head: Small
    tail: Small
    before: Small
    behind: Small
    bucket: Small
    heap_date: Ints
    heap_bucket: Small
    free: Small
    recent: Small
    size: Ints


def agenda(items: int) -> Agenda:
    """An empty agenda; it has more buckets than items, so some can always be freed."""
    buckets = 2 * items + 64
    none = np.full((3, items), -1, dtype=np.int32)
    return Agenda(
        date=np.full(buckets, -1),
        head=np.full(buckets, -1, dtype=np.int32),
        tail=np.full(buckets, -1, dtype=np.int32),
        before=none[0],
        behind=none[1],
        bucket=none[2],
        heap_date=np.zeros(buckets, dtype=np.int64),
        heap_bucket=np.zeros(buckets, dtype=np.int32),
        free=np.arange(buckets - 1, -1, -1, dtype=np.int32),
        recent=np.zeros(RECENT, dtype=np.int32),
        size=np.array([0, buckets]),
    )


@compilable
def sink(keys: Ints, items: Small, at: int, size: int) -> None:
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
def rise(keys: Ints, items: Small, at: int) -> None:
    """Move an element of a binary heap up to where it belongs."""
    key, item = keys[at], items[at]
    while at > 0:
        parent = (at - 1) >> 1
        if keys[parent] <= key:
            break
        keys[at], items[at] = keys[parent], items[parent]
        at = parent
    keys[at], items[at] = key, item


@compilable
def drop_empty(a: Agenda) -> None:
    """Free the buckets that are empty, and build the heap again."""
    kept = 0
    for i in range(a.size[BUCKETS]):
        b = a.heap_bucket[i]
        if a.head[b] >= 0:
            a.heap_bucket[kept], a.heap_date[kept] = b, a.heap_date[i]
            kept += 1
        else:
            a.date[b] = -1
            a.free[a.size[FREE]] = b
            a.size[FREE] += 1
    a.size[BUCKETS] = kept
    for i in range(kept // 2 - 1, -1, -1):
        sink(a.heap_date, a.heap_bucket, i, kept)


@compilable
def open_bucket(a: Agenda, date: int, slot: int) -> int:
    """A new bucket for a date."""
    if a.size[FREE] == 0:
        drop_empty(a)
    a.size[FREE] -= 1
    b = a.free[a.size[FREE]]
    a.date[b], a.head[b], a.tail[b] = date, -1, -1
    at = a.size[BUCKETS]
    a.heap_date[at], a.heap_bucket[at] = date, b
    a.size[BUCKETS] += 1
    rise(a.heap_date, a.heap_bucket, at)
    a.recent[slot] = b
    return b


@compilable
def schedule(a: Agenda, date: int, item: int) -> None:
    """Put an item that is not on the agenda onto it."""
    slot = (date ^ (date >> 8) ^ (date >> 16)) & (RECENT - 1)
    b = a.recent[slot]
    if a.date[b] != date:
        b = open_bucket(a, date, slot)
    last = a.tail[b]
    a.before[item], a.behind[item], a.bucket[item] = last, -1, b
    if last < 0:
        a.head[b] = item
    else:
        a.behind[last] = item
    a.tail[b] = item


@compilable
def take(a: Agenda, item: int) -> None:
    """Take an item off the agenda."""
    b, before, behind = a.bucket[item], a.before[item], a.behind[item]
    if before < 0:
        a.head[b] = behind
    else:
        a.behind[before] = behind
    if behind < 0:
        a.tail[b] = before
    else:
        a.before[behind] = before
    a.bucket[item] = -1


@compilable
def close_first(a: Agenda) -> None:
    """Free the bucket on top of the heap, which is empty."""
    b = a.heap_bucket[0]
    a.date[b] = -1
    a.free[a.size[FREE]] = b
    a.size[FREE] += 1
    last = a.size[BUCKETS] - 1
    a.size[BUCKETS] = last
    a.heap_date[0], a.heap_bucket[0] = a.heap_date[last], a.heap_bucket[last]
    sink(a.heap_date, a.heap_bucket, 0, last)
