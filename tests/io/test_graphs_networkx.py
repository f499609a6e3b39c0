"""Graphs of networkx in, and every form out and in again: the same graph, by networkx's own measure."""

from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scaleout
from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs import from_networkx, load_topology, read_topology, topology_names, write_topology
from scaleout.io.graphs.assemble import reached
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology

LINK: dict[str, Any] = {"bandwidth": 50e9, "latency": 1e-6}
SUFFIXES = (".yaml", ".graphml", ".json")


def same(one: Topology, other: Topology) -> None:
    """The same graph, link by link, in whatever order the links stand."""

    def rows(topology: Topology) -> list[Any]:
        names = [topology.kinds[kind] for kind in topology.kind]
        columns = (topology.source, topology.target, topology.bandwidth, topology.latency, topology.width)
        return sorted(zip(*(column.tolist() for column in columns), names, strict=True))

    assert rows(one) == rows(other)
    assert (one.name, one.chips, one.kinds[0]) == (other.name, other.chips, other.kinds[0])
    assert [one.vertex_name(v) for v in range(one.size)] == [other.vertex_name(v) for v in range(other.size)]
    assert [row for row in one.vertices if row[1]] == [row for row in other.vertices if row[1]]
    assert one.home.tolist() == other.home.tolist()


def edges(graph: Any) -> list[Any]:
    return sorted((u, v, sorted(data.items())) for u, v, data in graph.edges(data=True))


def test_an_undirected_edge_is_a_link_each_way() -> None:
    graph = networkx.Graph()
    graph.add_edge("a", "b", bandwidth="400 Gb/s", latency="1 us")
    graph.add_edge("b", "c", bandwidth=25e9, latency=2e-6)
    topology = from_networkx(graph).topology
    assert topology.labels == ("a", "b", "c")
    assert [topology.link_name(link) for link in range(4)] == ["a -> b", "b -> a", "b -> c", "c -> b"]
    assert topology.bandwidth.tolist() == [50e9, 50e9, 25e9, 25e9]
    assert topology.latency == pytest.approx([1e-6, 1e-6, 2e-6, 2e-6])


def test_a_directed_edge_is_one_link_and_two_ways_may_differ() -> None:
    graph = networkx.DiGraph()
    graph.add_edge(0, 1, bandwidth=2.0, latency=0)
    graph.add_edge(1, 0, bandwidth=1.0, latency=1)
    topology = from_networkx(graph).topology
    assert topology.bandwidth.tolist() == [2.0, 1.0]
    assert topology.latency.tolist() == [0.0, 1.0]


def test_parallel_edges_add_up_where_they_are_alike() -> None:
    graph = networkx.MultiGraph([("a", "b"), ("a", "b"), ("a", "b"), ("b", "a")])
    for _, data in zip(range(3), graph["a"]["b"].values(), strict=False):
        data.update(LINK)
    graph["a"]["b"][3].update(bandwidth=1e9, latency=5e-6)
    together = from_networkx(graph).topology
    assert together.bandwidth.tolist() == [150e9, 1e9, 150e9, 1e9]
    assert together.width.tolist() == [3, 1, 3, 1]
    apart = from_networkx(graph, parallel="apart").topology
    assert apart.links == 8
    assert apart.to_networkx().is_multigraph()
    with pytest.raises(SpecError, match=r"parallel: 'both' is not accepted; expected 'together' or 'apart'"):
        from_networkx(graph, parallel="both")


@pytest.mark.parametrize(
    ("attributes", "ranks"),
    [
        ({}, ["x", "y", "z"]),
        ({"x": {"kind": "GPU"}, "z": {"kind": "tpu"}}, ["x", "z"]),
        ({"x": {"chip": True}, "y": {"chip": False, "kind": "gpu"}, "z": {"chip": np.True_}}, ["x", "z"]),
    ],
)
def test_what_is_a_chip(attributes: dict[str, dict[str, Any]], ranks: list[str]) -> None:
    graph = networkx.path_graph(["x", "y", "z"])
    networkx.set_edge_attributes(graph, LINK["bandwidth"], "bandwidth")
    graph.add_nodes_from(attributes.items())
    topology = from_networkx(graph, default_latency=0).topology
    assert [topology.vertex_name(v) for v in range(topology.chips)] == ranks


