"""A topology as a drawing: tiers of switches, a grid, or a circle, whichever shows what it is.

Large tiers are drawn by their first and last members, with words for what lies between.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.groups import grid_of
from scaleout.network.fabric import Fabric
from scaleout.network.routing import shortest
from scaleout.network.topology import Topology
from scaleout.report.style import GROUP_COLOURS, PRINT_WIDTH, headline, house_style, new_figure
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["TopologyPicture", "draw_topology", "paint_topology", "topology_picture"]

_MOST_IN_ROW = 32
"""Vertices of a tier that are all drawn."""
_FIRST, _LAST = 16, 8
"""Of a larger tier."""
_MOST_IN_SPRINGS, _MOST_NAMED = 160, 48
"""Vertices of an irregular graph that is laid out by springs, and of one whose vertices are named."""
_MOST_IN_GRID, _BOARD_SIDE = 4_096, 64
"""Chips of the planes of a grid that are drawn, and of a row and a column of boards."""
_MOST_LINES = 20_000
"""Of a circle; more are a blot that takes a minute to draw."""
_MOST_LOOKED_AT = 16
"""Links of a chip up to which a grid is looked for."""
_CUBE = ((1.0, 0.0), (0.0, 1.0), (0.45, 0.35), (2.3, 0.3), (0.3, -2.3), (5.2, 0.9))
"""Steps along the dimensions of a hypercube that is drawn as one."""
_LEAST_WIDTH = 12
"""Of rows, in drawing units."""
_ARC = 12
"""Pieces of an arc."""
_CHIP, _SWITCH = "#FFFFFF", "#444444"
_DASHES = ("-", "--", "-.", ":")
"""Of kinds of links, to be told apart in black and white."""


Line = tuple[tuple[float, float], ...]


@dataclass(slots=True)
class TopologyPicture:
    """What the drawing shows.

    Parameters
    ----------
    title, notes
        Above and below.
    place
        Of each vertex that is drawn, by number.
    chips
        Number of chips; lower numbers are chips.
    lines
        Pairs of points by kind of link, in drawing units.
    words
        Of each kind of link, for the legend.
    labels
        Text at a point.
    size
        Of a vertex, in drawing units.
    step
        From one vertex of a row to the next.
    equal
        Whether both directions have one scale.
    tangled
        Whether lines lie over each other.
    """

    title: str
    chips: int
    place: dict[int, tuple[float, float]] = field(default_factory=dict)
    lines: dict[int, list[Line]] = field(default_factory=lambda: defaultdict(list))
    words: dict[int, str] = field(default_factory=dict)
    labels: list[tuple[float, float, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    size: float = 0.6
    equal: bool = True
    step: float = 1.0
    tangled: bool = False


def topology_picture(topology: Topology) -> TopologyPicture:
    """Places, lines and words of a drawing, by what the topology is."""
    switches = topology.size - topology.chips
    counts = [_count(topology.chips, "chip", "chips"), _count(topology.links, "link", "links")]
    if switches:
        counts.insert(1, _count(switches, "other vertex", "other vertices"))
    picture = TopologyPicture(f"{topology.name}: {', '.join(counts)}", topology.chips)
    picture.words = {kind: _kind_words(topology, kind) for kind in sorted(set(topology.kind.tolist()))}
    grid = topology.coordinates if switches else _coordinates(topology)
    sides = tuple((grid.max(axis=0) + 1).tolist()) if grid.size else ()
    if not switches and set(sides) == {2} and 3 <= len(sides) <= len(_CUBE) and topology.coordinates.size:
        _cube(topology, picture)
    elif not switches and sides and len(sides) <= 6 and not (set(sides) == {2} and len(sides) > 2):
        _grid(topology, picture, grid)
    elif switches and len(sides) == 2 and topology.node.max() > 0:
        _boards(topology, picture)
    elif switches:
        levels = _levels(topology)
        same = levels[topology.source] == levels[topology.target]
        joined = np.zeros(topology.size, dtype=bool)
        joined[topology.source[topology.target >= topology.chips]] = True
        if not (same & (levels[topology.source] != 0)).any() and joined[: topology.chips].all():
            _tiers(topology, picture, levels)
        elif topology.size <= _MOST_IN_SPRINGS:
            _springs(topology, picture)
        else:
            _circle(topology, picture, np.arange(topology.chips, topology.size))
    else:
        _circle(topology, picture, np.arange(topology.chips))
    return picture


def _count(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _coordinates(topology: Topology) -> Ints:
    """Of each chip on a grid: the builder's, or those that the links of a wrapped grid tell."""
    if topology.coordinates.size or topology.links > _MOST_LOOKED_AT * topology.chips:
        return topology.coordinates
    fabric = Fabric(topology=topology, paths=shortest(topology))
    sides = grid_of(fabric, np.arange(topology.chips))
    if len(sides) < 2:
        return topology.coordinates
    return np.stack(np.unravel_index(np.arange(topology.chips), sides), axis=1).astype(np.int64)


