"""What came out of serving: latencies, throughput, promises kept. Frozen, and without any clock of the simulator."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np

from scaleout.arrays import Floats
from scaleout.specs.fields import FrozenDict, plain

__all__ = ["SERVED_FORMAT", "Sensitivity", "Served", "Share", "Spread", "Stability", "stability_of"]

SERVED_FORMAT = 1
"""Version of the JSON form."""
Stability = Literal["stable", "backlogged", "overloaded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A time over many requests, or many tokens [s].

    Parameters
    ----------
    count
        Of values; all others are 0 where there are none.
    mean, p50, p90, p99, max
        Of them; a percentile is the smallest value that so many are not above.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, values: Floats) -> "Spread":
        """Of values [s]."""
        if not len(values):
            return cls(count=0, mean=0.0, p50=0.0, p90=0.0, p99=0.0, max=0.0)
        p50, p90, p99 = np.quantile(values, (0.5, 0.9, 0.99), method="inverted_cdf").tolist()
        return cls(count=len(values), mean=float(values.mean()), p50=p50, p90=p90, p99=p99, max=float(values.max()))

    @classmethod
    def counted(cls, counts: Mapping[int, int], unit: float) -> "Spread":
        """Of values that came so many times, in a unit [s]."""
        if not counts:
            return cls.of(np.zeros(0))
        values = np.array(sorted(counts), dtype=np.int64)
        times = np.array([counts[value] for value in values.tolist()], dtype=np.int64)
        ends, seconds = np.cumsum(times), values * unit
        total = int(ends[-1])
        p50, p90, p99 = (float(seconds[np.searchsorted(ends, math.ceil(share * total))]) for share in (0.5, 0.9, 0.99))
        mean = float((seconds * times).sum() / total)
        return cls(count=total, mean=mean, p50=p50, p90=p90, p99=p99, max=float(seconds[-1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One replica's part.

    Parameters
    ----------
    pool, role
        Where it belongs.
    requests
        That ended there.
    steps
        That it carried out.
    busy
        Share of the time that a step was under way [1].
    batch
        Sequences that decoded in a step, on the average.
    blocks
        Of its KV cache, on all attention ranks.
    cache_mean, cache_peak
        Share of them in use, over time and at most [1].
    waiting_mean, waiting_peak
        Requests without a seat.
    """

    pool: int
    role: str
    requests: int
    steps: int
    busy: float
    batch: float
    blocks: int
    cache_mean: float
    cache_peak: float
    waiting_mean: float
    waiting_peak: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Percentiles if every step took a little longer; near saturation a small error has large effects.

    Parameters
    ----------
    slower
        How much longer [1].
    ttft_p99, tpot_p99
        Then [s].
    stability
        Then.
    """

    slower: float
    ttft_p99: float
    tpot_p99: float
    stability: Stability


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A simulated stream of requests.

    Parameters
    ----------
    name, experiment
        What was simulated.
    chips
        Of all pools.
    requests
        How many came, were served, rejected and failed.
    tokens
        Of prompts and replies of those served, and of prompts those found in the prefix cache.
    duration
        From the first arrival to the last end [s].
    ttft, tpot, gap, latency, queue
        Time to the first token, per token after it (of a request's mean), between two tokens, to the last token,
        and before a seat [s].
    requests_per_second, output_tokens_per_second, tokens_per_second
        Served over the duration, over all chips [1/s].
    attainment
        Share of the requests that came, that were served and kept what is promised [1]; None without a promise.
    goodput
        Those over the duration [1/s].
    preemptions
        Sequences that lost their seat for want of room.
    hit_rate
        Share of the prompts' tokens found in the prefix cache [1].
    stability
        "stable"; "backlogged": requests wait, but not ever more of them; "overloaded": ever more.
    sensitivity
        Where requests wait.
    error_band
        How far the time of a step may be off [1].
    replicas
        Of each replica.
    memory
        HBM of a chip of each pool by kind [byte].
    transfers
        KV caches that went from replica to replica: how many, bytes, and their time on the average [s].
    warnings, assumptions
        What the figures rest on.
    """

    name: str
    experiment: Mapping[str, Any]
    chips: int
    requests: Mapping[str, int]
    tokens: Mapping[str, int]
    duration: float
    ttft: Spread
    tpot: Spread
    gap: Spread
    latency: Spread
    queue: Spread
    requests_per_second: float
    output_tokens_per_second: float
    tokens_per_second: float
    attainment: float | None
    goodput: float | None
    preemptions: int
    hit_rate: float
    stability: Stability
    sensitivity: Sensitivity | None
    error_band: float
    replicas: tuple[Share, ...]
    memory: tuple[Mapping[str, float], ...]
    transfers: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    assumptions: tuple[Mapping[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("experiment", "requests", "tokens", "transfers"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, in SI units."""
        return {"format": SERVED_FORMAT, **{f.name: plain(getattr(self, f.name)) for f in fields(self)}}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2)


def stability_of(arrivals: Floats, ends: Floats, waits: Floats, latency: float) -> Stability:
    """Whether requests wait, and ever more of them.

    Of a stream that can be kept up with, as many are in the system when the last comes as halfway; of
    one that cannot, more by a share of all that came in between.
    """
    if not len(arrivals):
        return "stable"
    arrivals, ends = np.sort(arrivals), np.sort(ends)
    half, last = arrivals[len(arrivals) // 2], arrivals[-1]

    def inside(time: float) -> int:
        return int(np.searchsorted(arrivals, time, "right") - np.searchsorted(ends, time, "right"))

    middle, end = inside(half), inside(last)
    came = len(arrivals) - len(arrivals) // 2
    if end - middle > max(0.05 * came, 3.0 * math.sqrt(max(end, 1))):
        return "overloaded"
    return "backlogged" if len(waits) and waits.mean() > 0.1 * latency else "stable"
