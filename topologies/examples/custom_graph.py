"""A topology of one's own, drawn with networkx: a ring of 16 chips with chords, against the plain ring."""

import networkx

import scaleout
from scaleout.collective import collective_table
from scaleout.network import facts

CHIPS = 16

ring = networkx.cycle_graph(CHIPS)
chords = ring.copy()
chords.add_edges_from((chip, chip + CHIPS // 2) for chip in range(CHIPS // 2))

for name, graph in (("ring", ring), ("ring with chords", chords)):
    fabric = scaleout.from_networkx(graph, name=name, default_bandwidth="50 GB/s", default_latency="1 us")
    found = facts(fabric)
    print(f"{name}: {found.links} links, diameter {found.diameter}, bisection {found.bisection / 1e9:.0f} GB/s")
    for row in collective_table("all_to_all", fabric, [1e6, 1e9]).rows:
        print(f"  all-to-all of {row.bytes / 1e6:,.0f} MB: {row.time * 1e3:.3f} ms, waits for {row.bottleneck}")