def _kind_words(topology: Topology, kind: int) -> str:
    """A kind of link with its number and rate."""
    mine = np.flatnonzero(topology.kind == kind)
    rates = topology.bandwidth[mine] / topology.width[mine]
    low, high = float(rates.min()), float(rates.max())
    rate = describe(high, "byte/s") if low == high else f"{describe(low, 'byte/s')} to {describe(high, 'byte/s')}"
    width = int(topology.width[mine].max())
    bundled = f", bundles of up to {width:,}" if width > 1 else ""
    return f"{topology.kinds[kind]}: {len(mine):,} one-way links of {rate}{bundled}"


def _levels(topology: Topology) -> Ints:
    """Distance of each vertex from the nearest chip; negative for switches inside nodes."""
    inside = np.zeros(topology.size, dtype=bool)
    outside = np.zeros(topology.size, dtype=bool)
    for ends in (topology.source, topology.target):
        inside[ends[topology.kind == 0]] = True
        outside[ends[topology.kind != 0]] = True
    inner = inside & ~outside if outside.any() else np.zeros(topology.size, dtype=bool)
    level = np.full(topology.size, -1, dtype=np.int64)
    level[: topology.chips] = 0
    reached = True
    while reached:
        near = np.full(topology.size, topology.size, dtype=np.int64)
        known = level[topology.source] >= 0
        np.minimum.at(near, topology.target[known], level[topology.source[known]] + 1)
        new = (level < 0) & (near < topology.size)
        level[new] = near[new]
        reached = bool(new.any())
    level[level < 0] = level.max() + 1
    return np.where(inner & (level > 0), -level, level)


def _shown(members: Ints) -> tuple[list[int], int]:
    """Members of a tier that are drawn, and after how many of them some are left out (0: none)."""
    if len(members) <= _MOST_IN_ROW:
        return members.tolist(), 0
    return [*members[:_FIRST].tolist(), *members[-_LAST:].tolist()], _FIRST


def _tiers(topology: Topology, picture: TopologyPicture, levels: Ints) -> None:
    """Chips in a row, switches of nodes below, tiers of the network above; rows are spread to one width."""
    order = sorted(set(levels.tolist()))
    chips, _ = _shown(np.arange(topology.chips))
    width = max(len(chips) + len(set(topology.node[chips].tolist())), _LEAST_WIDTH)
    for row, level in enumerate(order):
        members = np.flatnonzero(levels == level)
        shown, cut = _shown(members)
        if level < 0:
            # a switch stands below the chips of its node, as far as those are drawn
            drawn = {int(v) for v in shown if _neighbours_drawn(topology, v, picture, chips)}
            shown = [v for v in shown if v in drawn] or shown
        y = 2.2 * (row - order.index(0))
        xs = _spread(topology, shown, level, width, cut)
        for vertex, x in zip(shown, xs, strict=True):
            picture.place[vertex] = (x, y)
        picture.labels.append((-1.2, y, _tier_words(topology, members), "right"))
        left_out = len(members) - len(shown)
        if left_out and level >= 0:
            at = (xs[cut - 1] + xs[cut]) / 2 if cut else width / 2
            picture.labels.append((at, y, "···", "center"))
    joined: dict[int, list[float]] = defaultdict(list)
    for a, b in zip(topology.source.tolist(), topology.target.tolist(), strict=True):
        if levels[b] < 0 and a in picture.place and b in picture.place:
            joined[b].append(picture.place[a][0])
    for vertex, xs in joined.items():
        # a switch inside a node stands below its chips
        picture.place[vertex] = (sum(xs) / len(xs), picture.place[vertex][1])
    picture.equal = False
    row_of_chips = sorted(x for vertex, (x, _) in picture.place.items() if vertex < topology.chips)
    picture.step = float(np.diff(row_of_chips).min()) if len(row_of_chips) > 1 else 1.0
    _lines_between_drawn(topology, picture)
    if topology.chips > len(chips):
        picture.notes.append(
            f"drawn: the first {_FIRST} and the last {_LAST} of a tier with more than {_MOST_IN_ROW} members"
        )


