"""Functions that return a fabric: one module a family of topologies."""

from scaleout.network.builders.direct import fully_connected, hypercube, hyperx
from scaleout.network.builders.grids import mesh, torus, twisted_torus
from scaleout.network.builders.rails import TreeShape, nvswitch_node, rail_fat_tree, tree_shape
from scaleout.network.builders.ring import ring
from scaleout.network.builders.switched import clos, crossbar, fat_tree, leaf_spine

__all__ = [
    "TreeShape",
    "clos",
    "crossbar",
    "fat_tree",
    "fully_connected",
    "hypercube",
    "hyperx",
    "leaf_spine",
    "mesh",
    "nvswitch_node",
    "rail_fat_tree",
    "ring",
    "torus",
    "tree_shape",
    "twisted_torus",
]
