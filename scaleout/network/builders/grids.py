"""Grids of chips: meshes, tori and twisted tori, with a link each way between neighbours.

Chips are numbered with the last coordinate fastest. Paths correct one coordinate after another,
the first one first (dimension order), each by the shorter way round; where both ways are equally
long, chips whose coordinates add up to an even number go forwards and the others backwards, so
that all-to-all traffic loads both directions alike.
"""

import math
from collections.abc import Sequence
from itertools import product

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, runs, sides
from scaleout.network.fabric import Fabric, Loads

__all__ = ["mesh", "torus", "twisted_torus"]


BLOCK = 8_192
"""Flows routed at a time."""


def mesh(dims: Sequence[int], *, bandwidth: float, latency: float) -> Fabric:
    """Chips on a grid without wrap-around.

    Parameters
    ----------
    dims
        Chips along each dimension.
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    >>> from scaleout.network.facts import facts
    >>> found = facts(mesh((4, 3), bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 50e9
    (12, 34, (2, 4), 5, 3.0)
    """
    dims = sides("mesh: chips in a dimension", dims)
    return _grid("mesh", dims, [False] * len(dims), None, bandwidth, latency)


def torus(dims: Sequence[int], *, bandwidth: float, latency: float) -> Fabric:
    """Chips on a grid that wraps around; a dimension of 2 has one link each way, not two.

    Parameters
    ----------
    dims
        Chips along each dimension.
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    >>> from scaleout.network.facts import facts
    >>> found = facts(torus((4, 4), bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 50e9
    (16, 64, (4, 4), 4, 8.0)
    """
    dims = sides("torus: chips in a dimension", dims)
    return _grid("torus", dims, [k > 2 for k in dims], None, bandwidth, latency)


def twisted_torus(dims: Sequence[int], *, bandwidth: float, latency: float) -> Fabric:
    """A torus of k and 2k chips a dimension whose short wrap-arounds shift by k in every long dimension.

    It has the links of the torus, and shorter paths: k x k x 2k and k x 2k x 2k are the face-centred
    and body-centred cubic lattices, in which all directions are alike.

    Parameters
    ----------
    dims
        k or 2k for each dimension, both present, such as (4, 4, 8) or (4, 8, 8).
    bandwidth
        Payload rate of a link [byte/s, per direction].
    latency
        Of a link [s].

    References
    ----------
    C. Camarero, C. Martinez, R. Beivide: Lattice graphs for high-scale interconnection topologies,
    IEEE TPDS 26 (2015). N. Jouppi et al.: TPU v4, ISCA 2023.

    >>> from scaleout.network.facts import facts
    >>> plain, twisted = (facts(build((4, 4, 8), bandwidth=50e9, latency=1e-6)) for build in (torus, twisted_torus))
    >>> plain.links == twisted.links, plain.diameter, twisted.diameter
    (True, 8, 6)
    """
    dims = sides("twisted torus: chips in a dimension", dims)
    short = min(dims, default=0)
    if short < 2 or set(dims) != {short, 2 * short}:
        raise TopologyError(f"twisted torus: dimensions are k and 2k, both present and k at least 2, not {dims}")
    shift = np.array([[short if a == short and b == 2 * short else 0 for b in dims] for a in dims])
    return _grid("twisted torus", dims, [True] * len(dims), shift, bandwidth, latency)


