"""Files of graphs: own YAML, GraphML and node-link JSON, good and bad."""

import json
from pathlib import Path
from typing import Any

import networkx
import numpy as np
import pytest

from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs import read_topology, write_topology
from scaleout.network.builders import ring
from scaleout.network.topology import Topology


def put(folder: Path, text: str | bytes, name: str = "net.yaml") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def named_links(topology: Topology) -> list[str]:
    return sorted(topology.link_name(link) for link in range(topology.links))


PLAIN = """name: two chips and a leaf
bandwidth: 50 GB/s
latency: 1 us
vertices:
  - {name: chip, kind: chip, count: 2}
  - {name: leaf}
links:
  - {from: chip *, to: leaf}
"""


def test_vertices_and_links(tmp_path: Path) -> None:
    topology = read_topology(put(tmp_path, PLAIN)).topology
    assert topology.name == "two chips and a leaf"
    assert topology.vertices == (("chip", 2), ("switch", 1))
    assert named_links(topology) == ["chip 0 -> leaf", "chip 1 -> leaf", "leaf -> chip 0", "leaf -> chip 1"]
    assert set(topology.bandwidth.tolist()) == {50e9}


def test_a_pattern_on_both_sides_joins_each_with_each_once(tmp_path: Path) -> None:
    text = PLAIN.replace("{from: chip *, to: leaf}", "{from: '*', to: '*', bandwidth: 1 GB/s, kind: any}")
    topology = read_topology(put(tmp_path, text)).topology
    graph = topology.to_networkx()
    assert networkx.is_isomorphic(graph, networkx.complete_graph(3, create_using=networkx.DiGraph))
    assert set(topology.bandwidth.tolist()) == {1e9}
    assert topology.kinds == ("any",)


def test_links_may_go_one_way_and_stand_for_several(tmp_path: Path) -> None:
    text = PLAIN + (
        "  - {from: chip 0, to: chip 1, one_way: true, width: 2}\n  - {from: chip 0, to: chip 1, one_way: true}\n"
    )
    topology = read_topology(put(tmp_path, text)).topology
    link = next(i for i in range(topology.links) if topology.link_name(i) == "chip 0 -> chip 1")
    assert (topology.bandwidth[link], topology.width[link]) == (100e9, 3)
    assert "chip 1 -> chip 0" not in named_links(topology)


def test_a_builder_by_name_is_the_builder(tmp_path: Path) -> None:
    fabric = read_topology(put(tmp_path, "build: ring\nchips: 6\nbandwidth: 50 GB/s\nlatency: 1 us\n"))
    direct = ring(6, bandwidth=50e9, latency=1e-6)
    assert fabric.topology.name == direct.topology.name
    source, target = np.array([0, 1]), np.array([4, 3])
    assert fabric.route(source, target).link.tolist() == direct.route(source, target).link.tolist()


def test_a_system_is_a_parameter(tmp_path: Path) -> None:
    topology = read_topology(put(tmp_path, "build: rail_fat_tree\nsystem: dgx-h100\nchips: 16\n")).topology
    assert (topology.chips, topology.name) == (16, "dgx-h100 x 2")


ISLANDS = """islands:
  - {name: a, build: ring, chips: 4, bandwidth: 100 GB/s, latency: 0.1 us}
  - name: b
    bandwidth: 200 GB/s
    latency: 0.1 us
    vertices: [{name: chip, kind: chip, count: 2}, {name: switch}]
    links: [{from: chip *, to: switch}]
vertices: [{name: core}]
links:
  - {from: a/chip *, to: core, bandwidth: 10 GB/s, latency: 2 us, kind: uplink}
  - {from: b/switch, to: core, bandwidth: 20 GB/s, latency: 2 us, kind: uplink}
"""


def test_islands_are_nodes_of_their_own(tmp_path: Path) -> None:
    fabric = read_topology(put(tmp_path, ISLANDS, "pair.yaml"))
    topology = fabric.topology
    assert (topology.name, topology.chips, topology.node.tolist()) == ("pair", 6, [0, 0, 0, 0, 1, 1])
    inside = topology.bandwidth[topology.kind == 0]
    assert sorted(inside.tolist()) == [100e9] * 8 + [200e9] * 4
    route = fabric.route(np.array([0, 0]), np.array([2, 5]))
    assert route.networked.tolist() == [False, True]
    assert [topology.link_name(link) for link in route.link[route.start[1] :]] == [
        "a/chip 0 -> core",
        "core -> b/switch",
        "b/switch -> b/chip 1",
    ]


