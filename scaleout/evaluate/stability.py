"""Whether a stream of requests can be kept up with."""

import math

import numpy as np

from scaleout.arrays import Floats
from scaleout.served import Stability

__all__ = ["stability_of", "too_short"]

_GROWTH = 0.05
"""Share of the requests that must come on top of those that are there, to say that they grow."""
_NOISE = 3.0
"""Standard deviations of a number of requests that are there by chance."""
_WAIT = 0.1
"""Share of the time to the last token that is spent without a seat, from which on requests are said to wait."""
_SETTLED = 10.0
"""Times the latency after which batches are as full as a rate makes them."""
_LONG = 3.0
"""Times the latency that a stream should last."""


def stability_of(arrivals: Floats, leaves: Floats, ends: Floats, rejected: Floats, latency: float) -> Stability:
    """Whether requests wait or pile up, and ever more of them.

    Where a stream can be kept up with, as many are there in the last quarter of the arrivals as in the
    second; where it cannot, more by a share of all that came in between. Those without a seat tell at
    once; those with one only after some time, since batches have to fill first. A request that is
    rejected counts as one that waits for ever.

    Parameters
    ----------
    arrivals
        Of all requests, sorted [s].
    leaves
        When each of them had waited long enough: got a seat, or was rejected [s].
    ends
        When each of them ended [s].
    rejected
        When those came that were rejected [s].
    latency
        Mean time to the last token [s].
    """
    if len(arrivals) < 2:
        return "stable"
    if arrivals[-1] == arrivals[0]:
        return "offline"
    places = [0, len(arrivals) // 4, len(arrivals) // 2, 3 * len(arrivals) // 4, -1]
    quarters = [float(arrivals[place]) for place in places]
    gone = int((rejected >= quarters[2]).sum())
    waiting = _grows(arrivals, leaves, quarters, gone)
    inside = _grows(arrivals, ends, quarters, gone)
    settled = quarters[4] - quarters[0] > _SETTLED * latency
    if waiting or (inside and settled):
        return "overloaded"
    waits = float(leaves.sum() - arrivals.sum()) / len(arrivals)
    return "backlogged" if inside or gone or waits > _WAIT * latency else "stable"


def _grows(arrivals: Floats, leaves: Floats, quarters: list[float], gone: int) -> bool:
    """Whether ever more are between arriving and leaving."""
    before, after = (_mean_there(arrivals, leaves, *quarters[at : at + 2]) for at in (1, 3))
    return after - before + gone > max(_GROWTH * len(arrivals) / 2.0, _NOISE * math.sqrt(after + gone))


def _mean_there(arrivals: Floats, leaves: Floats, start: float, end: float) -> float:
    """Requests that have come and not left, on the average from start to end."""
    if not end > start:
        return 0.0

    def spent(times: Floats) -> float:
        # from each of the times, or start, until end
        return float(np.maximum(end - np.maximum(times, start), 0.0).sum())

    return (spent(arrivals) - spent(leaves)) / (end - start)


def too_short(arrivals: Floats, latency: float) -> bool:
    """Whether a stream is over before the first replies tell how full the replicas get."""
    return len(arrivals) > 1 and 0.0 < float(arrivals[-1] - arrivals[0]) < _LONG * latency
