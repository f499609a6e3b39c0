"""Exact weighted max-min fair rates.

A flow of rate r loads each link it crosses with weight x r. Rates are max-min fair when no rate
can rise without lowering one that is already as low or lower: every flow then has a saturated
link on which no other flow is faster, or runs at its cap.

Rounds of local bottlenecks: a link is a bottleneck when its fair share is the least among all
links of every flow on it; all such links saturate in the same round, whatever happens
elsewhere. Sums collapse equal values to a count before they are added, so a folded network
(one entry with count 8) and an unfolded one (eight entries) give the same bits.
"""

import numpy as np

from scaleout.errors import TopologyError
from scaleout.network.topology import Floats, Ints

__all__ = ["max_min"]


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
    flows, links = len(cap), len(capacity)
    rate = np.zeros(flows)
    open_ = np.ones(flows, dtype=bool)
    while open_.any():
        free = open_[flow]
        used = _collapsed_sum(link[~free], weight[~free] * rate[flow[~free]], count[~free], links)
        load = _collapsed_sum(link[free], weight[free], count[free], links)
        with np.errstate(divide="ignore"):
            share = np.where(load > 0, np.maximum(capacity - used, 0.0) / np.where(load > 0, load, 1.0), np.inf)
        least = np.where(open_, cap, np.inf)
        np.minimum.at(least, flow[free], share[link[free]])
        if np.isinf(least[open_]).any():
            raise TopologyError("a flow crosses no link and has no rate cap")
        # a link is a bottleneck unless one of its open flows is slower elsewhere
        blocked = np.zeros(links, dtype=bool)
        blocked[link[free][least[flow[free]] < share[link[free]]]] = True
        settled = np.zeros(flows, dtype=bool)
        tight = free.copy()
        tight[free] = ~blocked[link[free]] & (share[link[free]] == least[flow[free]])
        settled[flow[tight]] = True
        settled |= open_ & (cap <= least)
        rate[settled] = least[settled]
        open_ &= ~settled
    return rate


def _collapsed_sum(link: Ints, value: Floats, count: Ints, links: int) -> Floats:
    """Sum of value x count per link, equal values first merged into one count."""
    if not len(link):
        return np.zeros(links)
    order = np.lexsort((value, link))
    link, value, count = link[order], value[order], count[order]
    new = np.ones(len(link), dtype=bool)
    new[1:] = (link[1:] != link[:-1]) | (value[1:] != value[:-1])
    first = np.flatnonzero(new)
    totals = value[first] * np.add.reduceat(count, first)
    # bincount adds in order: the same sequence gives the same bits
    return np.bincount(link[first], weights=totals, minlength=links).astype(np.float64, copy=False)
