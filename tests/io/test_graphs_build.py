"""Builders called from files: the same fabric as in Python, and nothing built that would not fit."""

from pathlib import Path

import pytest

from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs import read_topology
from scaleout.io.graphs.build import _links, builders

LINK = "bandwidth: 50 GB/s\nlatency: 1 us\n"
CALLS = {
    "clos": "chips: 32\nchips_per_leaf: 4\nleaves_per_pod: 2\nspines: 2\ncores: 2\noversubscription: [1, 2]",
    "crossbar": "chips: 4",
    "dragonfly": "routers: 4\nchips_per_router: 2\nlong_links: 2\nlong_bandwidth: 25 GB/s",
    "fat_tree": "radix: 4",
    "fully_connected": "chips: 5",
    "hamming_mesh": "board: [2, 2]\nboards: [2, 3]",
    "host_node": "chips: 4\npcie: [50 GB/s, 0.3 us]\ndram: [100 GB/s, 0.1 us]\nsockets: 1\nnics: 2\npcie_switches: 2",
    "hypercube": "dims: 4",
    "hyperx": "dims: [3, 4]\nchips_per_switch: 2\nhop_latency: 0.5 us",
    "islands": "parts: [{build: ring, chips: 4, bandwidth: 50 GB/s, latency: 1 us}, "
    "{build: crossbar, chips: 2, bandwidth: 90 GB/s, latency: 1 us}]\n"
    "network: {build: crossbar, chips: 6, bandwidth: 10 GB/s, latency: 1 us}",
    "jellyfish": "switches: 10\ndegree: 3\nchips_per_switch: 1\nseed: 3",
    "leaf_spine": "chips: 8\nchips_per_leaf: 2\nspines: 2\nbundled: false\nleaf: [0, 1, 2, 3, 0, 1, 2, 3]",
    "mesh": "dims: [3, 2]",
    "rail_only": "nodes: 4\nchips_per_node: 2\nscale_up_bandwidth: 90 GB/s\nscale_up_latency: 0.3 us",
    "rail_optimised": "nodes: 4\nscale_up_bandwidth: 90 GB/s\nscale_up_latency: 0.3 us\nnodes_per_leaf: 2\nspines: 2",
    "ring": "chips: 5",
    "slim_fly": "q: 5\nchips_per_router: 2",
    "torus": "dims: [4, 4]",
    "twisted_torus": "dims: [2, 4]",
}
ALONE = ("host_node", "islands")
"""Take no bandwidth and latency of their own."""


def test_every_builder_is_called_here() -> None:
    assert set(CALLS) | {"nvswitch_node", "rail_fat_tree"} >= set(builders())


def put(folder: Path, text: str) -> Path:
    path = folder / "net.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", CALLS)
def test_a_file_calls_the_builder(name: str, tmp_path: Path) -> None:
    link = "" if name in ALONE else LINK
    topology = read_topology(put(tmp_path, f"name: mine\nbuild: {name}\n{CALLS[name]}\n{link}")).topology
    assert topology.name == "mine"
    assert 50e9 in topology.bandwidth.tolist()


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("clos", {"chips": 64, "chips_per_leaf": 4, "leaves_per_pod": 4, "spines": 4, "cores": 3, "bundled": False}),
        ("crossbar", {"chips": 9}),
        ("dragonfly", {"routers": 4, "chips_per_router": 2, "long_links": 2}),
        ("fat_tree", {"radix": 6, "bundled": False}),
        ("fully_connected", {"chips": 7}),
        ("hypercube", {"dims": 5}),
        ("hyperx", {"dims": (3, 4), "chips_per_switch": 2}),
        ("hamming_mesh", {"board": (2, 2), "boards": (3, 3)}),
        ("jellyfish", {"switches": 20, "degree": 4, "chips_per_switch": 2}),
        ("slim_fly", {"q": 5, "chips_per_router": 4}),
        ("leaf_spine", {"chips": 30, "chips_per_leaf": 4, "spines": 5, "bundled": False}),
        ("mesh", {"dims": (4, 5, 2)}),
        ("ring", {"chips": 8}),
        ("torus", {"dims": (4, 3, 3)}),
        ("twisted_torus", {"dims": (4, 4, 8)}),
    ],
)
def test_links_are_foreseen(name: str, given: dict[str, object]) -> None:
    links = builders()[name](bandwidth=1.0, latency=0.0, **given).topology.links
    assert links <= _links(name, given) <= 3 * links


