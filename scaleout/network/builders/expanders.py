"""Switches joined so that any two are near: Slim Fly, and random regular graphs (Jellyfish).

Paths are shortest ones by tables; the target decides among equal next hops.
"""

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import TopologyError
from scaleout.network.builders.wiring import Wires, at_least, few_links
from scaleout.network.fabric import Fabric
from scaleout.network.routing import shortest

__all__ = ["jellyfish", "slim_fly"]


def slim_fly(
    q: int,
    *,
    chips_per_router: int,
    bandwidth: float,
    latency: float,
    trunk_bandwidth: float | None = None,
    hop_latency: float | None = None,
) -> Fabric:
    """2 q^2 routers of (3 q - d) / 2 neighbours, q = 4 w + d a prime, any two at most 2 hops apart.

    The graphs of McKay, Miller and Siran: routers (0, x, y) and (0, x, z) are joined if y - z is in X,
    (1, m, c) and (1, m, d) if c - d is in X', (0, x, y) and (1, m, c) if y = m x + c, modulo q.

    Parameters
    ----------
    q
        An odd prime.
    chips_per_router
        Chips that hang on each router.
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port [s].
    trunk_bandwidth, hop_latency
        Of links between routers [byte/s, per direction; s]; those of a port where left out.

    References
    ----------
    M. Besta, T. Hoefler: Slim Fly, SC 2014, arXiv 1912.08968. P. Hafner: Geometric realisation of the
    graphs of McKay-Miller-Siran, J. Combinatorial Theory B 90 (2004).

    >>> from scaleout.network.facts import facts
    >>> found = facts(slim_fly(5, chips_per_router=4, bandwidth=50e9, latency=1e-6))
    >>> found.vertices, found.switch_degree, found.diameter
    ({'chip': 200, 'router': 50}, (11, 11), 4)
    """
    at_least("Slim Fly: q", 3, q, 512)
    if any(q % d == 0 for d in range(2, int(q**0.5) + 1)):
        raise TopologyError(f"Slim Fly: q must be an odd prime (prime powers are not built), got {q}")
    same, other = _generators(q)
    squares = q * q
    router = np.arange(2 * squares)
    side, x, y = router // squares, router // q % q, router % q
    pairs = []
    for which, steps in ((0, same), (1, other)):
        mine = router[side == which]
        pairs += [(mine, mine - y[mine] + (y[mine] + d) % q) for d in steps]
    zero = router[side == 0]
    for m in range(q):
        there = squares + m * q + (y[zero] - m * x[zero]) % q
        pairs += [(zero, there), (there, zero)]
    source, target = (np.concatenate([pair[i] for pair in pairs]) for i in (0, 1))
    return _hung(
        f"Slim Fly {q}", "router", 2 * squares, source, target, chips_per_router,
        bandwidth, latency, trunk_bandwidth, hop_latency,
    )  # fmt: skip


def _generators(q: int) -> tuple[list[int], list[int]]:
    """The sets X and X' of differences, both closed under change of sign."""
    root = next(g for g in range(2, q + 1) if len({pow(g, k, q) for k in range(q - 1)}) == q - 1)
    power = [pow(root, k, q) for k in range(q - 1)]
    if q % 4 == 1:
        return power[0::2], power[1::2]
    w = (q + 1) // 4
    return (
        power[0 : 2 * w - 1 : 2] + power[2 * w - 1 : 4 * w - 2 : 2],
        power[1 : 2 * w : 2] + power[2 * w : 4 * w - 1 : 2],
    )


