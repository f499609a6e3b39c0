"""Chips on switches: a crossbar, leaves under spines, and three tiers (folded Clos networks).

A flow goes up only as far as it must. Parallel spines (and cores) are one vertex each by default,
reached over bundles: upward traffic is then spread evenly over them, as by adaptive routing. With
``bundled=False`` each is a vertex, and a flow's target decides which one it takes (d-mod-k);
`scaleout.network.routing` has ECMP and other choices for such graphs.
"""

from collections.abc import Sequence

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, halve, number
from scaleout.network.fabric import Fabric

__all__ = ["clos", "crossbar", "fat_tree", "leaf_spine"]


def crossbar(chips: int, *, bandwidth: float, latency: float) -> Fabric:
    """One node: chips on one switch that never blocks, as behind NVSwitches.

    Parameters
    ----------
    bandwidth
        Payload rate of a chip's link into the switch, and out of it [byte/s, per direction].
    latency
        Of a link [s].

    >>> from scaleout.network.facts import facts
    >>> found = facts(crossbar(8, bandwidth=450e9, latency=5e-7))
    >>> found.chips, found.links, found.degree, found.diameter, found.bisection / 450e9
    (8, 16, (1, 1), 2, 4.0)
    """
    at_least("crossbar: chips", 1, chips)
    chip = np.arange(chips)
    wires = Wires("scale-up")
    up, down = wires.both(chip, np.full(chips, chips), bandwidth=bandwidth, latency=latency, kind="scale-up")
    topology = wires.topology(
        f"crossbar {chips}", ("chip", chips), ("switch", 1), halves=_side(chips, 1), transitive=True
    )

    def paths(source: Ints, target: Ints) -> Ints:
        apart = source != target
        return np.column_stack((np.where(apart, up + source, -1), np.where(apart, down + target, -1)))

    return Fabric(topology=topology, paths=paths)


def leaf_spine(
    chips: int,
    *,
    chips_per_leaf: int,
    spines: int,
    bandwidth: float,
    latency: float,
    oversubscription: float = 1.0,
    hop_latency: float | None = None,
    bundled: bool = True,
    leaf: Sequence[int] | Ints | None = None,
) -> Fabric:
    """Two tiers: every leaf has a link to every spine.

    Parameters
    ----------
    chips_per_leaf
        Chips (ports down) of a leaf.
    spines
        Number of spines; 0 leaves the leaves apart, which one leaf alone or an inner network may do with.
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port, wire and leaf [s].
    oversubscription
        Bandwidth of a leaf's ports down over that of its ports up [1].
    hop_latency
        Of a link between leaf and spine [s]; that of a port where left out.
    bundled
        Whether all spines are one vertex.
    leaf
        Leaf of each chip, such as one leaf a rail; neighbours share one where left out.

    >>> from scaleout.network.facts import facts
    >>> found = facts(leaf_spine(64, chips_per_leaf=16, spines=4, oversubscription=2.0, bandwidth=50e9, latency=1e-6))
    >>> found.chips, found.vertices["leaf"], found.diameter, found.bisection / 50e9
    (64, 4, 4, 16.0)
    """
    return _folded(
        "leaf-spine", chips, chips_per_leaf, 0, spines, 0, bandwidth, latency, (oversubscription, 1.0), hop_latency,
        bundled, leaf,
    )  # fmt: skip


