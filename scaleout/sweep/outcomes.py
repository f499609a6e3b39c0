"""What comes out of a point: names, units, which way is better, and how they are taken from results."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from scaleout.errors import SweepError, near
from scaleout.evaluate.steady import Steady
from scaleout.footprint import Cost, Energy
from scaleout.inferred import NetResult
from scaleout.result import Result
from scaleout.served import Served
from scaleout.streamed import StreamResult

__all__ = [
    "ALWAYS", "ANALYTIC", "OBJECTIVES", "OUTCOMES", "PARTS", "Outcome", "check_objective", "of_net", "of_served",
    "of_steady", "of_step", "of_stream", "parts_of", "sense_of",
]  # fmt: skip

Sense = Literal["least", "most"]
PARTS = (
    "compute", "optimizer", "exposed_tp", "exposed_pp", "exposed_dp", "bubble",
    "exposed_cp", "exposed_ep", "exposed_copy", "imbalance",
)  # fmt: skip
"""Parts of a step, in the order of columns."""
ALWAYS = PARTS[:6]
"""Those that are always told; the others where they take time."""
_FOOTPRINT = {"energy_per_token": "J", "power": "W", "cost_per_mtoken": "USD", "cost_hour": "USD/h"}
OUTCOMES: dict[str, dict[str, str]] = {
    "training": {
        "chips": "1", "step_time": "s", "tokens_per_second": "1/s", "mfu": "1", "memory": "byte", "memory_share": "1",
        **{f"time.{name}": "s" for name in PARTS},
        "error": "1", "bound_by": "", **_FOOTPRINT,
    },
    "serving": {
        "chips": "1", "ttft_mean": "s", "ttft_p50": "s", "ttft_p99": "s", "tpot_mean": "s", "tpot_p50": "s",
        "tpot_p99": "s", "latency_p99": "s", "requests_per_second": "1/s", "tokens_per_second": "1/s",
        "chip_tokens": "1/s", "user_tokens": "1/s", "capacity": "1/s", "goodput": "1/s", "attainment": "1",
        "stability": "", "error": "1", **_FOOTPRINT,
    },
    "inference": {
        "chips": "1", "batch": "1", "samples_per_second": "1/s", "chip_samples": "1/s", "latency": "s", "first": "s",
        "token": "s", "flops_share": "1", "memory": "byte", "memory_share": "1",
        "energy_per_sample": "J", "power": "W", "cost_per_msample": "USD", "cost_hour": "USD/h",
    },
    "stream": {
        "chips": "1", "missed": "1", "dropped": "1", "latency_p50": "s", "latency_p99": "s", "latency_max": "s",
        "busy": "1", "bound_by": "", "energy": "J", "power": "W", "battery": "s", "cost_hour": "USD/h",
    },
}  # fmt: skip
"""Unit of each outcome by kind of experiment, in the order of columns; "" where it is text. See ``docs/sweeps.md``."""
OBJECTIVES: dict[str, tuple[str, Sense]] = {
    "training": ("tokens_per_second", "most"),
    "serving": ("chip_tokens", "most"),
    "inference": ("samples_per_second", "most"),
    "stream": ("missed", "least"),
}
"""What is best where a sweep does not say."""
_MOST = frozenset((
    "tokens_per_second", "mfu", "requests_per_second", "chip_tokens", "user_tokens", "capacity", "goodput",
    "attainment", "samples_per_second", "chip_samples", "flops_share", "battery",
))  # fmt: skip
"""Outcomes of which more is better; of all others less is."""
ANALYTIC: dict[str, frozenset[str]] = {
    "training": frozenset(
        ("chips", "step_time", "tokens_per_second", "mfu", "memory", "memory_share", *(f"time.{n}" for n in PARTS))
    ),
    "serving": frozenset((
        "chips", "ttft_mean", "tpot_mean", "requests_per_second", "tokens_per_second", "chip_tokens", "user_tokens",
        "capacity", "stability",
    )),
    "inference": frozenset(OUTCOMES["inference"]),
    "stream": frozenset(),
}  # fmt: skip
"""Outcomes that the analytic evaluator knows; none of streams, which it does not know."""


class Outcome(NamedTuple):
    """What came out of a point.

    Parameters
    ----------
    status
        "done"; "infeasible": the experiment refuses; "failed": something broke.
    text
        JSON: of an object of `OUTCOMES` by name, or of a sentence.
    """

    status: str
    text: str


def sense_of(kind: str, name: str) -> Sense:
    """Whether the least or the most of an outcome is the best.

    Raises
    ------
    SweepError
        The kind has no such outcome, or it is text.
    """
    check_objective(kind, name)
    return "most" if name in _MOST else "least"


def check_objective(kind: str, name: str) -> None:
    """Refuse what is no number that comes out of this kind of experiment.

    Raises
    ------
    SweepError
        With near names.
    """
    known = [one for one, unit in OUTCOMES[kind].items() if unit]
    if name not in known:
        raise SweepError(f"objective: {name!r:.60} does not come out of {kind}; {near(str(name), known)}")


def _numbers(rows: Mapping[str, Any]) -> dict[str, Any]:
    """What is known: neither None nor infinite."""
    return {name: value for name, value in rows.items() if isinstance(value, str | int) or _finite(value)}


def _finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def parts_of(seconds: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Parts of a step in the order of columns."""
    found = dict(seconds)
    return {f"time.{name}": found.get(name, 0.0) for name in PARTS if name in ALWAYS or found.get(name)}


