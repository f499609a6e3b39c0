"""The highest rate of requests that keeps what is promised, found by bisection; each point is a simulation."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scaleout.errors import SpecError
from scaleout.io.serving import trace_of
from scaleout.serve import prepare, serve_log
from scaleout.served import Floor, Served, Stability
from scaleout.specs import ServingExperiment
from scaleout.specs.fields import FrozenDict, plain
from scaleout.units import describe

__all__ = ["CAPACITY_FORMAT", "Capacity", "Point", "capacity"]

CAPACITY_FORMAT = 1
"""Version of the JSON form."""
_RATED = ("trace", "poisson", "gamma", "constant", "diurnal", "server")
"""Arrivals that have one rate."""
_WITHIN = 0.02
"""How close the rates that keep and that break the promise come."""
_MOST = 24
"""Doublings or halvings until a bracket is found."""
_ALONE = 0.05
"""Requests at a time in a replica, below which each has it to itself."""
_FULL = 0.9
"""Share of the KV cache in use from which on it is what binds."""
_LARGEST = 1e6
"""Rates are below this [1/s]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What comes out at one rate.

    Parameters
    ----------
    rate
        At which requests come [1/s].
    kept
        Whether the promise was kept, by a stream that is kept up with.
    attainment
        Share of the requests that kept it [1].
    missed
        Share that missed each promise [1].
    stability
        As in `Served`.
    ttft_p50, ttft_p99, tpot_p50, tpot_p99, latency_p99
        Of the requests [s].
    requests_per_second, output_tokens_per_second, goodput
        Served, and served as promised, over all chips [1/s].
    chip_tokens
        Tokens of replies that a chip writes [1/s].
    user_tokens
        Tokens that a user sees, over the mean TPOT [1/s].
    batch
        Sequences in a replica at a time, the mean of those that decode.
    cache_peak
        Share of a KV cache in use at most [1].
    preemptions
        Sequences that lost their seat.
    """

    rate: float
    kept: bool
    attainment: float
    missed: Mapping[str, float]
    stability: Stability
    ttft_p50: float
    ttft_p99: float
    tpot_p50: float
    tpot_p99: float
    latency_p99: float
    requests_per_second: float
    output_tokens_per_second: float
    goodput: float
    chip_tokens: float
    user_tokens: float
    batch: float
    cache_peak: float
    preemptions: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "missed", FrozenDict(self.missed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """How much a serving experiment can take.

    Parameters
    ----------
    name, chips
        What was simulated.
    promise
        ``ttft``, ``tpot``, ``latency`` [s] and ``share`` of the requests [1].
    rate
        The highest rate that was found to keep the promise [1/s]; 0 where none does.
    above
        The lowest that was found to break it [1/s]; None where none was.
    rate_per_chip
        Of the first [1/s].
    binds
        The promise that breaks first, "ttft", "tpot" or "latency", or "overload" where more come than are served;
        "" where nothing does.
    resource
        What is short then: "KV cache", "seats" or "step time"; "" where nothing is.
    floor
        What no request can be served faster than.
    points
        Everything that was simulated, by rate.
    warnings
        What the figures rest on.
    """

    name: str
    chips: int
    promise: Mapping[str, float | None]
    rate: float
    above: float | None
    rate_per_chip: float
    binds: str
    resource: str
    floor: Floor
    points: tuple[Point, ...]
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "promise", FrozenDict(self.promise))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        values: dict[str, Any] = plain(self)
        return {"format": CAPACITY_FORMAT, "kind": "capacity", **values}

    def to_json(self) -> str:
        """The same as text; equal results give equal text."""
        return json.dumps(self.to_dict(), indent=2)


def capacity(
    experiment: ServingExperiment,
    rates: Sequence[float] = (),
    *,
    within: float = _WITHIN,
    told: Callable[[str], None] | None = None,
) -> Capacity:
    """The highest rate at which `experiment.slo` is kept; lengths of requests stay as they are.

    Parameters
    ----------
    rates
        More of them to simulate [1/s], for the curve.
    within
        How close the rates that keep and that break the promise come, relative to each other [1].
    told
        Hears what is simulated.

    Raises
    ------
    SpecError
        Nothing is promised, the stream has no one rate, or a rate is no number above 0.
    PlanError
        The model does not fit, or an empty system breaks the promise.
    """
    _check(experiment, rates, within)
    search = _Search(experiment, told)
    for rate in sorted(set(map(float, rates))):
        search.at(rate)
    search.bracket(experiment.requests.arrivals.rate or 1.0)
    search.bisect(within)
    return search.result()


def _check(experiment: ServingExperiment, rates: Sequence[float], within: float) -> None:
    if not isinstance(experiment, ServingExperiment):
        raise SpecError(f"{experiment!r:.80} is no serving experiment; make one with scaleout.serving_experiment()")
    process, slo = experiment.requests.arrivals.process, experiment.slo
    if process not in _RATED:
        raise SpecError(
            f"requests.arrivals.process: {process!r} has no rate to search; expected {' or '.join(map(repr, _RATED))}"
        )
    if slo.ttft is None and slo.tpot is None and slo.latency is None:
        raise SpecError("slo: nothing is promised; expected a limit, such as slo: {ttft: 2 s, tpot: 50 ms}")
    for rate in rates:
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 < rate < _LARGEST:
            raise SpecError(f"rates: {rate!r:.40} is not a number of requests a second above 0 and below {_LARGEST:g}")
    if not 1e-4 <= within < 1.0:
        raise SpecError(f"within: {within!r:.40} is not a number from 0.0001 up to 1")


class _Search:
    """Rates that were tried, and what came out."""

    def __init__(self, experiment: ServingExperiment, told: Callable[[str], None] | None) -> None:
        self.experiment, self.told = experiment, told or (lambda words: None)
        self.rows, self.prepared = trace_of(experiment), prepare(experiment)
        self.served: dict[float, tuple[Point, Served]] = {}
        self.warnings: list[str] = []

    def at(self, rate: float) -> Point:
        """Simulate a rate, once."""
        if rate not in self.served:
            self.told(f"{rate:.4g} requests/s")
            wanted = self.experiment.requests
            spec = replace(
                self.experiment, requests=replace(wanted, arrivals=replace(wanted.arrivals, rate=rate))
            )  # fmt: skip
            served, _ = serve_log(spec, self.rows, sensitivity=False, prepared=self.prepared)
            self.served[rate] = _point(rate, served, self.experiment.slo.share), served
        return self.served[rate][0]

    def ends(self) -> tuple[float, float]:
        """Highest rate that keeps the promise below all that break it, and the lowest that breaks it; 0 and inf."""
        above = min((rate for rate, (point, _) in self.served.items() if not point.kept), default=math.inf)
        return max(
            (rate for rate, (point, _) in self.served.items() if point.kept and rate < above), default=0.0
        ), above

    def bracket(self, start: float) -> None:
        """Find a rate that keeps the promise and one that breaks it."""
        low, above = self.ends()
        rate = low or (above / 2.0 if math.isfinite(above) else start)
        for _ in range(_MOST):
            point = self.at(rate)
            low, above = self.ends()
            if low and math.isfinite(above):
                return
            served = self.served[rate][1]
            if point.kept:
                if served.course.time[-1] < 2.0 * served.latency.p50 or rate * 2.0 >= _LARGEST:
                    # they all come at once: a higher rate is no other
                    return
                rate *= 2.0
            else:
                replicas = sum(pool.replicas for pool in self.experiment.pools)
                if rate * served.latency.mean / replicas < _ALONE:
                    return
                rate /= 2.0

    def bisect(self, within: float) -> None:
        """Bring both ends together."""
        low, above = self.ends()
        while low and math.isfinite(above) and above > low * (1.0 + within):
            middle = float(f"{math.sqrt(low * above):.4g}")
            if not low < middle < above:
                return
            self.at(middle)
            low, above = self.ends()

    def result(self) -> Capacity:
        low, above = self.ends()
        experiment, slo = self.experiment, self.experiment.slo
        points = tuple(self.served[rate][0] for rate in sorted(self.served))
        broken = self.served.get(above)
        binds, resource = _binds(experiment, *broken) if broken else ("", "")
        first = self.served[low or min(self.served)][1]
        warnings = list(first.warnings)
        if any(point.kept and point.rate > above for point in points):
            warnings.append(
                f"higher rates than {above:.4g}/s kept the promise: near it chance decides; take more requests"
            )
        if low and first.stability == "backlogged":
            warnings.append(
                f"at {low:.4g}/s requests wait or pile up for as long as they come; more of them (requests.count) may "
                "show that they are too many"
            )
        if not low:
            warnings.append(
                f"even {min(self.served):.3g} requests/s, with a replica for each alone, break the promise of "
                f"{_words(experiment)}: {_shares(broken[0]) if broken else ''}; the floor is TTFT "
                f"{describe(first.floor.ttft, 's')} for a prompt of {first.floor.prompt:,} tokens, TPOT "
                f"{describe(first.floor.tpot, 's')}"
            )
        if not math.isfinite(above):
            warnings.append("no rate was found that breaks the promise: the stream is too short; take more requests")
        return Capacity(
            name=first.name,
            chips=experiment.chips,
            promise={"ttft": slo.ttft, "tpot": slo.tpot, "latency": slo.latency, "share": slo.share},
            rate=low,
            above=above if math.isfinite(above) else None,
            rate_per_chip=low / experiment.chips,
            binds=binds,
            resource=resource,
            floor=first.floor,
            points=points,
            warnings=tuple(warnings),
        )


def _point(rate: float, served: Served, share: float) -> Point:
    attainment = served.attainment or 0.0
    writing = [one for one in served.replicas if one.role != "prefill"]
    steps = sum(one.steps for one in writing)
    return Point(
        rate=rate,
        kept=attainment >= share and served.stability in ("stable", "backlogged"),
        attainment=attainment,
        missed=served.missed,
        stability=served.stability,
        ttft_p50=served.ttft.p50,
        ttft_p99=served.ttft.p99,
        tpot_p50=served.tpot.p50,
        tpot_p99=served.tpot.p99,
        latency_p99=served.latency.p99,
        requests_per_second=served.requests_per_second,
        output_tokens_per_second=served.output_tokens_per_second,
        goodput=served.goodput or 0.0,
        chip_tokens=served.output_tokens_per_second / served.chips,
        user_tokens=1.0 / served.tpot.mean if served.tpot.mean else 0.0,
        batch=sum(one.batch * one.steps for one in writing) / steps if steps else 0.0,
        cache_peak=max(one.cache.max for one in served.replicas),
        preemptions=served.preemptions,
    )


def _binds(experiment: ServingExperiment, point: Point, served: Served) -> tuple[str, str]:
    """What breaks first, and what is short then."""
    worst = max(point.missed, key=lambda name: point.missed[name])
    binds = worst if point.attainment < experiment.slo.share else "overload"
    seats = [experiment.max_sequences * pool.dp for pool in experiment.pools]
    if point.preemptions or any(one.cache.max > _FULL for one in served.replicas):
        return binds, "KV cache"
    if any(one.running.max >= seats[one.pool] for one in served.replicas):
        return binds, "seats"
    return binds, "step time"


def _words(experiment: ServingExperiment) -> str:
    slo = experiment.slo
    limits = {"TTFT": slo.ttft, "TPOT": slo.tpot, "latency": slo.latency}
    return ", ".join(f"{name} {describe(value, 's')}" for name, value in limits.items() if value is not None)


def _shares(point: Point) -> str:
    return ", ".join(f"{share:.1%} miss {name}" for name, share in point.missed.items())