def test_chips_may_be_named_and_then_rank_in_that_order() -> None:
    graph = networkx.star_graph(4)
    topology = from_networkx(graph, chips=[3, 1], default_bandwidth=1e9, default_latency="1 us").topology
    assert (topology.chips, topology.labels[:2]) == (2, ("3", "1"))
    assert topology.vertices == (("chip", 2), ("switch", 3))


def test_names_of_attributes_and_defaults_are_the_callers() -> None:
    graph = networkx.Graph()
    graph.add_edge(0, 1, speed="10 GB/s")
    graph.add_edge(1, 2)
    topology = from_networkx(graph, bandwidth="speed", default_bandwidth="1 GB/s", default_latency=0).topology
    assert topology.bandwidth.tolist() == [10e9, 10e9, 1e9, 1e9]


def test_islands_tell_which_links_are_inside_nodes() -> None:
    graph = networkx.Graph()
    graph.add_nodes_from((name, {"kind": "gpu", "node": name[0]}) for name in ("a1", "a2", "b1", "b2"))
    graph.add_edges_from([("a1", "sa"), ("a2", "sa"), ("b1", "b2"), ("a1", "leaf"), ("b1", "leaf")], **LINK)
    topology = from_networkx(graph).topology
    assert topology.node.tolist() == [0, 0, 1, 1]
    inside = {topology.link_name(link) for link in range(topology.links) if topology.kind[link] == 0}
    assert inside == {"a1 -> sa", "sa -> a1", "a2 -> sa", "sa -> a2", "b1 -> b2", "b2 -> b1"}
    assert topology.kinds == ("scale-up", "network")


def test_a_users_routing_finds_the_paths() -> None:
    graph = networkx.cycle_graph(3, create_using=networkx.DiGraph)

    def around(topology: Topology) -> Any:
        def paths(source: Any, target: Any) -> Any:
            step = np.arange(2)
            return np.where(step < ((target - source) % 3)[:, None], (source[:, None] + step) % 3, -1)

        return paths

    fabric = from_networkx(graph, default_bandwidth=1e9, default_latency=0, routing=around)
    assert fabric.route(np.array([0]), np.array([2])).link.tolist() == [0, 1]


def test_the_order_of_edges_does_not_matter() -> None:
    graph = networkx.petersen_graph()
    networkx.set_edge_attributes(graph, {edge: {"bandwidth": 1.0 + sum(edge), "latency": 0} for edge in graph.edges})
    other = networkx.Graph()
    other.add_nodes_from(graph)
    other.add_edges_from(list(graph.edges(data=True))[::-1])
    one, two = from_networkx(graph).topology, from_networkx(other).topology
    assert one.source.tolist() == two.source.tolist()
    assert one.bandwidth.tolist() == two.bandwidth.tolist()


@st.composite
def graphs(draw: st.DrawFn) -> Any:
    """Connected graphs with every attribute, of every class of networkx."""
    count = draw(st.integers(2, 9))
    chips = draw(st.integers(1, count))
    form = draw(st.sampled_from([networkx.Graph, networkx.DiGraph, networkx.MultiGraph, networkx.MultiDiGraph]))
    graph = form(name=draw(st.text("ab c<&>'\"é", min_size=1, max_size=5).map(str.strip).filter(bool)))
    islands = draw(st.integers(1, 3))
    for v in range(count):
        graph.add_node(f"v {v}", kind="gpu" if v < chips else f"kind {v % 3}")
        if v < chips:
            graph.nodes[f"v {v}"]["node"] = v % islands
    pairs = [(v, draw(st.integers(0, v - 1))) for v in range(1, count)]
    pairs += draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=6))
    for u, v in pairs:
        data = {
            "bandwidth": draw(st.floats(1e-3, 1e15)),
            "latency": draw(st.floats(0, 10)),
            "kind": draw(st.sampled_from(["near", "far", "on: [a]"])),
            "width": draw(st.integers(1, 4)),
        }
        if u != v:
            graph.add_edge(f"v {u}", f"v {v}", **data)
            if graph.is_directed():
                graph.add_edge(f"v {v}", f"v {u}", **data)
    return graph


