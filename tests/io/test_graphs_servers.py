"""What nvidia-smi and NCCL say about a server, against what the server is known to be."""

from pathlib import Path

import networkx
import numpy as np
import pytest

from scaleout.errors import SpecError, TopologyError
from scaleout.io.graphs import load_topology, read_topology
from scaleout.io.graphs.links import ServerLinks
from scaleout.network.fabric import Fabric
from scaleout.network.topology import Topology

GRAPHS = Path(__file__).parents[2] / "topologies" / "graphs"


def rate(topology: Topology, one: str, other: str) -> float:
    """Bandwidth of the link between two vertices, the same both ways."""
    names = {topology.link_name(link): float(topology.bandwidth[link]) for link in range(topology.links)}
    assert names[f"{one} -> {other}"] == names[f"{other} -> {one}"]
    return names[f"{one} -> {other}"]


def way(fabric: Fabric, source: int, target: int) -> list[str]:
    route = fabric.route(np.array([source]), np.array([target]))
    return [fabric.topology.vertex_name(int(v)) for v in fabric.topology.target[route.link]]


def matrix(*rows: str, notes: str = "# nvlink: 2\n") -> str:
    names = [row.split()[0] for row in rows]
    return (
        f"{notes}\t{' '.join(names)}\tCPU Affinity\tNUMA Affinity\n" + "\n".join(rows) + "\n\nLegend:\n\n  X = Self\n"
    )


def put(folder: Path, text: str, name: str = "node.txt") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_switched_node_has_all_links_of_a_chip_on_its_switch() -> None:
    fabric = load_topology("eight-gpus-nvswitch")
    topology = fabric.topology
    assert topology.vertices == (("gpu", 8), ("nic", 8), ("nvswitch", 1), ("pcie switch", 8), ("cpu", 2))
    # 18 links of 20.6 GB/s: what NCCL counts on in an H100
    assert rate(topology, "GPU0", "nvswitch 0") == pytest.approx(370.8e9)
    assert way(fabric, 2, 7) == ["nvswitch 0", "GPU7"]
    assert topology.kinds[0] == "nvlink"
    assert set(topology.width[topology.kind == 0].tolist()) == {18}
    assert rate(topology, "cpu 0", "cpu 1") == 22e9


def test_bridged_pairs_meet_at_the_sockets() -> None:
    fabric = load_topology("four-gpus-bridged")
    assert rate(fabric.topology, "GPU0", "GPU1") == pytest.approx(80e9)
    assert way(fabric, 0, 1) == ["GPU1"]
    assert way(fabric, 0, 3) == ["cpu 0", "cpu 1", "GPU3"]


def test_the_cube_mesh_of_eight_v100_is_joined_straight(tmp_path: Path) -> None:
    # two squares with diagonals, and each chip joined to its image: six links a chip
    count = {
        (0, 1): 1, (0, 2): 1, (0, 3): 2, (1, 2): 2, (1, 3): 1, (2, 3): 1,
        (4, 5): 1, (4, 6): 1, (4, 7): 2, (5, 6): 2, (5, 7): 1, (6, 7): 1,
        (0, 4): 2, (1, 5): 2, (2, 6): 2, (3, 7): 2,
    }  # fmt: skip

    def code(a: int, b: int) -> str:
        found = count.get((min(a, b), max(a, b)))
        return "X" if a == b else f"NV{found}" if found else "SYS"

    rows = [f"GPU{a}\t" + "\t".join(code(a, b) for b in range(8)) + "\t0-19\t0" for a in range(8)]
    topology = read_topology(put(tmp_path, matrix(*rows))).topology
    links = {
        (int(u), int(v)): int(w)
        for u, v, w in zip(topology.source, topology.target, topology.width, strict=True)
        if u < v < 8
    }
    assert links == count
    assert rate(topology, "GPU0", "GPU3") == pytest.approx(40e9)
    assert "nvswitch" not in dict(topology.vertices)
    # its PCIe is not told: chips of an unknown place hang on sockets of their own
    assert dict(topology.vertices)["cpu"] == 8


