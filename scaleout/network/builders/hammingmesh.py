"""Boards of chips, each a small mesh, whose edges are joined by switches along rows and columns."""

from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, runs, sides
from scaleout.network.fabric import Fabric, Loads

__all__ = ["hamming_mesh"]


def hamming_mesh(
    board: Sequence[int],
    boards: Sequence[int],
    *,
    bandwidth: float,
    latency: float,
    edge_bandwidth: float | None = None,
    edge_latency: float | None = None,
) -> Fabric:
    """A HammingMesh: chips of one row of boards that stand in one line share a switch, and so in columns.

    Both ends of the line on every board hang on the switch; a board of one chip in a line has both
    links from that chip. Paths go along the row first, then along the column, each over the mesh or
    the switch, whichever is shorter (the mesh if neither is). Boards are nodes.

    Parameters
    ----------
    board
        Rows and columns of chips on a board.
    boards
        Rows and columns of boards; a single one in a line has no switch there.
    bandwidth
        Payload rate of a link on a board [byte/s, per direction].
    latency
        Of a link on a board [s].
    edge_bandwidth, edge_latency
        Of a link between an edge and a switch [byte/s, per direction; s]; those on a board where left out.

    References
    ----------
    T. Hoefler et al.: HammingMesh, SC 2022, arXiv 2209.01346.

    >>> from scaleout.network.facts import facts
    >>> found = facts(hamming_mesh((2, 2), (4, 4), bandwidth=50e9, latency=1e-6))
    >>> found.vertices, found.nodes, found.degree, found.diameter
    ({'chip': 64, 'row switch': 8, 'column switch': 8}, 16, (4, 4), 4)
    """
    board, boards = (
        sides(f"HammingMesh: rows and columns of {what}", dims) for what, dims in (("board", board), ("boards", boards))
    )
    if len(board) != 2 or len(boards) != 2:
        raise TopologyError(f"HammingMesh: a board and the boards have rows and columns, not {board} and {boards}")
    (a, b), (x, y) = board, boards
    chips = a * b * x * y
    at_least("HammingMesh: chips", 2, chips)
    wires = Wires("board", "row", "column")
    chip = np.arange(chips)
    node, i, j = chip // (a * b), chip // b % a, chip % b
    rows, columns = (x * a if y > 1 else 0), (y * b if x > 1 else 0)
    row = chips + node // y * a + i
    column = chips + rows + node % y * b + j

    inside = {"bandwidth": bandwidth, "latency": latency, "kind": "board"}
    east, west = wires.both(chip[j < b - 1], chip[j < b - 1] + 1, **inside)  # type: ignore[arg-type]
    south, north = wires.both(chip[i < a - 1], chip[i < a - 1] + b, **inside)  # type: ignore[arg-type]

    def edges(count: int, switch: Ints, place: Ints, kind: str) -> tuple[tuple[int, int], tuple[int, int]]:
        """Links of the low and the high end of each line: into the switch, and out of it."""
        ends = (0,) if count == 1 else (0, count - 1)
        # a line of one chip has both of its links there, as one of twice the width
        pairs = [
            wires.both(
                chip[place == end],
                switch[place == end],
                bandwidth=(bandwidth if edge_bandwidth is None else edge_bandwidth) * (2 // len(ends)),
                latency=latency if edge_latency is None else edge_latency,
                kind=kind,
                width=2 // len(ends),
            )
            for end in ends
        ]
        return pairs[0], pairs[-1]

    row_edges = edges(b, row, j, "row") if rows else ((0, 0), (0, 0))
    column_edges = edges(a, column, i, "column") if columns else ((0, 0), (0, 0))
    topology = wires.topology(
        f"HammingMesh {a}x{b} x {x}x{y}",
        ("chip", chips),
        ("row switch", rows),
        ("column switch", columns),
        node=node,
        coordinates=np.column_stack((node // y * a + i, node % y * b + j)),
    )

    def line(
        count: int, switched: bool, u: Ints, v: Ints, same: Ints, forth: Ints, back: Ints, step: int,
        ends: tuple[tuple[int, int], tuple[int, int]], leave: Ints, enter: Ints,
    ) -> list[tuple[Ints, Ints, Ints]]:  # fmt: skip
        """Hops, first link and step of the walk to an edge, the two links of the switch, the walk from an edge.

        `forth` and `back` are the links of the line that starts at coordinate 0, of the source's board
        and of the target's; `leave` and `enter` the places of their lines among the edges.
        """
        out_high, in_high = 2 * u > count - 1, 2 * v > count - 1
        reach, rest = np.minimum(u, count - 1 - u), np.minimum(v, count - 1 - v)
        straight = np.abs(u - v)
        direct = (same & (straight <= reach + rest + 2)) if switched else np.ones_like(same)
        up = np.where(direct, v > u, out_high)
        first = np.where(up, forth[0] + u * step, forth[1] + (u - 1) * step)
        edge = np.where(in_high, back[1] + (count - 2) * step, back[0])
        over = (~direct).astype(np.int64)
        return [
            (np.where(direct, straight, reach), first, np.where(up, step, -step)),
            (over, np.where(out_high, ends[1][0], ends[0][0]) + leave, over),
            (over, np.where(in_high, ends[1][1], ends[0][1]) + enter, over),
            (np.where(direct, 0, rest), edge, np.where(in_high, -step, step)),
        ]

    def paths(source: Ints, target: Ints) -> Loads:
        at, to = node[source], node[target]
        # along the row to the target's column: the board in the source's row of boards
        turn = at // y * y + to % y
        lie, fall = (at * a + i[source], turn * a + i[source]), (turn, to)
        ways = line(
            b, bool(rows), j[source], j[target], at == turn,
            np.array([east + lie[0] * (b - 1), west + lie[0] * (b - 1)]),
            np.array([east + lie[1] * (b - 1), west + lie[1] * (b - 1)]),
            1, row_edges, *lie,
        )  # fmt: skip
        ways += line(
            a, bool(columns), i[source], i[target], turn == to,
            np.array([first + fall[0] * (a - 1) * b + j[target] for first in (south, north)]),
            np.array([first + fall[1] * (a - 1) * b + j[target] for first in (south, north)]),
            b, column_edges, fall[0] * b + j[target], fall[1] * b + j[target],
        )  # fmt: skip
        hops, begin, step = (np.stack([way[k] for way in ways], axis=1) for k in range(3))
        used = hops > 0
        link = runs(hops[used], begin[used], step[used])
        start = np.concatenate(([0], np.cumsum(hops.sum(axis=1))))
        flow = np.repeat(np.arange(len(source)), np.diff(start))
        latency = np.bincount(flow, topology.latency[link], len(source)).astype(np.float64)
        return Loads(start, link, np.ones(len(link)), latency)

    return Fabric(topology=topology, paths=paths)