def test_islands_of_islands(tmp_path: Path) -> None:
    body = ISLANDS.replace("\n", "\n    ").rstrip()
    text = f"islands:\n  - name: x\n    {body}\n"
    topology = read_topology(put(tmp_path, text)).topology
    assert topology.vertex_name(4) == "x/b/chip 0"
    assert topology.node.tolist() == [0, 0, 0, 0, 1, 1]


def test_every_public_builder_can_be_called(tmp_path: Path) -> None:
    from scaleout.io.graphs.build import builders

    assert {"ring", "nvswitch_node", "rail_fat_tree"} <= set(builders())
    for name in builders():
        with pytest.raises(SpecError, match=rf"no_such: {name} takes no such parameter; "):
            read_topology(put(tmp_path, f"build: {name}\nno_such: 1\n"))


GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns" xmlns:y="http://www.yworks.com/xml/graphml">
  <key id="k" for="node" attr.name="kind" attr.type="string"><default>gpu</default></key>
  <key id="b" for="edge" attr.name="bandwidth" attr.type="string"><default>50 GB/s</default></key>
  <key id="l" for="edge" attr.name="latency" attr.type="double"/>
  <key id="g" for="node" yfiles.type="nodegraphics"/>
  <graph id="G" edgedefault="undirected">
    <node id="a"/><node id="b"><data key="g"><y:ShapeNode><y:Fill color="red"/></y:ShapeNode></data></node>
    <node id="s"><data key="k">switch</data></node>
    <edge source="a" target="s"><data key="l">1e-6</data></edge>
    <edge source="b" target="s"><data key="l">0</data><data key="b">100 GB/s</data></edge>
    <edge source="a" target="b" directed="true"><data key="l"> 2e-6 </data></edge>
  </graph>
</graphml>
"""


@pytest.mark.parametrize("name", ["net.graphml", "net.xml"])
def test_graphml_with_defaults_and_a_drawing(tmp_path: Path, name: str) -> None:
    topology = read_topology(put(tmp_path, GRAPHML, name)).topology
    assert topology.vertices == (("gpu", 2), ("switch", 1))
    assert named_links(topology) == ["a -> b", "a -> s", "b -> s", "s -> a", "s -> b"]
    rate = dict(zip(map(topology.link_name, range(5)), topology.bandwidth.tolist(), strict=True))
    assert (rate["b -> s"], rate["a -> b"]) == (100e9, 50e9)


def test_a_name_that_xml_cannot_hold(tmp_path: Path) -> None:
    graph = networkx.Graph([("a\x01", "b")])
    from scaleout.io.graphs import from_networkx

    topology = from_networkx(graph, default_bandwidth=1.0, default_latency=0, name="odd").topology
    with pytest.raises(TopologyError, match=r"'odd': a name holds '\\x01', which XML cannot; write .json instead"):
        write_topology(tmp_path / "x.graphml", topology)
    for suffix in (".json", ".yaml"):
        write_topology(tmp_path / f"x{suffix}", topology)
        assert read_topology(tmp_path / f"x{suffix}").topology.labels == ("a\x01", "b")


LAUGHS = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]>
<graphml>&c;</graphml>
"""
OUTSIDE = '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/hostname">]><graphml><graph>&x;</graph></graphml>'
NODES = '"nodes": [{"id": 1}, {"id": 2}]'

