"""Functions that return a fabric: one module a family of topologies."""

from scaleout.network.builders.direct import fully_connected, hypercube, hyperx
from scaleout.network.builders.dragonfly import dragonfly
from scaleout.network.builders.expanders import jellyfish, slim_fly
from scaleout.network.builders.grids import mesh, torus, twisted_torus
from scaleout.network.builders.hammingmesh import hamming_mesh
from scaleout.network.builders.hosts import host_node
from scaleout.network.builders.islands import islands, nearest
from scaleout.network.builders.railed import rail_only, rail_optimised
from scaleout.network.builders.rails import TreeShape, nvswitch_node, rail_fat_tree, tree_shape
from scaleout.network.builders.ring import ring
from scaleout.network.builders.switched import clos, crossbar, fat_tree, leaf_spine

__all__ = [
    "TreeShape",
    "clos",
    "crossbar",
    "dragonfly",
    "fat_tree",
    "fully_connected",
    "hamming_mesh",
    "host_node",
    "hypercube",
    "hyperx",
    "islands",
    "jellyfish",
    "leaf_spine",
    "mesh",
    "nearest",
    "nvswitch_node",
    "rail_fat_tree",
    "rail_only",
    "rail_optimised",
    "ring",
    "slim_fly",
    "torus",
    "tree_shape",
    "twisted_torus",
]
