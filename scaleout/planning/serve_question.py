"""What is asked of a plan of serving: a model, requests, a promise, and where it may be sought."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaleout.errors import SpecError, near
from scaleout.hardware.formats import FORMATS
from scaleout.io.catalogue import list_names, load
from scaleout.io.experiments import find_trace
from scaleout.io.yaml import read_mapping
from scaleout.result import Assumption
from scaleout.specs import Slo
from scaleout.specs.fields import FrozenDict
from scaleout.units import describe, parse

__all__ = ["SERVED_PRECISIONS", "Question", "as_mapping", "question_of", "rate_of"]

SERVED_PRECISIONS = tuple(
    name for name in FORMATS if name not in ("fp32", "sq", "int8_wo", "int4_wo", "fp8_current", "fp16")
)  # fmt: skip
"""Precisions that a plan may be sought in."""
_CACHES = ("bf16", "fp8", "int8")
_KINDS = ("together", "apart", "both")
_GOALS = ("cost", "chips", "energy")
_FEWEST, _MOST = 1000, 10_000
"""Requests of a simulation."""
_LASTS = 3.0
"""Times the latency of a mean reply for which requests come, at least."""
_LARGEST_RATE = 1e5
_PROCESSES = ("poisson", "gamma", "constant", "server", "trace")
_SPREAD = {"input": 1.0, "output": 0.8}
"""Coefficients of variation of lengths where their means alone are given."""
_RATE = re.compile(r"^\s*([0-9][0-9_]*\.?[0-9]*(?:[eE][+-]?\d+)?)\s*(?:/\s*(s|min|h))?\s*$")
_PER = {None: 1.0, "s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked.

    Parameters
    ----------
    model, engine, facility
        Names, or paths of files.
    systems
        On which machines.
    requests
        As a file of a serving experiment has them, with rate and count.
    slo
        What is promised.
    precisions, caches
        Of the linear layers, and of keys and values.
    chunks
        Tokens of a step; None is what the engine does.
    kinds
        Replicas that do all ("together"), pools for prompts and for replies ("apart"), or "both".
    minimise
        "cost" [USD/h], "chips" [1] or "energy" [J/token].
    max_chips, max_power
        At most [1, W]; None for any.
    assumed
        What nobody said.
    """

    model: str
    engine: str
    facility: str
    systems: tuple[str, ...]
    requests: Mapping[str, Any]
    slo: Slo
    precisions: tuple[str, ...]
    caches: tuple[str, ...]
    chunks: tuple[int | None, ...]
    kinds: str
    minimise: str
    max_chips: int | None = None
    max_power: float | None = None
    assumed: tuple[Assumption, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "requests", FrozenDict(self.requests))

    @property
    def rate(self) -> float:
        """At which requests come [1/s]."""
        return float(self.requests["arrivals"]["rate"])

    def words(self) -> dict[str, Any]:
        """All of it, by name."""
        slo = self.slo
        return {
            "model": self.model,
            "rate": self.rate,
            "ttft": slo.ttft,
            "tpot": slo.tpot,
            "latency": slo.latency,
            "share": slo.share,
            "requests": dict(self.requests),
            "systems": list(self.systems),
            "precisions": list(self.precisions),
            "caches": list(self.caches),
            "chunks": list(self.chunks),
            "engine": self.engine,
            "pools": self.kinds,
            "minimise": self.minimise,
            "facility": self.facility,
            "max_chips": self.max_chips,
            "max_power": self.max_power,
        }


