"""Drawings of topologies and of their links: what is in them, and that nothing is lost or doubled."""

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

from scaleout.collective import collective_table
from scaleout.io.catalogue import load
from scaleout.network import Topology, fully_connected, hamming_mesh, hypercube, machine, ring, torus
from scaleout.report.collective import bandwidth_curves, draw_bandwidth
from scaleout.report.links import draw_links, link_panels
from scaleout.report.style import render
from scaleout.report.topology import draw_topology, topology_picture

SYSTEM = load("system", "dgx-h100")


def of_graph(graph: nx.Graph, chips: int, coordinates: np.ndarray | None = None) -> Topology:
    """A topology of a graph whose nodes are numbers."""
    pairs = [(a, b) for a, b in graph.edges] + [(b, a) for a, b in graph.edges]
    source, target = np.array(sorted(pairs)).T
    links = len(source)
    rest = graph.number_of_nodes() - chips
    return Topology(
        name="test",
        chips=chips,
        vertices=(("chip", chips), *((("router", rest),) if rest else ())),
        source=source,
        target=target,
        bandwidth=np.full(links, 1e9),
        latency=np.zeros(links),
        kind=np.zeros(links, dtype=np.int64),
        kinds=("link",),
        coordinates=np.zeros((0, 0), dtype=np.int64) if coordinates is None else coordinates,
    )


def grid(*dims: int) -> Topology:
    graph = nx.grid_graph(dim=dims, periodic=True)
    nodes = sorted(graph.nodes)
    return of_graph(nx.relabel_nodes(graph, {v: i for i, v in enumerate(nodes)}), len(nodes), np.array(nodes))


def test_a_small_machine_is_drawn_whole() -> None:
    topology = machine(SYSTEM, 16).topology
    picture = topology_picture(topology)
    assert sorted(picture.place) == list(range(topology.size))
    assert sum(len(lines) for lines in picture.lines.values()) == topology.links // 2
    assert not picture.notes
    # tiers: a node's switch below its chips, leaves and spines above
    heights = {topology.vertex_name(v).rsplit(" ", 1)[0]: y for v, (_, y) in picture.place.items()}
    assert heights["switch"] < heights["chip"] < heights["leaf"] < heights["spines of pod"]


def test_a_large_machine_is_thinned_out_and_says_so() -> None:
    picture = topology_picture(machine(SYSTEM, 4096).topology)
    assert len(picture.place) < 100
    assert any("first 16 and the last 8" in note for note in picture.notes)
    assert any("4,096 x chip" in text for _, _, text, _ in picture.labels)


@pytest.mark.parametrize("dims", [(4, 4), (8, 3), (3, 4, 5), (16, 16, 16)])
def test_grids_keep_their_coordinates(dims: tuple[int, ...]) -> None:
    topology = grid(*dims)
    picture = topology_picture(topology)
    places = {chip: tuple(xy) for chip, xy in picture.place.items()}
    assert len(set(places.values())) == topology.chips
    if len(dims) == 2:
        assert [places[chip] for chip in range(topology.chips)] == [
            tuple(map(float, at)) for at in topology.coordinates
        ]


