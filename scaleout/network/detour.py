"""Around dead links: flows whose path crosses one take another, all others stay where they are."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.network.fabric import Fabric, Paths
from scaleout.network.topology import Topology

__all__ = ["detour"]


def detour(fabric: Fabric, dead: Ints) -> Fabric:
    """The fabric with paths that avoid the dead links.

    A flow that is split over several paths keeps to those that live, in the same proportions. A
    flow with none left takes the live path with the fewest links; of several the one whose
    links come first, from its end backwards. Chips may pass on what is not theirs.
    Where there is no way, `Fabric.route` refuses.
    """
    lost = np.zeros(fabric.topology.links, dtype=bool)
    lost[dead] = True
    around = _shortest(fabric.topology, ~lost)

    def paths(source: Ints, target: Ints) -> "Ints | Paths":
        found = fabric.paths(source, target)
        split = isinstance(found, Paths)
        whole = found if isinstance(found, Paths) else Paths(found, np.arange(len(source)), np.ones(len(source)))
        matrix, flow, share = whole
        cut = (lost[matrix] & (matrix >= 0)).any(axis=1)
        if not cut.any():
            return found
        left = np.bincount(flow[~cut], share[~cut], len(source))
        gone = np.setdiff1d(flow[cut], flow[~cut])
        detours = around(source[gone], target[gone])
        width = max(matrix.shape[1], detours.shape[1])
        matrix, detours = (
            np.pad(m, ((0, 0), (0, width - m.shape[1])), constant_values=-1) for m in (matrix[~cut], detours)
        )
        flows = np.concatenate((flow[~cut], gone))
        order = np.argsort(flows, kind="stable")
        matrix = np.concatenate((matrix, detours))[order]
        if not split:
            return matrix
        shares = np.concatenate((share[~cut] / left[flow[~cut]], np.ones(len(gone))))
        return Paths(matrix, flows[order], shares[order])

    return replace(fabric, paths=paths)


def _shortest(topology: Topology, live: Bools) -> Callable[[Ints, Ints], Ints]:
    """What finds shortest paths over the live links; a row of -1 where there is none."""
    links = np.flatnonzero(live)
    links = links[np.argsort(topology.source[links], kind="stable")]
    first = np.searchsorted(topology.source[links], np.arange(topology.size + 1))

    def reach(root: int) -> Ints:
        """The link by which breadth-first search from a chip first came to each vertex."""
        came = np.full(topology.size, -1, dtype=np.int64)
        seen = np.zeros(topology.size, dtype=bool)
        seen[root] = True
        front = np.array([root])
        while len(front):
            counts = first[front + 1] - first[front]
            ends = np.cumsum(counts)
            out = links[np.repeat(first[front] - (ends - counts), counts) + np.arange(int(ends[-1]))]
            out = np.sort(out[~seen[topology.target[out]]])
            front, at = np.unique(topology.target[out], return_index=True)
            came[front], seen[front] = out[at], True
        return came

    def paths(source: Ints, target: Ints) -> Ints:
        rows: list[list[int]] = [[] for _ in source]
        for root in np.unique(source).tolist():
            came = reach(root)
            for number in np.flatnonzero(source == root).tolist():
                at = int(target[number])
                while at != root and came[at] >= 0:
                    rows[number].append(int(came[at]))
                    at = int(topology.source[came[at]])
                rows[number].reverse()
        width = max([1, *map(len, rows)])
        matrix = np.full((len(rows), width), -1, dtype=np.int64)
        for number, row in enumerate(rows):
            matrix[number, : len(row)] = row
        return matrix

    return paths
