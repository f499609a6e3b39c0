"""What DeepSeek-V3's training on 1,024 H800 gains and loses on other networks.

Its tokens go to experts on 64 chips, eight to a node: all-to-all traffic between nodes. Compared are a fat tree with
rails, the rails alone, leaves and spines, the same oversubscribed, and, instead of nodes, one torus of all chips with
the same bytes a second to each. Run it as ``python plots/topology_comparison.py [folder]``.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaleout.io.catalogue import find
from scaleout.io.yaml import read_mapping
from scaleout.report.files import output_folder, write_all
from scaleout.report.style import render
from scaleout.report.sweep_bars import draw_sweep_bars, topologies_table_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "topology_comparison"
CHIPS = 1024
NETWORKS: dict[str, dict[str, Any]] = {
    "rails on a fat tree": {"kind": "rail-fat-tree"},
    "rails, not joined": {"kind": "rail-only"},
    "leaves and spines": {"kind": "leaf-spine"},
    "leaves and spines, 4:1": {"kind": "leaf-spine", "oversubscription": 4},
    "rails, ports of 200 Gb/s": {"kind": "rail-fat-tree", "bandwidth": "200 Gb/s"},
    "pods under cores, 7:1": {"kind": "clos", "nodes_per_leaf": 2, "nodes_per_pod": 32, "pod_oversubscription": 7},
}


def systems() -> tuple[dict[str, Any], ...]:
    """HGX H800 on each network; and a torus whose six links share what eight of NVLink and one port carry."""
    base = read_mapping(find("system", "hgx-h800"))
    found = [
        {**base, "name": name, "network": {**base["network"], "oversubscription": 1, **network}}
        for name, network in NETWORKS.items()
    ]
    link = {"kind": "torus", "shape": [8, 8, 16], "bandwidth": "41.7 GB/s", "latency": "0.5 us"}
    torus = {**base, "name": "torus 8 x 8 x 16", "chips_per_node": CHIPS, "network": {"kind": "none"}}
    torus["scale_up"] = {"efficiency": base["scale_up"]["efficiency"], **link}
    return (*found, torus)


def measure() -> SweepResults:
    """The same step on each, simulated."""
    half = {"chips": (CHIPS,), "layout.dp": (64,), "batch.global": (7680,)}
    return Sweep(base="deepseek-v3-2k", axes={"system": systems(), **half}, name="DeepSeek-V3 on 1,024 H800").run()


def draw(results: SweepResults) -> "Figure":
    """Times of a step over the best."""
    return draw_sweep_bars(topologies_table_of(results, x="system", y="step_time"))


if __name__ == "__main__":
    with output_folder(Path(sys.argv[1] if len(sys.argv) > 1 else "out")) as folder:
        for path in write_all(folder, render(draw(measure()), NAME)):
            print(path)