def routers(count: int) -> Topology:
    """Routers that join each other, with two chips each."""
    graph = nx.random_regular_graph(3, count, seed=1)
    graph = nx.relabel_nodes(graph, {i: i + 2 * count for i in range(count)})
    graph.add_edges_from((chip, 2 * count + chip // 2) for chip in range(2 * count))
    return of_graph(graph, 2 * count)


def test_many_routers_that_join_each_other_stand_on_a_circle() -> None:
    picture = topology_picture(routers(64))
    radii = [np.hypot(*picture.place[v]) for v in range(128, 192)]
    assert max(radii) == pytest.approx(min(radii))
    assert min(np.hypot(*picture.place[v]) for v in range(128)) > max(radii)


def test_a_few_are_named() -> None:
    picture = topology_picture(routers(8))
    assert len(picture.place) == 24
    assert {text for _, _, text, _ in picture.labels} == set(map(routers(8).vertex_name, range(24)))


@pytest.mark.parametrize("fabric", [machine(SYSTEM, 1).topology, ring(2, bandwidth=1e9, latency=0).topology])
def test_the_smallest_machines_can_be_drawn(fabric: Topology) -> None:
    files = render(draw_topology(topology_picture(fabric)), "x")
    assert files["x.png"].startswith(b"\x89PNG")


def test_figures_are_the_same_bytes_each_time() -> None:
    fabric = machine(SYSTEM, 16)
    table = collective_table("all_reduce", fabric, [2.0**20, 2.0**25], explain=True)

    def draw() -> list[dict[str, bytes]]:
        curves = bandwidth_curves(table, [("somebody", 16, 2.0**20, 60e-6)])
        panels = link_panels(fabric.topology, table.link_use)
        return [render(draw_bandwidth(curves), "a"), render(draw_links(panels, "b"), "b")]

    assert draw() == draw()


def test_every_link_has_one_cell() -> None:
    for topology in (machine(SYSTEM, 32).topology, grid(4, 4), grid(3, 4, 5), grid(2, 2)):
        busy = np.random.default_rng(0).random(topology.links)
        cells = np.concatenate([panel.busy.ravel() for panel in link_panels(topology, busy)])
        assert np.sort(cells[np.isfinite(cells)]) == pytest.approx(np.sort(busy))


def test_measured_points_are_laid_over_as_bus_bandwidth() -> None:
    table = collective_table("all_reduce", machine(SYSTEM, 8), [2.0**30])
    curves = bandwidth_curves(table, [("nccl-tests", 8, 2.0**30, 4e-3), ("others", 16, 2.0**30, 1.0)])
    assert curves.measured["nccl-tests"] == pytest.approx(np.array([[2.0**30, 1.75 * 2**30 / 4e-3]]))


def corner(topology: Topology) -> list[tuple[float, float]]:
    """Places of a drawing, all different."""
    places = list(topology_picture(topology).place.values())
    assert len(set(places)) == len(places)
    return places


LINK = {"bandwidth": 50e9, "latency": 1e-6}


def test_hypercubes_are_drawn_as_cubes_with_every_link() -> None:
    for dims in (3, 4, 6):
        topology = hypercube(dims, **LINK).topology
        assert len(corner(topology)) == 2**dims
        lines = topology_picture(topology).lines[0]
        assert len(lines) == len(set(lines)) == dims * 2 ** (dims - 1)


def test_further_dimensions_are_planes_side_by_side() -> None:
    topology = torus((3, 3, 3, 3), **LINK).topology
    assert len(corner(topology)) == 81
    assert {text for _, _, text, _ in topology_picture(topology).labels} >= {"z = 0, w = 0", "z = 2, w = 1"}


def test_large_grids_show_their_first_planes_and_say_so() -> None:
    picture = topology_picture(torus((16, 32, 32), **LINK).topology)
    assert len(picture.place) == 4096
    assert "drawn: the first 8 of 32 planes" in picture.notes


def test_a_torus_without_coordinates_is_found_from_its_links() -> None:
    known = torus((4, 8), **LINK).topology
    lost = replace(known, coordinates=np.zeros((0, 0), dtype=np.int64))
    assert topology_picture(lost).place == topology_picture(known).place


@pytest.mark.parametrize("board", [(2, 2), (1, 3), (3, 1)])
def test_boards_of_a_hammingmesh_stand_apart_with_a_switch_a_line(board: tuple[int, int]) -> None:
    topology = hamming_mesh(board, (3, 4), **LINK).topology
    picture = topology_picture(topology)
    assert len(corner(topology)) == topology.size
    # the chips of a switch stand in its row or column, whatever the kind
    for chip, switch in zip(topology.source.tolist(), topology.target.tolist(), strict=True):
        if chip < topology.chips <= switch:
            along = topology.vertex_name(switch).startswith("row")
            assert picture.place[chip][along] == picture.place[switch][along]


def test_a_large_hammingmesh_shows_its_first_boards() -> None:
    picture = topology_picture(hamming_mesh((4, 4), (32, 32), **LINK).topology)
    assert sum(chip < picture.chips for chip in picture.place) == 4096
    assert "drawn: 16 x 16 of 32 x 32 boards" in picture.notes


def test_blots_of_lines_are_thinned_out() -> None:
    picture = topology_picture(fully_connected(256, **LINK).topology)
    assert len(picture.lines[0]) == 20_000
    assert any("20,000 of 32,640" in note for note in picture.notes)


def test_labels_of_planes_are_inside_the_figure() -> None:
    picture = topology_picture(torus((4, 4, 4), **LINK).topology)
    (ax,) = draw_topology(picture).axes
    low, high = ax.get_ylim()
    assert all(low < y < high for _, y, _, _ in picture.labels)
