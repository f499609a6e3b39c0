"""What came out of running a net: throughput, latency, where the time goes. Frozen."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.footprint import Cost, Energy, cost_from, energy_from
from scaleout.specs.fields import FrozenDict, plain

__all__ = ["INFERRED_FORMAT", "NetResult", "OperatorTime"]

INFERRED_FORMAT = 2
"""Version of the JSON form."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """Operators of one name, in the time of a batch.

    Parameters
    ----------
    name, kind
        "product", "attention", "pass", "gather" or "exchange".
    stage
        "once" a batch, or of each "token" of a reply.
    count
        Times that it runs in a batch; of tokens' operators, in the whole reply.
    seconds
        Of all of them [s].
    flop, bytes
        Of all of them [flop], [byte].
    bound
        "compute", "memory", "launch" or "links": what most of its time goes into.
    """

    name: str
    kind: str
    stage: str
    count: int
    seconds: float
    flop: float
    bytes: float
    bound: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NetResult:
    """A net that runs.

    Parameters
    ----------
    name
        What ran, in words.
    sample
        What one sample is.
    chips, batch
        That worked, and samples that each works on at a time.
    samples_per_second
        Of all chips [1/s].
    latency
        Of a batch, from its start to its end on the chip, with the host [s].
    first
        Until the first token of a reply, or the whole latency where there is none [s].
    token
        Between two tokens of a reply [s]; 0 where there is none.
    device
        Of a batch on the chip alone [s].
    breakdown
        Operators in order; `seconds` of all sum to `device`.
    bound
        Share of `device` by what bounds [1].
    flops_share
        Flops of a batch over `device` and the chip's dense rate at the precision [1].
    memory
        HBM of a chip, by what is in it [byte].
    experiment
        How it was set.
    published
        What somebody measured: "figure", "unit", "source"; empty where nobody did.
    assumptions
        Name, value, source and `verified` of what it rests on.
    warnings
        What the reader should know first.
    energy, cost
        Of a batch on all chips; their tokens are samples. No cost without a facility.
    """

    name: str
    sample: str
    chips: int
    batch: int
    samples_per_second: float
    latency: float
    first: float
    token: float
    device: float
    breakdown: tuple[OperatorTime, ...]
    bound: Mapping[str, float]
    flops_share: float
    memory: Mapping[str, float]
    experiment: Mapping[str, Any]
    published: Mapping[str, Any]
    assumptions: tuple[Mapping[str, Any], ...]
    warnings: tuple[str, ...]
    energy: Energy | None = None
    cost: Cost | None = None

    def __post_init__(self) -> None:
        for name in ("bound", "memory", "experiment", "published"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))
        object.__setattr__(self, "assumptions", tuple(FrozenDict(row) for row in self.assumptions))

    @property
    def figure(self) -> float | None:
        """The result's own of what was published: samples a second, or a latency [s]; None where nothing was."""
        if not self.published:
            return None
        return self.latency if self.published["unit"] == "s" else self.samples_per_second

    @property
    def error(self) -> float | None:
        """Its figure over the published one, less one [1]."""
        found = self.figure
        return None if found is None else found / float(self.published["figure"]) - 1.0

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""
        return {"format": INFERRED_FORMAT, "kind": "inference", **plain(self), "error": self.error}

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "NetResult":
        """What `to_dict` made of it, back again."""
        rest = {key: value for key, value in data.items() if key not in ("format", "kind", "error", "run")}
        rest["breakdown"] = tuple(OperatorTime(**row) for row in rest["breakdown"])
        rest |= {"energy": energy_from(rest["energy"]), "cost": cost_from(rest["cost"])}
        return cls(**{**rest, "assumptions": tuple(rest["assumptions"]), "warnings": tuple(rest["warnings"])})
