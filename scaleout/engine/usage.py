"""What links carry: bytes of each class of links, over the step and over time.

The flow network keeps account of what it carries; what is timed in runs never reaches it and is
added here from its starts, at the rate that it has alone. Bytes are counted in quanta, powers of
two so small that rounding to them does not show and sums are exact in any order: folded and
unfolded simulations give the same bits.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import COMPUTE, RECEIVE, TICKS_PER_SECOND, Job
from scaleout.engine.quotient import Leg, Quotient
from scaleout.engine.timeline import Moved, Timeline
from scaleout.errors import WorkloadError

__all__ = ["BINS", "Usage", "usage"]

BINS = 100
"""Parts of a step in which utilisation is told."""
_PART = 2.0**36
"""Shares of a transfer are told in parts of this size: up to 2^17 transfers a bin add up exactly."""
_SLICE = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Usage:
    """Bytes over links; what one link of each class carries, each of them does.

    Parameters
    ----------
    edges
        Where bins begin and end [tick], shape (bins + 1,).
    carried
        Over the step, by class of links [byte].
    over_time
        The same in each bin, shape (classes, bins); exact to 1e-8 of what the fastest link could carry.
    room
        What a link could carry in each bin [byte], shape (classes, bins).
    lasting
        How long each epoch lasts in each bin [s], shape (epochs, bins).
    link_of
        Class of each link, -1 where nothing loads it, shape (links,).
    sizes, first
        Links in each class, and the lowest of them.
    quantum, bin_quantum
        `carried` and `over_time` are whole multiples [byte].
    """

    edges: Ints
    carried: Floats
    over_time: Floats
    room: Floats
    lasting: Floats
    link_of: Ints
    sizes: Ints
    first: Ints
    quantum: float
    bin_quantum: float

    @property
    def busy(self) -> Floats:
        """Carried over what could be, over the whole step [1], by class of links."""
        room: Floats = self.room.sum(axis=1)
        return np.divide(self.carried, room, out=np.zeros_like(room), where=room > 0)

    @property
    def utilisation(self) -> Floats:
        """Carried over what could be, in each bin [1], shape (classes, bins); 0 where a link is dead."""
        return np.divide(self.over_time, self.room, out=np.zeros_like(self.room), where=self.room > 0)


def usage(job: Job, wiring: Quotient, timeline: Timeline, bins: int = BINS) -> Usage:
    """What every class of links carried.

    Raises
    ------
    WorkloadError
        The timeline keeps no account.
    """
    if timeline.moved is None:
        raise WorkloadError("this simulation kept no account of what links carried")
    end, legs = timeline.end, len(wiring.epochs[0].legs)
    edges = np.array([end * at // bins for at in range(bins + 1)], dtype=np.int64)
    shares = np.zeros((legs * len(wiring.epochs), bins))
    times = np.zeros(len(shares))
    _add_moved(timeline.moved, edges, shares, times)
    for leg, starts, duration in _inside(job, wiring, timeline):
        starts = np.sort(starts)
        if (np.diff(starts) < duration).any():
            several = np.full(len(starts), leg.index), starts, starts + duration, np.ones(len(starts))
            _add_moved(Moved(*several), edges, shares, times)
        else:
            times[leg.index] += len(starts)
            shares[leg.index] += np.diff(_finished(starts, duration, edges))
    if len(wiring.epochs) == 1:
        # every transfer ends: without epochs the shares of a leg make whole numbers
        times = np.rint(times)

    seconds, classes = end / TICKS_PER_SECOND, len(wiring.capacity)
    fastest = float(wiring.topology.bandwidth.max(initial=1.0)) * max(seconds, 1e-12)
    quantum, bin_quantum = (
        2.0 ** (math.ceil(math.log2(fastest / part)) - bits) for part, bits in ((1, 50), (bins, 30))
    )
    place, link, each, count = _entries(wiring)
    carried = quantum * np.bincount(link, np.rint(each * times[place] / quantum) * count, classes)
    over_time = np.zeros(classes * bins)
    for low in range(0, len(place), _SLICE // bins):
        rows = slice(low, low + _SLICE // bins)
        part = np.rint(each[rows, None] * shares[place[rows]] / bin_quantum) * count[rows, None]
        at = link[rows, None] * bins + np.arange(bins)
        over_time += np.bincount(at.ravel(), part.ravel(), classes * bins)
    over_time = over_time.reshape(classes, bins) * bin_quantum
    starts = np.minimum([*(epoch.start for epoch in wiring.epochs), end], end)
    inside = np.clip(edges, starts[:-1, None], starts[1:, None])
    lasting = np.diff(inside.astype(np.float64), axis=1) / TICKS_PER_SECOND
    room = np.stack([epoch.capacity for epoch in wiring.epochs], axis=1) @ lasting
    known = wiring.link_of >= 0
    sizes = np.bincount(wiring.link_of[known], minlength=classes)
    first = np.zeros(classes, dtype=np.int64)
    # of those of a class the last that is written stays: the lowest
    first[wiring.link_of[known][::-1]] = np.flatnonzero(known)[::-1]
    return Usage(
        edges, carried.astype(np.float64), over_time, room, lasting, wiring.link_of, sizes, first, quantum, bin_quantum
    )


def _entries(wiring: Quotient) -> tuple[Ints, Ints, Floats, Floats]:
    """Each load of each leg of each epoch: leg, link class, bytes of one flow, and number of flows."""
    loads = [load for epoch in wiring.epochs for load in epoch.loads]
    if not loads:
        none = np.zeros(0, dtype=np.int64)
        return none, none, np.zeros(0), np.zeros(0)
    place = np.repeat(np.arange(len(loads)), [len(link) for link, _, _ in loads])
    link, weight, count = (np.concatenate(column) for column in zip(*loads, strict=True))
    size = np.array([leg.size for epoch in wiring.epochs for leg in epoch.legs])
    return place, link, size[place] * weight, count.astype(np.float64)


def _add_moved(moved: Moved, edges: Ints, shares: Floats, times: Floats) -> None:
    """Add stretches at a constant rate to the shares in each bin, and to their sums."""
    bins = len(edges) - 1
    np.add.at(times, moved.leg, moved.share)
    for low in range(0, len(moved.leg), _SLICE):
        part = slice(low, low + _SLICE)
        leg, start, end, share = moved.leg[part], moved.start[part], moved.end[part], moved.share[part]
        begin = np.minimum(np.searchsorted(edges, start, "right") - 1, bins - 1)
        over = np.maximum(np.searchsorted(edges, end, "left"), begin + 1) - begin
        row = np.repeat(np.arange(len(leg)), over)
        at = np.arange(len(row)) - np.repeat(np.cumsum(over) - over, over) + begin[row]
        span = np.maximum(end - start, 1)[row]
        done = [
            np.where(edge >= end[row], 1.0, np.maximum(edge - start[row], 0) / span)
            for edge in (edges[at], edges[at + 1])
        ]
        # a stretch without length is done in its bin
        done[0][(start == end)[row]] = 0.0
        parts = [np.rint(share[row] * value * _PART) / _PART for value in done]
        np.add.at(shares, (leg[row], at), parts[1] - parts[0])


def _finished(starts: Ints, duration: int, edges: Ints) -> Floats:
    """How many of the transfers of one leg, one after another, are over at each edge; one under way by its share."""
    begun = np.searchsorted(starts, edges, "left")
    if not duration:
        # over as it begins; at the end of the step all are
        begun[-1] = len(starts)
        return begun.astype(np.float64)
    over = np.searchsorted(starts, edges - duration, "right")
    under_way = begun > over
    partly = np.where(under_way, edges - starts[np.maximum(begun - 1, 0)], 0) / duration
    return over + np.rint(partly * _PART) / _PART


def _inside(job: Job, wiring: Quotient, timeline: Timeline) -> Iterator[tuple[Leg, Ints, int]]:
    """Legs of transfers that were timed in runs: their starts, and how long they move [tick]."""
    for cls, times in enumerate(timeline.classes):
        if not len(times.inside):
            continue
        program = job.programs[job.program_of[int(wiring.representatives[cls])]]
        kind = program.kind[times.inside]
        # sender and receiver are of one class: the message is one
        ops = times.inside[(kind != COMPUTE) & (kind != RECEIVE)]
        item = program.item[ops]
        for message in np.flatnonzero(np.bincount(item)).tolist():
            starts = times.started[ops[item == message]]
            family = job.messages[message].family
            for leg in wiring.transfers[wiring.orbit_of[family, 0, cls], message].legs:
                if leg.size:
                    yield leg, starts, leg.alone_ticks - leg.latency
                starts = starts + leg.alone_ticks
