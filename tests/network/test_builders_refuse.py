"""What builders refuse: wrong types and absurd sizes, in one sentence and at once."""

from collections.abc import Callable
from typing import Any

import pytest

from scaleout.errors import TopologyError
from scaleout.network import (
    clos,
    dragonfly,
    facts,
    fat_tree,
    fully_connected,
    hamming_mesh,
    host_node,
    hypercube,
    hyperx,
    islands,
    jellyfish,
    mesh,
    ring,
    slim_fly,
    torus,
)

LINK: dict[str, Any] = {"bandwidth": 50e9, "latency": 1e-6}
SMALL = ring(4, **LINK)
CASES: list[tuple[Callable[[], Any], str]] = [
    (lambda: ring("8", **LINK), "ring: chips: '8' is no whole number"),  # type: ignore[arg-type]
    (lambda: ring(8.0, **LINK), "ring: chips: 8.0 is no whole number"),  # type: ignore[arg-type]
    (lambda: ring(True, **LINK), "ring: chips: True is no whole number"),
    (lambda: ring(10**12, **LINK), "at most 1,048,576 are accepted, got 1,000,000,000,000"),
    (lambda: ring(8, bandwidth="50 GB/s", latency=0), "ring: bandwidth: '50 GB/s' is no number \\[byte/s\\]"),  # type: ignore[arg-type]
    (lambda: ring(8, bandwidth=None, latency=0), "bandwidth: None is no number"),  # type: ignore[arg-type]
    (lambda: torus((4, 4), bandwidth=1e9, latency="1 us"), "torus: latency: '1 us' is no number \\[s\\]"),  # type: ignore[arg-type]
    (lambda: torus(8, **LINK), "torus: chips in a dimension: 8 is no row of whole numbers"),  # type: ignore[arg-type]
    (lambda: torus("44", **LINK), "'44' is no row"),  # type: ignore[arg-type]
    (lambda: mesh((4, 2.5), **LINK), "2.5 is no whole number"),  # type: ignore[list-item]
    (lambda: torus((10**6, 10**6), **LINK), "torus: chips: at most 1,048,576"),
    (lambda: hypercube(10**9, **LINK), "hypercube: dimensions: at most 20"),
    (lambda: fully_connected(10**6, **LINK), "links; at most 16,777,216"),
    (lambda: hyperx((2000, 2000), **LINK), "HyperX: chips: at most"),
    (lambda: slim_fly(1_000_003, chips_per_router=2, **LINK), "Slim Fly: q: at most 512"),
    (lambda: slim_fly(7.5, chips_per_router=2, **LINK), "Slim Fly: q: 7.5 is no whole number"),  # type: ignore[arg-type]
    (lambda: jellyfish(8, 3, chips_per_switch=1, seed=-1, **LINK), "seed: needs at least 0"),
    (lambda: jellyfish(200_000, 100, chips_per_switch=1, **LINK), "Jellyfish: 20,000,000 links"),
    (lambda: dragonfly(2_000, chips_per_router=20, long_links=20, **LINK), "dragonfly: chips: at most"),
    (lambda: hamming_mesh((2, 2), (4.5, 4), **LINK), "boards: 4.5 is no whole number"),  # type: ignore[arg-type]
    (lambda: fat_tree(10**6, **LINK), "fat tree: ports of a switch: at most 160"),
    (
        lambda: clos(64, chips_per_leaf=4, leaves_per_pod=4, spines=2, cores=4, oversubscription=2.0, **LINK),  # type: ignore[arg-type]
        "oversubscription is that of leaves and that of spines, not 2.0",
    ),
    (lambda: islands(SMALL, SMALL), "islands: expected a list of fabrics, not Fabric"),  # type: ignore[arg-type]
    (lambda: islands(["ring"], SMALL), "islands: 'ring' is no fabric"),  # type: ignore[list-item]
    (lambda: islands([SMALL], None), "islands: None is no fabric"),  # type: ignore[arg-type]
    (lambda: host_node(8, pcie=48e9, dram=(3e11, 1e-7)), "a pcie link is \\(bandwidth"),  # type: ignore[arg-type]
    (lambda: facts(SMALL.topology), "facts: expected a fabric, not Topology"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_refused_with_one_sentence(case: int) -> None:
    build, words = CASES[case]
    with pytest.raises(TopologyError, match=words) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_two_chips_have_a_middle() -> None:
    found = facts(ring(2, **LINK))
    assert (found.diameter, found.bisection) == (1, 100e9)
