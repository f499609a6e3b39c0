"""What came out of running streams with deadlines: latencies, what missed, what was busy. Frozen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.footprint import Cost, Energy, cost_from, energy_from
from scaleout.specs.fields import FrozenDict, plain

__all__ = ["STREAMED_FORMAT", "ChipUse", "Latency", "SourceResult", "StageResult", "StreamResult"]

STREAMED_FORMAT = 1
"""Version of the JSON form."""
_EXACT = 1.0 + 1e-12
"""What comes to the picosecond in time is in time, however it is rounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A time over many items [s]; all are 0 where there are none.

    Parameters
    ----------
    mean, p50, p90, p99, max
        A percentile is the smallest value that so many are not above.
    """

    mean: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceResult:
    """Items of a source.

    Parameters
    ----------
    came, done, dropped, left
        Items: all, through their last stage, thrown away for newer ones, in a batch that never filled.
    latency
        From an item's coming to the end of its last stage, of those that are done.
    deadline, share
        What is promised [s], and to which share of the items [1]; None: nothing.
    needed
        Time within which that share of all items is done [s]; None where more than the others never are.
    missed
        Items that are late, dropped or left.
    parts
        Where the mean latency goes, by stage and what the item does there: "gather", "wait", "work", "host" [s].
    joules
        Of an item on the chips, beside what they draw at rest [J].
    """

    name: str
    came: int
    done: int
    dropped: int
    left: int
    latency: Latency
    deadline: float | None
    share: float
    needed: float | None
    missed: int
    parts: Mapping[str, float]
    joules: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", FrozenDict(self.parts))

    @property
    def kept(self) -> bool | None:
        """Whether the promise is; None where there is none."""
        if self.deadline is None:
            return None
        return self.needed is not None and self.needed <= self.deadline * _EXACT

    @property
    def bound_by(self) -> str:
        """What most of the mean latency goes into."""
        return max(self.parts, key=lambda name: self.parts[name], default="nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageResult:
    """Jobs of a stage.

    Parameters
    ----------
    chip
        Number of its chip.
    jobs
        That were worked on.
    items
        Of a job, on the average.
    wait, work
        For the chip, and on it until the next stages began.
    latency
        From the coming of a job's first item to the beginning of the next stages.
    chip_share
        Of the chip's time [1].
    """

    name: str
    chip: int
    jobs: int
    items: float
    wait: Latency
    work: Latency
    latency: Latency
    chip_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChipUse:
    """A chip.

    Parameters
    ----------
    busy
        Share of the span [1].
    memory
        What is in it, and what is free [byte].
    """

    busy: float
    memory: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "memory", FrozenDict(self.memory))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamResult:
    """Streams with deadlines.

    Parameters
    ----------
    duration, span
        In which items came, and until the last was done [s].
    energy
        Over the span, of all chips and what stands beside them.
    cost
        Of the same; None without a facility.
    battery
        How long the facility's lasts [s]; None where it has none.
    experiment
        How it was set.
    assumptions
        Name, value, source and `verified` of what it rests on.
    warnings
        What the reader should know first.
    """

    name: str
    duration: float
    span: float
    sources: tuple[SourceResult, ...]
    stages: tuple[StageResult, ...]
    chips: tuple[ChipUse, ...]
    energy: Energy | None
    cost: Cost | None
    battery: float | None
    experiment: Mapping[str, Any]
    assumptions: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "experiment", FrozenDict(self.experiment))
        object.__setattr__(self, "assumptions", tuple(FrozenDict(row) for row in self.assumptions))

    @property
    def kept(self) -> bool:
        """Whether all promises are."""
        return all(source.kept is not False for source in self.sources)

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        found = {"format": STREAMED_FORMAT, "kind": "stream", **plain(self), "kept": self.kept}
        for row, source in zip(found["sources"], self.sources, strict=True):
            row |= {"kept": source.kept, "bound_by": source.bound_by}
        return found

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "StreamResult":
        """What `to_dict` made of it, back again."""
        rest = {key: value for key, value in data.items() if key not in ("format", "kind", "kept", "run")}
        extra = ("kept", "bound_by")
        rest["sources"] = tuple(
            SourceResult(**{k: v for k, v in {**row, "latency": Latency(**row["latency"])}.items() if k not in extra})
            for row in rest["sources"]
        )
        times = ("wait", "work", "latency")
        rest["stages"] = tuple(
            StageResult(**{**row, **{name: Latency(**row[name]) for name in times}}) for row in rest["stages"]
        )
        rest["chips"] = tuple(ChipUse(**row) for row in rest["chips"])
        rest |= {"energy": energy_from(rest["energy"]), "cost": cost_from(rest["cost"])}
        return cls(**{**rest, "assumptions": tuple(rest["assumptions"]), "warnings": tuple(rest["warnings"])})
