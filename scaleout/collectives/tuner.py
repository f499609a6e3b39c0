"""What NCCL's tuner thinks that algorithms and protocols take: to choose between them, not to tell the time.

The form is NCCL's: a base latency, hops, and bytes over channels times the rate of a channel,
with corrections by algorithm and protocol. Tables here hold for all machines; what a machine
adds is `scaleout.specs.Tuner`. Its rates overstate what is measured. Equations and what it gets
right: ``docs/collectives.md``. Source of every figure: ``NVIDIA/nccl``, ``src/graph/tuning.cc``
(2.27 and 2.28).
"""

import math
from collections.abc import Mapping

from scaleout.specs import Tuner

__all__ = ["PROTOCOLS", "tuner_choice", "tuner_name", "tuner_times"]

PROTOCOLS = ("LL", "LL128", "Simple")
_US, _GB = 1e-6, 1e9
_BASE = {"ring": (6.6, 14.0, 8.4), "tree": (6.8, 14.0, 8.4)}
"""Latency of an operation by protocol [us]."""
_HOP = {
    ("nvlink", "ring"): (0.6, 1.9, 3.4),
    ("nvlink", "tree"): (0.6, 1.25, 4.0),
    ("pcie", "ring"): (1.0, 2.5, 5.7),
    ("pcie", "tree"): (1.0, 1.9, 4.0),
    ("network", "ring"): (2.7, 4.0, 14.0),
    ("network", "tree"): (5.0, 8.5, 14.0),
}
"""Latency of a hop by protocol [us]."""
_NVLS, _NVLS_TREE_NETWORK = 25.0, 20.9
_NET_OVERHEAD = (1.0, 1.0, 3.0)
"""A hop of a ring over several nodes takes so long at least, by protocol [us]."""
_PLATEAU = 1.4
"""Rings of Simple over several nodes have their latency so many times from 64 bytes a rank and channel."""
_TREE_CORRECTION = (
    (1, 1, 1, 1, .9, .8, .7, .7, .7, .7, .6, .5, .4, .4, .5, .6, .7, .8, .9, 1, 1, 1, 1),
    (1, 1, 1, 1, 1, .9, .8, .8, .8, .7, .6, .6, .6, .6, .6, .6, .8, .9, .9, .9, .9, 1, 1),
    (.9, .9, .9, .9, .9, .9, .9, .8, .7, .6, .6, .5, .5, .5, .5, .6, .7, .8, .7, .7, .8, .9, .9),
)  # fmt: skip
"""Share of a tree's rate at 64 B, 128 B, ... 256 MiB, by protocol; 1 beyond."""
_RING_LL128, _TREE, _TREE_LL, _TREE_PATTERN = 0.92, 0.92, 3.8, 0.85
_ROUNDS = {"all_reduce": 2, "all_gather": 1, "reduce_scatter": 1}


def tuner_times(tuner: Tuner, operation: str, ranks: int, nodes: int, nbytes: float) -> dict[str, float]:
    """Time by ``algorithm/protocol`` [s]; empty for what the tuner does not choose, such as all-to-alls.

    ``nvls/Simple`` and ``nvls-tree/Simple`` are the switch's sums, alone and under a tree.

    Parameters
    ----------
    ranks, nodes
        Members of the group, and nodes that they stand on.
    """
    if operation not in _ROUNDS or ranks < 2:
        return {}
    times = {
        f"ring/{protocol}": _ring(tuner, operation, ranks, nodes, nbytes, at) for at, protocol in enumerate(PROTOCOLS)
    }
    if operation == "all_reduce":
        for at, protocol in enumerate(PROTOCOLS):
            times[f"tree/{protocol}"] = _tree(tuner, ranks, nodes, nbytes, at)
    if tuner.nvls_rate is not None and ranks > 2:
        if nodes == 1:
            times["nvls/Simple"] = _nvls(tuner, operation, ranks, 1, nbytes)
        elif operation == "all_reduce" and ranks > nodes:
            times["nvls-tree/Simple"] = _nvls(tuner, operation, ranks, nodes, nbytes)
    return times


def _channels(tuner: Tuner, nodes: int) -> tuple[int, float]:
    """Channels, and the rate of one [byte/s]."""
    if nodes == 1:
        return tuner.channels, tuner.channel_rate
    return tuner.network_channels, tuner.network_channel_rate


