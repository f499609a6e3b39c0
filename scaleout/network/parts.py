"""What the fabric of a system is put together from: the insides of nodes, and the network between them.

A part names its own vertices and links, both counted from zero; `machine` joins two of them.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints

__all__ = ["Links", "Part", "both_ways", "stack"]


class Links(NamedTuple):
    """Links of one kind, all alike.

    Parameters
    ----------
    source, target
        Vertices: chips come first, then those of the part. Shape (links,).
    bandwidth, latency
        Payload rate [byte/s, per direction], and one way [s].
    chip
        First of the chips that each link belongs to, and how many neighbours share it: what a
        slow link of a rank is. Empty for links of nobody in particular. Shape (links,).
    sharers
        Chips that share a link.
    width
        Parallel links that each stands for.
    kind
        Name.
    """

    source: Ints
    target: Ints
    bandwidth: float
    latency: float
    chip: Ints
    kind: str
    sharers: int = 1
    width: int = 1


class Part(NamedTuple):
    """Part of a fabric.

    Parameters
    ----------
    vertices
        Kinds of vertices beside the chips, and how many there are.
    links
        In the order of their numbers.
    paths
        Links from many sources to many targets, padded with -1.
    halves, transitive, coordinates
        As of a `Topology`, where the part is all of it.
    """

    vertices: tuple[tuple[str, int], ...]
    links: tuple[Links, ...]
    paths: Callable[[Ints, Ints], Ints]
    halves: Bools | None = None
    transitive: bool = False
    coordinates: Ints | None = None

    @property
    def size(self) -> int:
        """Vertices beside the chips."""
        return sum(count for _, count in self.vertices)


def both_ways(
    a: Ints, b: Ints, bandwidth: float, latency: float, chip: Ints, kind: str, *, sharers: int = 1, width: int = 1
) -> tuple[Links, Links]:
    """Links from a to b, and as many back."""
    return (
        Links(a, b, bandwidth, latency, chip, kind, sharers, width),
        Links(b, a, bandwidth, latency, chip, kind, sharers, width),
    )


def stack(links: tuple[Links, ...]) -> tuple[Ints, Ints, Floats, Floats, Ints]:
    """Source, target, bandwidth [byte/s], latency [s] and width of all links."""
    sizes = [len(rows.source) for rows in links]
    return (
        np.concatenate([rows.source for rows in links]),
        np.concatenate([rows.target for rows in links]),
        np.repeat([float(rows.bandwidth) for rows in links], sizes),
        np.repeat([float(rows.latency) for rows in links], sizes),
        np.repeat([rows.width for rows in links], sizes),
    )
