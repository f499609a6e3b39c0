"""Link utilisation as a heat map: a panel for each kind of link and direction, a cell for each link."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.network.topology import Topology
from scaleout.report.style import PRINT_WIDTH, headline, house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["LinkPanel", "draw_links", "link_panels", "paint_links", "scale_end"]

_MOST_PANELS = 12
_COLUMNS = 3
_FEW_CELLS = 256
"""Cells of a panel up to which lines are drawn between them."""
_LETTERS = 28
"""Of a line of a panel's title."""
_TOPS = (1, 2, 5, 10, 20, 50, 100)
"""Ends of the scale [%]."""
_ROW = 64
"""Cells of a row where nothing else says how long it should be."""


@dataclass(frozen=True, slots=True)
class LinkPanel:
    """One kind of link in one direction.

    Parameters
    ----------
    title
        Which links.
    busy
        Utilisation of each link [1], NaN where there is none, shape (rows, columns).
    rows, columns
        What a row is, and a column.
    """

    title: str
    busy: Floats
    rows: str
    columns: str


def link_panels(topology: Topology, busy: Floats) -> list[LinkPanel]:
    """Utilisation by kind of link and kinds of vertices that it joins; idle kinds are left out last.

    Parameters
    ----------
    busy
        Of each link [1], shape (links,).
    """
    kinds = np.repeat(np.arange(len(topology.vertices)), [count for _, count in topology.vertices])
    names = [name for name, _ in topology.vertices]
    panels = []
    grid = topology.coordinates
    step = _steps(topology)
    keys = np.column_stack((topology.kind, kinds[topology.source], kinds[topology.target], step))
    for kind, a, b, way in np.unique(keys, axis=0).tolist():
        mine = np.flatnonzero((keys == (kind, a, b, way)).all(axis=1))
        words = topology.kinds[kind]
        if way:
            words += f", {'xyzuvw'[abs(way) - 1] if abs(way) <= 6 else abs(way)}{'+' if way > 0 else '-'}"
            panels.append(LinkPanel(words, *_on_grid(grid[topology.source[mine]], busy[mine])))
            continue
        ends = topology.source[mine] if a == 0 else topology.target[mine]
        title = f"{words}: {names[a]} to {names[b]}" if len(names) > 1 else words
        if 0 in (a, b) and topology.node.max() > 0:
            panels.append(LinkPanel(title, *_by_node(topology, ends, busy[mine])))
        else:
            panels.append(LinkPanel(title, _wrapped(busy[mine]), f"rows of {min(_ROW, len(mine))}", "link"))
    panels.sort(key=lambda panel: -float(np.nanmax(panel.busy)))
    return panels[:_MOST_PANELS]


def _steps(topology: Topology) -> Ints:
    """Dimension (from 1) and direction in which each link goes on a grid; 0 where there is none."""
    grid = topology.coordinates
    out = np.zeros(topology.links, dtype=np.int64)
    if not grid.size:
        return out
    between = (topology.source < topology.chips) & (topology.target < topology.chips)
    size = grid.max(axis=0) + 1
    apart = grid[topology.target[between]] - grid[topology.source[between]]
    dimension = np.argmax(apart != 0, axis=1)
    way = apart[np.arange(len(apart)), dimension]
    # round the edge the other way is shorter; on a ring of two both are one
    way = np.where(np.abs(way) * 2 > size[dimension], -way, way)
    out[between] = np.where(way > 0, dimension + 1, -dimension - 1)
    return out


def _on_grid(at: Ints, busy: Floats) -> tuple[Floats, str, str]:
    """Cells at the coordinates of their chips; planes of further dimensions below each other."""
    size = at.max(axis=0) + 1
    row = np.zeros(len(at), dtype=np.int64)
    for dimension in range(at.shape[1] - 1, 0, -1):
        row = row * size[dimension] + at[:, dimension]
    image = np.full((int(row.max()) + 1, int(size[0])), np.nan)
    image[row, at[:, 0]] = busy
    return image, "y" if at.shape[1] == 2 else "y and further", "x"


