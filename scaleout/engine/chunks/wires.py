"""What of a network lanes can feel: rates alone, and the links on which lanes may hold each other up.

A link that all its lanes together cannot fill, each at the rate it has with the network to itself,
never holds any of them; neither does a link that one lane has to itself, once it counts in that rate.
Most links of a machine go this way, and a lane that keeps none takes the same time for equal sends,
whatever the others do.
"""

from dataclasses import dataclass, replace

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.engine.chunks.lanes import Lanes

__all__ = ["Wired", "begins", "free", "picked", "wired"]

SLACK = 1e-12
"""Share of its capacity by which rounding may take a link above it."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Wired:
    """Lanes with the links that matter; each may stand for several that are alike.

    Parameters
    ----------
    steps, latency, begin
        As in `Lanes`.
    least
        Bytes of the smallest send of each lane [byte], 0 where it has none.
    size, at, stride
        Step k of lane a sends ``size[at[a] + k * stride]`` bytes.
    alone
        Rate of each lane with the network to itself [byte/s], its cap included; inf where nothing
        holds it.
    first, link, weight, number
        Links of each lane, in compressed rows: so many lanes of its kind (`number`) load the link
        with the weight. Sorted by lane, link, weight.
    capacity
        Of each of these links [byte/s].
    before, behind, lag, arrived
        Edges, sorted by `behind`.
    """

    steps: Ints
    least: Floats
    size: Floats
    at: Ints
    stride: int
    latency: Ints
    begin: Ints
    alone: Floats
    first: Ints
    link: Ints
    weight: Floats
    number: Ints
    capacity: Floats
    before: Ints
    behind: Ints
    lag: Ints
    arrived: Bools

    @property
    def lanes(self) -> int:
        """Number of lanes."""
        return len(self.steps)

    @property
    def sends(self) -> int:
        """Sends of all lanes."""
        return int(self.steps.sum())

    @property
    def lane(self) -> Ints:
        """Lane of each entry of `link`."""
        return np.repeat(np.arange(self.lanes), np.diff(self.first))

    @property
    def flowing(self) -> Bools:
        """Whether a lane has no link that others may hold it up on, and gets on at all."""
        flows: Bools = (np.diff(self.first) == 0) & ((self.alone > 0) | (self.steps == 0))
        return flows


def wired(lanes: Lanes, capacity: Floats) -> Wired:
    """Leave out what holds nobody."""
    count, links = len(lanes.steps), len(capacity)
    lane, link, weight = _merged(lanes.lane, lanes.link, lanes.weight)
    limit = capacity[link] / weight
    alone = lanes.cap.astype(np.float64)
    np.minimum.at(alone, lane, limit)
    # lanes that never send anything load nothing, and so do lanes that get nowhere
    sending = (lanes.bytes > 0) & (alone > 0)
    loads = sending[lane]
    lane, link, weight = lane[loads], link[loads], weight[loads]
    load = np.bincount(link, weights=weight * alone[lane], minlength=links)
    users = np.bincount(link, minlength=links)
    matters = (users > 1) & (load > capacity * (1 + SLACK))
    keep = matters[link]
    lane, link, weight = lane[keep], link[keep], weight[keep]
    order = np.argsort(lanes.behind, kind="stable")
    stride = int(lanes.uneven)
    return Wired(
        steps=lanes.steps.astype(np.int64),
        least=_least(lanes),
        size=np.ascontiguousarray(lanes.size, dtype=np.float64),
        at=np.cumsum(lanes.steps) - lanes.steps if stride else np.arange(count),
        stride=stride,
        latency=lanes.latency.astype(np.int64),
        begin=np.zeros(count, dtype=np.int64) if lanes.begin is None else lanes.begin.astype(np.int64),
        alone=alone,
        first=begins(np.bincount(lane, minlength=count)),
        link=(np.cumsum(matters) - 1)[link],
        weight=weight,
        number=np.ones(len(link), dtype=np.int64),
        capacity=capacity[matters],
        before=lanes.before[order].astype(np.int64),
        behind=lanes.behind[order].astype(np.int64),
        lag=lanes.lag[order].astype(np.int64),
        arrived=lanes.arrived[order],
    )


def free(w: Wired) -> Bools:
    """Lanes that no other lane can hold up on a link, neither them nor any that they wait for, however far back."""
    label, lane = np.arange(w.lanes), w.lane
    while True:
        # the least number of the neighbours, then of those whose number a lane has
        new, on = label.copy(), np.full(len(w.capacity), w.lanes)
        np.minimum.at(new, w.before, label[w.behind])
        np.minimum.at(new, w.behind, label[w.before])
        np.minimum.at(on, w.link, label[lane])
        np.minimum.at(new, lane, on[w.link])
        np.minimum.at(new, label, new.copy())
        new = new[new]
        if (new == label).all():
            break
        label = new
    held = np.zeros(w.lanes, dtype=bool)
    held[label[~w.flowing]] = True
    return ~held[label]


def picked(w: Wired, some: Bools) -> Wired:
    """Some of the lanes; no edge and no link may join them with others."""
    number = np.cumsum(some) - 1
    entries, edges = some[w.lane], some[w.behind]
    return replace(
        w,
        steps=w.steps[some],
        least=w.least[some],
        at=w.at[some],
        latency=w.latency[some],
        begin=w.begin[some],
        alone=w.alone[some],
        first=begins(np.diff(w.first)[some]),
        link=w.link[entries],
        weight=w.weight[entries],
        number=w.number[entries],
        before=number[w.before[edges]],
        behind=number[w.behind[edges]],
        lag=w.lag[edges],
        arrived=w.arrived[edges],
    )


def begins(sizes: Ints) -> Ints:
    """Where parts of these sizes begin when they lie one after another, and where the last ends."""
    result = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=result[1:])
    return result


def _merged(lane: Ints, link: Ints, weight: Floats) -> tuple[Ints, Ints, Floats]:
    """One entry for each lane and link, sorted; a lane that crosses a link twice has both weights on it."""
    some = weight > 0
    lane, link, weight = lane[some], link[some], weight[some]
    order = np.lexsort((weight, link, lane))
    lane, link, weight = lane[order], link[order], weight[order]
    new = np.ones(len(lane), dtype=bool)
    new[1:] = (lane[1:] != lane[:-1]) | (link[1:] != link[:-1])
    if new.all():
        return lane, link, weight
    first = np.flatnonzero(new)
    return lane[first], link[first], np.add.reduceat(weight, first)


def _least(lanes: Lanes) -> Floats:
    if not lanes.uneven:
        return np.where(lanes.steps > 0, lanes.size, 0.0)
    least, some = np.zeros(len(lanes.steps)), lanes.steps > 0
    if some.any():
        least[some] = np.minimum.reduceat(lanes.size, (np.cumsum(lanes.steps) - lanes.steps)[some])
    return least
