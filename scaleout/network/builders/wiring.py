"""Links as builders lay them: always two, one each way."""

from typing import Any

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import TopologyError
from scaleout.network.topology import Topology

__all__ = ["Wires", "at_least", "halve", "runs"]


class Wires:
    """Rows of links so far.

    Parameters
    ----------
    kinds
        Names of the kinds of link; what is of the first kind is inside nodes.
    """

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds
        self.count = 0
        self._rows: list[tuple[Ints, Ints, float, float, int, int]] = []

    def one_way(self, a: Ints, b: Ints, *, bandwidth: float, latency: float, kind: str, width: int = 1) -> int:
        """Lay a link from each of `a` to its one of `b`; the number of the first."""
        first = self.count
        self._rows.append((a, b, float(bandwidth), float(latency), self.kinds.index(kind), width))
        self.count += len(a)
        return first

    def both(self, a: Ints, b: Ints, *, bandwidth: float, latency: float, kind: str, width: int = 1) -> tuple[int, int]:
        """Lay a link each way between each of `a` and its one of `b`; the numbers of the first ones."""
        there = self.one_way(a, b, bandwidth=bandwidth, latency=latency, kind=kind, width=width)
        return there, self.one_way(b, a, bandwidth=bandwidth, latency=latency, kind=kind, width=width)

    def topology(
        self,
        name: str,
        *vertices: tuple[str, int],
        node: Ints | None = None,
        halves: Bools | None = None,
        transitive: bool = False,
        coordinates: Ints | None = None,
    ) -> Topology:
        """The graph of these links; the first kind of vertex are the chips, one node where `node` is left out."""
        sizes = [len(row[0]) for row in self._rows]

        def each(column: int, dtype: type) -> Any:
            return np.repeat(np.array([row[column] for row in self._rows], dtype=dtype), sizes)

        none = np.zeros(0, dtype=np.int64)
        return Topology(
            name=name,
            chips=vertices[0][1],
            vertices=tuple((kind, count) for kind, count in vertices if count),
            source=np.concatenate([none, *(row[0] for row in self._rows)]),
            target=np.concatenate([none, *(row[1] for row in self._rows)]),
            bandwidth=each(2, np.float64),
            latency=each(3, np.float64),
            kind=each(4, np.int64),
            kinds=self.kinds,
            node=none if node is None else node,
            width=each(5, np.int64),
            halves=none.astype(bool) if halves is None else halves,
            transitive=transitive,
            coordinates=none if coordinates is None else coordinates,
        )


def at_least(what: str, least: int, value: int) -> None:
    """Refuse a number that is too small.

    Raises
    ------
    TopologyError
        With what it counts, the least that will do, and the value.
    """
    if value < least:
        raise TopologyError(f"{what}: needs at least {least}, got {value}")


def halve(count: int) -> Bools:
    """The second half of so many things; none is told where there are no halves."""
    return np.arange(count) >= count // 2 if count % 2 == 0 else np.zeros(0, dtype=bool)


def runs(hops: Ints, begin: Ints, step: Ints, until: Ints | None = None, jump: Ints | None = None) -> Ints:
    """Runs of numbers that rise by `step` from `begin` on, `hops` of them, and by `jump` more after `until`."""
    if not len(hops):
        return np.zeros(0, dtype=np.int64)
    ends = np.cumsum(hops)
    starts = ends - hops
    rise = np.repeat(step, hops)
    last = begin + (hops - 1) * step
    rise[starts] = begin
    if until is not None and jump is not None:
        over = until < hops
        last += np.where(over, jump, 0)
        rise[(starts + until)[over]] += jump[over]
    rise[starts[1:]] -= last[:-1]
    return np.cumsum(rise, out=rise)