def jellyfish(
    switches: int,
    degree: int,
    *,
    chips_per_switch: int,
    bandwidth: float,
    latency: float,
    seed: int = 0,
    trunk_bandwidth: float | None = None,
    hop_latency: float | None = None,
) -> Fabric:
    """Switches joined at random, each with `degree` others; connected, and the same for the same seed.

    Parameters
    ----------
    switches
        Number of switches.
    degree
        Other switches that each is joined to.
    chips_per_switch
        Chips that hang on each switch.
    bandwidth
        Payload rate of a chip's port [byte/s, per direction].
    latency
        Of a port [s].
    seed
        Of the graph.
    trunk_bandwidth, hop_latency
        Of links between switches [byte/s, per direction; s]; those of a port where left out.

    References
    ----------
    A. Singla, C.-Y. Hong, L. Popa, P. Godfrey: Jellyfish, NSDI 2012.

    >>> from scaleout.network.facts import facts
    >>> found = facts(jellyfish(20, 4, chips_per_switch=2, bandwidth=50e9, latency=1e-6, seed=1))
    >>> found.chips, found.links, found.switch_degree
    (40, 160, (6, 6))
    """
    at_least("Jellyfish: switches", 2, switches)
    at_least("Jellyfish: degree", 1 if switches == 2 else 2, degree)
    if degree >= switches or switches * degree % 2:
        raise TopologyError(
            f"Jellyfish: no {switches} switches have {degree} different neighbours each; "
            "the degree must be below their number, and one of both even"
        )
    few_links("Jellyfish", switches * degree)
    at_least("Jellyfish: seed", 0, seed, 2**63 - 1)
    rng = np.random.default_rng(seed)
    edges = _regular(switches, degree, rng)
    while not _connected(switches, edges):
        edges = _regular(switches, degree, rng)
    a, b = edges[:, 0], edges[:, 1]
    return _hung(
        f"Jellyfish {switches} x {degree}", "switch", switches, np.concatenate((a, b)), np.concatenate((b, a)),
        chips_per_switch, bandwidth, latency, trunk_bandwidth, hop_latency,
    )  # fmt: skip


def _regular(switches: int, degree: int, rng: np.random.Generator) -> Ints:
    """Pairs of ports at random; loops and double links are undone by exchanging ends with other pairs."""
    if 2 * degree > switches - 1:
        # dense graphs are rare among pairings: take what a sparse one leaves out
        left_out = _regular(switches, switches - 1 - degree, rng)
        joined = ~np.eye(switches, dtype=bool)
        joined[left_out[:, 0], left_out[:, 1]] = joined[left_out[:, 1], left_out[:, 0]] = False
        return np.argwhere(np.triu(joined))
    edges = rng.permutation(np.repeat(np.arange(switches), degree)).reshape(-1, 2)
    while True:
        edges.sort(axis=1)
        key = edges[:, 0] * switches + edges[:, 1]
        _, first = np.unique(key, return_index=True)
        bad = edges[:, 0] == edges[:, 1]
        double = np.ones(len(edges), dtype=bool)
        double[first] = False
        wrong = np.flatnonzero(bad | double)
        if not len(wrong):
            return edges[np.argsort(key)]
        for at in wrong.tolist():
            other, end = int(rng.integers(len(edges))), int(rng.integers(2))
            edges[at, 1], edges[other, end] = edges[other, end], edges[at, 1]


def _connected(switches: int, edges: Ints) -> bool:
    """Whether the edges join all switches."""
    label = np.arange(switches)
    while True:
        least = label.copy()
        np.minimum.at(least, edges[:, 0], label[edges[:, 1]])
        np.minimum.at(least, edges[:, 1], label[edges[:, 0]])
        if (least == label).all():
            return bool((label == 0).all())
        label = least


def _hung(
    name: str, kind: str, switches: int, source: Ints, target: Ints, each: int,
    bandwidth: float, latency: float, trunk_bandwidth: float | None, hop_latency: float | None,
) -> Fabric:  # fmt: skip
    """Chips on switches that are joined by these links."""
    at_least(f"{name}: chips per {kind}", 1, each)
    chips = switches * each
    chip = np.arange(chips)
    wires = Wires("scale-up", "port", "trunk")
    wires.both(chip, chips + chip // each, bandwidth=bandwidth, latency=latency, kind="port")
    order = np.lexsort((target, source))
    wires.one_way(
        chips + source[order],
        chips + target[order],
        bandwidth=bandwidth if trunk_bandwidth is None else trunk_bandwidth,
        latency=latency if hop_latency is None else hop_latency,
        kind="trunk",
    )
    topology = wires.topology(name, ("chip", chips), (kind, switches), node=chip)
    return Fabric(topology=topology, paths=shortest(topology), everywhere=True)