def _ring(tuner: Tuner, operation: str, ranks: int, nodes: int, nbytes: float, at: int) -> float:
    channels, rate = _channels(tuner, nodes)
    bus = channels * rate
    if at == 0:
        bus = min(tuner.limit("ll", nodes), bus / 2)
    elif at == 1:
        bus = min(bus * _RING_LL128, channels * tuner.ring_ll128)
    rounds = _ROUNDS[operation]
    steps, outside = rounds * (ranks - 1), rounds * (nodes - 1)
    hop = _HOP[tuner.link, "ring"][at]
    if nodes > 1:
        hop = max(hop, _NET_OVERHEAD[at])
    # with one chip a node nothing hides the network's latency
    far = _HOP["network", "tree" if ranks == nodes else "ring"][at]
    latency = _BASE["ring"][at] + (steps - outside) * hop + outside * far
    if at == 2 and nodes > 1 and rounds == 2 and nbytes / (channels * ranks) >= 64:
        latency *= _PLATEAU
    return latency * _US + nbytes * steps / (ranks * bus)


def _tree(tuner: Tuner, ranks: int, nodes: int, nbytes: float, at: int) -> float:
    channels, rate = _channels(tuner, nodes)
    bus = min(channels * rate * _TREE, channels * tuner.limit("tree", nodes))
    if at == 0:
        bus = min(bus / _TREE_LL, tuner.limit("ll", nodes))
    elif at == 1:
        bus = min(bus * (7 / 9 if nodes == 1 else 120 / 128), channels * tuner.limit("tree_ll128", nodes))
    if nodes > 1:
        bus *= _TREE_PATTERN
    size = int(math.log2(max(nbytes, 64) / 64))
    if size < len(_TREE_CORRECTION[at]):
        bus *= _TREE_CORRECTION[at][size]
    inside = (ranks // nodes - 1) * _HOP[tuner.link, "tree"][at]
    levels = int(math.log2(nodes)) * _HOP["network", "tree"][at]
    return (_BASE["tree"][at] + 2 * (inside + levels)) * _US + 2 * nbytes / bus


def _nvls(tuner: Tuner, operation: str, ranks: int, nodes: int, nbytes: float) -> float:
    """One channel for each chip of a node, which owns a part of the sum."""
    here = ranks // nodes
    total = tuner.channels * tuner.channel_rate
    rate = min(tuner.nvls_rate or 0.0, total / here) * tuner.nvls_efficiency * (here - 1) / here
    rate *= 2 if operation == "all_reduce" else (here - 1) / here
    latency = _NVLS
    if nodes > 1:
        outside = tuner.network_channels * tuner.network_channel_rate / here
        rate = min(rate, outside * (2 if nodes == 2 else 1), tuner.limit("nvls_tree", nodes))
        latency += 2 * int(math.log2(nodes)) * _NVLS_TREE_NETWORK
    bus = here * rate
    share = 2 * (ranks - 1) / ranks if operation == "all_reduce" else 1.0
    return latency * _US + nbytes * share / bus


_LIKE = {
    "hierarchical-tree": "tree",
    "NVLS-small": "Simple",
    "NVLS": "Simple",
    "NVLSTree": "Simple",
}
"""Algorithms and protocols of libraries here -> what they are to the tuner."""


def tuner_choice(times: Mapping[str, float], able: Mapping[str, float]) -> str | None:
    """What the tuner's least time falls on among what a library has; None where it has nothing of it.

    Parameters
    ----------
    times
        Of `tuner_times`.
    able
        Our time of each ``algorithm/protocol`` that can do the operation, which decides between
        two protocols that are one to the tuner, such as two of the switch's.
    """
    for name in sorted(times, key=lambda one: (times[one], one)):
        mine = [one for one in able if tuner_name(one) == name]
        if mine:
            return min(mine, key=lambda one: (able[one], one))
    return None


def tuner_name(name: str) -> str:
    """An ``algorithm/protocol`` of a library as the tuner calls it.

    >>> tuner_name("nvls/NVLS-small"), tuner_name("hierarchical-tree/LL")
    ('nvls/Simple', 'tree/LL')
    """
    algorithm, _, protocol = name.partition("/")
    return f"{_LIKE.get(algorithm, algorithm)}/{_LIKE.get(protocol, protocol)}"