def _grid(
    name: str, dims: tuple[int, ...], wraps: list[bool], shift: Ints | None, bandwidth: float, latency: float
) -> Fabric:
    """A grid; `shift[d]` is added to the coordinates when dimension d wraps around upwards."""
    chips = math.prod(dims)
    at_least(f"{name}: chips", 2, chips)
    size = np.array(dims)
    stride = np.array([math.prod(dims[d + 1 :]) for d in range(len(dims))])
    chip = np.arange(chips)
    place = np.stack([chip // stride[d] % size[d] for d in range(len(dims))])

    wires = Wires(name)
    first = np.zeros((len(dims), 2), dtype=np.int64)
    for d, k in enumerate(dims):
        here = chip if wraps[d] else chip[place[d] < k - 1]
        there = back = here + stride[d]
        if wraps[d]:
            up, down = place[d] == k - 1, place[d] == 0
            there[up] -= k * stride[d]
            back = here - stride[d]
            back[down] += k * stride[d]
            if shift is not None:
                # k and -k are the same in a dimension of 2k
                for vertices, over in ((there, up), (back, down)):
                    moved = (place[:, vertices[over]] + shift[d][:, None]) % size[:, None]
                    vertices[over] = stride @ moved
        # links back are numbered by where they start if all chips have one, else by where they end
        ends = (here, back) if wraps[d] else (there, here)
        first[d, 0] = wires.one_way(here, there, bandwidth=bandwidth, latency=latency, kind=name)
        first[d, 1] = wires.one_way(*ends, bandwidth=bandwidth, latency=latency, kind=name)
    topology = wires.topology(
        f"{name} {'x'.join(map(str, dims))}",
        ("chip", chips),
        halves=_halves(dims, place) if shift is None else None,
        transitive=all(wrap or k <= 2 for wrap, k in zip(wraps, dims, strict=True)),
        coordinates=place.T,
    )

    def links(source: Ints, target: Ints) -> tuple[Ints, Ints]:
        at, to = place[:, source], place[:, target]
        even = (at.sum(axis=0) % 2 == 0) if len(source) else np.zeros(0, dtype=bool)
        ahead = _shortest(at, to, size, wraps, even) if shift is None else _twisted(at, to, size, shift, even)
        hops = np.abs(ahead)
        begin = np.zeros((len(dims), len(source)), dtype=np.int64)
        step, until, jump = begin.copy(), begin.copy(), begin.copy()
        for d, k in enumerate(dims):
            forward, vertex = ahead[d] > 0, stride @ at
            step[d] = np.where(forward, stride[d], -stride[d])
            if not wraps[d]:
                low, high = vertex % stride[d], vertex // (stride[d] * k)
                begin[d] = first[d][1 - forward] + (high * (k - 1) + at[d] - 1 + forward) * stride[d] + low
                until[d] = k
                at[d] += ahead[d]
                continue
            begin[d] = first[d][1 - forward] + vertex
            until[d] = np.where(forward, k - at[d], at[d] + 1)
            over = hops[d] >= until[d]
            jump[d] = np.where(forward, -k, k) * stride[d]
            at[d] += ahead[d]
            at[d] += np.where(over, np.where(forward, -k, k), 0)
            if shift is not None:
                for e in np.flatnonzero(shift[d]):
                    moved = (at[e] + shift[d, e]) % size[e]
                    jump[d] += (moved - at[e]) * stride[e]
                    at[e] = np.where(over, moved, at[e])
        # segments of the way in order of travel: flow by flow, dimension by dimension
        used = (hops > 0).T
        return hops.sum(axis=0), runs(*(x.T[used] for x in (hops, begin, step, until, jump)))

    def paths(source: Ints, target: Ints) -> Loads:
        # by the thousand: what is at hand stays in the cache
        parts = [links(source[low : low + BLOCK], target[low : low + BLOCK]) for low in range(0, len(source), BLOCK)]
        none = np.zeros(0, dtype=np.int64)
        hops, link = (np.concatenate([none, *(part[i] for part in parts)]) for i in (0, 1))
        return Loads(np.concatenate(([0], np.cumsum(hops))), link, np.ones(len(link)), hops * float(latency))

    return Fabric(topology=topology, paths=paths, everywhere=True)


def _shortest(at: Ints, to: Ints, size: Ints, wraps: list[bool], even: Bools) -> Ints:
    """Steps along each dimension, the shorter way round."""
    ahead = to - at
    for d, k in enumerate(size):
        if wraps[d]:
            # past halfway the other way is shorter; at halfway the chip decides
            ahead[d] -= k * ((2 * ahead[d] > k) | ((2 * ahead[d] == k) & ~even))
            ahead[d] += k * ((2 * ahead[d] < -k) | ((2 * ahead[d] == -k) & even))
    return ahead


def _twisted(at: Ints, to: Ints, size: Ints, shift: Ints, even: Bools) -> Ints:
    """Steps along each dimension: the shortest of all that end at the same chip."""
    rounds = [range(-1, 2) if shift[d].any() else range(-2, 3) for d in range(len(size))]
    # going round dimension d once is the same as a shift
    lattice = np.array(list(product(*rounds))) @ (np.diag(size) - shift)
    best, ahead = np.full(at.shape[1], np.iinfo(np.int64).max), np.zeros_like(at)
    for vector in lattice:
        steps = to - at + np.where(even, vector[:, None], -vector[:, None])
        length = np.abs(steps).sum(axis=0)
        better = length < best
        best[better], ahead[:, better] = length[better], steps[:, better]
    return ahead


def _halves(dims: tuple[int, ...], place: Ints) -> Bools:
    """The cut across the longest dimension, which is the least where that is even."""
    longest = int(np.argmax(dims))
    if dims[longest] % 2:
        return np.zeros(0, dtype=bool)
    far: Bools = place[longest] >= dims[longest] // 2
    return far