def _tier_words(topology: Topology, members: Ints) -> str:
    """How many vertices of which kinds."""
    bounds = np.cumsum([count for _, count in topology.vertices])
    kinds, counts = np.unique(np.searchsorted(bounds, members, side="right"), return_counts=True)
    names = [f"{count:,} x {topology.vertices[kind][0]}" for kind, count in zip(kinds, counts.tolist(), strict=True)]
    return "\n".join(names[:3]) + ("\n..." if len(names) > 3 else "")


def _neighbours_drawn(topology: Topology, vertex: int, picture: TopologyPicture, chips: list[int]) -> bool:
    near = set(topology.source[topology.target == vertex].tolist())
    return bool(near & set(chips))


def _spread(topology: Topology, shown: list[int], level: int, width: int, cut: int) -> list[float]:
    """Horizontal places of a row."""
    if level == 0:
        gaps = np.concatenate(([0], np.diff(topology.node[shown]) != 0)) if len(shown) > 1 else np.zeros(len(shown))
        if cut:
            gaps[cut] += 1.5
        place = np.arange(len(shown)) + np.cumsum(gaps)
        return [float(x) for x in (place + 0.5) * (width / (place[-1] + 1)) - 0.5]
    if level < 0:
        return [0.0] * len(shown)
    count = len(shown) + (1 if cut else 0)
    step = width / count
    slots = [i + (1 if cut and i >= cut else 0) for i in range(len(shown))]
    return [(slot + 0.5) * step - 0.5 for slot in slots]


def _lines_between_drawn(topology: Topology, picture: TopologyPicture) -> None:
    """A line for every pair of drawn vertices that links join."""
    drawn = np.zeros(topology.size, dtype=bool)
    drawn[list(picture.place)] = True
    ends = np.sort(np.column_stack((topology.source, topology.target)), axis=1)
    mine = np.flatnonzero(drawn[ends].all(axis=1))
    _, first = np.unique(ends[mine] @ [topology.size, 1], return_index=True)
    links = mine[np.sort(first)]
    if len(links) > _MOST_LINES:
        picture.notes.append(f"drawn: {_MOST_LINES:,} of {len(links):,} pairs of linked vertices, picked at random")
        links = np.sort(np.random.default_rng(0).permutation(links)[:_MOST_LINES])
    for link in links.tolist():
        line = _way(picture, int(topology.source[link]), int(topology.target[link]))
        picture.lines[int(topology.kind[link])].append(line)


def _way(picture: TopologyPicture, a: int, b: int) -> Line:
    """Straight, but an arc above the others between vertices of one row."""
    (x, y), (u, v) = picture.place[a], picture.place[b]
    if picture.equal or y != v or abs(u - x) <= 1.01 * picture.step:
        return ((x, y), (u, v))
    turn = np.linspace(0, np.pi, _ARC)
    height = min(0.9, 0.12 * abs(u - x))
    xs, ys = (x + u) / 2 - (u - x) / 2 * np.cos(turn), y + height * np.sin(turn)
    return tuple(zip(xs.tolist(), ys.tolist(), strict=True))