def clos(
    chips: int,
    *,
    chips_per_leaf: int,
    leaves_per_pod: int,
    spines: int,
    cores: int,
    bandwidth: float,
    latency: float,
    oversubscription: Sequence[float] = (1.0, 1.0),
    hop_latency: float | None = None,
    bundled: bool = True,
    leaf: Sequence[int] | Ints | None = None,
) -> Fabric:
    """Three tiers: spine j of every pod has a link to each core of plane j.

    Parameters
    ----------
    chips_per_leaf, leaves_per_pod
        Chips under a leaf, and leaves of a pod.
    spines
        Spines of a pod; each leaf of the pod has a link to each of them.
    cores
        Cores of a plane; there are as many planes as a pod has spines.
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port, wire and leaf [s].
    oversubscription
        Bandwidth down over bandwidth up of a leaf, and of a spine [1].
    hop_latency
        Of a link between switches [s]; that of a port where left out.
    bundled
        Whether all spines of a pod are one vertex, and all cores.
    leaf
        Leaf of each chip; neighbours share one where left out.

    >>> from scaleout.network.facts import facts
    >>> found = facts(clos(64, chips_per_leaf=4, leaves_per_pod=4, spines=4, cores=4, oversubscription=(1, 2),
    ...                    bandwidth=50e9, latency=1e-6, bundled=False))
    >>> found.vertices, found.diameter, found.bisection / 50e9
    ({'chip': 64, 'leaf': 16, 'spine': 16, 'core': 16}, 6, 16.0)
    """
    at_least("Clos: leaves in a pod", 1, leaves_per_pod)
    at_least("Clos: cores in a plane", 1, cores)
    if not isinstance(oversubscription, Sequence) or len(oversubscription) != 2:
        raise TopologyError(
            f"Clos: oversubscription is that of leaves and that of spines, not {oversubscription!r:.40}"
        )
    over = tuple(number("Clos: oversubscription", "1", x) for x in oversubscription)
    return _folded(
        "Clos", chips, chips_per_leaf, leaves_per_pod, spines, cores, bandwidth, latency, over, hop_latency, bundled,
        leaf,
    )  # fmt: skip


def fat_tree(radix: int, *, bandwidth: float, latency: float, bundled: bool = True) -> Fabric:
    """The largest three-tier tree of equal switches that never blocks: radix^3 / 4 chips.

    Parameters
    ----------
    radix
        Ports of every switch, even.
    bandwidth
        Payload rate of every port [byte/s, per direction].
    latency
        Of every link [s].
    bundled
        Whether parallel switches are one vertex.

    References
    ----------
    M. Al-Fares, A. Loukissas, A. Vahdat: A scalable, commodity data center network architecture, SIGCOMM 2008.

    >>> from scaleout.network.facts import facts
    >>> found = facts(fat_tree(8, bandwidth=50e9, latency=1e-6, bundled=False))
    >>> found.vertices, found.diameter, found.bisection / 50e9
    ({'chip': 128, 'leaf': 32, 'spine': 32, 'core': 16}, 6, 64.0)
    """
    at_least("fat tree: ports of a switch", 2, radix, 160)
    half = radix // 2
    if radix % 2:
        raise TopologyError(f"fat tree: needs an even number of ports a switch, got {radix}")
    return clos(
        radix * half * half, chips_per_leaf=half, leaves_per_pod=half, spines=half, cores=half,
        bandwidth=bandwidth, latency=latency, bundled=bundled,
    )  # fmt: skip


