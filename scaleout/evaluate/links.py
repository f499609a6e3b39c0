"""How busy links were, in one row for each kind."""

import numpy as np

from scaleout.engine import Unfolded
from scaleout.engine.usage import Usage
from scaleout.evaluate.event import Recording
from scaleout.result import LinkUse

__all__ = ["link_use"]

_DIGITS = 6
"""Of utilisations: more would tell roundings apart."""


def link_use(recording: Recording, usage: Usage | None = None) -> tuple[LinkUse, ...]:
    """One row for each kind of link that the network has, in the topology's order; none for compiled runs.

    Parameters
    ----------
    usage
        The recording's, where it is known already.
    """
    wiring = recording.wiring
    if isinstance(wiring, Unfolded) or recording.timeline.moved is None:
        return ()
    use = usage or recording.usage()
    topology = wiring.topology
    bins = len(use.edges) - 1
    kind_of = topology.kind[use.first]
    shares = use.utilisation
    whole = use.busy
    rows = []
    for kind, name in enumerate(topology.kinds):
        count = int(np.count_nonzero(topology.kind == kind))
        mine = np.flatnonzero(kind_of == kind)
        if not count:
            continue
        if not use.carried[mine].any():
            rows.append(LinkUse(kind=name, count=count))
            continue
        # of equally busy links the lowest
        top = int(mine[np.lexsort((use.first[mine], -whole[mine]))[0]])
        total = sum(int(use.carried[c] / use.quantum) * int(use.sizes[c]) for c in mine.tolist())
        seconds = [epoch.bandwidth[topology.kind == kind].sum() for epoch in wiring.epochs]
        could = np.array(seconds) @ use.lasting
        in_bins = use.sizes[mine] @ (use.over_time[mine] / use.bin_quantum) * use.bin_quantum
        rows.append(
            LinkUse(
                kind=name,
                count=count,
                bytes=total * use.quantum,
                utilisation=round(total * use.quantum / float(could.sum()), _DIGITS),
                peak=round(float(shares[mine].max()), _DIGITS),
                busiest=topology.link_name(int(use.first[top])),
                busiest_bytes=float(use.carried[top]),
                busiest_utilisation=round(float(whole[top]), _DIGITS),
                over_time=tuple(
                    round(value, _DIGITS)
                    for value in np.divide(in_bins, could, out=np.zeros(bins), where=could > 0).tolist()
                ),
            )
        )
    return tuple(rows)