@settings(max_examples=40)
@given(graph=graphs(), suffix=st.sampled_from(SUFFIXES))
def test_out_and_in_again_is_the_same_graph(graph: Any, suffix: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    topology = from_networkx(graph, parallel="apart").topology
    assert topology.links == graph.number_of_edges() * (1 if graph.is_directed() else 2)
    again = from_networkx(topology.to_networkx()).topology
    same(topology, again)
    path = tmp_path_factory.mktemp("graphs") / f"graph{suffix}"
    write_topology(path, topology)
    read = read_topology(path).topology
    same(topology, read)
    assert networkx.utils.graphs_equal(topology.to_networkx(), again.to_networkx())
    write_topology(path.with_stem("again"), read)
    assert path.with_stem("again").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", topology_names())
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_shipped_topologies_survive_every_form(name: str, suffix: str, tmp_path: Path) -> None:
    fabric = load_topology(name)
    write_topology(tmp_path / f"out{suffix}", fabric)
    same(fabric.topology, read_topology(tmp_path / f"out{suffix}").topology)


def test_networkx_reads_what_is_written_and_is_read_in_turn(tmp_path: Path) -> None:
    topology = load_topology("two-islands").topology
    graph = topology.to_networkx()
    write_topology(tmp_path / "ours.graphml", topology)
    write_topology(tmp_path / "ours.json", topology)
    import json

    theirs = networkx.read_graphml(tmp_path / "ours.graphml", node_type=int)
    assert edges(theirs) == edges(graph)
    assert dict(theirs.nodes(data=True)) == dict(graph.nodes(data=True))
    linked = networkx.node_link_graph(json.loads((tmp_path / "ours.json").read_text()), edges="edges")
    assert networkx.utils.graphs_equal(linked, graph)
    networkx.write_graphml(graph, tmp_path / "theirs.graphml")
    (tmp_path / "theirs.json").write_text(json.dumps(networkx.node_link_data(graph, edges="links")))
    for name in ("theirs.graphml", "theirs.json"):
        same(topology, read_topology(tmp_path / name).topology)


@settings(max_examples=25)
@given(seed=st.integers(0, 1000), count=st.integers(2, 30))
def test_what_can_be_reached_is_what_networkx_says(seed: int, count: int) -> None:
    graph = networkx.gnp_random_graph(count, 1.5 / count, seed=seed, directed=True)
    ends = np.array(list(graph.edges), dtype=np.int64).reshape(-1, 2)
    found = np.flatnonzero(reached(ends[:, 0], ends[:, 1], count, 0))
    assert set(found.tolist()) == networkx.descendants(graph, 0) | {0}


def test_shortest_paths_are_as_long_as_networkx_finds() -> None:
    graph = networkx.random_regular_graph(3, 12, seed=1)
    fabric = from_networkx(graph, default_bandwidth=1e9, default_latency=1e-6)
    pairs = np.array([(a, b) for a in range(12) for b in range(12)])
    hops = np.diff(fabric.route(pairs[:, 0], pairs[:, 1]).start)
    ids = [int(name) for name in (fabric.topology.labels or graph.nodes)]
    assert hops.tolist() == [networkx.shortest_path_length(graph, ids[a], ids[b]) for a, b in pairs]


def test_public_names() -> None:
    assert scaleout.from_networkx is from_networkx
    assert isinstance(scaleout.load_topology("quad-pcie"), Fabric)


def test_names_are_looked_for_in_the_working_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "topologies" / "graphs"
    folder.mkdir(parents=True)
    text = "vertices: [{name: a, kind: chip}, {name: b, kind: chip}]\nlinks: [{from: a, to: b}]\n"
    (folder / "quad-pcie.yaml").write_text(text + "bandwidth: 1 GB/s\nlatency: 0 s\n")
    monkeypatch.chdir(tmp_path)
    assert load_topology("quad-pcie").topology.chips == 2
    assert load_topology("topologies/graphs/quad-pcie.yaml").topology.chips == 2
    with pytest.raises(SpecError, match=r"unknown topology 'quad-pci'; did you mean 'quad-pcie'\?; a path ends in"):
        load_topology("quad-pci")


BAD: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no bandwidth": (
        networkx.path_graph(2), {"default_latency": 0}, SpecError,
        r"graph: edge 0 to 1: bandwidth is missing; expected a value such as '400 Gb/s' above 0, here or as",
    ),
    "no latency": (networkx.path_graph(2), {"default_bandwidth": 1.0}, SpecError, "edge 0 to 1: latency is missing"),
    "in two parts": (
        networkx.Graph([(0, 1), (2, 3), (3, 4)]), {}, TopologyError,
        r"graph: no path from 0 to 2 \(3 of 5 chips are cut off\)",
    ),
    "one way only": (networkx.DiGraph([(0, 1)]), {}, TopologyError, "no path from 1 to 0"),
    "to itself": (networkx.Graph([(0, 1), (1, 1)]), {}, SpecError, "edge 1 to 1: '1' is linked to itself"),
    "empty": (networkx.Graph(), {}, TopologyError, r"no vertex is a chip \(kinds: no vertex\); expected chip: true"),
    "unknown chip": (networkx.path_graph(2), {"chips": [0, 7]}, SpecError, "chips: 7 is no vertex of the graph"),
    "chip twice": (networkx.path_graph(2), {"chips": [0, 0]}, SpecError, "chips: a vertex is named twice"),
    "no chips": (networkx.path_graph(2), {"chips": []}, TopologyError, "no vertex is a chip"),
    "no graph": ({0: [1]}, {}, SpecError, "dict is no graph of networkx"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_graphs(case: str) -> None:
    graph, options, error, message = BAD[case]
    given = options if "bandwidth" in case or "latency" in case else {"default_bandwidth": 1.0, "default_latency": 0}
    with pytest.raises(error, match=message):
        from_networkx(graph, **{**given, **options})


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("bandwidth", 0, r"edge 0 to 1: bandwidth: 0 is not a value such as '400 Gb/s' above 0"),
        ("bandwidth", -1.0, "bandwidth: -1.0 is not"),
        ("bandwidth", float("nan"), "bandwidth: nan is not"),
        ("bandwidth", float("inf"), "bandwidth: inf is not"),
        ("bandwidth", "50", "bandwidth: '50' has no unit; expected a value such as"),
        ("bandwidth", "50 GBs", r"unknown unit 'GBs' in '50 GBs'; did you mean"),
        ("bandwidth", "3 us", "'3 us' is in s, not in byte/s"),
        ("bandwidth", "0 GB/s", "'0 GB/s' is not a value"),
        ("bandwidth", True, "bandwidth: True is not"),
        ("bandwidth", [1], "bandwidth: .* is not"),
        ("latency", -1e-9, "latency: -1e-09 is not a value such as '1.5 us' at least 0"),
        ("latency", float("nan"), "latency: nan is not"),
        ("width", 0, "width: 0 is not a whole number at least 1"),
        ("width", 1.5, "width: 1.5 is not"),
    ],
)
def test_bad_attributes_of_edges(attribute: str, value: Any, message: str) -> None:
    graph = networkx.path_graph(3)
    networkx.set_edge_attributes(graph, dict.fromkeys(graph.edges, LINK))
    graph[0][1][attribute] = value
    with pytest.raises(SpecError, match=message):
        from_networkx(graph)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({0: {"chip": "yes"}}, "vertex 0: chip: 'yes' is not accepted; expected true or false"),
        ({0: {"node": 0}}, "vertex 1: node is missing; other chips have one"),
        ({0: {"name": "x"}, 1: {"name": "x"}}, None),
        ({v: {"kind": "router"} for v in range(3)}, r"no vertex is a chip \(kinds: router\)"),
    ],
)
def test_bad_attributes_of_vertices(attributes: dict[int, dict[str, Any]], message: str | None) -> None:
    graph = networkx.path_graph(3)
    graph.add_nodes_from(attributes.items())
    if message is None:
        # two of one name: what the graph calls them instead
        assert from_networkx(graph, default_bandwidth=1.0, default_latency=0).topology.labels == ("0", "1", "2")
        return
    with pytest.raises((SpecError, TopologyError), match=message):
        from_networkx(graph, default_bandwidth=1.0, default_latency=0)


def test_two_vertices_that_read_alike_are_refused() -> None:
    graph = networkx.Graph([(1, "1")])
    with pytest.raises(SpecError, match="vertex '1': '1' is there twice, first as vertex 1"):
        from_networkx(graph, default_bandwidth=1.0, default_latency=0)
