"""The interconnect: topologies, paths, and fair rates on them."""

from scaleout.network.builders import (
    clos,
    crossbar,
    fat_tree,
    fully_connected,
    hypercube,
    hyperx,
    leaf_spine,
    mesh,
    nvswitch_node,
    rail_fat_tree,
    ring,
    torus,
    tree_shape,
    twisted_torus,
)
from scaleout.network.fabric import Fabric, Loads, Paths, Routes, Routing
from scaleout.network.facts import TopologyFacts, facts
from scaleout.network.fairshare import max_min
from scaleout.network.faults import Stretch, stretches, struck
from scaleout.network.machine import machine
from scaleout.network.routing import avoiding, ecmp, link_between, shortest, spray, valiant, with_routing
from scaleout.network.topology import Topology

__all__ = [
    "Fabric",
    "Loads",
    "Paths",
    "Routes",
    "Routing",
    "Stretch",
    "Topology",
    "TopologyFacts",
    "avoiding",
    "clos",
    "crossbar",
    "ecmp",
    "facts",
    "fat_tree",
    "fully_connected",
    "hypercube",
    "hyperx",
    "leaf_spine",
    "link_between",
    "machine",
    "max_min",
    "mesh",
    "nvswitch_node",
    "rail_fat_tree",
    "ring",
    "shortest",
    "spray",
    "stretches",
    "struck",
    "torus",
    "tree_shape",
    "twisted_torus",
    "valiant",
    "with_routing",
]
