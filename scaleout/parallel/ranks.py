"""Who talks to whom: ranks of a layout and their communicators.

A rank is a number of mixed radix: of its tensor-, context- and data-parallel coordinates and its
pipeline stage, `Layout.order` names the one that counts first. In the usual order, rank =
t + tp (c + cp (d + dp p)), tensor-parallel groups are as close together as can be, and neighbouring
stages farthest apart. ``docs/ranks.md`` has examples.
"""

import numpy as np

from scaleout.arrays import Ints
from scaleout.engine.program import Family
from scaleout.specs import Layout

__all__ = ["HOST_IN", "HOST_OUT", "families", "grid", "host_families", "stage_of"]

HOST_OUT, HOST_IN = "host out", "host in"
"""Families of copies from every rank to its host and back."""

_AXES = ("pp", "dp", "cp", "tp")


def grid(layout: Layout) -> Ints:
    """Ranks by their coordinates, shape (pp, dp, cp, tp)."""
    degree = {"tp": layout.tp, "cp": layout.cp, "dp": layout.dp, "pp": layout.pp}
    slowest_first = layout.order[::-1]
    ranks = np.arange(layout.chips).reshape([degree[axis] for axis in slowest_first])
    return ranks.transpose([slowest_first.index(axis) for axis in _AXES])


def stage_of(layout: Layout) -> Ints:
    """Pipeline stage of each rank."""
    stages = np.empty(layout.chips, dtype=np.int64)
    ranks = grid(layout)
    stages[ranks.ravel()] = np.repeat(np.arange(layout.pp), ranks[0].size)
    return stages


def families(layout: Layout, *, tied_embeddings: bool) -> dict[str, Family]:
    """Communicators of a layout, by name; those of one member are left out.

    ``tp`` and ``cp`` groups; ``dp``, the ranks that hold the same part of the dense model; where
    they keep parts of it, ``shard``, over which it is cut, and ``copies``, the holders of one part.
    Of the experts, whose ranks are those of a stage in their order, cut over ``etp`` neighbours,
    dealt out over ``ep`` of these, in ``edp`` copies. ``dp_copies`` and ``edp_copies``, the same
    where stages as far from either end hold the same chunks, the model being there twice.
    ``pp_forward`` and ``pp_backward``, pairs from each rank to its fellow in the next and in the
    previous stage (round the end too: interleaved schedules pass from the last stage to the first);
    ``embedding``, first and last stage; ``world``. The members of a group are in the order of their
    ranks.
    """
    ranks = grid(layout)
    stages = np.sort(ranks.reshape(layout.pp, -1), axis=1)
    replicas = np.sort(np.moveaxis(ranks, 3, 1).reshape(-1, layout.replicas), axis=1)
    experts = stages.reshape(layout.pp, layout.expert_replicas, layout.ep, layout.etp)
    made = {
        "tp": Family("tp", "tp", ranks.reshape(-1, layout.tp)),
        "cp": Family("cp", "cp", np.moveaxis(ranks, 2, 3).reshape(-1, layout.cp)),
        "dp": Family("dp", "dp", replicas),
        "etp": Family("etp", "tp", experts.reshape(-1, layout.etp)),
        "ep": Family("ep", "ep", np.moveaxis(experts, 2, 3).reshape(-1, layout.ep)),
        "edp": Family("edp", "dp", np.moveaxis(experts, 1, 3).reshape(-1, layout.expert_replicas)),
        "world": Family("world", "dp", np.arange(layout.chips)[None, :]),
    }
    if layout.shard is not None:
        parts = replicas.reshape(len(replicas), -1, layout.shard)
        made["shard"] = Family("shard", "dp", parts.reshape(-1, layout.shard))
        made["copies"] = Family("copies", "dp", np.moveaxis(parts, 1, 2).reshape(-1, parts.shape[1]))
    if layout.pp > 1 and layout.pp % 2 == 0:
        made["dp_copies"] = Family("dp_copies", "dp", _mirrored(replicas, layout.pp))
        made["edp_copies"] = Family("edp_copies", "dp", _mirrored(made["edp"].groups, layout.pp))
    if layout.pp > 1:
        here, following = ranks, np.roll(ranks, -1, axis=0)
        made["pp_forward"] = Family("pp_forward", "pp", np.column_stack((here.ravel(), following.ravel())))
        made["pp_backward"] = Family("pp_backward", "pp", np.column_stack((following.ravel(), here.ravel())))
        if tied_embeddings:
            made["embedding"] = Family("embedding", "dp", np.column_stack((ranks[0].ravel(), ranks[-1].ravel())))
    return {name: family for name, family in made.items() if family.groups.shape[1] > 1}


def host_families(chips: int) -> dict[str, Family]:
    """Copies between every rank and its host: each is alone."""
    alone = np.arange(chips)[:, None]
    return {name: Family(name, "copy", alone) for name in (HOST_OUT, HOST_IN)}


def _mirrored(groups: Ints, stages: int) -> Ints:
    """Groups of a stage, each with its fellow of the stage as far from the other end."""
    of_stage = groups.reshape(stages, -1, groups.shape[1])
    pairs = np.stack((of_stage, of_stage[::-1]), axis=2)[: stages // 2]
    return pairs.reshape(-1, 2 * groups.shape[1])
