"""Requests: when they come, and how many tokens they bring and ask for."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count, NotNegative, Number, Positive, Seconds, Share

__all__ = ["Arrivals", "Length", "Requests"]

Seed = Annotated[int, Number(low=0, high=2**63, above=False, integer=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests come.

    Parameters
    ----------
    process
        "trace": when the trace says, at its own rate or sped up to `rate`; "poisson"; "gamma", with
        a coefficient of variation of its own; "constant", evenly spaced; "ramp", Poisson from `rate` to
        `end_rate`; "diurnal", Poisson around `rate`, by a sine of `period` and `amplitude`; "closed",
        `clients` who send their next request `think` after a reply; and the scenarios of MLPerf
        Inference: "offline", all at once; "server", Poisson; "single_stream", one client;
        "multi_stream", one client who sends `clients` at a time.
    rate
        Mean requests a second over all replicas [1/s].
    cv
        Coefficient of variation of the gaps [1], of "gamma".
    end_rate
        Of a ramp [1/s].
    period, amplitude
        Of a day [s], and how far the rate swings over the mean [1].
    clients, think
        Of a closed loop, and the time that each takes before its next request [s].
    seed
        Of the draws.
    """

    process: Literal[
        "trace", "poisson", "gamma", "constant", "ramp", "diurnal", "closed",
        "offline", "server", "single_stream", "multi_stream",
    ] = "poisson"  # fmt: skip
    rate: Positive | None = None
    cv: Positive = 1.0
    end_rate: Positive | None = None
    period: Seconds = 86_400.0
    amplitude: Share = 0.5
    clients: Count = 1
    think: Seconds = 0.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        needs_rate = self.process in ("poisson", "gamma", "constant", "ramp", "diurnal", "server")
        if needs_rate and self.rate is None:
            raise SpecError(f"requests.arrivals.rate: missing; {self.process!r} needs one, in requests a second")
        if self.process == "ramp" and self.end_rate is None:
            raise SpecError("requests.arrivals.end_rate: missing; a ramp needs the rate at its end")
        if self.process == "diurnal" and self.period == 0:
            raise SpecError("requests.arrivals.period: 0 s is no day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How many tokens, drawn anew for each request.

    Parameters
    ----------
    kind
        "constant"; "uniform" between `low` and `high`; "lognormal", "gamma" or "geometric" of this mean
        (and coefficient of variation), cut to `low` and `high`.
    mean
        [token]
    cv
        Coefficient of variation [1].
    low, high
        Least and most [token].
    """

    kind: Literal["constant", "uniform", "lognormal", "gamma", "geometric"] = "constant"
    mean: Positive
    cv: NotNegative = 1.0
    low: Count = 1
    high: Count = 1_000_000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low > self.high:
            raise SpecError(f"length: low {self.low} is above high {self.high}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Requests:
    """A stream of requests.

    Parameters
    ----------
    trace
        Path or name of a file of requests (`workloads/traces/`), whose lengths are taken one after the
        other, from the beginning again where `count` asks for more. None: drawn from `input` and `output`.
    form
        Of the file; None: told by its columns.
    input, output
        Tokens of prompts and of replies; without a trace.
    count
        Requests; None: all of the trace, or 1,000.
    prefix
        Tokens of a beginning that requests share, with `prefixes` of them to choose from (0: none do).
    prefixes
        How many such beginnings there are; each as likely.
    arrivals
        When they come.
    seed
        Of the draws of lengths.
    """

    trace: str | None = None
    form: Literal[
        "scaleout", "azure", "mooncake", "vidur", "splitwise", "llmservingsim", "burstgpt", "bench"
    ] | None = None  # fmt: skip
    input: Length | None = None
    output: Length | None = None
    count: Count | None = None
    prefix: Annotated[int, Number(low=0, high=1e9, above=False, integer=True)] = 0
    prefixes: Count = 1
    arrivals: Arrivals = field(default_factory=lambda: Arrivals(process="trace"))
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_fields(self)
        if (self.trace is None) != (self.input is not None) or (self.input is None) != (self.output is None):
            raise SpecError("requests: expected either a trace, or both input and output")
        if self.trace is None and self.arrivals.process == "trace":
            raise SpecError("requests.arrivals.process: 'trace' needs a trace that says when requests come")