def test_pcie_is_a_tree_of_switches_and_sockets(tmp_path: Path) -> None:
    rows = (
        "GPU0 X PIX PXB NODE SYS",
        "GPU1 PIX X PXB NODE SYS",
        "GPU2 PXB PXB X PHB SYS",
        "NIC0 NODE NODE PHB X SYS",
        "GPU3 SYS SYS SYS SYS X",
    )
    fabric = read_topology(put(tmp_path, matrix(*rows, notes="")), pcie=4, links={"smp": "10 GB/s"})
    topology = fabric.topology
    assert way(fabric, 0, 1) == ["pcie switch 0", "GPU1"]
    assert way(fabric, 0, 2) == ["pcie switch 0", "pcie switch 1", "GPU2"]
    assert way(fabric, 0, 3) == ["pcie switch 0", "pcie switch 1", "cpu 0", "cpu 1", "GPU3"]
    assert rate(topology, "NIC0", "cpu 0") == 24e9
    assert rate(topology, "cpu 0", "cpu 1") == 10e9


def test_colours_of_the_terminal_and_generations_by_the_caller(tmp_path: Path) -> None:
    text = "\t\x1b[4mGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\x1b[0m\nGPU0\t X \tNV4\t0-63\t0\nGPU1\tNV4\t X \t0-63\t0\n"
    path = put(tmp_path, text)
    assert rate(read_topology(path, nvlink=4).topology, "GPU0", "GPU1") == pytest.approx(82.4e9)
    assert rate(read_topology(path, nvlink=3, links={"nvlink": 25e9}).topology, "GPU0", "GPU1") == 100e9
    with pytest.raises(SpecError, match="has NVLinks; say of which generation: nvlink=1 to 5"):
        read_topology(path)
    with pytest.raises(SpecError, match=r"nvlink: generation 9 is unknown; known: \[1, 2, 3, 4, 5\]"):
        read_topology(path, nvlink=9)
    with pytest.raises(SpecError, match="pcie: generation 9 is unknown"):
        read_topology(path, nvlink=4, pcie=9)
    with pytest.raises(SpecError, match=r"links: unknown kind 'nvlnk'; did you mean 'nvlink'\?"):
        read_topology(path, nvlink=4, links={"nvlnk": 1.0})
    with pytest.raises(SpecError, match="links: nvlink: 0 is not a value"):
        read_topology(path, nvlink=4, links={"nvlink": 0})


PAIR = matrix("GPU0 X PHB", "GPU1 PHB X", notes="# pcie: 4\n")
BAD_MATRICES: dict[str, tuple[str, str]] = {
    "no matrix": ("hello\n", "no line begins with GPU0; expected what nvidia-smi topo -m prints"),
    "generation": (PAIR.replace("# pcie: 4\n", ""), "say of which generation PCIe is: pcie=1 to 6"),
    "code": (
        PAIR.replace("GPU0 X PHB", "GPU0 X PHP"),
        "line 3: GPU0 to GPU1: 'PHP' is not accepted; expected NV#, PIX",
    ),
    "diagonal": (PAIR.replace("GPU0 X", "GPU0 PIX"), "GPU0 to GPU0: 'PIX' is not accepted; expected X"),
    "itself": (PAIR.replace("PHB X", "PHB NV"), "GPU1 to GPU1: 'NV' is not accepted; expected X"),
    "short row": (PAIR.replace("GPU0 X PHB", "GPU0 X"), "line 3: row GPU0 has 1 entries; expected 2"),
    "missing row": (PAIR.replace("GPU1 PHB X\n", ""), "GPU1 has a column and no row"),
    "row without column": (PAIR.replace("\nGPU1", "\nGPU2"), "row 'GPU2' has no column; did you mean 'GPU1' or 'GPU0'"),
    "row twice": (PAIR.replace("\nGPU1", "\nGPU0"), "row 'GPU0' is there twice"),
    "column twice": (PAIR.replace("GPU0 GPU1", "GPU0 GPU0"), "column 'GPU0' is there twice"),
    "asymmetric": (PAIR.replace("GPU1 PHB", "GPU1 SYS"), "GPU1 to GPU0 is SYS, but GPU0 to GPU1 is PHB"),
    "devices": (" ".join(f"GPU{i}" for i in range(2000)) + "\n", "2,000 devices; at most 1,024 are accepted"),
    "links": (
        matrix("GPU0 X NV4 NV4", "GPU1 NV4 X NV3", "GPU2 NV4 NV3 X"),
        "GPU0 has 8 NVLinks in all, and a GPU of generation 2 has 6; behind a switch every pair",
    ),
    "too many links": (matrix("GPU0 X NV7", "GPU1 NV7 X"), "GPU0 has 7 NVLinks in all"),
}


