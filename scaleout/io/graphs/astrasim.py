"""Networks of ASTRA-sim's analytical back end: a product of rings, switches and full meshes.

A chip is a point of a grid, the first dimension fastest. In each dimension the chips that differ in
nothing else form a ring (a link to each neighbour, both ways), hang on a switch of their own, or are
joined each with each. Traffic goes dimension by dimension, around a ring the shorter way.
"""

from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.errors import SpecError, TopologyError, near
from scaleout.io.graphs.assemble import MOST_LINKS
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.units import Number

__all__ = ["GIGABYTE", "product_of", "read_astrasim"]

GIGABYTE = float(2**30)
"""What ASTRA-sim takes a gigabyte for [byte]."""
_BLOCKS = ("Ring", "FullyConnected", "Switch")
_KEYS = ("topology", "npus_count", "bandwidth", "latency")
_COUNT = Number(low=2, high=LARGEST_MACHINE, above=False, integer=True)
_RATE, _TIME = Number(), Number(above=False)


def read_astrasim(data: dict[str, Any], path: Path, gigabyte: float = GIGABYTE) -> Fabric:
    """The fabric of a network file.

    Parameters
    ----------
    data
        Its keys: ``topology``, ``npus_count``, ``bandwidth`` [GB/s, per link and direction] and
        ``latency`` [ns, per link], each a list with one entry for every dimension.
    gigabyte
        Size of a GB in the file [byte].

    Raises
    ------
    SpecError
        A key is missing or unknown, lists differ in length, or a value is not accepted.
    TopologyError
        The product is too large.
    """
    for key in data:
        if key not in _KEYS:
            raise SpecError(f"{path}: {str(key)[:60]}: unknown key; {near(str(key), _KEYS)}")
    for key in _KEYS:
        if not isinstance(data.get(key), list) or not data[key]:
            kind = "missing" if key not in data else f"{data[key]!r:.60}"
            raise SpecError(f"{path}: {key}: is {kind}; expected a list with one entry for every dimension")
        if len(data[key]) != len(data["topology"]):
            raise SpecError(
                f"{path}: {key}: has {len(data[key])} entries; expected {len(data['topology'])}, as topology has"
            )
    for i, block in enumerate(data["topology"]):
        if block not in _BLOCKS:
            raise SpecError(f"{path}: topology[{i}]: {block!r:.60} is unknown; {near(str(block), _BLOCKS)}")
    sizes = [int(_read(size, _COUNT, f"{path}: npus_count[{i}]")) for i, size in enumerate(data["npus_count"])]
    rates = [_read(rate, _RATE, f"{path}: bandwidth[{i}]") * gigabyte for i, rate in enumerate(data["bandwidth"])]
    times = [_read(time, _TIME, f"{path}: latency[{i}]") * 1e-9 for i, time in enumerate(data["latency"])]
    if not np.isfinite(rates).all():
        raise SpecError(f"{path}: bandwidth: {max(data['bandwidth'])} GB/s is too large")
    return product_of(path.stem, str(path), data["topology"], sizes, rates, times)


def _read(value: object, number: Number, place: str) -> float:
    try:
        return number.read(value)
    except SpecError as error:
        raise SpecError(f"{place}: {error}") from None


def product_of(
    name: str, where: str, blocks: list[str], sizes: list[int], rates: list[float], times: list[float]
) -> Fabric:
    """The product of rings, switches and full meshes; a ring of two is one link each way.

    Parameters
    ----------
    rates, times
        Of a link of each dimension [byte/s per direction, s].
    """
    chips = prod(sizes)
    if chips > LARGEST_MACHINE:
        raise TopologyError(f"{where}: {' x '.join(map(str, sizes))} chips; at most {LARGEST_MACHINE:,} are accepted")
    fan = [size - 1 if block == "FullyConnected" else 1 if size == 2 and block == "Ring" else 2
           for block, size in zip(blocks, sizes, strict=True)]  # fmt: skip
    if chips * sum(fan) > MOST_LINKS:
        raise TopologyError(f"{where}: {chips * sum(fan):,} links; at most {MOST_LINKS:,} are accepted")
    chip = np.arange(chips)
    strides = [prod(sizes[:d]) for d in range(len(sizes))]
    offsets = [0, *np.cumsum([chips * count for count in fan]).tolist()]
    vertices, source, target = [("chip", chips)], [], []
    first = chips
    for d, (block, size, stride) in enumerate(zip(blocks, sizes, strides, strict=True)):
        at = chip // stride % size
        if block == "Switch":
            switch = first + chip // (stride * size) * stride + chip % stride
            source += [chip, switch]
            target += [switch, chip]
            vertices.append((f"switch of dimension {d + 1}", chips // size))
            first += chips // size
        elif block == "Ring":
            source += [chip] * fan[d]
            target += [chip + ((at + step) % size - at) * stride for step in (1, -1)[: fan[d]]]
        else:
            other = np.arange(size - 1) + (np.arange(size - 1) >= at[:, None])
            source.append(np.repeat(chip, size - 1))
            target.append((chip[:, None] + (other - at[:, None]) * stride).ravel())
    kind = np.repeat(np.arange(len(sizes)), [chips * count for count in fan])
    topology = Topology(
        name=name,
        chips=chips,
        vertices=tuple(vertices),
        source=np.concatenate(source),
        target=np.concatenate(target),
        bandwidth=_each(rates, kind),
        latency=_each(times, kind),
        kind=kind,
        kinds=tuple(f"{block} {d + 1}" for d, block in enumerate(blocks)),
        coordinates=np.column_stack([chip // stride % size for size, stride in zip(sizes, strides, strict=True)]),
        node=chip // sizes[0] if len(sizes) > 1 else np.zeros(chips, dtype=np.int64),
    )

    def paths(start: Ints, end: Ints) -> Ints:
        columns = [np.full((len(start), 1), -1, dtype=np.int64)]
        here = start
        for d, (block, size, stride) in enumerate(zip(blocks, sizes, strides, strict=True)):
            at, to = here // stride % size, end // stride % size
            there, moves = here + (to - at) * stride, at != to
            if block == "Switch":
                found = np.column_stack((offsets[d] + here, offsets[d] + chips + there))
                columns.append(np.where(moves[:, None], found, -1))
            elif block == "FullyConnected":
                columns.append(np.where(moves, offsets[d] + here * (size - 1) + to - (to > at), -1)[:, None])
            else:
                ahead = (to - at) % size
                onward = ahead <= size - ahead
                hops = np.where(onward, ahead, size - ahead)
                step = np.arange(int(hops.max(initial=0)))
                forward = here[:, None] + ((at[:, None] + step) % size - at[:, None]) * stride
                backward = chips + here[:, None] + ((at[:, None] - step) % size - at[:, None]) * stride
                found = offsets[d] + np.where(onward[:, None], forward, backward)
                columns.append(np.where(step < hops[:, None], found, -1))
            here = there
        return np.concatenate(columns, axis=1)

    return Fabric(topology=topology, paths=paths)


def _each(values: list[float], kind: Ints) -> Floats:
    return np.array(values, dtype=np.float64)[kind]