def of_step(result: Result) -> dict[str, Any]:
    """Of a simulated step."""
    memory = result.memory.total
    return _numbers(
        {
            "chips": result.chips,
            "step_time": result.step_time,
            "tokens_per_second": result.tokens_per_second,
            "mfu": result.mfu,
            "memory": memory,
            "memory_share": memory / result.memory.capacity,
            **parts_of(result.breakdown.items()),
            "error": result.error_band.relative,
            "bound_by": result.bound_by,
            **_footprint(result.energy, result.cost),
        }
    )


def of_served(served: Served) -> dict[str, Any]:
    """Of a simulated stream of requests."""
    tokens = served.output_tokens_per_second
    return _numbers(
        {
            "chips": served.chips,
            "ttft_mean": served.ttft.mean,
            "ttft_p50": served.ttft.p50,
            "ttft_p99": served.ttft.p99,
            "tpot_mean": served.tpot.mean if served.tpot.count else None,
            "tpot_p50": served.tpot.p50 if served.tpot.count else None,
            "tpot_p99": served.tpot.p99 if served.tpot.count else None,
            "latency_p99": served.latency.p99,
            "requests_per_second": served.requests_per_second,
            "tokens_per_second": tokens,
            "chip_tokens": tokens / served.chips,
            "user_tokens": 1.0 / served.tpot.mean if served.tpot.mean else None,
            "goodput": served.goodput,
            "attainment": served.attainment,
            "stability": served.stability,
            "error": served.error_band,
            **_footprint(served.energy, served.cost),
        }
    )


def of_steady(chips: int, rate: float, state: Steady) -> dict[str, Any]:
    """Of replicas in a steady state, at a rate [1/s]."""
    return _numbers(
        {
            "chips": chips,
            "ttft_mean": state.ttft,
            "tpot_mean": state.tpot,
            "requests_per_second": min(rate, state.most),
            "tokens_per_second": state.tokens_per_second,
            "chip_tokens": state.tokens_per_second / chips,
            "user_tokens": 1.0 / state.tpot if state.tpot > 0.0 and math.isfinite(state.tpot) else None,
            "capacity": state.most,
            "stability": "stable" if rate < state.most else "overloaded",
        }
    )


def of_net(result: NetResult) -> dict[str, Any]:
    """Of a net that runs."""
    held = sum(size for kind, size in result.memory.items() if kind != "free")
    footprint = _footprint(result.energy, result.cost)
    return _numbers(
        {
            "chips": result.chips,
            "batch": result.batch,
            "samples_per_second": result.samples_per_second,
            "chip_samples": result.samples_per_second / result.chips,
            "latency": result.latency,
            "first": result.first,
            "token": result.token or None,
            "flops_share": result.flops_share,
            "memory": held,
            "memory_share": held / sum(result.memory.values()),
            "energy_per_sample": footprint["energy_per_token"],
            "power": footprint["power"],
            "cost_per_msample": footprint["cost_per_mtoken"],
            "cost_hour": footprint["cost_hour"],
        }
    )


def of_stream(result: StreamResult) -> dict[str, Any]:
    """Of streams with deadlines: of all sources together, latencies those of the latest one."""
    came = sum(source.came for source in result.sources)
    busiest = max(result.sources, key=lambda source: (source.latency.p99, source.name))
    latencies = [source.latency for source in result.sources]
    return _numbers(
        {
            "chips": len(result.chips),
            "missed": sum(source.missed for source in result.sources) / came if came else None,
            "dropped": sum(source.dropped for source in result.sources) / came if came else None,
            "latency_p50": max(one.p50 for one in latencies),
            "latency_p99": max(one.p99 for one in latencies),
            "latency_max": max(one.max for one in latencies),
            "busy": max(chip.busy for chip in result.chips),
            "bound_by": busiest.bound_by,
            "energy": result.energy.total if result.energy else None,
            "power": result.energy.power if result.energy else None,
            "battery": result.battery,
            "cost_hour": result.cost.hour_total if result.cost else None,
        }
    )


def _footprint(energy: Energy | None, cost: Cost | None) -> dict[str, float | None]:
    """What it draws and costs."""
    return {
        "energy_per_token": energy.per_token if energy and energy.tokens else None,
        "power": energy.power if energy else None,
        "cost_per_mtoken": cost.per_million_tokens if cost and cost.per_million_tokens else None,
        "cost_hour": cost.hour_total if cost else None,
    }
