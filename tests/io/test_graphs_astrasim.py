"""ASTRA-sim's products against networkx: the same graph, and every path a shortest one, dimension by dimension."""

from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs import read_topology
from scaleout.io.graphs.astrasim import product_of
from scaleout.network.fabric import Fabric

BLOCKS = ("Ring", "FullyConnected", "Switch")


def put(folder: Path, text: str) -> Path:
    path = folder / "net.yml"
    path.write_text(text)
    return path


def product(blocks: list[str], sizes: list[int]) -> Fabric:
    rates, times = [1e9 * (d + 1) for d in range(len(sizes))], [1e-6 * (d + 1) for d in range(len(sizes))]
    return product_of("product", "product", blocks, sizes, rates, times)


shapes = st.lists(st.tuples(st.sampled_from(BLOCKS), st.integers(2, 5)), min_size=1, max_size=3)


@settings(max_examples=30)
@given(shape=shapes)
def test_paths_go_dimension_by_dimension_the_shorter_way(shape: list[tuple[str, int]]) -> None:
    blocks, sizes = [block for block, _ in shape], [size for _, size in shape]
    fabric = product(blocks, sizes)
    topology, chips = fabric.topology, int(np.prod(sizes))
    source, target = (axis.ravel() for axis in np.meshgrid(np.arange(chips), np.arange(chips), indexing="ij"))
    routes = fabric.route(source, target)
    for flow in range(0, len(source), max(1, len(source) // 200)):
        links = routes.link[routes.start[flow] : routes.start[flow + 1]]
        ends = [int(source[flow]), *topology.target[links].tolist()]
        assert ends[:-1] == topology.source[links].tolist()
        assert ends[-1] == target[flow]
        assert (np.diff(topology.kind[links]) >= 0).all()
        hops, here, there = 0, int(source[flow]), int(target[flow])
        for block, size in shape:
            away = abs(here % size - there % size)
            hops += {"Ring": min(away, size - away), "Switch": 2 * (away > 0), "FullyConnected": int(away > 0)}[block]
            here, there = here // size, there // size
        assert len(links) == hops


@settings(max_examples=20)
@given(shape=shapes.map(lambda rows: [row for row in rows if row[0] != "Switch"]).filter(bool))
def test_the_graph_is_networkxs_product(shape: list[tuple[str, int]]) -> None:
    parts = [networkx.cycle_graph(k) if block == "Ring" and k > 2 else networkx.complete_graph(k) for block, k in shape]
    oracle: Any = parts[0]
    for part in parts[1:]:
        oracle = networkx.cartesian_product(oracle, part)
    strides = [int(np.prod([size for _, size in shape[:d]])) for d in range(len(shape))]

    def flat(point: Any) -> list[int]:
        return [*flat(point[0]), point[1]] if isinstance(point, tuple) else [point]

    wanted = {
        frozenset(sum(c * s for c, s in zip(flat(end), strides, strict=True)) for end in edge) for edge in oracle.edges
    }
    topology = product([block for block, _ in shape], [size for _, size in shape]).topology
    assert {frozenset(pair) for pair in zip(topology.source.tolist(), topology.target.tolist(), strict=True)} == wanted
    assert topology.links == 2 * len(wanted)


def test_a_gigabyte_is_theirs_unless_said_otherwise(tmp_path: Path) -> None:
    path = put(tmp_path, "topology: [Switch]\nnpus_count: [4]\nbandwidth: [50]\nlatency: [500.0]\n")
    fabric = read_topology(path)
    assert fabric.topology.bandwidth.tolist() == [50 * 2**30] * 8
    assert fabric.topology.latency == pytest.approx([500e-9] * 8)
    assert read_topology(path, gigabyte=1e9).topology.bandwidth[0] == 50e9
    assert fabric.route(np.array([0]), np.array([3])).latency == pytest.approx([1e-6])


def test_the_first_dimension_is_inside_nodes(tmp_path: Path) -> None:
    text = "topology: [FullyConnected, Switch]\nnpus_count: [4, 2]\nbandwidth: [200, 50]\nlatency: [1, 2]\n"
    topology = read_topology(put(tmp_path, text)).topology
    assert topology.node.tolist() == [0] * 4 + [1] * 4
    assert topology.kinds == ("FullyConnected 1", "Switch 2")
    assert topology.vertices == (("chip", 8), ("switch of dimension 2", 4))


GOOD = "topology: [Ring]\nnpus_count: [4]\nbandwidth: [50]\nlatency: [500]\n"
BAD: dict[str, tuple[str, str, str]] = {
    "unknown key": ("latency", "latencies", r"latencies: unknown key; did you mean 'latency'"),
    "missing": ("latency: [500]\n", "", "latency: is missing; expected a list with one entry for every dimension"),
    "no list": ("[50]", "50", "bandwidth: is 50; expected a list"),
    "length": ("[500]", "[500, 1]", "latency: has 2 entries; expected 1, as topology has"),
    "block": ("[Ring]", "[Rng]", r"topology\[0\]: 'Rng' is unknown; did you mean 'Ring'"),
    "count": ("[4]", "[1]", r"npus_count\[0\]: 1 is not a whole number at least 2"),
    "huge": ("[4]", "[1e15]", r"npus_count\[0\]: .* at most 1,048,576"),
    "zero": ("[50]", "[0]", r"bandwidth\[0\]: 0 is not a number above 0"),
    "nan": ("[50]", "[.nan]", r"bandwidth\[0\]: nan is not"),
    "infinite": ("[50]", "[9e299]", "GB/s is too large"),
    "negative": ("[500]", "[-1]", r"latency\[0\]: -1 is not a number at least 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    old, new, message = BAD[case]
    with pytest.raises(SpecError, match=message) as caught:
        read_topology(put(tmp_path, GOOD.replace(old, new)))
    assert str(tmp_path / "net.yml") in str(caught.value)


@pytest.mark.parametrize(
    ("block", "sizes", "message"),
    [
        ("Ring", [1024, 1024, 1024], "1024 x 1024 x 1024 chips; at most 1,048,576 are accepted"),
        ("FullyConnected", [1_000_000], "links; at most 16,777,216 are accepted"),
    ],
)
def test_products_too_large_are_refused_before_they_are_built(block: str, sizes: list[int], message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        product([block] * len(sizes), sizes)
