"""Links as builders lay them: always two, one each way."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import TopologyError
from scaleout.network.topology import Topology
from scaleout.specs.experiment import LARGEST_MACHINE

__all__ = ["MOST_LINKS", "Wires", "at_least", "few_links", "halve", "number", "runs", "sides"]

MOST_LINKS = 16_777_216
"""Links that a builder lays."""


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
        rate, time = number(f"{kind}: bandwidth", "byte/s", bandwidth), number(f"{kind}: latency", "s", latency)
        self._rows.append((a, b, rate, time, self.kinds.index(kind), width))
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


def at_least(what: str, least: int, value: int, most: int = LARGEST_MACHINE) -> None:
    """Refuse what is no whole number, or one too small, or larger than any machine.

    Raises
    ------
    TopologyError
        With what it counts, the least that will do, and the value.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TopologyError(f"{what}: {value!r:.40} is no whole number; expected at least {least}")
    if value < least:
        raise TopologyError(f"{what}: needs at least {least}, got {value}")
    if value > most:
        got = f"{value:,}" if value < 10**18 else "more than 10^18"
        raise TopologyError(f"{what}: at most {most:,} are accepted, got {got}")


def few_links(what: str, links: int) -> None:
    """Refuse a graph that would not fit into memory, before it is built.

    Raises
    ------
    TopologyError
        More than `MOST_LINKS`.
    """
    if links > MOST_LINKS:
        raise TopologyError(f"{what}: {links:,} links; at most {MOST_LINKS:,} are accepted")


def number(what: str, unit: str, value: float) -> float:
    """A quantity as a float; text with a unit is for files.

    Raises
    ------
    TopologyError
        No number.
    """
    if not isinstance(value, bool):
        try:
            return float(value) if not isinstance(value, str) else float("")
        except (TypeError, ValueError):
            pass
    raise TopologyError(f"{what}: {value!r:.40} is no number [{unit}]")


def sides(what: str, dims: Sequence[int], least: int = 1) -> tuple[int, ...]:
    """Lengths of the dimensions of a grid.

    Raises
    ------
    TopologyError
        No row of whole numbers.
    """
    if not isinstance(dims, Iterable) or isinstance(dims, str):
        raise TopologyError(f"{what}: {dims!r:.40} is no row of whole numbers such as (4, 4)")
    found = tuple(dims)
    for k in found:
        at_least(what, least, k)
    return tuple(int(k) for k in found)


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
