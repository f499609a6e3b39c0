"""Exact weighted max-min fair rates.

A flow of rate r loads each link it crosses with weight x r. Rates are max-min fair when no rate
can rise without lowering one that is already as low or lower: every flow then has a saturated
link on which no other flow is faster, or runs at its cap.

Two solvers (`scaleout.network.filling`). Rounds of local bottlenecks: a link is a bottleneck when
its fair share is the least among all links of every flow on it; all such links saturate in the
same round, whatever happens elsewhere. They are faster where few rounds do, as in symmetric
traffic. Levels: progressive filling with a heap of links, for everything else. The choice rests
on what folding does not change, so a folded network and an unfolded one are solved alike.
"""

from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.compiled import Compilable
from scaleout.errors import TopologyError
from scaleout.network.filling import levels, rounds

__all__ = ["max_min"]

COMPILED_FROM = 5_000
"""Entries from which on the solvers run compiled. Plain they take 2 (levels) to 9 us (rounds) an
entry, compiled a fiftieth of that; loading numba costs 0.4 s once, as much as some ten plain
solves of this size, and a simulation that solves so much has more to come."""
FEW = 8
"""Rounds are tried where links have at most so many different shares at first. On random paths
they are faster up to 7 different shares, equal at 12, slower from 17 on."""
_NARROW = 1 << 31
"""Whole numbers below it fit into 32 bits."""
MOST = 32
"""Rounds give up after so many, or where a link carries so many different rates."""


def max_min(capacity: Floats, link: Ints, flow: Ints, weight: Floats, count: Ints, cap: Floats) -> Floats:
    """Max-min fair rates.

    Parameters
    ----------
    capacity
        Of each link [byte/s], shape (links,).
    link, flow, weight, count
        One entry for each crossing: `count` equal flows of class `flow` load `link` with
        `weight` x rate each. Shape (entries,).
    cap
        Largest rate of each flow, or inf [byte/s], shape (flows,).

    Returns
    -------
    Rates [byte/s], shape (flows,).

    Raises
    ------
    TopologyError
        A flow crosses no link and has no cap.
    """
    network = prepare(capacity, link, flow, weight, count, cap)
    compiled = len(link) >= COMPILED_FROM
    few = len(np.unique(network.share[np.isfinite(network.share)])) <= FEW
    rate = by_rounds(network, compiled=compiled) if few else None
    if rate is None:
        rate = by_levels(network, compiled=compiled)
    if np.isinf(rate).any():
        raise TopologyError("a flow crosses no link and has no rate cap")
    return rate


class Network(NamedTuple):
    """What both solvers read; entries are sorted by flow.

    Parameters
    ----------
    capacity, cap
        As in `max_min`.
    first
        Where the entries of each flow begin, shape (flows + 1,).
    link, number, kind
        Of each entry: its link, equal flows, and the kind: a link with one of the weights on it.
    low
        Where the kinds of each link begin, shape (links + 1,).
    weight, flows
        Of each kind, and how many open flows it has; ascending on each link.
    share
        Of each link while all flows are open [byte/s]; inf where there are none.
    """

    capacity: Floats
    cap: Floats
    first: Ints
    link: Ints
    number: Ints
    kind: Ints
    low: Ints
    weight: Floats
    flows: Ints
    share: Floats


def prepare(capacity: Floats, link: Ints, flow: Ints, weight: Floats, count: Ints, cap: Floats) -> Network:
    """Sort the entries by flow and find the kinds."""
    if (flow[1:] < flow[:-1]).any():
        order = np.argsort(flow, kind="stable")
        link, flow, weight, count = link[order], flow[order], weight[order], count[order]
    links = len(capacity)
    if (weight[1:] == weight[:-1]).all():
        kind, low, weights = link, np.arange(links + 1), np.full(links, weight[0] if len(weight) else 1.0)
    else:
        order = np.lexsort((weight, link))
        key, value = link[order], weight[order]
        new = np.ones(len(key), dtype=bool)
        new[1:] = (key[1:] != key[:-1]) | (value[1:] != value[:-1])
        kind = np.empty(len(key), dtype=np.int64)
        kind[order] = np.cumsum(new) - 1
        low, weights = np.searchsorted(key[new], np.arange(links + 1)), value[new]
    many = np.bincount(kind, weights=count, minlength=len(weights)).astype(np.int64)
    # bincount adds in order, as the solvers do
    load = np.bincount(np.repeat(np.arange(links), np.diff(low)), weights=weights * many, minlength=links)
    share = np.full(links, np.inf)
    np.divide(capacity, load, out=share, where=load > 0)
    first = _begins(np.bincount(flow, minlength=len(cap)))
    return Network(capacity, cap, first, link, count, kind, low, weights, many, share)


def by_rounds(network: Network, *, compiled: bool) -> Floats | None:
    """Rates by rounds of local bottlenecks, inf where nothing holds a flow; None if `MOST` does not do."""
    flows, links = len(network.cap), len(network.capacity)
    blocked, touched, changed, sizes = np.zeros((4, links), dtype=np.int64)
    room = _begins(np.minimum(np.bincount(network.link, minlength=links), MOST))
    used, times = np.empty(room[-1]), np.empty(room[-1], dtype=np.int64)
    scratch = (MOST, np.arange(flows), blocked, touched, changed, room, sizes, used, times)
    rate = np.zeros(flows)
    return rate if _solve(rounds, rate, network, scratch, compiled) else None


def by_levels(network: Network, *, compiled: bool) -> Floats:
    """Rates by progressive filling, inf where nothing holds a flow."""
    links, kinds = len(network.capacity), len(network.weight)
    capped = np.flatnonzero(np.isfinite(network.cap))
    capped = capped[np.argsort(network.cap[capped], kind="stable")]
    start = _begins(np.bincount(network.link, minlength=links))
    flow_of, heap = np.empty(len(network.link), dtype=np.int64), np.arange(links)
    leaving, changed = np.zeros((2, kinds), dtype=np.int64)
    scratch = (capped, start, start.copy(), flow_of, heap, np.zeros(kinds), leaving, changed)
    rate = np.full(len(network.cap), np.inf)
    _solve(levels, rate, network, scratch, compiled)
    return rate


def _solve(
    solver: Compilable[..., bool], rate: Floats, network: Network, scratch: tuple[Any, ...], compiled: bool
) -> bool:
    """Run a solver, which writes `rate`."""
    network = network._replace(flows=network.flows.copy(), share=network.share.copy())
    if compiled:
        parts = (*network, *scratch)
        if int(network.flows.sum()) < _NARROW and len(network.link) < _NARROW:
            # half the memory to go through, and most of the time is waiting for memory
            parts = tuple(map(_narrow, parts))
        return solver.compiled(rate, *parts)
    # lists: Python is slow to read single elements of arrays
    result = rate.tolist()
    done = solver(result, *(x.tolist() if isinstance(x, np.ndarray) else x for x in (*network, *scratch)))
    rate[:] = result
    return done


def _narrow(values: Any) -> Any:
    """Whole numbers in 32 bits, where they are in an array."""
    return values.astype(np.int32) if isinstance(values, np.ndarray) and values.dtype == np.int64 else values


def _begins(sizes: Ints) -> Ints:
    """Where parts of these sizes begin when they lie one after another, and where the last ends."""
    begins = np.zeros(len(sizes) + 1, dtype=np.int64)
    np.cumsum(sizes, out=begins[1:])
    return begins
