"""Random processes of arrivals: times without end, drawn some thousand at a time.

All are made of gaps of a unit-rate renewal process, so that another rate of the same seed gives the
same pattern, faster or slower. Where the rate changes in time, the unit-rate epochs S go through the
inverse of the integrated rate: t with L(t) = S.
"""

import math
from collections.abc import Iterator

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SpecError
from scaleout.serving.lengths import CHUNK, EVEN
from scaleout.specs import Arrivals

__all__ = ["arrival_times"]

_HALVINGS = 60
"""Of an interval in which an epoch of a day lies: more than the bits of a float."""


def arrival_times(arrivals: Arrivals, count: int, seed: np.random.SeedSequence) -> Iterator[Floats]:
    """Arrivals in their order, in chunks [s].

    Parameters
    ----------
    count
        Requests of the whole stream: a ramp comes to its end rate with the last of them.
    """
    generator = np.random.default_rng(seed)
    process, rate = arrivals.process, arrivals.rate or 0.0
    before, at = 0.0, 0
    while True:
        if process == "offline":
            yield np.zeros(CHUNK)
            continue
        if process == "constant":
            yield np.arange(at, at + CHUNK) / rate
            at += CHUNK
            continue
        if process == "gamma":
            shape = 1.0 / max(arrivals.cv, EVEN) ** 2
            gaps = generator.standard_gamma(shape, CHUNK) / shape
        else:
            gaps = generator.standard_exponential(CHUNK)
        epochs = before + np.cumsum(gaps)
        before = float(epochs[-1])
        if process == "ramp":
            yield _ramp(epochs, rate, arrivals.end_rate or rate, count)
        elif process == "diurnal":
            yield _diurnal(epochs / rate, arrivals.period, arrivals.amplitude)
        elif process in ("poisson", "server", "gamma"):
            yield epochs / rate
        else:
            raise SpecError(f"requests.arrivals.process: {process!r} has no times of its own")


def _ramp(epochs: Floats, start: float, end: float, count: int) -> Floats:
    """Times at which a rate that goes from `start` to `end` has let so many through; then it stays.

    It takes T = 2 N / (r0 + r1) for N requests; with a = (r1 - r0) / T, S = r0 t + a t^2 / 2, solved
    in the form that stays exact where a is near 0.
    """
    span = 2.0 * count / (start + end)
    slope = (end - start) / span
    inside = np.minimum(epochs, count)
    # the rate there; rounding must not take it below both ends
    rates = np.sqrt(np.maximum(start * start + 2.0 * slope * inside, min(start, end) ** 2))
    times = 2.0 * inside / (start + rates)
    late: Floats = times + (epochs - inside) / end
    return late


def _diurnal(epochs: Floats, period: float, amplitude: float) -> Floats:
    """Times t with t + A (1 - cos w t) = S, where w = 2 pi / period and A = amplitude / w: by halving [S - 2 A, S]."""
    turn = 2.0 * math.pi / period
    swing = amplitude / turn
    low, high = np.maximum(epochs - 2.0 * swing, 0.0), epochs.copy()
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        early = middle + swing * (1.0 - np.cos(turn * middle)) < epochs
        low, high = np.where(early, middle, low), np.where(early, high, middle)
    # halving may leave neighbours a bit out of order
    ordered: Floats = np.maximum.accumulate(high)
    return ordered
