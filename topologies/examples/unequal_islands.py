"""Two islands that are not alike: eight chips on a switch, four newer ones in a ring, joined by slow links."""

import networkx

import scaleout
from scaleout.collective import collective_table

graph = networkx.Graph(name="two unequal islands")
graph.add_nodes_from((f"old {i}", {"kind": "gpu", "island": "old"}) for i in range(8))
graph.add_nodes_from((f"new {i}", {"kind": "gpu", "island": "new"}) for i in range(4))
graph.add_node("switch", kind="switch", island="old")
graph.add_node("router", kind="switch")
graph.add_edges_from(((f"old {i}", "switch") for i in range(8)), bandwidth="240 GB/s", latency="0.3 us")
graph.add_edges_from(((f"new {i}", f"new {(i + 1) % 4}") for i in range(4)), bandwidth="450 GB/s", latency="0.3 us")
graph.add_edges_from(
    (("switch", "router"), ("new 0", "router"), ("new 2", "router")), bandwidth="50 GB/s", latency="1 us"
)
fabric = scaleout.from_networkx(graph)

old, new, everyone = list(range(8)), list(range(8, 12)), list(range(12))
for name, ranks in (("old island", old), ("new island", new), ("both", everyone)):
    (row,) = collective_table("all_reduce", fabric, [1e9], ranks=ranks).rows
    print(f"{name}, {len(ranks)} chips: 1 GB in {row.time * 1e3:.2f} ms by {row.algorithm}, waits for {row.bottleneck}")