def _springs(topology: Topology, picture: TopologyPicture) -> None:
    """An irregular graph of few vertices: linked ones near each other."""
    import networkx

    graph: networkx.Graph[int] = networkx.Graph()
    graph.add_nodes_from(range(topology.size))
    graph.add_edges_from(zip(topology.source.tolist(), topology.target.tolist(), strict=True))
    start = networkx.circular_layout(graph)
    placed = networkx.spring_layout(graph, pos=start, seed=0, iterations=300, k=1.6 / np.sqrt(topology.size))
    scale = 2.2 * np.sqrt(topology.size)
    picture.place = {vertex: (float(x * scale), float(y * scale)) for vertex, (x, y) in sorted(placed.items())}
    picture.tangled = True
    if topology.size <= _MOST_NAMED:
        for vertex, (x, y) in picture.place.items():
            picture.labels.append((x, y - 0.75, topology.vertex_name(vertex), "center"))
    _lines_between_drawn(topology, picture)


def _grid(topology: Topology, picture: TopologyPicture, at: Ints) -> None:
    """Chips at their coordinates; of more than two dimensions, the planes side by side."""
    if at.shape[1] == 1:
        _circle(topology, picture, np.arange(topology.chips))
        return
    size = at.max(axis=0) + 1
    further, lengths = at[:, 2:], size[2:].tolist()
    planes = int(np.prod(lengths))
    plane = np.zeros(len(at), dtype=np.int64)
    for d, length in enumerate(lengths):
        plane = plane * length + further[:, d]
    # as many planes as can be told apart
    most = max(1, min(planes, _MOST_IN_GRID // int(size[0] * size[1])))
    # the last dimension goes along a row where that looks like something
    columns = lengths[-1] if len(lengths) == 2 and lengths[-1] <= 8 else int(np.ceil(np.sqrt(most)))
    corner = np.column_stack((plane % columns, -(plane // columns))) * (size[:2] + np.array([1.5, 2.5]))
    places = at[:, :2] + corner
    picture.place = {chip: (float(x), float(y)) for chip, (x, y) in enumerate(places.tolist()) if plane[chip] < most}
    if planes > 1:
        for number in range(most):
            mine = np.flatnonzero(plane == number)
            low = places[mine].min(axis=0)
            words = ", ".join(f"{'zwuv'[d]} = {further[mine[0], d]}" for d in range(min(len(lengths), 4)))
            picture.labels.append((float(low[0]) - 0.5, float(low[1]) - 1.1, words, "left"))
        picture.notes.append("planes of the further dimensions side by side; links between planes are not drawn")
        if most < planes:
            picture.notes.append(f"drawn: the first {most} of {planes} planes")
    stubs = 0
    for a, b, kind in zip(topology.source.tolist(), topology.target.tolist(), topology.kind.tolist(), strict=True):
        if plane[a] != plane[b] or plane[a] >= most:
            continue
        (x, y), (u, v) = picture.place[a], picture.place[b]
        far = max(abs(u - x), abs(v - y))
        if far <= 1:
            if a < b:
                picture.lines[kind].append(((x, y), (u, v)))
            continue
        # a link round the edge leaves as a short stub
        stubs += 1
        picture.lines[kind].append(((x, y), (x - 0.7 * np.sign(u - x), y - 0.7 * np.sign(v - y))))
    if stubs:
        picture.notes.append("stubs at the edges are links that wrap around")


def _cube(topology: Topology, picture: TopologyPicture) -> None:
    """A hypercube as cubes beside each other, every link drawn."""
    ways = np.array(_CUBE[: topology.coordinates.shape[1]])
    places = topology.coordinates[:, ::-1] @ ways
    picture.place = {chip: (float(x), float(y)) for chip, (x, y) in enumerate(places.tolist())}
    picture.size, picture.tangled = 0.3, True
    _lines_between_drawn(topology, picture)


def _boards(topology: Topology, picture: TopologyPicture) -> None:
    """Boards of chips apart from each other; switches at the ends of their rows and columns."""
    at, chips = topology.coordinates, topology.chips
    first = topology.node == 0
    board = at[first].max(axis=0) + 1
    gap = 1.6
    boards = at.max(axis=0) // board + 1
    # whole boards, from the first corner on
    most = np.minimum(boards, np.maximum(1, _BOARD_SIDE // board))
    shown = (at // board < most).all(axis=1)
    down, along = (at + gap * (at // board)).T
    for chip in np.flatnonzero(shown).tolist():
        picture.place[chip] = (float(along[chip]), -float(down[chip]))
    end = {0: float(along[shown].max()) + 2.5, 1: -float(down[shown].max()) - 2.5}
    for a, b, kind in zip(topology.source.tolist(), topology.target.tolist(), topology.kind.tolist(), strict=True):
        if a >= chips or a not in picture.place:
            continue
        x, y = picture.place[a]
        if b < chips:
            if a < b and b in picture.place:
                picture.lines[kind].append(((x, y), picture.place[b]))
            continue
        # a switch of a row has all its chips in that row
        peers = topology.source[(topology.target == b)] if b not in picture.place else np.zeros(0, dtype=np.int64)
        if len(peers):
            in_row = len(np.unique(at[peers, 0])) == 1
            picture.place[b] = (end[0], y) if in_row else (x, end[1])
        in_row = picture.place[b][0] == end[0] and picture.place[b][1] == y
        place = at[a, 1 if in_row else 0] % board[1 if in_row else 0]
        side = -1 if place == 0 and board[1 if in_row else 0] > 1 else 1
        picture.lines[kind].append(((x, y), (x + 0.6 * side, y) if in_row else (x, y - 0.6 * side)))
    for vertex, (x, y) in sorted(picture.place.items()):
        if vertex >= chips:
            kind = int(topology.kind[topology.target == vertex][0])
            picture.lines[kind].append(((x, y), (x - 0.9, y) if x == end[0] else (x, y + 0.9)))
    picture.notes.append("short lines lead to the switch of the row or column, which stands at its end")
    if (most < boards).any():
        picture.notes.append(f"drawn: {most[0]} x {most[1]} of {boards[0]} x {boards[1]} boards")


def _circle(topology: Topology, picture: TopologyPicture, ring: Ints) -> None:
    """Vertices on a circle, islands side by side; chips of switches outside of them."""
    count = len(ring)
    radius = max(2.0, count / 5.5)
    angle = np.pi / 2 - 2 * np.pi * np.arange(count) / count
    for vertex, turn in zip(ring.tolist(), angle.tolist(), strict=True):
        picture.place[vertex] = (radius * np.cos(turn), radius * np.sin(turn))
    picture.size, picture.tangled = min(0.6, 3.6 * radius / max(count, 1)), True
    if len(ring) and ring[0] >= topology.chips:
        near: dict[int, list[int]] = defaultdict(list)
        mine = (topology.source < topology.chips) & (topology.target >= topology.chips)
        for chip, switch in zip(topology.source[mine].tolist(), topology.target[mine].tolist(), strict=True):
            near[switch].append(chip)
        if topology.chips <= 512:
            turn_of = dict(zip(ring.tolist(), angle.tolist(), strict=True))
            step = 2 * np.pi / max(count, 1)
            for switch, chips in sorted(near.items()):
                for index, chip in enumerate(chips):
                    turn = turn_of[switch] + step * 0.7 * ((index + 0.5) / len(chips) - 0.5)
                    far = radius + 1.3
                    picture.place.setdefault(chip, (far * np.cos(turn), far * np.sin(turn)))
            picture.size = min(picture.size, 4.0 * radius / topology.chips)
        else:
            sizes = sorted({len(chips) for chips in near.values()})
            each = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
            picture.notes.append(f"{each} chips on each switch that has any; they are not drawn")
    _lines_between_drawn(topology, picture)


def draw_topology(picture: TopologyPicture) -> "Figure":
    """Chips as open squares, switches as filled ones, a colour for each kind of link."""
    low, high = _corners(picture)
    with house_style():
        wide = float(np.clip(0.32 * (high[0] - low[0]) + 2.5, 5.5, PRINT_WIDTH))
        below = 0.5 + 0.2 * (len(picture.words) + len(picture.notes))
        aspect = (high[1] - low[1] + 3) / (high[0] - low[0] + 4)
        tall = float(np.clip(wide * aspect, 2.4, 9.5)) if picture.equal else 0.8 + 0.4 * (high[1] - low[1])
        tall += below
        figure = new_figure(wide, tall)
        ax = figure.subplots()
        headline(figure, picture.title)
        paint_topology(ax, picture, wide, tall)
        figure.legend(loc="outside lower left", ncols=1, fontsize=7.5)
        return figure


def _corners(picture: TopologyPicture) -> tuple[Floats, Floats]:
    """Lowest and highest place of a vertex."""
    places: Floats = np.array(list(picture.place.values())).reshape(-1, 2)
    return places.min(axis=0), places.max(axis=0)


def paint_topology(ax: "Axes", picture: TopologyPicture, wide: float, tall: float) -> None:
    """The drawing on an axis of this size, room for words at its left included [inch].

    Lines bear the words for a legend.
    """
    _draw_lines(ax, picture)
    _draw_vertices(ax, picture, wide, tall)
    for x, y, text, side in picture.labels:
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.75}
        ax.text(x, y, text, ha=side, va="center", fontsize=7.5, bbox=ground, zorder=2)
    for index, note in enumerate(picture.notes):
        ax.annotate(
            note, (0, 0), xycoords="axes fraction", xytext=(0, -10 - 12 * index), textcoords="offset points",
            fontsize=7.5, color="#555555",
        )  # fmt: skip
    ax.set_axis_off()
    ax.set_aspect("equal" if picture.equal else "auto")
    inside = [(x, y) for x, y, _, side in picture.labels if side != "right"]
    if inside:
        ax.update_datalim(inside)
    if not picture.equal:
        # a single column is as wide as others, or its words have no room
        ax.update_datalim([(0.0, 0.0), (_LEAST_WIDTH - 1.0, 0.0)])
    ax.margins(0.06)
    ax.autoscale_view()


def _draw_lines(ax: "Axes", picture: TopologyPicture) -> None:
    from matplotlib.collections import LineCollection

    many = sum(len(lines) for lines in picture.lines.values())
    alpha = float(np.clip(400 / max(many, 1), 0.06, 0.9)) if picture.tangled else 0.9
    for index, (kind, words) in enumerate(sorted(picture.words.items())):
        colour = GROUP_COLOURS[index % len(GROUP_COLOURS)]
        lines = picture.lines.get(kind, [])
        width = 1.0 if many < 3000 else 0.5
        style = _DASHES[index % len(_DASHES)]
        ax.add_collection(
            LineCollection(lines, colors=colour, linewidths=width, linestyles=[style], alpha=alpha, zorder=1)
        )
        ax.plot([], [], color=colour, linestyle=style, label=words + ("" if lines else " (not drawn)"))


def _draw_vertices(ax: "Axes", picture: TopologyPicture, wide: float, tall: float) -> None:
    chips = np.array([xy for vertex, xy in picture.place.items() if vertex < picture.chips]).reshape(-1, 2)
    others = np.array([xy for vertex, xy in picture.place.items() if vertex >= picture.chips]).reshape(-1, 2)
    places = np.concatenate((chips, others))
    span = np.ptp(places, axis=0)
    # points across a vertex
    room = (wide - 2) / (max(float(span[0]), 1.0) + 2)
    if picture.equal:
        room = min(room, tall / (float(span[1]) + 2))
    side = float(np.clip(picture.size * 72 * room, 1.2, 11.0))
    ax.scatter(
        chips[:, 0],
        chips[:, 1],
        s=side**2,
        marker="s",
        facecolor=_CHIP,
        edgecolor="black",
        linewidth=min(0.8, side / 6),
        zorder=3,
    )
    ax.scatter(
        others[:, 0], others[:, 1], s=side**2, marker="s", facecolor=_SWITCH, edgecolor="black", linewidth=0.5, zorder=3
    )