@pytest.mark.parametrize("case", BAD_MATRICES)
def test_bad_matrices(case: str, tmp_path: Path) -> None:
    text, message = BAD_MATRICES[case]
    path = put(tmp_path, text)
    with pytest.raises((SpecError, TopologyError), match=message) as caught:
        read_topology(path)
    assert str(caught.value).startswith(str(path))


def test_nccls_file_of_four_gpus() -> None:
    fabric = load_topology("four-gpus-nccl")
    topology = fabric.topology
    assert sorted(topology.vertices) == [
        ("cpu", 2), ("gpu", 4), ("nic", 4), ("nvswitch", 1), ("pcie switch", 4), ("port", 4),
    ]  # fmt: skip
    # three switches of six links are one vertex
    assert rate(topology, "gpu 1", "nvswitch 0") == pytest.approx(370.8e9)
    assert rate(topology, "nic 0000:12:00.0", "port_0") == 50e9
    assert rate(topology, "gpu 0", "pcie switch 0000:10:00.0") == 48e9
    assert rate(topology, "cpu 0", "cpu 1") == 22e9
    graph = topology.to_networkx().to_undirected()
    assert networkx.is_connected(graph)


def nccl(body: str, cpu: str = 'arch="arm64"') -> str:
    return f'<system version="1">\n<cpu numaid="0" {cpu}>\n{body}\n</cpu>\n</system>\n'


def slot(bus: str, inner: str = "", kind: str = "0x030200", speed: str = "16 GT/s") -> str:
    return f'<pci busid="0000:{bus}:00.0" class="{kind}" link_speed="{speed}" link_width="8">{inner}</pci>'


def test_gpus_rank_as_told_and_join_straight(tmp_path: Path) -> None:
    link = '<nvlink target="0000:{}:00.0" count="4" tclass="0x030200"/>'
    body = "".join(
        slot(bus, f'<gpu dev="{dev}" sm="80" rank="{rank}">{link.format(to)}</gpu>')
        for bus, dev, rank, to in (("AA", 0, 1, "bb"), ("bb", 1, 0, "aa"))
    )
    topology = read_topology(put(tmp_path, nccl(body), "pair.xml")).topology
    assert topology.vertices[0] == ("gpu", 2)
    assert rate(topology, "gpu 0", "gpu 1") == 80e9
    assert rate(topology, "gpu 0", "cpu 0") == 12e9
    links = topology.to_networkx()
    assert links.number_of_edges() == 2 + 4


def test_files_of_clouds_name_gpus_by_class_only(tmp_path: Path) -> None:
    inner = slot("01") + slot("02") + slot("03", kind="0x020700")
    topology = read_topology(put(tmp_path, nccl(slot("10", inner, kind="0x060400", speed="")), "cloud.xml")).topology
    assert sorted(topology.vertices) == [("cpu", 1), ("gpu", 2), ("nic", 1), ("pcie switch", 1)]
    # the third generation where the speed is not told, eight lanes
    assert rate(topology, "pcie switch 0000:10:00.0", "cpu 0") == 6e9


def test_memory_of_the_processor_and_several_hosts(tmp_path: Path) -> None:
    cpu = '<cpu numaid="0" host_hash="{0}" arch="arm64"><pci busid="0000:0{0}:00.0" class="0x03"><gpu dev="0" sm="90">'
    inner = '<nvlink count="18" tclass="0x068000"/><c2c count="10" bw="44712"/></gpu></pci></cpu>'
    text = "<system>" + "".join(cpu.format(host) + inner for host in (1, 2)) + "</system>"
    fabric = read_topology(put(tmp_path, text, "two.xml"))
    topology = fabric.topology
    assert topology.node.tolist() == [0, 1]
    assert rate(topology, "gpu 0", "host 0/cpu 0") == pytest.approx(447.12e9)
    assert way(fabric, 0, 1) == ["nvswitch 0", "gpu 1"]


