"""Folding of lanes: those that must behave alike run once.

The coarsest equitable partition, as for ranks (`scaleout.engine.partition`): lanes start from their
steps, sizes, latency, rate alone and begin, links from their capacity; classes split until all lanes
of one load the same classes of links by the same weights and wait for the same classes of lanes with
the same lags, and all links of one are loaded by the same classes of lanes, in the same numbers. A
class behaves as one, so it does not matter for how many of its lanes another waits, only for which
classes; and nobody feels who waits for him.
"""

from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.chunks.wires import Wired, begins
from scaleout.engine.partition import Hashes, _bits, _compact, _gather, _mix

__all__ = ["FoldedLanes", "folded"]


@dataclass(frozen=True, slots=True, eq=False)
class FoldedLanes:
    """Lanes by representatives.

    Parameters
    ----------
    wired
        A lane for each class, and a link for each class of links.
    lane_class
        Class of each lane, shape (lanes,).
    """

    wired: Wired
    lane_class: Ints


def folded(w: Wired) -> FoldedLanes | None:
    """One lane for each class; None where that leaves more than half of them."""
    lane, edge = _first_colours(w), _mix(w.lag.astype(np.uint64)) + w.arrived.astype(np.uint64)
    link, key, lane_of = _bits(w.capacity), _bits(w.weight), w.lane
    several = bool((w.behind[1:] == w.behind[:-1]).any())
    counts = (-1, -1)
    while True:
        classes = _compact(lane), _compact(link)
        now = int(classes[0].max(initial=-1)) + 1, int(classes[1].max(initial=-1)) + 1
        if 2 * now[0] > w.lanes:
            return None
        if now == counts:
            return FoldedLanes(_quotient(w, *classes), classes[0])
        counts = now
        link = _mix(link + _gather(len(link), w.link, _mix(lane[lane_of] + key)))
        behind, waits = w.behind, _mix(lane[w.before] + edge)
        if several:
            order = np.lexsort((waits, behind))
            behind, waits = behind[order], waits[order]
            new = np.ones(len(behind), dtype=bool)
            new[1:] = (behind[1:] != behind[:-1]) | (waits[1:] != waits[:-1])
            behind, waits = behind[new], waits[new]
        lane = _mix(lane + _gather(w.lanes, lane_of, _mix(link[w.link] + key)) + _gather(w.lanes, behind, waits))


def _first_colours(w: Wired) -> Hashes:
    """What lanes are by themselves."""
    if w.stride:
        place = np.arange(w.sends) - np.repeat(np.cumsum(w.steps) - w.steps, w.steps)
        sizes = _mix(_bits(w.size[np.repeat(w.at, w.steps) + place]) + _mix(place.astype(np.uint64)))
        size = _gather(w.lanes, np.repeat(np.arange(w.lanes), w.steps), sizes)
    else:
        size = _bits(w.size[w.at])
    colour = size
    for column in (w.steps, w.latency, w.begin):
        colour = _mix(colour + _mix(column.astype(np.uint64)))
    return _mix(colour + _bits(w.alone))


def _quotient(w: Wired, lane_class: Ints, link_class: Ints) -> Wired:
    """The lanes by representatives: the first lane and the first link of each class."""
    _, lane = np.unique(lane_class, return_index=True)
    _, link = np.unique(link_class, return_index=True)
    first_lane, first_link = np.zeros(w.lanes, dtype=bool), np.zeros(len(w.capacity), dtype=bool)
    first_lane[lane], first_link[link] = True, True
    # what loads the representative of a class of links loads all of them, in the same numbers
    some = first_link[w.link]
    on, by, weight = link_class[w.link[some]], lane_class[w.lane[some]], w.weight[some]
    order = np.lexsort((weight, on, by))
    on, by, weight = on[order], by[order], weight[order]
    new = np.ones(len(on), dtype=bool)
    new[1:] = (on[1:] != on[:-1]) | (by[1:] != by[:-1]) | (weight[1:] != weight[:-1])
    number = np.diff(np.append(np.flatnonzero(new), len(on)))
    mine = first_lane[w.behind]
    edges = np.column_stack((lane_class[w.behind[mine]], lane_class[w.before[mine]], w.lag[mine], w.arrived[mine]))
    behind, before, lag, arrived = np.unique(edges, axis=0).T
    return Wired(
        steps=w.steps[lane],
        least=w.least[lane],
        size=w.size,
        at=w.at[lane],
        stride=w.stride,
        latency=w.latency[lane],
        begin=w.begin[lane],
        alone=w.alone[lane],
        first=begins(np.bincount(by[new], minlength=len(lane))),
        link=on[new],
        weight=weight[new],
        number=number,
        capacity=w.capacity[link],
        before=before.copy(),
        behind=behind.copy(),
        lag=lag.copy(),
        arrived=arrived.astype(bool),
    )
