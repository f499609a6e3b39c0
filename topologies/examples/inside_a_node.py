"""A node with insides: GPUs and NICs behind PCIe switches of two processors, as its wiring says.

What a GPU can send out of the node depends on which NIC it uses, and on who else does.
"""

import networkx
import numpy as np

import scaleout
from scaleout.network import max_min

node = networkx.Graph(name="eight GPUs on PCIe")
for cpu in range(2):
    for switch in range(2):
        name = f"pcie {cpu}.{switch}"
        node.add_edge(f"cpu {cpu}", name, bandwidth="48 GB/s", latency="0.3 us", kind="pcie")
        for slot in range(2):
            gpu = f"gpu {4 * cpu + 2 * switch + slot}"
            node.add_node(gpu, kind="gpu")
            node.add_edge(gpu, name, bandwidth="48 GB/s", latency="0.3 us", kind="pcie")
        node.add_node(f"nic {2 * cpu + switch}", kind="nic")
        node.add_edge(f"nic {2 * cpu + switch}", name, bandwidth="48 GB/s", latency="0.3 us", kind="pcie")
node.add_edge("cpu 0", "cpu 1", bandwidth="22 GB/s", latency="0.2 us", kind="smp")
for vertex, kind in (("cpu", "cpu"), ("pcie", "pcie switch")):
    for name in node:
        if name.startswith(vertex):
            node.nodes[name]["kind"] = kind

fabric = scaleout.from_networkx(node)
topology = fabric.topology
vertex = {topology.vertex_name(v): v for v in range(topology.size)}
print(", ".join(f"{count} {kind}" for kind, count in topology.vertices))

patterns = {
    "each GPU to the nearest NIC": [(f"gpu {i}", f"nic {i // 2}") for i in range(8)],
    "each GPU to the first NIC": [(f"gpu {i}", "nic 0") for i in range(8)],
    "each GPU to its image at the other processor": [(f"gpu {i}", f"gpu {(i + 4) % 8}") for i in range(8)],
}
for name, pairs in patterns.items():
    source, target = (np.array([vertex[pair[end]] for pair in pairs]) for end in (0, 1))
    routes = fabric.route(source, target)
    count = np.ones(len(routes.link), dtype=np.int64)
    rate = max_min(topology.bandwidth, routes.link, routes.flow, routes.weight, count, np.full(len(pairs), np.inf))
    print(f"{name}: {rate.min() / 1e9:.1f} to {rate.max() / 1e9:.1f} GB/s each, {rate.sum() / 1e9:.0f} GB/s in all")