def _by_node(topology: Topology, chip: Ints, busy: Floats) -> tuple[Floats, str, str]:
    """A row for each node; for single-chip nodes, rows of many."""
    first = np.zeros(int(topology.node.max()) + 1, dtype=np.int64)
    order = np.argsort(topology.node, kind="stable")
    starts = np.flatnonzero(np.diff(topology.node[order], prepend=-1))
    first[topology.node[order][starts]] = starts
    within = np.empty(topology.chips, dtype=np.int64)
    within[order] = np.arange(topology.chips) - first[topology.node[order]]
    # ends may be ports that several chips share: they have no place in a node
    known = chip < topology.chips
    if not known.all() or within.max() == 0:
        return _wrapped(busy), f"rows of {min(_ROW, len(busy))}", "link"
    columns = int(within.max()) + 1
    image = np.full((len(first), columns), np.nan)
    image[topology.node[chip], within[chip]] = busy
    return image, "node", "chip of the node"


def _wrapped(busy: Floats) -> Floats:
    """One after another, in rows."""
    columns = min(_ROW, len(busy))
    image = np.full((-(-len(busy) // columns), columns), np.nan)
    image.ravel()[: len(busy)] = busy
    return image


def draw_links(panels: list[LinkPanel], title: str) -> "Figure":
    """A heat map a panel, all with one scale from 0 %."""
    columns = min(_COLUMNS, len(panels)) or 1
    rows = -(-len(panels) // columns)
    with house_style():
        figure = new_figure(PRINT_WIDTH if columns == _COLUMNS else 2.0 + 2.2 * columns, 1.0 + 2.1 * rows)
        headline(figure, title)
        axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
        top = scale_end(panels)
        for ax, panel in zip(axes, panels, strict=False):
            paint_links(ax, panel, top)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        if panels:
            scale = figure.colorbar(axes[0].images[0], ax=list(axes), shrink=0.8, aspect=40)
            scale.set_label("utilisation [%]", size=8)
            scale.ax.tick_params(labelsize=7.5)
        return figure


def scale_end(panels: Sequence[LinkPanel]) -> float:
    """End of a scale that all panels fit in [%]."""
    most = max((float(np.nanmax(panel.busy)) for panel in panels), default=1.0)
    return next((step for step in _TOPS if most <= step / 100), 100)


def paint_links(ax: "Axes", panel: LinkPanel, top: float, letters: int = _LETTERS) -> None:
    """A heat map on an axis; its colours end at `top` [%], lines of its title after so many letters."""
    from matplotlib.ticker import MaxNLocator

    ax.imshow(
        panel.busy * 100, vmin=0, vmax=top, cmap="cividis", aspect="auto", interpolation="nearest", origin="lower"
    )
    words = "\n".join(wrap(panel.title, letters, break_on_hyphens=False))
    ax.set_title(f"{words}\nup to {np.nanmax(panel.busy):.0%}", fontsize=7.5)
    ax.set_xlabel(panel.columns, fontsize=8)
    ax.set_ylabel(panel.rows, fontsize=8)
    ax.tick_params(labelsize=7.5)
    rows, columns = panel.busy.shape
    for axis, count in ((ax.xaxis, columns), (ax.yaxis, rows)):
        if count == 1:
            axis.set_ticks([0])
        else:
            axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if panel.busy.size <= _FEW_CELLS:
        # each link by itself, as far as that can be seen
        ax.set_xticks(np.arange(columns - 1) + 0.5, minor=True)
        ax.set_yticks(np.arange(rows - 1) + 0.5, minor=True)
        ax.grid(visible=True, which="minor", color="white", linewidth=0.6)
        ax.tick_params(which="minor", length=0)
    if rows == 1:
        ax.set_yticks([])
        ax.set_ylabel("")
