"""A routing of one's own is held to be paths; what is none is an error that says where."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from scaleout.arrays import Ints
from scaleout.collective import collective_table
from scaleout.errors import TopologyError
from scaleout.network import Paths, avoiding, ring, torus, valiant, with_routing

RING = ring(4, bandwidth=50e9, latency=1e-6)


def clockwise(source: Ints, target: Ints) -> Ints:
    """Always ahead: links 0 to 3 lead from their chip to the next."""
    hops = (target - source) % 4
    step = np.arange(3)
    return np.where(step < hops[:, None], (source[:, None] + step) % 4, -1)


def both_ways(source: Ints, target: Ints) -> Paths:
    """A quarter of each flow goes backwards: links 4 to 7."""
    hops = (source - target) % 4
    step = np.arange(3)
    back = np.where(step < hops[:, None], 4 + (source[:, None] - step) % 4, -1)
    flow, count = np.tile(np.arange(len(source)), 2), len(source)
    return Paths(np.concatenate((clockwise(source, target), back)), flow, np.repeat([0.75, 0.25], count))


@pytest.mark.parametrize("routing", [clockwise, both_ways])
def test_paths_are_taken_as_they_are(routing: Callable[[Ints, Ints], Any]) -> None:
    source, target = np.repeat(np.arange(4), 4), np.tile(np.arange(4), 4)
    routes = with_routing(RING, routing).route(source, target)
    whole = np.bincount(routes.flow, routes.weight, 16)
    hops = (target - source) % 4
    expected = hops if routing is clockwise else 0.75 * hops + 0.25 * (-hops % 4)
    assert whole == pytest.approx(expected)


def test_routings_of_ours_pass() -> None:
    for fabric in (RING, torus((3, 4), bandwidth=50e9, latency=1e-6)):
        for routing in (valiant(fabric.topology, fabric.paths, paths=2), avoiding(fabric.topology, [0], fabric.paths)):
            source, target = np.array([0, 1, 2]), np.array([2, 0, 3])
            ours = with_routing(fabric, routing).route(source, target)
            assert len(ours.start) == 4


WRONG: dict[str, tuple[Callable[[Ints, Ints], Any], str]] = {
    "nothing": (lambda s, t: None, "expected a matrix of link numbers, or Paths, got NoneType"),
    "fractions": (lambda s, t: np.full((len(s), 1), 0.5), "got ndarray of float64"),
    "too few rows": (lambda s, t: np.zeros((1, 1), dtype=int), "expected .* rows of links, one a flow, got \\(1, 1\\)"),
    "no such link": (lambda s, t: np.full((len(s), 1), 8), "links must be 0 to 7, or -1"),
    "elsewhere": (lambda s, t: clockwise(s, (t + 1) % 4), "no path from chip 0 to chip 1 is chip 0 -> chip 1, chip 1"),
    "a gap": (lambda s, t: np.where(clockwise(s, t) == s[:, None], -1, clockwise(s, t)), "no path from chip 0 to"),
    "half of it": (lambda s, t: both_ways(s, t)._replace(share=np.full(2 * len(s), 0.25)), "add up to 1, not 0.5"),
    "no such flow": (lambda s, t: both_ways(s, t)._replace(flow=np.full(2 * len(s), 99)), "flows must be 0 to"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_path_is_refused(case: str) -> None:
    routing, words = WRONG[case]
    with pytest.raises(TopologyError, match=words):
        collective_table("all_to_all", with_routing(RING, routing), [1e6])


@pytest.mark.parametrize("routing", ["spray", None, 3])
def test_a_routing_is_a_function(routing: Any) -> None:
    with pytest.raises(TopologyError, match="a routing is a function"):
        with_routing(RING, routing)
