"""Where a replica stands: its chips, which layers and heads each of them holds, and the links between them.

A chip's number is first + t + tp (d + dp p), of its tensor-parallel place t, its attention rank d and
its pipeline stage p: as the ranks of training jobs.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Ints
from scaleout.network.fabric import Fabric

__all__ = ["Place", "heads_of", "inner_links", "layers_of"]


class Place(NamedTuple):
    """Chips of a replica.

    Parameters
    ----------
    first
        The lowest of its chips.
    tp, pp, dp
        Tensor- and pipeline-parallel degree, and attention ranks.
    ep
        Over how many chips of a stage its experts are dealt out.
    """

    first: int
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1

    def chip(self, stage: int, rank: int, shard: int) -> int:
        """The chip of a stage, an attention rank and a place in its tensor-parallel group."""
        return self.first + shard + self.tp * (rank + self.dp * stage)

    @property
    def chips(self) -> Ints:
        """All of them, shape (pp, dp, tp)."""
        return self.first + np.arange(self.pp * self.dp * self.tp).reshape(self.pp, self.dp, self.tp)


def layers_of(layers: int, pp: int) -> list[range]:
    """Layers of each stage: as many everywhere; of those left over one more in each stage before the last ones.

    >>> layers_of(10, 4)
    [range(0, 2), range(2, 5), range(5, 8), range(8, 10)]
    """
    sizes = [layers // pp] * pp
    for at in range(layers % pp):
        sizes[(pp - 2 - at) % pp] += 1
    ends = np.cumsum(sizes).tolist()
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def heads_of(heads: int, tp: int, shard: int) -> range:
    """Key and value heads of a chip of a tensor-parallel group; one that several hold, where there are more chips.

    >>> heads_of(8, 2, 1), heads_of(2, 8, 5)
    (range(4, 8), range(1, 2))
    """
    if tp >= heads:
        return range(shard * heads // tp, shard * heads // tp + 1)
    return range(shard * heads // tp, (shard + 1) * heads // tp)


def inner_links(fabric: Fabric, place: Place) -> frozenset[int]:
    """Links on the ways between chips of a replica that talk to each other: of one stage, or of stages side by side."""
    chips = place.chips.reshape(place.pp, -1)
    groups = chips if place.ep > 1 else place.chips.reshape(-1, place.tp)
    pairs = [(int(a), int(b)) for group in groups for a in group for b in group if a != b]
    pairs += [(int(a), int(b)) for here, there in pairwise(chips) for a, b in zip(here, there, strict=True)]
    if not pairs:
        return frozenset()
    source, target = np.array(pairs, dtype=np.int64).T
    return frozenset(fabric.route(source, target).link.tolist())