def question_of(
    model: str,
    *,
    rate: float | str,
    ttft: float | str | None,
    tpot: float | str | None,
    latency: float | str | None,
    share: float,
    input: float | None,  # noqa: A002  (the name of the key)
    output: float | None,
    requests: str | Mapping[str, Any] | None,
    count: int | None,
    systems: str | Sequence[str],
    precisions: str | Sequence[str],
    caches: Sequence[str],
    chunks: Sequence[int | None],
    engine: str,
    kinds: str,
    minimise: str,
    facility: str,
    max_chips: int | None,
    max_power: float | str | None,
) -> Question:
    """The question, checked.

    Raises
    ------
    SpecError
        Something is unknown, out of range or missing.
    """
    named = [systems] if isinstance(systems, str) else list(systems)
    if named == ["all"]:
        named = list_names("system")
    slo = _slo(ttft, tpot, latency, share)
    per_second = rate_of(rate)
    assumed: list[Assumption] = []
    stream = _requests(requests, input, output, assumed)
    stream["arrivals"] = {**stream.get("arrivals", {}), "rate": per_second}
    stream["count"] = _whole("--count", count, 100, 1_000_000) if count is not None else _count(per_second, slo, stream)
    kinds, minimise = _one("pools", kinds, _KINDS), _one("minimise", minimise, _GOALS)
    wanted = SERVED_PRECISIONS if list(precisions) == ["all"] or precisions == "all" else precisions
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    for name in (*wanted,):
        _one("precision", name, SERVED_PRECISIONS)
    for name in caches:
        _one("kv", name, _CACHES)
    for what, names in (("system", named), ("precision", wanted), ("kv", caches), ("chunk", chunks)):
        if not names:
            raise SpecError(f"{what}: none is given; expected at least one")
    for chunk in chunks:
        if chunk is not None:
            _whole("chunk", chunk, 16, 1_000_000)
    # unknown names, before anything is searched
    load("engine", engine)
    load("facility", facility)
    load("model", model)
    for name in named:
        load("system", name)
    assumed.append(
        Assumption(
            "precision", f"{', '.join(wanted)}: what fewer bits do to answers is not looked at", "the question", False
        )
    )
    return Question(
        model=model,
        engine=engine,
        facility=facility,
        systems=tuple(dict.fromkeys(named)),
        requests=stream,
        slo=slo,
        precisions=tuple(dict.fromkeys(wanted)),
        caches=tuple(dict.fromkeys(caches)),
        chunks=tuple(dict.fromkeys(chunks)),
        kinds=kinds,
        minimise=minimise,
        max_chips=None if max_chips is None else _whole("--max-chips", max_chips, 1, 1_000_000),
        max_power=None if max_power is None else _positive("--max-power", max_power, "W"),
        assumed=tuple(assumed),
    )


def rate_of(given: float | str) -> float:
    """Requests a second.

    >>> rate_of("120/min")
    2.0
    """
    value = math.nan
    if isinstance(given, str):
        match = _RATE.match(given)
        value = float(match[1].replace("_", "")) / _PER[match[2]] if match else math.nan
    elif not isinstance(given, bool) and isinstance(given, int | float):
        value = float(given)
    if not 0.0 < value <= _LARGEST_RATE:
        raise SpecError(
            f"rate: {given!r:.40} is not a number of requests above 0 and at most {_LARGEST_RATE:g} a second; "
            "expected a value such as '50/s' or '600/min'"
        )
    return value


def _positive(name: str, given: float | str, unit: str) -> float:
    value = parse(given, unit) if isinstance(given, str) else given
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
        raise SpecError(f"{name}: {given!r:.40} is not above 0; expected a value such as {describe(1.5, unit)!r}")
    return float(value)


def _whole(name: str, given: Any, low: int, high: int) -> int:
    if isinstance(given, bool) or not isinstance(given, int) or not low <= given <= high:
        raise SpecError(f"{name}: {given!r:.40} is not a whole number from {low:,} to {high:,}")
    return given


def _one(name: str, given: str, known: Sequence[str]) -> str:
    if given not in known:
        raise SpecError(f"{name}: {given!r:.40} is unknown; {near(str(given), known)}")
    return given


def _slo(
    ttft: float | str | None, tpot: float | str | None, latency: float | str | None, share: float
) -> Slo:  # fmt: skip
    given = {"ttft": ttft, "tpot": tpot, "latency": latency}
    limits: dict[str, float] = {}
    for name, value in given.items():
        if value is not None:
            try:
                limits[name] = _positive(name, value, "s")
            except SpecError as error:
                raise SpecError(str(error) if str(error).startswith(name) else f"{name}: {error}") from None
    if not limits:
        raise SpecError("nothing is promised: expected --ttft, --tpot or --latency, such as --ttft 2s --tpot 30ms")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.5 <= share <= 1.0:
        raise SpecError(f"share: {share!r:.40} is not a share of requests from 0.5 to 1; expected a value such as 0.99")
    return Slo(**limits, share=float(share))


