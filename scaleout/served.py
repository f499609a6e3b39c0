"""What came out of serving: latencies, throughput, promises kept. Frozen, and without any clock of the simulator."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import numpy as np

from scaleout.arrays import Floats
from scaleout.errors import SpecError
from scaleout.footprint import Cost, Energy, energy_from
from scaleout.specs.fields import FrozenDict, plain

__all__ = [
    "CURVE", "SERVED_FORMAT", "Band", "Course", "Floor", "Level", "Links", "PoolCourse", "Sensitivity", "Served",
    "Share", "Spread", "Stability",
]  # fmt: skip

SERVED_FORMAT = 3
"""Version of the JSON form."""
Stability = Literal["stable", "backlogged", "overloaded", "offline"]
CURVE = (*(n / 100 for n in range(1, 100)), 0.995, 0.999, 1.0)
"""Shares of the values at which a `Spread` keeps its curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """A time over many requests, or many tokens [s].

    Parameters
    ----------
    count
        Of values; all others are 0 where there are none.
    mean, p50, p90, p99, max
        Of them; a percentile is the smallest value that so many are not above.
    curve
        The smallest value that each share of `CURVE` is not above; empty where there are no values.
    """

    count: int
    mean: float
    p50: float
    p90: float
    p99: float
    max: float
    curve: tuple[float, ...] = ()

    @classmethod
    def of(cls, values: Floats) -> "Spread":
        """Of values [s]."""
        return cls._of(np.sort(values), None)

    @classmethod
    def counted(cls, counts: Mapping[int, int], unit: float) -> "Spread":
        """Of values that came so many times, in a unit [s]."""
        values = np.array(sorted(counts), dtype=np.int64)
        return cls._of(
            (values * unit).astype(np.float64), np.array([counts[value] for value in values.tolist()], dtype=np.int64)
        )

    @classmethod
    def _of(cls, values: Floats, times: "np.ndarray[Any, np.dtype[np.int64]] | None") -> "Spread":
        """Of sorted values, each so many times; None: once."""
        if not len(values):
            return cls(count=0, mean=0.0, p50=0.0, p90=0.0, p99=0.0, max=0.0)
        total = len(values) if times is None else int(times.sum())
        # in whole numbers, so that a share of 0.07 of 100 values is 7 of them
        places = np.array([max(1, -(-round(share * 1000) * total // 1000)) for share in (*CURVE, 0.5, 0.9, 0.99)])
        at = places - 1 if times is None else np.searchsorted(np.cumsum(times), places)
        *curve, p50, p90, p99 = values[at].tolist()
        whole = float(values.sum() if times is None else (values * times).sum())
        return cls(
            count=total, mean=whole / total, p50=p50, p90=p90, p99=p99, max=float(values[-1]), curve=tuple(curve)
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """Something over time: its mean, and what it is not above for so much of the time."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float


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
    running, waiting
        Sequences that were worked on, and requests without a seat, over time.
    blocks
        Of its KV cache, on all attention ranks.
    cache
        Share of them in use, over time [1].
    """

    pool: int
    role: str
    requests: int
    steps: int
    busy: float
    batch: float
    running: Level
    waiting: Level
    blocks: int
    cache: Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A number for each stretch of time: over the replicas of a pool the mean, the least and the most."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolCourse:
    """A pool over time; each value is the mean over a stretch.

    Parameters
    ----------
    role, replicas
        Of the pool.
    running, waiting
        Sequences that are worked on, and requests without a seat, of a replica.
    cache
        Share of its KV blocks in use [1].
    """

    role: str
    replicas: int
    running: Band
    waiting: Band
    cache: Band


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """Requests and replicas over time, in stretches of equal length.

    Parameters
    ----------
    time
        Ends of the stretches, from the first arrival on [s]; one more than there are values.
    came, ended
        Requests that came and ended [1/s].
    waiting
        Requests that came and had never had a seat, over all replicas.
    pools
        Of each pool.
    """

    time: tuple[float, ...]
    came: tuple[float, ...]
    ended: tuple[float, ...]
    waiting: tuple[float, ...]
    pools: tuple[PoolCourse, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """What links of one kind carried that others share: caches, steps beside them, the training job's messages.

    Parameters
    ----------
    kind, count
        Which, and how many the network has; a direction is a link of its own.
    bytes, utilisation
        Of all of them: carried [byte], over what they could carry from the first arrival to the last end [1].
    busiest, busiest_utilisation
        The link with the largest utilisation, and how busy it is [1]; of several the first.
    """

    kind: str
    count: int
    bytes: float
    utilisation: float
    busiest: str
    busiest_utilisation: float


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
class Floor:
    """What no request can be served faster than, alone on an empty machine.

    Parameters
    ----------
    prompt
        Tokens of the prompt that it is said of, the shortest.
    ttft, tpot
        Its time to the first token, and per token after it [s].
    weights
        Of the latter, the time to read a chip's weights once at the peak rate of its HBM [s].
    """

    prompt: int
    ttft: float
    tpot: float
    weights: float


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
        Of prompts and replies of those served, and of prompts those found in the prefix cache; of these,
        the ones that came from the host's memory.
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
    missed
        Share of the requests that came, that missed each promise [1].
    floor
        What no request can be served faster than.
    preemptions, retries
        Sequences that lost their seat for want of room; requests that were lost with a replica and sent to another.
    host
        Caches that were swapped out and loaded, and blocks that went out to hosts and came in.
    hit_rate
        Share of the prompts' tokens found in the prefix cache [1].
    stability
        "stable"; "backlogged": requests wait or pile up, but not ever more for all that is seen; "overloaded":
        ever more; "offline": all came at once, and nothing is to be kept up with.
    sensitivity
        Near saturation: where requests wait or pile up, or a token takes three times what it takes alone.
    error_band, error_parts
        How far the time of a step may be off, and what each kind of time contributes [1].
    step
        What the time of steps is made of, by kind [1].
    replicas
        Of each replica.
    memory
        HBM of a chip of each pool by kind [byte].
    transfers
        KV caches that went from replica to replica: how many, bytes, and their time on the average [s].
    links
        How busy links are, by kind; empty where replicas share nothing: their own messages are in `step`.
    course
        Over time.
    warnings, assumptions
        What the figures rest on.
    energy
        What the run draws; None where a chip's figures are not known.
    cost
        What it costs; None without a facility.
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
    missed: Mapping[str, float]
    floor: Floor
    preemptions: int
    retries: int
    host: Mapping[str, int]
    hit_rate: float
    stability: Stability
    sensitivity: Sensitivity | None
    error_band: float
    error_parts: Mapping[str, float]
    step: Mapping[str, float]
    replicas: tuple[Share, ...]
    memory: tuple[Mapping[str, float], ...]
    transfers: Mapping[str, float]
    links: tuple[Links, ...]
    course: Course
    warnings: tuple[str, ...] = ()
    assumptions: tuple[Mapping[str, Any], ...] = ()
    energy: Energy | None = None
    cost: Cost | None = None

    def __post_init__(self) -> None:
        for name in ("experiment", "requests", "tokens", "transfers", "host", "missed", "error_parts", "step"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))
        for name in ("memory", "assumptions"):
            object.__setattr__(self, name, tuple(FrozenDict(one) for one in getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it, in SI units; ``curve`` says at which shares the curves of spreads are kept."""
        values = {f.name: plain(getattr(self, f.name)) for f in fields(self)}
        return {"format": SERVED_FORMAT, "kind": "serving", "curve": list(CURVE), **values}

    def to_json(self) -> str:
        """The same as text; equal results give equal text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Served":
        """Read what `to_json` wrote; a ``run`` block beside the result is left out.

        Raises
        ------
        SpecError
            The text is not JSON, not a result of serving, or of another format.
        """
        try:
            data = json.loads(text)
            if not isinstance(data, dict) or data.get("kind") != "serving":
                raise SpecError("result: not a result of scaleout run of a serving experiment")
            if data.get("format") != SERVED_FORMAT:
                raise SpecError(f"result: format {data.get('format')!r} is not readable; expected {SERVED_FORMAT}")
            known = [f.name for f in fields(cls)]
            if missing := [name for name in known if name not in data]:
                raise SpecError(f"result: not a scaleout result: {', '.join(missing)}: missing")
            return cls(**_read({name: data[name] for name in known}))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"result: not a scaleout result: {error}") from None


def _read(values: dict[str, Any]) -> dict[str, Any]:
    """Values of a result in their types."""
    for name in ("ttft", "tpot", "gap", "latency", "queue"):
        values[name] = Spread(**{**values[name], "curve": tuple(values[name]["curve"])})
    if values["stability"] not in get_args(Stability):
        raise SpecError(
            f"result: stability: {values['stability']!r:.40} is not one of {', '.join(get_args(Stability))}"
        )
    values["sensitivity"] = Sensitivity(**values["sensitivity"]) if values["sensitivity"] else None
    values["links"] = tuple(Links(**row) for row in values["links"])
    values["floor"] = Floor(**values["floor"])
    levels = ("running", "waiting", "cache")
    values["replicas"] = tuple(
        Share(**{**row, **{name: Level(**row[name]) for name in levels}}) for row in values["replicas"]
    )
    course = values["course"]
    pools = tuple(
        PoolCourse(
            role=row["role"],
            replicas=row["replicas"],
            **{name: Band(**{key: tuple(row[name][key]) for key in ("mean", "low", "high")}) for name in levels},
        )
        for row in course["pools"]
    )
    values["course"] = Course(
        **{name: tuple(course[name]) for name in ("time", "came", "ended", "waiting")}, pools=pools
    )
    values["warnings"] = tuple(values["warnings"])
    values["energy"] = energy_from(values["energy"])
    values["cost"] = Cost(**values["cost"]) if values["cost"] else None
    return values
