"""What a stream of requests asks of replicas, at the least, if a promise is kept to enough of them."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.planning.serve_bounds import Demand
from scaleout.serving.arrivals import requests
from scaleout.specs import ServingExperiment, Slo
from scaleout.specs.requests import TraceRow

__all__ = ["Stream", "demand_of", "stream_of"]

_ENDS = 64
"""Moments up to which the work that is due is looked at."""


class Stream(NamedTuple):
    """Requests in the order of their arrival.

    Parameters
    ----------
    arrival
        [s]
    inputs, outputs
        Tokens of prompts and of replies.
    """

    arrival: Floats
    inputs: Ints
    outputs: Ints

    @property
    def span(self) -> float:
        """From the first arrival to the last [s]."""
        return float(self.arrival[-1] - self.arrival[0])

    @property
    def longest(self) -> int:
        """Prompt and reply together, at most [token]."""
        return int((self.inputs + self.outputs).max())


def stream_of(experiment: ServingExperiment, rows: Iterable[TraceRow] | None) -> Stream:
    """The requests of an experiment, as a simulation draws them."""
    found = [
        (one.arrival, one.inputs, one.outputs)
        for one in requests(experiment.requests, rows, block=experiment.engine.block)
    ]
    arrival, inputs, outputs = (np.array(column, dtype=np.int64) for column in zip(*found, strict=True))
    return Stream(arrival / TICKS_PER_SECOND, inputs, outputs)


def demand_of(stream: Stream, slo: Slo) -> Demand:
    """Work that must be done in a time, whichever requests keep the promise.

    Up to a moment the work of all requests is due whose promise ends before it; those that may break it are taken to
    be the longest ones. The moment is the one up to which most is due for its time.
    """
    count = len(stream.arrival)
    missing = math.floor((1.0 - slo.share) * count + 1e-9)
    after = stream.outputs - 1
    tpot = math.inf if slo.tpot is None else slo.tpot
    ends = np.full(count, math.inf)
    if slo.ttft is not None and slo.tpot is not None:
        ends = stream.arrival + slo.ttft + slo.tpot * after
    if slo.latency is not None:
        ends = np.minimum(ends, stream.arrival + slo.latency)
    replies = bool(np.isfinite(ends).any())
    if not replies and slo.ttft is not None:
        # the first token alone is due
        ends, after = stream.arrival + slo.ttft, np.zeros(count, dtype=np.int64)
    before = after * (stream.inputs + 1)
    context = after * stream.inputs + after * (after + 1) // 2
    start, best, found = float(stream.arrival[0]), 0.0, _nothing(tpot)
    if not np.isfinite(ends).any():
        return found
    order = np.argsort(ends, kind="stable")
    for place in sorted({count * part // _ENDS for part in range(1, _ENDS + 1)}):
        due = order[:place]
        span = float(ends[due[-1]]) - start if place else 0.0
        work = after if replies else stream.inputs
        density = _least(work[due], missing) / span if span > 0.0 else 0.0
        if density > best:
            best = density
            sums = (_least(column[due], missing) for column in (after, stream.inputs, context, before))
            decodes, prompts, seen, first = sums
            least, most = float(stream.inputs.min()) + 1.0, float(stream.longest)
            found = Demand(decodes, prompts, seen, first, least, most, span, tpot)
    return found


def _nothing(tpot: float) -> Demand:
    return Demand(0.0, 0.0, 0.0, 0.0, 1.0, 1.0, math.inf, tpot)


def _least(work: Ints, missing: int) -> float:
    """Sum of all but the largest."""
    return float(np.sort(work)[: max(0, len(work) - missing)].sum())
