"""Requests: when they come, and how many tokens they bring and ask for."""

from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from scaleout.errors import SpecError
from scaleout.specs.fields import check_fields
from scaleout.units import Count, Number, Positive, Seconds, Share

__all__ = ["FORMS", "Arrivals", "Form", "Length", "Requests", "TraceRow"]

Seed = Annotated[int, Number(low=0, high=2**63, above=False, integer=True)]
Spread = Annotated[float, Number(high=100.0, above=False)]
Form = Literal["scaleout", "azure", "mooncake", "vidur", "splitwise", "llmservingsim", "burstgpt", "bench"]
FORMS: tuple[Form, ...] = (
    "scaleout", "azure", "mooncake", "vidur", "splitwise", "llmservingsim", "burstgpt", "bench",
)  # fmt: skip
"""Forms of files of requests."""


class TraceRow(NamedTuple):
    """One request as a file of requests has it.

    Parameters
    ----------
    line
        Of the file, from 1.
    arrival
        When it comes, from the beginning of the trace [s]; None: the file has no times.
    inputs, outputs
        Tokens of the prompt, and of the reply.
    priority
        Who has more goes first.
    session
        Requests of one session have the same number; -1 for none.
    blocks
        Hashes of the full blocks that the prompt begins with; equal ones are equal tokens up to their end.
    block_tokens
        Tokens of such a block.
    """

    line: int
    arrival: float | None
    inputs: int
    outputs: int
    priority: int = 0
    session: int = -1
    blocks: tuple[int, ...] = ()
    block_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrivals:
    """When requests come.

    Parameters
    ----------
    process
        "trace": when the trace says, at its own rate or sped up to `rate`; "poisson"; "gamma", with
        a coefficient of variation of its own; "constant", evenly spaced; "ramp", Poisson from `rate` to
        `end_rate` over all requests; "diurnal", Poisson around `rate`, by a sine of `period` and
        `amplitude`; "closed", `clients` who send their next request `think` after a reply; and the
        scenarios of MLPerf Inference: "offline", all at once; "server", Poisson; "single_stream", one
        client; "multi_stream", one client who sends `clients` at a time, when all before are answered.
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
    cv: Spread = 1.0
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
        if self.process == "single_stream" and self.clients > 1:
            raise SpecError(f"requests.arrivals.clients: {self.clients}; a single stream has one")
        if self.process == "diurnal" and self.period == 0:
            raise SpecError("requests.arrivals.period: 0 s is no day")


@dataclass(frozen=True, slots=True, kw_only=True)
class Length:
    """How many tokens, drawn anew for each request.

    Parameters
    ----------
    kind
        "constant"; "uniform", every whole number from `low` to `high`; "lognormal", "gamma" or "geometric".
    mean
        Of the distribution before it is cut to `low` and `high` [token]; all kinds but "uniform" need it.
    cv
        Coefficient of variation, of "lognormal" and "gamma", before they are cut [1].
    low, high
        Least and most [token]; what is drawn beyond becomes the bound itself.
    """

    kind: Literal["constant", "uniform", "lognormal", "gamma", "geometric"] = "constant"
    mean: Positive | None = None
    cv: Spread = 1.0
    low: Count = 1
    high: Count = 1_000_000

    def __post_init__(self) -> None:
        check_fields(self)
        if self.low > self.high:
            raise SpecError(f"length: low {self.low} is above high {self.high}")
        if self.kind == "uniform":
            if self.mean is not None:
                raise SpecError(f"length.mean: {self.mean:g}; a uniform length has low and high alone")
        elif self.mean is None:
            raise SpecError(f"length.mean: missing; {self.kind!r} needs one, in tokens")
        elif not self.low <= self.mean <= self.high:
            raise SpecError(f"length.mean: {self.mean:g} is not between low {self.low} and high {self.high}")


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
        The first tokens of a prompt that are one of `prefixes` beginnings, which requests share; they are
        part of its length, and a shorter prompt is a part of a beginning (0: none share).
    prefixes
        How many such beginnings there are; each as likely.
    arrivals
        When they come.
    seed
        Of the draws of lengths.
    """

    trace: str | None = None
    form: Form | None = None
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