def _folded(
    name: str, chips: int, per_leaf: int, per_pod: int, spines: int, cores: int, bandwidth: float, latency: float,
    over: tuple[float, ...], hop_latency: float | None, bundled: bool, leaf_of: Sequence[int] | Ints | None,
) -> Fabric:  # fmt: skip
    """Two tiers where `per_pod` is 0, else three."""
    at_least(f"{name}: chips", 1, chips)
    at_least(f"{name}: chips on a leaf", 1, per_leaf)
    at_least(f"{name}: spines", 1 if per_pod else 0, spines)
    if not all(ratio > 0 for ratio in over):
        raise TopologyError(f"{name}: oversubscription must be above zero, not {over}")
    hop = latency if hop_latency is None else hop_latency
    chip = np.arange(chips)
    leaf_of_chip = chip // per_leaf if leaf_of is None else np.asarray(leaf_of, dtype=np.int64)
    if leaf_of_chip.shape != (chips,) or leaf_of_chip.min() < 0:
        raise TopologyError(f"{name}: `leaf` must name one leaf, 0 or above, for each of the {chips} chips")
    most = int(np.bincount(leaf_of_chip).max())
    if most > per_leaf:
        raise TopologyError(f"{name}: a leaf has {most} chips, not more than chips_per_leaf = {per_leaf} are possible")
    leaves = int(leaf_of_chip.max()) + 1
    pods = -(-leaves // per_pod) if per_pod else 1
    # what stands for parallel switches is one vertex and one link
    spine_set, core_set = (1, 1) if bundled else (spines, cores)
    if not spines:
        spine_set = 0
    first_leaf, first_spine = chips, chips + leaves
    first_core = first_spine + pods * spine_set
    leaf = np.arange(leaves)

    wires = Wires("scale-up", "port", "leaf-spine", "spine-core")
    port, exit_ = wires.both(chip, first_leaf + leaf_of_chip, bandwidth=bandwidth, latency=latency, kind="port")
    up = down = rise = fall = 0
    if spines:
        which = np.tile(np.arange(spine_set), leaves)
        lower = np.repeat(leaf, spine_set)
        upper = (lower // per_pod if per_pod else 0) * spine_set + which
        rate, width = per_leaf * bandwidth / over[0], spines // spine_set
        up, down = wires.both(
            first_leaf + lower, first_spine + upper,
            bandwidth=rate / spine_set, latency=hop, kind="leaf-spine", width=width,
        )  # fmt: skip
        if per_pod:
            fan = core_set
            lower = np.repeat(np.arange(pods * spine_set), fan)
            upper = lower % spine_set * fan + np.tile(np.arange(fan), pods * spine_set)
            rise, fall = wires.both(
                first_spine + lower, first_core + upper,
                bandwidth=rate * per_pod / over[1] / (spine_set * fan), latency=hop, kind="spine-core",
                width=spines * cores // (spine_set * fan),
            )  # fmt: skip
    even = leaf_of is None and chips % (2 * per_leaf) == 0 and pods in (1, chips // (per_leaf * max(per_pod, 1)))
    topology = wires.topology(
        f"{name} {chips}",
        ("chip", chips),
        ("leaf", leaves),
        ("spines of pod" if bundled else "spine", pods * spine_set),
        ("cores" if bundled else "core", core_set * spine_set if per_pod else 0),
        node=chip,
        halves=_tree_halves(leaf_of_chip, leaves, pods, per_pod, spine_set, core_set, over) if even else None,
        transitive=leaf_of is None and chips == leaves * per_leaf and leaves == pods * (per_pod or leaves),
    )

    def paths(source: Ints, target: Ints) -> Ints:
        from_leaf, to_leaf = leaf_of_chip[source], leaf_of_chip[target]
        apart, far = source != target, from_leaf != to_leaf
        columns = [np.where(apart, port + source, -1), np.where(apart, exit_ + target, -1)]
        if spines:
            spine = target % spine_set
            columns[1:1] = [
                np.where(far, up + from_leaf * spine_set + spine, -1),
                np.where(far, down + to_leaf * spine_set + spine, -1),
            ]
        if spines and per_pod:
            from_pod, to_pod = from_leaf // per_pod, to_leaf // per_pod
            core = target // spine_set % core_set
            farther = from_pod != to_pod
            columns[2:2] = [
                np.where(farther, rise + (from_pod * spine_set + spine) * core_set + core, -1),
                np.where(farther, fall + (to_pod * spine_set + spine) * core_set + core, -1),
            ]
        matrix = np.column_stack(columns)
        if not spines:
            matrix[far] = -1
        return matrix

    return Fabric(topology=topology, paths=paths)


def _side(chips: int, switches: int) -> Bools:
    """Half of the chips on one side, switches on the other."""
    return np.concatenate((halve(chips), np.zeros(switches, dtype=bool))) if chips % 2 == 0 else halve(chips)


def _tree_halves(
    leaf_of_chip: Ints, leaves: int, pods: int, per_pod: int, spines: int, cores: int, over: tuple[float, ...]
) -> Bools:
    """The tree without its top, cut between pods or leaves."""
    none = np.zeros(0, dtype=bool)
    if not spines or (per_pod and pods % 2 and pods > 1) or min(over) < 1:
        return none
    if per_pod and pods > 1:
        pod = np.arange(pods) >= pods // 2
        leaf, spine = np.repeat(pod, per_pod)[:leaves], np.repeat(pod, spines)
    else:
        leaf, spine = np.arange(leaves) >= leaves // 2, np.zeros(spines * pods, dtype=bool)
        if leaves % 2:
            return none
    core = np.zeros(cores * spines if per_pod else 0, dtype=bool)
    return np.concatenate((leaf[leaf_of_chip], leaf, spine, core))