GPU = slot("01", '<gpu dev="0" sm="80" rank="0"><nvlink target="0000:02:00.0" count="2" tclass="0x03"/></gpu>')
BAD_XML: dict[str, tuple[str, str]] = {
    "no cpu": ("<system/>", "line 1: system without cpu"),
    "no gpu": (nccl(""), r"no vertex is a chip \(kinds: cpu\)"),
    "arch": (nccl(slot("01"), 'arch="z80" vendor="Zilog"'), "line 2: cpu of arch 'z80' and vendor 'Zilog' is unknown"),
    "no arch": (nccl(slot("01"), ""), "line 2: cpu without arch"),
    "numaid": (nccl("").replace('"0"', '"x"'), "line 2: cpu numaid: 'x' is not accepted; expected a whole number"),
    "no busid": (nccl('<pci class="0x03"/>'), "line 3: pci without busid"),
    "busid twice": (nccl(slot("01") + slot("01")), "line 3: gpu 0000:01:00.0 is there twice"),
    "speed": (nccl(slot("01", speed="warp")), "pci link_speed: 'warp' is not accepted; expected 2.5 GT/s, 5 GT/s"),
    "width": (nccl(slot("01").replace('"8"', '"-8"')), "pci link_width: '-8' is not accepted"),
    "target": (nccl(GPU), "line 3: nvlink target '0000:02:00.0' is no GPU of this system"),
    "count": (nccl(GPU.replace('count="2"', 'count="0"')), "nvlink count: '0' is not accepted; .* at least 1"),
    "no count": (nccl(GPU.replace('count="2"', "")), "nvlink without count"),
    "no sm": (nccl(GPU.replace('sm="80"', "")), "gpu without sm"),
    "rank twice": (
        nccl(2 * slot("01", '<gpu rank="0"/>').replace("01", "{}")).format("01", "02"),
        "have the same rank",
    ),
    "cut off": (
        '<system><cpu numaid="0" host_hash="1" arch="arm64">' + slot("01") + '</cpu><cpu numaid="0" host_hash="2" '
        'arch="arm64">' + slot("01") + "</cpu></system>",
        "no path from gpu 0 to gpu 1",
    ),
    "entities": ("<!DOCTYPE system [<!ENTITY a 'b'>]>" + nccl(GPU), "document types are not accepted"),
}


@pytest.mark.parametrize("case", BAD_XML)
def test_bad_files_of_nccl(case: str, tmp_path: Path) -> None:
    text, message = BAD_XML[case]
    path = put(tmp_path, text, "node.xml")
    with pytest.raises((SpecError, TopologyError), match=message) as caught:
        read_topology(path)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize(
    ("cpu", "bandwidth"),
    [
        ('arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="79"', 6e9),
        ('arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="85"', 10e9),
        ('arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="143"', 22e9),
        ('arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="207"', 40e9),
        ('arch="x86_64" vendor="GenuineIntel" familyid="6" modelid="173"', 40e9),
        ('arch="x86_64" vendor="AuthenticAMD" familyid="23" modelid="49"', 16e9),
        ('arch="x86_64" vendor="AuthenticAMD" familyid="25" modelid="17"', 24e9),
        ('arch="x86_64" vendor="AuthenticAMD" familyid="26" modelid="2"', 32e9),
        ('arch="x86_64" vendor="  Shanghai  " familyid="7" modelid="91"', 9e9),
        ('arch="x86_64" vendor="CentaurHauls" familyid="7" modelid="1"', 6e9),
        ('arch="ppc64"', 32e9),
        ('arch="arm64"', 6e9),
    ],
)
def test_processors_that_nccl_tells_apart(cpu: str, bandwidth: float, tmp_path: Path) -> None:
    both = nccl(slot("01"), cpu).replace("</system>", f'<cpu numaid="1" {cpu}>{slot("02")}</cpu></system>')
    topology = read_topology(put(tmp_path, both, "node.xml")).topology
    assert rate(topology, "cpu 0", "cpu 1") == bandwidth


@pytest.mark.parametrize(
    ("sm", "bandwidth"), [(60, 18e9), (70, 20e9), (80, 20e9), (86, 12e9), (90, 20.6e9), (100, 40.1e9), (103, 40.1e9)]
)
def test_nvlinks_of_a_compute_capability(sm: int, bandwidth: float) -> None:
    assert ServerLinks.of(None).nvlink_of_sm(sm) == pytest.approx(bandwidth)
