"""A torus before and after one of its cables is cut: traffic goes around, and the rest shares what is left."""

import numpy as np

from scaleout.collective import collective_table
from scaleout.network import avoiding, torus, with_routing

whole = torus((4, 4), bandwidth=50e9, latency=1e-6)
topology = whole.topology
cable = np.flatnonzero(
    ((topology.source == 0) & (topology.target == 1)) | ((topology.source == 1) & (topology.target == 0))
)
cut = with_routing(whole, avoiding(topology, cable, whole.paths))

print(f"{topology.name}: cut {', '.join(topology.link_name(int(link)) for link in cable)}")
for name, fabric in (("whole", whole), ("cut", cut)):
    hops = len(fabric.route(np.array([0]), np.array([1])).link)
    (row,) = collective_table("all_to_all", fabric, [1e9]).rows
    print(f"{name}: {hops} hops from chip 0 to 1; all-to-all of 1 GB in {row.time * 1e3:.2f} ms, {row.bottleneck}")
