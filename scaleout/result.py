"""A result: what came out of a simulation. Frozen, and without any clock of the simulator."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from scaleout.errors import SpecError
from scaleout.footprint import Cost, Energy, energy_from
from scaleout.specs.fields import FrozenDict, plain

__all__ = ["EVALUATORS", "FORMAT", "PART_WORDS", "Assumption", "Beside", "ErrorBand", "LinkUse", "Memory", "Result"]

FORMAT = 5
"""Version of the JSON form; a reader refuses others."""
EVALUATORS = ("event", "analytic")
"""What makes a result."""
PART_WORDS = {
    "exposed_tp": "waiting for tensor-parallel transfers",
    "exposed_cp": "waiting for context-parallel transfers",
    "exposed_ep": "waiting for expert-parallel transfers",
    "exposed_pp": "waiting for pipeline transfers",
    "exposed_dp": "waiting for data-parallel transfers",
    "exposed_copy": "waiting for copies from and to the host",
    "imbalance": "waiting for a late peer",
    "bubble": "pipeline bubble",
}
"""Parts of a breakdown in words, where the name alone would not do."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """Something the result rests on.

    Parameters
    ----------
    name, value
        What, and which value, in words.
    source
        Where it comes from.
    verified
        False where nobody has checked it against a source or a measurement.
    """

    name: str
    value: str
    source: str
    verified: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """HBM at the peak of the fullest pipeline stage.

    Parameters
    ----------
    stage
        The fullest stage.
    peak
        By kind, on one chip [byte].
    capacity
        Of one chip [byte].
    stages
        Peak of every stage, on one chip [byte].
    """

    stage: int
    peak: Mapping[str, float]
    capacity: float
    stages: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "peak", FrozenDict(self.peak))

    @property
    def total(self) -> float:
        """Sum of all kinds at the peak [byte]."""
        return sum(self.peak.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorBand:
    """How far a step's time may be off; about as far as it is on the average, not at most.

    Parameters
    ----------
    relative
        Of the step time, in either direction [1].
    parts
        What each kind of time contributes [1]; ``relative`` is the root of the sum of their squares.
    """

    relative: float
    parts: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", FrozenDict(self.parts))
        for name, value in {"relative": self.relative, **self.parts}.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
                raise SpecError(f"error band: {name}: {value!r:.40} is not a number at least 0")
        if not self.relative:
            raise SpecError("error band: 0 is no error band, as no time is exact")
        if abs(math.hypot(*self.parts.values()) / self.relative - 1) > 1e-6:
            raise SpecError(f"error band: its parts do not make up {self.relative:g}")

    def __str__(self) -> str:
        return f"+- {self.relative:.0%}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUse:
    """How busy the links of one kind are during a step.

    A direction is a link of its own. A link's utilisation is what it carries over what it could
    carry with the rate that it has at that time.

    Parameters
    ----------
    kind, count
        Which, and how many the network has.
    bytes
        Carried by all of them [byte].
    utilisation
        Of all of them together, over the step [1].
    peak
        The largest of any one of them in any hundredth of the step [1].
    busiest, busiest_bytes, busiest_utilisation
        The link with the largest utilisation over the step, what it carries [byte], and how
        busy it is [1]; of several the first.
    over_time
        Utilisation of all of them together in each hundredth of the step [1]; empty where
        nothing is carried.
    """

    kind: str
    count: int
    bytes: float = 0.0
    utilisation: float = 0.0
    peak: float = 0.0
    busiest: str = ""
    busiest_bytes: float = 0.0
    busiest_utilisation: float = 0.0
    over_time: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        shares = {"utilisation": self.utilisation, "peak": self.peak, "busiest_utilisation": self.busiest_utilisation}
        shares |= {f"over_time.{at}": share for at, share in enumerate(self.over_time)}
        for name, value in {
            "count": self.count,
            "bytes": self.bytes,
            "busiest_bytes": self.busiest_bytes,
            **shares,
        }.items():
            high = 1.0 if name in shares else 1e300
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
                raise SpecError(f"links: {name}: {value!r:.40} is not a number from 0 to {high:g}")
        if not isinstance(self.kind, str) or not isinstance(self.busiest, str):
            raise SpecError("links: kind, busiest: not text")


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The step beside a published measurement of it.

    Parameters
    ----------
    step_time
        Measured, or derived from what was [s].
    difference
        Simulated / measured - 1 [1].
    source
        Where it was published.
    """

    step_time: float
    difference: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One optimizer step.

    Parameters
    ----------
    name
        What was simulated, in words.
    experiment
        Its main settings.
    chips
        Chips of the job.
    step_time, step_time_ps
        Time of a step in the steady state [s], and exactly [ps].
    error_band
        How far the step time may be off.
    warnings
        Shapes outside of the range that their constants were calibrated on, a sentence each.
    tokens_per_second
        Over all chips [token/s].
    model_flops_per_chip
        Model FLOPs of a step (Megatron-LM's formula, no recomputation) over time and chips [flop/s].
    mfu
        The same over the chip's dense peak [1].
    breakdown, breakdown_ps
        Parts of the step on the pipeline stage that ends last [s], and exactly [ps].
    critical_path
        What the longest chain of the step is made of, over all stages [s].
    bound_by
        The largest part of it.
    memory
        HBM of the fullest stage.
    links
        How busy links are, by kind; empty where the evaluator knows no links.
    evaluator
        What made the result.
    classes
        Classes of ranks that were simulated, each for all its ranks.
    assumptions
        What the result rests on, with sources.
    published
        A published measurement of the same step; None where none is known.
    energy
        What the step draws; None where the chip's figures are not known.
    cost
        What it costs; None without a facility.
    """

    name: str
    experiment: Mapping[str, Any]
    chips: int
    step_time: float
    step_time_ps: int
    error_band: ErrorBand
    warnings: tuple[str, ...]
    tokens_per_second: float
    model_flops_per_chip: float
    mfu: float
    breakdown: Mapping[str, float]
    breakdown_ps: Mapping[str, int]
    critical_path: Mapping[str, float]
    bound_by: str
    memory: Memory
    links: tuple[LinkUse, ...] = field(repr=False)
    evaluator: str
    classes: int
    assumptions: tuple[Assumption, ...] = field(repr=False)
    published: Beside | None = None
    energy: Energy | None = None
    cost: Cost | None = None

    def __post_init__(self) -> None:
        for name in ("experiment", "breakdown", "breakdown_ps", "critical_path"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        return {"format": FORMAT, **plain(self)}

    def to_json(self) -> str:
        """JSON text; equal results give equal text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "Result":
        """Read what `to_json` wrote; a ``run`` block beside the result is left out.

        Raises
        ------
        SpecError
            The text is not JSON, not a result, or of another format.
        """
        try:
            data = json.loads(text)
            if not isinstance(data, dict):
                raise SpecError("result: not a scaleout result: expected one object")
            if data.get("kind") == "serving":
                raise SpecError("result: is one of serving; expected one of training")
            if data.get("format") != FORMAT:
                raise SpecError(f"result: format {data.get('format')!r} is not readable; expected {FORMAT}")
            known = [f.name for f in fields(cls)]
            if missing := [name for name in known if name not in data]:
                raise SpecError(f"result: not a scaleout result: {', '.join(missing)}: missing")
            values = {name: data[name] for name in known}
            memory = values["memory"]
            values["memory"] = Memory(**{**memory, "stages": tuple(memory["stages"])})
            values["error_band"] = ErrorBand(**values["error_band"])
            values["warnings"] = tuple(values["warnings"])
            values["links"] = tuple(LinkUse(**{**row, "over_time": tuple(row["over_time"])}) for row in values["links"])
            values["published"] = Beside(**values["published"]) if values["published"] else None
            values["assumptions"] = tuple(Assumption(**row) for row in values["assumptions"])
            values["energy"] = energy_from(values["energy"])
            values["cost"] = Cost(**values["cost"]) if values["cost"] else None
            result = cls(**values)
            result._check_numbers()
            return result
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            if isinstance(error, SpecError):
                raise
            raise SpecError(f"result: not a scaleout result: {error}") from None

    def _check_numbers(self) -> None:
        """Refuse text or nothing where numbers belong, and a step that takes no time."""
        numbers = {
            "step_time": self.step_time, "tokens_per_second": self.tokens_per_second, "mfu": self.mfu,
            "model_flops_per_chip": self.model_flops_per_chip, "chips": self.chips,
            "memory.capacity": self.memory.capacity,
        }  # fmt: skip
        if self.published is not None:
            numbers |= {"published.step_time": self.published.step_time}
        for name in ("breakdown", "critical_path"):
            numbers |= {f"{name}.{key}": value for key, value in getattr(self, name).items()}
        numbers |= {f"memory.peak.{kind}": size for kind, size in self.memory.peak.items()}
        for name, value in numbers.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e300:
                raise SpecError(f"result: {name}: {value!r:.40} is not a number at least 0")
        for name in ("step_time", "tokens_per_second", "chips", "memory.capacity"):
            if not numbers[name]:
                raise SpecError(f"result: {name}: 0 is not a number above 0")
        if not isinstance(self.name, str) or not isinstance(self.bound_by, str):
            raise SpecError("result: name, bound_by: not text")
        if not all(isinstance(line, str) for line in self.warnings):
            raise SpecError("result: warnings: not text")