TOO_LARGE = {
    "fully_connected": "chips: 1000000",
    "hypercube": "dims: 1000000",
    "hyperx": "dims: [1000, 1000, 1000]",
    "fat_tree": "radix: 1000",
    "leaf_spine": "chips: 1000000\nchips_per_leaf: 1\nspines: 1000000\nbundled: false",
    "clos": "chips: 1000000\nchips_per_leaf: 1\nleaves_per_pod: 1\nspines: 1000\ncores: 1000\nbundled: false",
    "torus": "dims: [1048576, 1048576]",
    "dragonfly": "routers: 1000\nchips_per_router: 1\nlong_links: 1000",
    "slim_fly": "q: 1009\nchips_per_router: 1",
    "jellyfish": "switches: 1000000\ndegree: 1000\nchips_per_switch: 1",
    "hamming_mesh": "board: [1000, 1000]\nboards: [1000, 1000]",
    "mesh": f"dims: {[1000] * 500}",
}


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_refused_before_it_is_built(name: str, tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match=f"{name} of this size has more than 16,777,216 links"):
        read_topology(put(tmp_path, f"build: {name}\n{TOO_LARGE[name]}\n{LINK}"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("build: host_node\nchips: 2\npcie: 5\ndram: [1 GB/s, 0 s]\n", r"pcie: 5 is not .* \[bandwidth, latency\]"),
        ("build: host_node\nchips: 2\npcie: [1 GB/s, 5]\ndram: [1 GB/s, 0 s]\n", "pcie: latency: 5 has no unit"),
        ("build: islands\nparts: [3]\nnetwork: 4\n", r"parts\[0\]: 3 is not accepted; expected a builder's name"),
        ("build: islands\nparts: [{chips: 3}]\nnetwork: 4\n", r"parts\[0\]: build is missing"),
        (f"build: torus\ndims: 4\n{LINK}", "dims: 4 is not accepted; expected a list"),
        (f"build: torus\ndims: []\n{LINK}", r"dims: \[\] is not accepted; expected a list"),
        (f"build: torus\ndims: [4, x]\n{LINK}", r"dims\[1\]: 'x' is not a whole number"),
        (f"build: torus\ndims: [4, -4]\n{LINK}", r"dims\[1\]: -4 is not a whole number"),
        (f"build: torus\ndims: [4, 2.5]\n{LINK}", r"dims\[1\]: 2.5 is not a whole number"),
        (
            f"build: leaf_spine\nchips: 4\nchips_per_leaf: 2\nspines: 1\nbundled: 1\n{LINK}",
            "bundled: 1 is not accepted",
        ),
        (f"build: leaf_spine\nchips: 4\nchips_per_leaf: 2\nspines: 1\noversubscription: .nan\n{LINK}", "nan is not"),
        ("build: nvswitch_node\nsystem: dgx-h10\nchips: 4\n", "system: .*unknown system 'dgx-h10'; did you mean"),
        ("build: nvswitch_node\nsystem: dgx-h100\nchips: 4\nslow: {}\n", "slow: cannot be given in a file"),
        ("build: nvswitch_node\nsystem: dgx-h100\nchips: 9\n", "a dgx-h100 node has 8 chips, not 9"),
    ],
)
def test_bad_parameters(text: str, message: str, tmp_path: Path) -> None:
    path = put(tmp_path, text)
    with pytest.raises((SpecError, TopologyError), match=message) as caught:
        read_topology(path)
    assert str(caught.value).startswith(str(path))
