"""Chips joined to each other directly along straight lines: fully connected, hypercube, HyperX."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.network.builders.grids import torus
from scaleout.network.builders.wiring import Wires, at_least, few_links, sides
from scaleout.network.fabric import Fabric

__all__ = ["fully_connected", "hypercube", "hyperx"]


def fully_connected(chips: int, *, bandwidth: float, latency: float) -> Fabric:
    """A link each way for every pair of chips, as in a node of eight MI300X.

    Parameters
    ----------
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    >>> from scaleout.network.facts import facts
    >>> found = facts(fully_connected(8, bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 50e9
    (8, 56, (7, 7), 1, 16.0)
    """
    fabric = hyperx((chips,), bandwidth=bandwidth, latency=latency)
    return replace(fabric, topology=replace(fabric.topology, name=f"fully connected {chips}", kinds=("direct",)))


def hypercube(dims: int, *, bandwidth: float, latency: float) -> Fabric:
    """2^dims chips with a link each way for every bit in which two numbers differ; lowest bit last.

    Parameters
    ----------
    dims
        Number of bits.
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    >>> from scaleout.network.facts import facts
    >>> found = facts(hypercube(5, bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 50e9
    (32, 160, (5, 5), 5, 16.0)
    """
    at_least("hypercube: dimensions", 1, dims, 20)
    fabric = torus((2,) * dims, bandwidth=bandwidth, latency=latency)
    return replace(fabric, topology=replace(fabric.topology, name=f"hypercube {dims}", kinds=("hypercube",)))


def hyperx(
    dims: Sequence[int],
    *,
    bandwidth: float,
    latency: float,
    chips_per_switch: int = 0,
    trunk_bandwidth: float | None = None,
    hop_latency: float | None = None,
) -> Fabric:
    """A grid in which each is joined to all others of its row in every dimension; dimension order.

    Parameters
    ----------
    dims
        Grid of the switches, or of the chips themselves.
    bandwidth
        Payload rate of a chip's link [byte/s, per direction].
    latency
        Of a chip's link [s].
    chips_per_switch
        Chips that hang on each switch; 0 makes the chips themselves the grid.
    trunk_bandwidth, hop_latency
        Of links between switches [byte/s, per direction; s]; those of chips where left out.

    References
    ----------
    J. Ahn et al.: HyperX, SC 2009.

    >>> from scaleout.network.facts import facts
    >>> found = facts(hyperx((4, 4), bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 50e9
    (16, 96, (6, 6), 2, 16.0)
    >>> hyperx((4, 4), chips_per_switch=4, bandwidth=50e9, latency=1e-6).topology.chips
    64
    """
    dims, each = sides("HyperX: switches in a dimension", dims), chips_per_switch
    at_least("HyperX: chips per switch", 0, each)
    grid = math.prod(dims)
    chips = grid * (each or 1)
    at_least("HyperX: chips", 2, chips)
    few_links("HyperX", grid * sum(k - 1 for k in dims) + 2 * chips * (each > 0))
    stride = [math.prod(dims[d + 1 :]) for d in range(len(dims))]
    shape = "x".join(map(str, dims))
    # chips that hang on switches are nodes of their own, and nothing is inside them
    wires = Wires("scale-up", "port", "trunk") if each else Wires("hyperx")
    vertex, base = np.arange(grid), chips if each else 0
    up = down = 0
    if each:
        chip = np.arange(chips)
        up, down = wires.both(chip, base + chip // each, bandwidth=bandwidth, latency=latency, kind="port")
    first = []
    for k, s in zip(dims, stride, strict=True):
        # links of a vertex lie together: one to each other coordinate, ascending
        others = np.arange(k - 1)
        mine = vertex // s % k
        other = others + (others >= mine[:, None])
        there = vertex[:, None] + (other - mine[:, None]) * s
        first.append(
            wires.one_way(
                base + np.repeat(vertex, k - 1),
                base + there.ravel(),
                bandwidth=trunk_bandwidth if each and trunk_bandwidth is not None else bandwidth,
                latency=hop_latency if each and hop_latency is not None else latency,
                kind="trunk" if each else "hyperx",
            )
        )
    topology = wires.topology(
        f"HyperX {shape}",
        ("chip", chips),
        ("switch", grid if each else 0),
        node=np.arange(chips) if each else None,
        halves=None if each else _halves(dims, stride, vertex),
        transitive=True,
    )

    def paths(source: Ints, target: Ints) -> Ints:
        at, to = (source // each, target // each) if each else (source.copy(), target)
        columns = []
        for k, s, begin in zip(dims, stride, first, strict=True):
            mine, other = at // s % k, to // s % k
            link = begin + at * (k - 1) + other - (other > mine)
            columns.append(np.where(mine == other, -1, link))
            at = at + (other - mine) * s
        if each:
            apart = source != target
            columns = [np.where(apart, up + source, -1), *columns, np.where(apart, down + target, -1)]
        return np.column_stack(columns)

    return Fabric(topology=topology, paths=paths, everywhere=not each)


def _halves(dims: tuple[int, ...], stride: list[int], vertex: Ints) -> Bools:
    """The cut across the narrowest bundle of rows: least for one dimension, and for equal even ones."""
    if len(set(dims)) == 1 and dims[0] % 2 == 0:
        return vertex // stride[0] >= dims[0] // 2
    if len(dims) == 1:
        return vertex >= dims[0] // 2
    return np.zeros(0, dtype=bool)
