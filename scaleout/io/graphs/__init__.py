"""Graphs in and out: one module a format; ``read_topology``, ``write_topology``, ``from_networkx``."""

from scaleout.io.graphs.files import load_topology, read_topology, topology_names, write_topology
from scaleout.io.graphs.graph import from_networkx

__all__ = ["from_networkx", "load_topology", "read_topology", "topology_names", "write_topology"]