BAD: dict[str, tuple[str, str | bytes, str]] = {
    "unknown key": ("n.yaml", PLAIN.replace("vertices", "vertexes"), r"vertexes: unknown key; did you mean 'vertices'"),
    "no vertices": ("n.yaml", "name: x\n", "has no vertices; expected the key vertices, build or islands"),
    "vertices no list": ("n.yaml", "vertices: 3\n", "vertices: 3 is not accepted; expected a list"),
    "vertex no mapping": ("n.yaml", "vertices: [a]\n", r"vertices\[0\]: 'a' is not accepted; expected the keys name"),
    "vertex without name": ("n.yaml", "vertices: [{kind: chip}]\n", r"vertices\[0\]: name: is missing"),
    "unknown key of a vertex": ("n.yaml", "vertices: [{name: a, knd: x}]\n", r"knd: unknown key; did you mean 'kind'"),
    "star in a name": ("n.yaml", "vertices: [{name: 'a*'}]\n", r"name: 'a\*' is not accepted"),
    "vertex twice": ("n.yaml", PLAIN.replace("leaf}", "chip 1}"), "'chip 1' is there twice, first as vertices"),
    "count": ("n.yaml", PLAIN.replace("count: 2", "count: 0"), r"count: 0 is not a whole number at least 1"),
    "count too large": ("n.yaml", PLAIN.replace("count: 2", "count: 1e9"), "count: .* at most 1,048,576"),
    "no such end": ("n.yaml", PLAIN.replace("to: leaf", "to: leef"), r"links\[0\]: 'leef' is no vertex of the graph"),
    "no such pattern": ("n.yaml", PLAIN.replace("chip *", "chp *"), r"from: 'chp \*' is no vertex; did you mean 'chip"),
    "two stars": ("n.yaml", PLAIN.replace("chip *", "'*chip*'"), r"from: '\*chip\*' .* at most one \*"),
    "too many links": (
        "n.yaml", PLAIN.replace("count: 2", "count: 2000").replace("to: leaf", "to: 'chip*'"),
        "more than 2,000,000 links; a builder or a .json file holds more",
    ),
    "rate without unit": ("n.yaml", PLAIN.replace("to: leaf}", "to: leaf, bandwidth: 5}"), "bandwidth: 5 has no unit"),
    "default without unit": ("n.yaml", PLAIN.replace("50 GB/s", "'50'"), r"links\[0\]: bandwidth: '50' has no unit"),
    "zero": ("n.yaml", PLAIN.replace("50 GB/s", "0 GB/s"), "'0 GB/s' is not a value such as '400 Gb/s' above 0"),
    "infinite": ("n.yaml", PLAIN.replace("50 GB/s", "1e400 GB/s"), "'1e400 GB/s' is not a value"),
    "nan": ("n.yaml", PLAIN.replace("50 GB/s", "nan GB/s"), "'nan GB/s' is not a number with a unit"),
    "one_way": ("n.yaml", PLAIN.replace("to: leaf}", "to: leaf, one_way: 1}"), "one_way: 1 is not accepted"),
    "parallel": ("n.yaml", PLAIN + "parallel: both\n", "parallel: 'both' is not accepted; expected 'together'"),
    "cut off": ("n.yaml", PLAIN.replace("chip *", "chip 0"), "no path from chip 0 to chip 1"),
    "no chip": ("n.yaml", PLAIN.replace("kind: chip", "kind: box"), r"no vertex is a chip \(kinds: box, switch\)"),
    "islands no list": ("n.yaml", "islands: {a: 1}\n", "islands: expected a list of topologies"),
    "island without name": ("n.yaml", "islands: [{build: ring}]\n", r"islands\[0\]: name: is missing"),
    "island twice": ("n.yaml", ISLANDS.replace("name: b", "name: a"), r"islands\[1\]: name: 'a' is there twice"),
    "bad island": ("n.yaml", ISLANDS.replace("chips: 4", "chip: 4"), r"islands\[0\]: chip: ring takes no such"),
    "unknown builder": ("n.yaml", "build: rings\n", r"build: 'rings' is no builder; did you mean 'ring'"),
    "builder no name": ("n.yaml", "build: [ring]\n", r"build: \['ring'\] is no builder"),
    "parameter unknown": (
        "n.yaml", "build: ring\nchip: 4\n",
        "chip: ring takes no such parameter; did you mean 'chips'",
    ),
    "parameter missing": ("n.yaml", "build: ring\nchips: 4\n", "bandwidth is missing; ring takes chips, bandwidth"),
    "parameter no number": ("n.yaml", "build: ring\nchips: four\n", "chips: 'four' is not a whole number"),
    "parameter too large": ("n.yaml", "build: ring\nchips: 1e12\n", "chips: .* at most 1,048,576"),
    "parameter without unit": ("n.yaml", "build: ring\nchips: 4\nbandwidth: 5\n", "bandwidth: 5 has no unit"),
    "builder refuses": ("n.yaml", "build: ring\nchips: 1\nbandwidth: 1 GB/s\nlatency: 0 s\n", "needs at least 2"),
    "alias bomb": ("n.yaml", "a: &a [x, x]\nb: [*a, *a]\n", "line 1: anchors and aliases are not accepted"),
    "yaml": ("n.yaml", "vertices: [\n", "n.yaml, line"),
    "binary yaml": ("n.yaml", b"\x80\x02\x03\xff", "cannot be read: not a text file in UTF-8"),
    "large yaml": ("n.yaml", "a: " + "x" * 1_000_001, "larger than 1,000,000 bytes"),
    "empty": ("n.yaml", "", "is empty; expected one mapping"),
    "laughs": ("n.graphml", LAUGHS, "n.graphml, line 2: document types are not accepted in XML"),
    "laughs in UTF-16": ("n.xml", LAUGHS.replace("<?xml version=\"1.0\"?>\n", "").encode("utf-16"), "document types"),
    "outside": ("n.xml", OUTSIDE, "document types are not accepted in XML"),
    "deep xml": ("n.xml", "<graphml>" + "<a>" * 100_000, "nested deeper than 64 levels"),
    "no xml": ("n.graphml", "hello", "n.graphml, line 1: not readable as XML: syntax error"),
    "empty xml": ("n.graphml", "", "not readable as XML: no element found"),
    "binary xml": ("n.xml", bytes(range(256)), "not readable as XML"),
    "unknown encoding": (
        "n.xml", '<?xml version="1.0" encoding="klingon"?><a/>',
        "not readable as XML: unknown encoding",
    ),
    "other xml": ("n.xml", "<html/>", "line 1: the root is 'html'; expected graphml, or system of NCCL"),
    "no graph": ("n.graphml", "<graphml/>", "holds 0 graphs; expected one"),
    "undeclared": (
        "n.graphml", GRAPHML.replace('key="l"', 'key="z"'),
        r"line 10: key 'z' is not declared; known: b, g",
    ),
    "type": ("n.graphml", GRAPHML.replace('"double"', '"quad"'), "line 5: attr.type 'quad' is unknown"),
    "value": ("n.graphml", GRAPHML.replace("1e-6", "fast"), "line 10: latency: 'fast' is no double"),
    "nan in xml": ("n.graphml", GRAPHML.replace("1e-6", "nan"), "line 10: latency: nan is not a value"),
    "key twice": ("n.graphml", GRAPHML.replace('id="l"', 'id="b"'), "line 5: key 'b' is there twice"),
    "key without id": ("n.graphml", GRAPHML.replace('<key id="l"', "<key"), "line 5: a key without an id"),
    "vertex twice in xml": (
        "n.graphml", GRAPHML.replace('id="s"', 'id="a"'),
        "line 9: 'a' is there twice, first as line 8",
    ),
    "dangling": ("n.graphml", GRAPHML.replace('target="b"', 'target="q"'), "line 12: 'q' is no vertex of the graph"),
    "no target": ("n.graphml", GRAPHML.replace(' target="b"', ""), "line 12: edge without target"),
    "hyperedge": ("n.graphml", GRAPHML.replace("</graph>", "<hyperedge/></graph>"), "hyperedges are not accepted"),
    "nested": ("n.graphml", GRAPHML.replace('<node id="a"/>', '<node id="a"><graph/></node>'), "graphs within graphs"),
    "edgedefault": ("n.graphml", GRAPHML.replace("undirected", "both"), "edgedefault 'both' is not accepted"),
    "directed": (
        "n.graphml", GRAPHML.replace('directed="true"', 'directed="x"'),
        "line 12: directed: 'x' is not accepted",
    ),
    "json": ("n.json", "{", "n.json, line 1: not readable as JSON"),
    "json nan": ("n.json", '{"nodes": [{"id": NaN}]}', "not readable as JSON: NaN is no number"),
    "json key twice": ("n.json", '{"nodes": [], "nodes": []}', "key 'nodes' is given twice"),
    "json deep": ("n.json", "[" * 100_000, "not readable as JSON: nested too deep"),
    "json long number": ("n.json", '{"nodes": [{"id": ' + "9" * 5000 + "}]}", "not readable as JSON"),
    "json list": ("n.json", "[]", "is a list; expected an object with the keys nodes and edges"),
    "json unknown": ("n.json", '{"node": []}', "node: unknown key; did you mean 'nodes'"),
    "json no edges": ("n.json", "{" + NODES + "}", "edges: is missing; expected a list of objects"),
    "json both": ("n.json", '{"edges": [], "links": []}', "has edges and links; expected one of them"),
    "json row": ("n.json", '{"nodes": [1], "edges": []}', r"nodes\[0\]: 1 is not accepted; expected an object"),
    "json id": ("n.json", '{"nodes": [{}], "edges": []}', r"nodes\[0\]: id is missing"),
    "json id no word": ("n.json", '{"nodes": [{"id": {"a": 1}}], "edges": []}', r"id: \{'a': 1\} is not accepted"),
    "json end": ("n.json", "{" + NODES + ', "links": [{"source": 1}]}', r"links\[0\]: target is missing"),
    "json dangling": (
        "n.json", "{" + NODES + ', "links": [{"source": 1, "target": 3, "bandwidth": 1}]}',
        "'3' is no vert",
    ),
    "json rate": (
        "n.json", "{" + NODES + ', "edges": [{"source": 1, "target": 2, "bandwidth": 1e999, "latency": 0}]}',
        r"edges\[0\]: bandwidth: inf is not a value",
    ),
    "json twice": (
        "n.json", '{"nodes": [{"id": 1}, {"id": 1}], "edges": []}',
        r"nodes\[1\]: 1 is there twice, first as",
    ),
    "json directed": ("n.json", '{"directed": 1, "nodes": [], "edges": []}', "directed: 1 is not accepted"),
    "json graph": ("n.json", '{"graph": 1, "nodes": [], "edges": []}', "graph: expected an object of attributes"),
    "json parallel": ("n.json", '{"graph": {"parallel": 1}, "nodes": [], "edges": []}', "graph.parallel: 1 is not"),
    "json no chips": ("n.json", '{"nodes": [], "edges": []}', "no vertex is a chip"),
    "binary json": ("n.json", b"\xff\xfe\x00", "cannot be read: not a text file in UTF-8"),
    "suffix": ("n.dot", "graph {}", r"ends in '.dot'; expected one of .yaml, .yml, .json, .graphml, .xml, .txt"),
    "no suffix": ("n", "x", "ends in 'nothing'; expected one of"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, tmp_path: Path) -> None:
    name, text, message = BAD[case]
    path = put(tmp_path, text, name)
    with pytest.raises((SpecError, TopologyError), match=message) as caught:
        read_topology(path)
    assert str(caught.value).startswith(str(path))
    assert len(str(caught.value)) < 600 + len(str(path))
    assert "\n" not in str(caught.value)


def test_patterns_look_at_so_many_names_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaleout.io.graphs.own._MOST_LOOKS", 5)
    text = PLAIN + "  - {from: chip *, to: leaf}\n"
    assert read_topology(put(tmp_path, text)).topology.links == 4
    with pytest.raises(TopologyError, match=r"links\[2\]: from: too many patterns for 3 vertices"):
        read_topology(put(tmp_path, text + "  - {from: 'chip 0*', to: leaf}\n"))


def test_files_too_large_are_not_read(tmp_path: Path) -> None:
    for name in ("n.graphml", "n.json", "n.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(10**10)
        with pytest.raises(SpecError, match=r"larger than [\d,]+ bytes"):
            read_topology(tmp_path / name)


def test_files_that_are_not_there_or_cannot_be_written(tmp_path: Path) -> None:
    for name in ("x.yaml", "x.json", "x.graphml", "x.txt"):
        with pytest.raises(SpecError, match="cannot be read: No such file"):
            read_topology(tmp_path / name)
    fabric = ring(3, bandwidth=1e9, latency=0)
    with pytest.raises(SpecError, match=r"ends in '.xml'; expected one of .graphml, .json, .yaml, .yml"):
        write_topology(tmp_path / "x.xml", fabric)
    with pytest.raises(SpecError, match="cannot be written: No such file"):
        write_topology(tmp_path / "no" / "x.json", fabric)


def test_a_vertex_of_many_labels_stays_small(tmp_path: Path) -> None:
    """A graph of thousands of chips goes out and in within a moment, in the large formats."""
    fabric = ring(1000, bandwidth=1e9, latency=0)
    for suffix in (".json", ".graphml"):
        write_topology(tmp_path / f"x{suffix}", fabric)
        assert read_topology(tmp_path / f"x{suffix}").topology.chips == 1000


def test_json_of_older_networkx(tmp_path: Path) -> None:
    data: dict[str, Any] = {
        "directed": False,
        "multigraph": False,
        "graph": [["name", "old"]],
        "nodes": [{"id": ["rack", 0]}, {"id": ["rack", 1]}],
        "links": [{"source": ["rack", 0], "target": ["rack", 1], "bandwidth": 1e9, "latency": 0}],
    }
    topology = read_topology(put(tmp_path, json.dumps(data), "old.json")).topology
    assert (topology.name, topology.labels) == ("old", ("('rack', 0)", "('rack', 1)"))
