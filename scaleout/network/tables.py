"""Tables of distances on any topology, and the paths that are read from them.

A table holds what it costs from every vertex to one goal; it is made when the first flow asks for
it, and dropped when room is short. Vertices that hang on a single neighbour are left out: a chip
is as far as its switch, plus one.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.compiled import Compilable
from scaleout.errors import TopologyError
from scaleout.network.fabric import Loads, lay
from scaleout.network.searching import HOPS, distances, spread, walk
from scaleout.network.topology import Topology

__all__ = ["By", "Tables", "marked"]

By = Literal["hops", "latency"]

COMPILED_FROM = 500_000
"""Links looked at from which on the loops run compiled: plain they take about 0.3 us each, and loading
numba 0.4 s once."""
TABLES = 1 << 28
"""Most that the tables of one routing hold at a time [byte]."""
MOST_ENTRIES = 1 << 27
"""Most links of flows that one call of `spray` lists."""


def marked(topology: Topology, dead: Sequence[int] | Ints) -> Bools:
    """Which links are dead."""
    numbers = np.asarray(dead, dtype=np.int64)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < topology.links):
        raise TopologyError(f"{topology.name}: dead links must be 0 to {topology.links - 1}")
    gone = np.zeros(topology.links, dtype=bool)
    gone[numbers] = True
    return gone


class _Rows(NamedTuple):
    """Links of each vertex in compressed rows: where they begin, the other end, cost, number."""

    first: Ints
    other: Ints
    cost: Ints
    link: Ints


def _sorted(near: Ints, far: Ints, cost: Ints, link: Ints, size: int) -> _Rows:
    order = np.argsort(near, kind="stable")
    first = np.concatenate(([0], np.cumsum(np.bincount(near, minlength=size))))
    return _Rows(first, far[order], cost[order], link[order])


class Tables:
    """Tables of distances on a topology, and what is read from them.

    Parameters
    ----------
    topology, dead, by, forward
        As in `shortest`.
    """

    def __init__(self, topology: Topology, dead: Sequence[int] | Ints, by: By, forward: bool) -> None:
        if by not in ("hops", "latency"):
            raise TopologyError(f"shortest by {by!r}: known are 'hops' and 'latency'")
        self.topology = topology
        self.gone = marked(topology, dead)
        sound = np.flatnonzero(~self.gone)
        source, target, size = topology.source[sound], topology.target[sound], topology.size
        cost = np.ones(len(sound), dtype=np.int64)
        if by == "latency":
            cost += np.rint(topology.latency[sound] * 1e12).astype(np.int64) * HOPS
        # vertices that hang on one neighbour by one link each way
        out, back = np.bincount(source, minlength=size), np.bincount(target, minlength=size)
        to, of = np.full(size, -1, dtype=np.int64), np.full(size, -2, dtype=np.int64)
        to[source], of[target] = target, source
        hangs = (out == 1) & (back == 1) & (to == of)
        hangs &= ~hangs[to]
        self.gate = np.where(hangs, to, np.arange(size))
        self.up, self.down = np.full((2, size), -1, dtype=np.int64)
        mine = hangs[source]
        self.up[source[mine]] = sound[mine]
        mine = hangs[target]
        self.down[target[mine]] = sound[mine]

        inner = np.flatnonzero(~hangs)
        self.size = len(inner)
        self.place = np.cumsum(~hangs) - 1
        kept = ~(hangs[source] | hangs[target])
        tail, head = self.place[source[kept]], self.place[target[kept]]
        self.out = _sorted(tail, head, cost[kept], sound[kept], self.size)
        self.into = _sorted(head, tail, cost[kept], sound[kept], self.size)
        self.relay = ((inner >= topology.chips) | forward).astype(np.int64)
        self.rows = max(1, min(self.size, TABLES // (8 * self.size)))
        self.table = np.empty((0, self.size), dtype=np.int64)
        self.row_of = np.full(self.size, -1, dtype=np.int64)
        self.held = 0

    def walks(self, source: Ints, target: Ints, key: Ints, *, hashed: bool) -> Loads:
        """One path a flow."""

        def piece(at: Ints, goal: Ints, row: Ints, which: Ints) -> Loads:
            cost = self.table[row, at]
            start = np.concatenate(([0], np.cumsum(cost & (HOPS - 1))))
            link = np.zeros(start[-1], dtype=np.int64)
            rows = self.out
            work = 4 * len(link) * (1 + len(rows.link) // self.size)
            table, row = self._rows_of(row)
            self._run(
                walk, 1, work, link, start, at, goal, row, key[which], hashed, self.size,
                table, rows.first, rows.other, rows.cost, rows.link, self.relay,
            )  # fmt: skip
            flow = np.repeat(np.arange(len(at)), np.diff(start))
            latency = np.bincount(flow, self.topology.latency[link], len(at)).astype(np.float64)
            return Loads(start, link, np.ones(len(link)), latency)

        return self._each(source, target, piece)

    def splits(self, source: Ints, target: Ints) -> Loads:
        """All shortest paths of each flow, evenly split at every vertex."""

        def piece(at: Ints, goal: Ints, row: Ints, which: Ints) -> Loads:
            rows, size = self.out, self.size
            sizes, latency = np.zeros(len(at), dtype=np.int64), np.zeros(len(at))
            none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
            delay = self.topology.latency[rows.link]
            table, row = self._rows_of(row)

            def run(link: Ints, weight: Floats, start: Ints, *, fill: bool, work: int) -> None:
                self._run(
                    spread, 4, work, link, weight, latency, sizes, start, fill, at, goal, row, size,
                    table, rows.first, rows.other, rows.cost, rows.link, delay, self.relay,
                    np.full(size, -1), np.zeros(size, dtype=np.int64), np.zeros(size, dtype=np.int64),
                    np.zeros(size), np.zeros(size),
                )  # fmt: skip

            run(none, nothing, none, fill=False, work=len(at) * len(rows.link))
            start = np.concatenate(([0], np.cumsum(sizes)))
            if start[-1] > MOST_ENTRIES:
                raise TopologyError(
                    f"{self.topology.name}: {len(at):,} flows split over all shortest paths take {start[-1]:,} links, "
                    f"more than {MOST_ENTRIES:,}; ask for fewer at a time, or take ecmp"
                )
            link, weight = np.zeros(start[-1], dtype=np.int64), np.zeros(start[-1])
            run(link, weight, start, fill=True, work=4 * len(link) * (1 + len(rows.link) // size))
            return Loads(start, link, weight, latency)

        return self._each(source, target, piece)

    def hops(self, source: Ints, target: Ints) -> Ints:
        """Hops of shortest paths; -1 where none leads there."""
        apart = source != target
        inner = np.zeros(len(source), dtype=np.int64)
        at, goal = self.place[self.gate[source]], self.place[self.gate[target]]
        for which, row in self._blocks(goal, apart):
            cost = self.table[row, at[which]]
            inner[which] = np.where(cost < 0, -1, cost & (HOPS - 1))
        hanging = (self.up[source] >= 0).astype(np.int64) + (self.down[target] >= 0)
        return np.where(apart & (inner >= 0), inner + hanging, inner)

    def _each(self, source: Ints, target: Ints, piece: Callable[[Ints, Ints, Ints, Ints], Loads]) -> Loads:
        """Ways out of hanging vertices, between what they hang on, and into others."""
        topology = self.topology
        apart = source != target
        at, goal = self.place[self.gate[source]], self.place[self.gate[target]]
        pieces = [self._hanging(self.up[source], apart)]
        for which, row in self._blocks(goal, apart):
            lost = np.flatnonzero(self.table[row, at[which]] < 0)
            if len(lost):
                flow = which[lost[0]]
                a, b = topology.vertex_name(int(source[flow])), topology.vertex_name(int(target[flow]))
                without = ", ".join(topology.link_name(int(link)) for link in np.flatnonzero(self.gone)[:3])
                more = f" (and {self.gone.sum() - 3} more)" if self.gone.sum() > 3 else ""
                raise TopologyError(
                    f"{topology.name}: no path from {a} to {b}" + (f" without {without}{more}" if without else "")
                )
            pieces.append((which, piece(at[which], goal[which], row, which)))
        pieces.append(self._hanging(self.down[target], apart))
        return lay(len(source), pieces)

    def _hanging(self, link: Ints, apart: Bools) -> tuple[Ints, Loads]:
        """A single hop for the flows that have one."""
        which = np.flatnonzero((link >= 0) & apart)
        links = link[which]
        return which, Loads(np.arange(len(links) + 1), links, np.ones(len(links)), self.topology.latency[links])

    def _blocks(self, goal: Ints, apart: Bools) -> Iterator[tuple[Ints, Ints]]:
        """Flows to as many goals as the tables hold at a time, and the row of each flow's goal."""
        order = np.flatnonzero(apart)
        order = order[np.argsort(goal[order], kind="stable")]
        goals, begins = np.unique(goal[order], return_index=True)
        for low in range(0, len(goals), self.rows):
            block = goals[low : low + self.rows]
            end = begins[low + self.rows] if low + self.rows < len(goals) else len(order)
            self._tabulate(block)
            which = np.sort(order[begins[low] : end])
            yield which, self.row_of[goal[which]]

    def _tabulate(self, goals: Ints) -> None:
        """Have the tables of these goals, and drop others where there is no room for all."""
        missing = goals[self.row_of[goals] < 0]
        if self.held + len(missing) > self.rows:
            self.row_of[:], self.held, missing = -1, 0, goals
        if not len(missing):
            return
        if self.held + len(missing) > len(self.table):
            table = np.empty((min(self.rows, max(2 * len(self.table), self.held + len(missing))), self.size), np.int64)
            table[: self.held] = self.table[: self.held]
            self.table = table
        rows = slice(self.held, self.held + len(missing))
        self.table[rows] = -1
        into, scratch = self.into, np.zeros((2, self.size), dtype=np.int64)
        self._run(
            distances, 1, len(missing) * (self.size + len(into.link)),
            self.table[rows].reshape(-1), np.arange(len(missing)), missing,
            into.first, into.other, into.cost, self.relay, scratch[0], scratch[1],
        )  # fmt: skip
        self.row_of[missing] = np.arange(rows.start, rows.stop)
        self.held += len(missing)

    def _rows_of(self, row: Ints) -> tuple[Ints, Ints]:
        """Tables that hold these rows, and the rows' numbers in them."""
        used, number = np.unique(row, return_inverse=True)
        if 2 * len(used) > self.held:
            return self.table.reshape(-1), row
        return self.table[used].reshape(-1), number

    @staticmethod
    def _run(loop: Compilable[..., None], written: int, work: int, *arguments: Any) -> None:
        """Run a loop over arrays, of which it writes the first ones, plain or compiled."""
        # making lists is work too, a sixteenth of a look for each number
        if work + sum(x.size for x in arguments if isinstance(x, np.ndarray)) // 16 >= COMPILED_FROM:
            loop.compiled(*arguments)
            return
        # lists: Python is slow to read single elements of arrays
        lists = [x.tolist() if isinstance(x, np.ndarray) else x for x in arguments]
        loop(*lists)
        for array, values in zip(arguments[:written], lists, strict=False):
            if len(array):
                array[:] = values
