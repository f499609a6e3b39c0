"""The interconnect: topologies, paths, and fair rates on them."""

from scaleout.network.builders import nvswitch_node, rail_fat_tree, ring, tree_shape
from scaleout.network.detour import detour
from scaleout.network.fabric import Fabric, Paths, Routes, Routing
from scaleout.network.fairshare import max_min
from scaleout.network.faults import Stretch, stretches, struck
from scaleout.network.machine import machine
from scaleout.network.topology import Topology

__all__ = [
    "Fabric",
    "Paths",
    "Routes",
    "Routing",
    "Stretch",
    "Topology",
    "detour",
    "machine",
    "max_min",
    "nvswitch_node",
    "rail_fat_tree",
    "ring",
    "stretches",
    "struck",
    "tree_shape",
]