def _requests(
    given: str | Mapping[str, Any] | None, prompt: float | None, reply: float | None, assumed: list[Assumption]
) -> dict[str, Any]:
    """Requests but for their rate and number."""
    if given is not None:
        if prompt is not None or reply is not None:
            raise SpecError("requests: given, and so are --input or --output; expected either")
        found = dict(given) if isinstance(given, Mapping) else _named(given)
        arrivals = dict(found.get("arrivals") or {})
        process = arrivals.get("process", "poisson")
        if process not in _PROCESSES:
            raise SpecError(
                f"requests.arrivals.process: {process!r:.40} has no rate to plan for; expected {', '.join(_PROCESSES)}"
            )
        return {**found, "arrivals": {**arrivals, "process": process}}
    stream: dict[str, Any] = {}
    for name, mean, usual in (("input", prompt, 1000.0), ("output", reply, 250.0)):
        value = usual if mean is None else mean
        if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1e6:
            raise SpecError(f"{name}: {mean!r:.40} is not a mean number of tokens from 1 to 1,000,000")
        stream[name] = {
            "kind": "lognormal", "mean": value, "cv": _SPREAD[name], "low": 1, "high": max(2, round(8 * value)),
        }  # fmt: skip
        words = "prompts" if name == "input" else "replies"
        assumed.append(
            Assumption(
                f"requests: {words}",
                f"{value:g} tokens on the average, lognormal with a coefficient of variation of {_SPREAD[name]:g}, at "
                f"most {round(8 * value):,}",
                "assumed" if mean is None else "the mean was given, the form is assumed",
                verified=False,
            )
        )
    assumed.append(Assumption("requests: arrivals", "Poisson, one by one", "assumed", verified=False))
    return {**stream, "arrivals": {"process": "poisson"}}


def _named(name: str) -> dict[str, Any]:
    """Requests of a serving experiment, by name or file, or of a trace."""
    path = Path(name)
    if name in list_names("serving") or path.suffix in (".yaml", ".yml"):
        from scaleout.io.catalogue import find

        file = find("serving", name)
        data = read_mapping(file)
        found = data.get("requests")
        if not isinstance(found, dict):
            raise SpecError(f"{name}: has no requests; expected a file of a serving experiment")
        if isinstance(found.get("trace"), str):
            found = {**found, "trace": str(find_trace(found["trace"], file))}
        found.pop("count", None)
        return dict(found)
    return {"trace": str(find_trace(name)), "arrivals": {"process": "poisson"}}


def _count(rate: float, slo: Slo, stream: Mapping[str, Any]) -> int:
    """Requests that come for some times as long as a reply takes, in hundreds."""
    length = stream.get("output") or {}
    reply = float(length.get("mean") or 250.0)
    latency = slo.latency or (slo.ttft or 1.0) + (slo.tpot or 0.05) * reply
    return min(_MOST, max(_FEWEST, math.ceil(rate * _LASTS * latency / 100.0) * 100))


def as_mapping(question: Question, system: str) -> dict[str, Any]:
    """The form of a serving experiment on one of its systems, with one chip."""
    slo = question.slo
    limits = {name: getattr(slo, name) for name in ("ttft", "tpot", "latency")}
    return {
        "kind": "serving",
        "system": system,
        "model": question.model,
        "engine": question.engine,
        "pools": [{"replicas": 1, "tp": 1}],
        "requests": _plain(question.requests),
        "router": {"policy": "least_load"},
        "slo": {name: f"{value!r} s" for name, value in limits.items() if value is not None} | {"share": slo.share},
        "facility": question.facility,
    }


def _plain(value: Any) -> Any:
    """Mappings as dictionaries."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return value
