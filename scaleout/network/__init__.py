"""The interconnect: topologies, paths, and fair rates on them."""

from scaleout.network.builders import nvswitch_node, rail_fat_tree, ring, tree_shape
from scaleout.network.fairshare import max_min
from scaleout.network.topology import Fabric, Routes, Topology

__all__ = ["Fabric", "Routes", "Topology", "max_min", "nvswitch_node", "rail_fat_tree", "ring", "tree_shape"]
