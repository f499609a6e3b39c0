"""What is true of a topology: sizes, distances between chips, how much crosses the middle."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import TopologyError
from scaleout.network.fabric import Fabric
from scaleout.network.tables import Tables
from scaleout.network.topology import Topology

__all__ = ["TopologyFacts", "facts"]

MOST_PAIRS = 1 << 19
"""Pairs of chips whose distances are held at a time."""
MOST_LOOKS = 200_000_000
"""Links looked at from which on distances are those from a sample of chips: a few seconds' worth."""
SAMPLE = 64
"""Chips of such a sample."""
DENSE = 1_200
"""Vertices up to which cuts are improved by swaps."""
WALK = 200
"""Steps of the random walk whose slowest wave tells far parts of a graph apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologyFacts:
    """Counts, distances and the middle of a topology.

    Parameters
    ----------
    chips, nodes
        Chips, and nodes (islands) that they stand in.
    vertices
        Number of vertices of each kind.
    links
        Directed links; one that stands for parallel ones counts once.
    kinds
        Of each kind of link that there is: number, and bandwidth of all of them [byte/s, per direction].
    degree, switch_degree
        Links out of a chip, and out of another vertex, least and most; parallel ones count each.
    diameter, mean_distance
        Most and mean hops between two different chips.
    distances_exact
        Whether all chips were looked at. If not, the diameter is a lower bound and the mean an estimate.
    bisection
        Bandwidth from one half of the chips to the other, over the worst halves [byte/s, one direction].
    bisection_exact
        Whether no worse halves can be. If not, these are the worst found: an upper bound.
    """

    name: str
    chips: int
    nodes: int
    vertices: dict[str, int]
    links: int
    kinds: dict[str, tuple[int, float]]
    degree: tuple[int, int]
    switch_degree: tuple[int, int]
    diameter: int
    mean_distance: float
    distances_exact: bool
    bisection: float
    bisection_exact: bool


def facts(fabric: Fabric) -> TopologyFacts:
    """Facts of the topology of a fabric.

    Raises
    ------
    TopologyError
        Nothing joins two of the chips.

    >>> from scaleout.network import ring
    >>> found = facts(ring(6, bandwidth=50e9, latency=1e-6))
    >>> found.links, found.degree, found.diameter, found.mean_distance, found.bisection
    (12, (2, 2), 3, 1.8, 100000000000.0)
    """
    if not isinstance(fabric, Fabric):
        raise TopologyError(f"facts: expected a fabric, not {type(fabric).__name__}")
    topology = fabric.topology
    chips = topology.chips
    out = np.bincount(topology.source, topology.width, topology.size).astype(np.int64)
    diameter, mean, exact = _distances(topology)
    bisection, sure = _bisection(topology)
    kinds = {
        name: (int(mine.sum()), float(topology.bandwidth[mine].sum()) / 2)
        for name, mine in ((name, topology.kind == k) for k, name in enumerate(topology.kinds))
        if mine.any()
    }
    return TopologyFacts(
        name=topology.name,
        chips=chips,
        nodes=len(np.unique(topology.node)),
        vertices={kind: count for kind, count in topology.vertices if count},
        links=topology.links,
        kinds=kinds,
        degree=_range(out[:chips]),
        switch_degree=_range(out[chips:]),
        diameter=diameter,
        mean_distance=mean,
        distances_exact=exact,
        bisection=bisection,
        bisection_exact=sure,
    )


def _range(values: Ints) -> tuple[int, int]:
    return (int(values.min()), int(values.max())) if len(values) else (0, 0)


def _distances(topology: Topology) -> tuple[int, float, bool]:
    """Diameter, mean distance, and whether they are exact."""
    chips = topology.chips
    if chips < 2:
        return 0, 0.0, True
    tables = Tables(topology, (), "hops", True)
    goals, exact = np.arange(chips), True
    if topology.transitive:
        goals = goals[:1]
    elif len(np.unique(tables.gate[:chips])) * len(tables.into.link) > MOST_LOOKS:
        goals, exact = np.sort(np.random.default_rng(0).choice(chips, min(SAMPLE, chips), replace=False)), False
    most, total = 0, 0
    for low, high in _blocks(len(goals), max(1, MOST_PAIRS // chips)):
        target = np.repeat(goals[low:high], chips)
        source = np.tile(np.arange(chips), high - low)
        hops = tables.hops(source, target)
        lost = np.flatnonzero(hops < 0)
        if len(lost):
            a, b = (topology.vertex_name(int(ends[lost[0]])) for ends in (source, target))
            raise TopologyError(f"{topology.name}: no path from {a} to {b}; the graph is not connected")
        most, total = max(most, int(hops.max())), total + int(hops.sum())
    return most, total / (len(goals) * (chips - 1)), exact


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    return ((low, min(low + size, count)) for low in range(0, count, size))


def _bisection(topology: Topology) -> tuple[float, bool]:
    """Bandwidth of the least cut known between two halves of the chips, and whether it is the least."""
    if topology.chips < 2:
        return 0.0, True
    if len(topology.halves) == topology.size and _alike(topology):
        return _cut(topology, topology.halves), True
    cuts = [_settled(topology, order) for order in _orders(topology)]
    if topology.size <= DENSE:
        cuts = [_swapped(topology, side) for side in cuts]
    return min(_cut(topology, side) for side in cuts), False


def _alike(topology: Topology) -> bool:
    """Whether all links of a kind have one bandwidth."""
    for k in range(len(topology.kinds)):
        mine = topology.bandwidth[topology.kind == k]
        if len(mine) and mine.min() < mine.max():
            return False
    return True


def _cut(topology: Topology, side: Bools) -> float:
    """What crosses from one side to the other, in the narrower direction [byte/s]."""
    a, b = side[topology.source], side[topology.target]
    return min(float(topology.bandwidth[a & ~b].sum()), float(topology.bandwidth[~a & b].sum()))


def _orders(topology: Topology) -> list[Ints]:
    """Chips in orders whose halves may be far apart: by number, by distance, by a wave."""
    chips = np.arange(topology.chips)
    tables = Tables(topology, (), "hops", True)
    ends = (0, int(np.argmax(tables.hops(chips, np.zeros_like(chips)))))
    orders = [chips, *(np.argsort(tables.hops(chips, np.full_like(chips, end)), kind="stable") for end in ends)]
    return [*orders, np.argsort(np.round(_slowest(topology)[: topology.chips], 9), kind="stable")]


def _slowest(topology: Topology) -> Floats:
    """The wave on the graph that a random walk flattens last: positive on one side, negative on the other."""
    size = topology.size
    weight = np.bincount(topology.source, topology.bandwidth, size)
    wave = np.random.default_rng(0).standard_normal(size)
    for _ in range(WALK):
        wave -= np.average(wave, weights=weight)
        # two chips alone settle within the first step
        wave /= max(float(np.abs(wave).max()), np.finfo(float).tiny)
        pull = np.bincount(topology.source, topology.bandwidth * wave[topology.target], size)
        wave = (wave + pull / np.maximum(weight, np.finfo(float).tiny)) / 2
    return wave


def _pulls(topology: Topology) -> Floats:
    """Bandwidth between each two vertices, mean of both directions [byte/s]."""
    pull = np.zeros((topology.size, topology.size))
    np.add.at(pull, (topology.source, topology.target), topology.bandwidth / 2)
    return pull + pull.T


def _settled(topology: Topology, order: Ints) -> Bools:
    """Half of the chips in this order on one side; every other vertex where most of its bandwidth goes."""
    size, chips = topology.size, topology.chips
    value = np.zeros(size)
    value[order[: chips // 2]], value[order[chips // 2 :]] = -1.0, 1.0
    weight = np.bincount(topology.source, topology.bandwidth, size)[chips:]
    for _ in range(64 if size > chips else 0):
        pull = np.bincount(topology.source, topology.bandwidth * value[topology.target], size)[chips:]
        value[chips:] = np.divide(pull, weight, out=np.zeros_like(pull), where=weight > 0)
    return value > 1e-9


def _swapped(topology: Topology, side: Bools) -> Bools:
    """The cut after moves of switches, and swaps of chips, as long as one makes it narrower (Kernighan, Lin 1970)."""
    pull, chips = _pulls(topology), topology.chips
    sign = np.where(side, 1.0, -1.0)
    # what moving a vertex to the other side takes off the cut
    gain = np.array([-(row * sign).sum() for row in pull]) * sign
    least = 1e-9 * float(pull.max())

    def move(v: int) -> None:
        nonlocal gain
        gain += 2 * sign * pull[v] * sign[v]
        gain[v] = -gain[v]
        sign[v] = -sign[v]

    for _ in range(4 * topology.size):
        if topology.size > chips and gain[chips:].max() > least:
            move(chips + int(np.argmax(gain[chips:])))
            continue
        ours, theirs = np.flatnonzero(sign[:chips] > 0), np.flatnonzero(sign[:chips] < 0)
        both = gain[ours][:, None] + gain[theirs] - 2 * pull[np.ix_(ours, theirs)]
        if both.max() <= least:
            break
        i, j = np.unravel_index(int(np.argmax(both)), both.shape)
        move(int(ours[i]))
        move(int(theirs[j]))
    return sign > 0
