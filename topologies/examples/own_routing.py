"""A routing of one's own is one function from sources and targets to links.

On a mesh, chip y of the first row sends to the last chip of row y. Who goes down first has a row of its
own; who goes along first meets the others in the first row.
"""

import numpy as np

from scaleout.network import link_between, max_min, mesh, with_routing

SIDE = 4
grid = mesh((SIDE, SIDE), bandwidth=50e9, latency=1e-6)


def along_first(source, target):
    """Along the row, then down the column; a path is a row of vertices, made links."""
    x, y, to_x, to_y = source // SIDE, source % SIDE, target // SIDE, target % SIDE
    places = [source]
    for _ in range(SIDE - 1):
        y = y + np.sign(to_y - y)
        places.append(x * SIDE + y)
    for _ in range(SIDE - 1):
        x = x + np.sign(to_x - x)
        places.append(x * SIDE + y)
    return link_between(grid.topology, np.column_stack(places))


source = np.arange(SIDE)
target = source * SIDE + SIDE - 1
for name, fabric in (("the builder's", grid), ("along first", with_routing(grid, along_first))):
    routes = fabric.route(source, target)
    ones = np.ones(len(routes.link))
    rate = max_min(
        fabric.topology.bandwidth, routes.link, routes.flow, routes.weight, ones.astype(int), np.full(SIDE, np.inf)
    )
    busiest = int(np.bincount(routes.link).argmax())
    print(f"{name}: {rate.min() / 1e9:.1f} to {rate.max() / 1e9:.1f} GB/s a flow", end=", ")
    print(f"{np.bincount(routes.link).max()} flows on {fabric.topology.link_name(busiest)}")
