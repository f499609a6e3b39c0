"""What every routing owes: contiguous walks, shares that add up, and networkx's own distances."""

from collections import defaultdict

import networkx as nx
import numpy as np

from scaleout.network import Fabric, max_min


def some_pairs(ends: int, count: int = 60, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random pairs of different vertices; all of them where that is no more."""
    if ends * (ends - 1) <= count * 4:
        pairs = np.array([(s, t) for s in range(ends) for t in range(ends) if s != t], dtype=np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]
    rng = np.random.default_rng(seed)
    source = rng.integers(0, ends, count)
    return source, (source + rng.integers(1, ends, count)) % ends


def assert_walks(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> None:
    """Every flow is one walk from its source to its target."""
    routes, topology = fabric.route(source, target), fabric.topology
    assert (routes.weight == 1.0).all()
    for flow, (s, t) in enumerate(zip(source, target, strict=True)):
        links = routes.link[routes.start[flow] : routes.start[flow + 1]]
        assert topology.source[links[0]] == s
        assert topology.target[links[-1]] == t
        assert (topology.target[links[:-1]] == topology.source[links[1:]]).all()
        assert np.isclose(routes.latency[flow], topology.latency[links].sum())


def assert_shortest(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> None:
    """Every flow is one walk by as few links as networkx finds."""
    assert_walks(fabric, source, target)
    graph, hops = fabric.topology.to_networkx(), np.diff(fabric.route(source, target).start)
    lengths: dict[int, dict[int, int]] = {}
    for s, t, found in zip(source.tolist(), target.tolist(), hops.tolist(), strict=True):
        if s not in lengths:
            lengths[s] = nx.single_source_shortest_path_length(graph, s)
        assert found == lengths[s][t]


def assert_conserved(fabric: Fabric, source: np.ndarray, target: np.ndarray) -> None:
    """What flows into a vertex flows out of it; one leaves the source, one reaches the target."""
    routes, topology = fabric.route(source, target), fabric.topology
    for flow, (s, t) in enumerate(zip(source.tolist(), target.tolist(), strict=True)):
        balance: dict[int, float] = defaultdict(float)
        for at in range(routes.start[flow], routes.start[flow + 1]):
            balance[int(topology.source[routes.link[at]])] -= routes.weight[at]
            balance[int(topology.target[routes.link[at]])] += routes.weight[at]
        balance[s] += 1.0
        balance[t] -= 1.0
        assert max(map(abs, balance.values())) < 1e-12


def everyone_to_everyone(fabric: Fabric) -> float:
    """Time of an all-to-all of one byte a chip in all, every pair at once, over the bandwidth of link 0."""
    n = fabric.topology.chips
    source, target = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(n), indexing="ij"))
    source, target = source[source != target], target[source != target]
    routes = fabric.route(source, target)
    ones = np.ones(len(routes.link), dtype=np.int64)
    rates = max_min(
        fabric.topology.bandwidth, routes.link, routes.flow, routes.weight, ones, np.full(len(source), np.inf)
    )
    return float(fabric.topology.bandwidth[0] / n / rates.min())


def assert_facts_of_networkx(fabric: Fabric) -> None:
    """Diameter, mean distance and degree are those of networkx, and the graph is connected both ways."""
    from scaleout.network import facts

    graph, found, chips = fabric.topology.to_networkx(), facts(fabric), fabric.topology.chips
    assert nx.is_strongly_connected(graph)
    hops = [nx.single_source_shortest_path_length(graph, s)[t] for s in range(chips) for t in range(chips) if s != t]
    assert found.distances_exact
    assert found.diameter == max(hops)
    assert np.isclose(found.mean_distance, np.mean(hops))
    if fabric.topology.width.max() == 1:
        degrees = [graph.out_degree(v) for v in range(chips)]
        assert found.degree == (min(degrees), max(degrees))
    assert sum(found.vertices.values()) == graph.number_of_nodes()
    assert found.links == graph.number_of_edges()
