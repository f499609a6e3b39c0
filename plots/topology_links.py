"""Three networks, and how busy each of their links is while every chip sends to every other.

Four DGX H100 whose ports go to a leaf for each rail, a torus of 8 x 8 chips, and the same grid without the links
round its edges: there messages meet in the middle, and take twice as long. Run it as
``python plots/topology_links.py [folder]``.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaleout.collective import collective_table
from scaleout.io.catalogue import load
from scaleout.network import Fabric, machine, mesh, torus
from scaleout.report.files import output_folder, write_all
from scaleout.report.links import LinkPanel, link_panels, paint_links, scale_end
from scaleout.report.style import PRINT_WIDTH, headline, house_style, new_figure, render
from scaleout.report.topology import TopologyPicture, paint_topology, topology_picture
from scaleout.units import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "topology_links"
SIZE = 2.0**30
"""Of what each chip holds and sends to all [byte]."""
BANDWIDTH, LATENCY = 50e9, 1e-6
"""Of a link of a grid, one way [byte/s], [s]."""
SHOWN = {
    "dgx-h100": ("port: chip to leaf", "scale-up: chip to switch"), "torus": ("torus, x+", "torus, y+"),
    "mesh": ("mesh, x+", "mesh, y+"),
}  # fmt: skip
"""Kinds of links that are shown; those the other way are as busy."""


@dataclass(frozen=True, slots=True)
class Row:
    """A network: its title, drawing, and how busy its links are."""

    title: str
    picture: TopologyPicture
    panels: tuple[LinkPanel, ...]


def fabrics() -> dict[str, tuple[str, Fabric]]:
    """Networks by short name, with their words."""
    return {
        "dgx-h100": ("four DGX H100, rail-optimised", machine(load("system", "dgx-h100"), 32)),
        "torus": ("torus of 8 x 8", torus((8, 8), bandwidth=BANDWIDTH, latency=LATENCY)),
        "mesh": ("mesh of 8 x 8", mesh((8, 8), bandwidth=BANDWIDTH, latency=LATENCY)),
    }


def measure() -> list[Row]:
    """An all-to-all on each."""
    rows = []
    for name, (words, fabric) in fabrics().items():
        table = collective_table("all_to_all", fabric, [SIZE])
        panels = {panel.title: panel for panel in link_panels(fabric.topology, table.link_use)}
        took = describe(table.rows[0].time, "s")
        rows.append(
            Row(
                title=f"{words}\n{table.chips} chips: {took}",
                picture=topology_picture(fabric.topology),
                panels=tuple(panels[title] for title in SHOWN[name]),
            )
        )
    return rows


def draw(found: list[Row]) -> "Figure":
    """A row for each network: its drawing, and two heat maps on one scale."""
    with house_style():
        figure = new_figure(PRINT_WIDTH, 1.2 + 2.1 * len(found))
        headline(figure, f"Links while every chip sends {describe(SIZE, 'byte')} to all others, a part to each")
        axes = figure.subplots(len(found), 3, width_ratios=(1.9, 1, 1))
        top = scale_end([panel for row in found for panel in row.panels])
        for (left, *maps), row in zip(axes, found, strict=True):
            paint_topology(left, row.picture, 4.7, 1.5)
            left.set_title(row.title, fontsize=8.5)
            handles, names = left.get_legend_handles_labels()
            left.legend(
                handles, [name.split(":")[0] for name in names], loc="upper left", bbox_to_anchor=(0.0, -0.1), ncols=3,
                fontsize=7.5, handlelength=2.4, columnspacing=1.0, borderpad=0.0,
            )  # fmt: skip
            for ax, panel in zip(maps, row.panels, strict=True):
                paint_links(ax, panel, top, letters=20)
        scale = figure.colorbar(axes[0, 1].images[0], ax=axes[:, 1:], location="bottom", shrink=0.8, aspect=40)
        scale.set_label("utilisation of a link [%]", size=8)
        scale.ax.tick_params(labelsize=7.5)
    return figure


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
