"""What a step or a run draws and costs: parts of results of training and of serving. Frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from scaleout.errors import SpecError
from scaleout.specs.fields import FrozenDict

__all__ = ["Cost", "Energy", "Run", "cost_from", "energy_from"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of a job over a span: a step, or a run of serving.

    Parameters
    ----------
    span
        [s]
    parts
        Of all chips and what goes with them, by component: "idle", "compute", "vector", "hbm", "links" of chips;
        "nodes", "switches", "optics"; "cooling", which is all that the building draws beside machines [J].
    chip_power, node_power, power
        Means over the span: of one chip, of one node, of everything with the building [W].
    tokens
        That the span made: trained, or put out.
    error
        How far the mean power may be off, about as far as on the average [1].
    over_time
        Power of the chips and nodes, without the building, in each hundredth of the span [W]; empty where unknown.
    capped
        Share of the span in which a chip's power limit slowed its kernels [1].
    warnings
        Limits of racks, halls and batteries that are exceeded, in words.
    """

    span: float
    parts: Mapping[str, float]
    chip_power: float
    node_power: float
    power: float
    tokens: float
    error: float
    over_time: tuple[float, ...] = ()
    capped: float = 0.0
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", FrozenDict(self.parts))
        _check(self, "energy", ("warnings",))

    @property
    def total(self) -> float:
        """Of all parts [J]."""
        return sum(self.parts.values())

    @property
    def per_token(self) -> float:
        """[J/token]; 0 where there are no tokens."""
        return self.total / self.tokens if self.tokens else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Cost of a job: what an hour of it costs, by what for.

    Parameters
    ----------
    facility
        Where it stands.
    capex
        Price of what the job occupies, by "chips", "nodes", "network", "building" [USD]; empty where chips are rented.
    hour
        Of all chips together, by the same, each with interest and life, and "maintenance", "staff",
        "electricity"; "rent" alone where chips are rented [USD/h].
    chip_hour
        Of one chip [USD/h].
    span
        Of the step, or of the run [USD].
    per_million_tokens
        Tokens trained, or put out [USD]; 0 where there are none.
    utilisation
        Share of the time in which bought chips do paid work, which bears the rest [1].
    error
        How far it may be off by what is not known of prices and power, about as far as on the average [1].
    """

    facility: str
    capex: Mapping[str, float]
    hour: Mapping[str, float]
    chip_hour: float
    span: float
    per_million_tokens: float
    utilisation: float
    error: float

    def __post_init__(self) -> None:
        for name in ("capex", "hour"):
            object.__setattr__(self, name, FrozenDict(getattr(self, name)))
        _check(self, "cost", ("facility",))

    @property
    def hour_total(self) -> float:
        """Of all parts [USD/h]."""
        return sum(self.hour.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A whole training, as so many equal steps.

    Parameters
    ----------
    tokens
        To be trained on.
    goodput
        Share of the time that is not lost to failures, restarts and checkpoints [1].
    steps
        That it takes.
    time
        With what is lost [s].
    chip_hours
        Of all chips together [h].
    energy
        Of everything with the building [J]; None where it is not known.
    cost
        [USD]; None without a facility.
    error
        How far time and energy may be off, and the cost, as of a step [1].
    """

    tokens: float
    goodput: float
    steps: float
    time: float
    chip_hours: float
    energy: float | None
    cost: float | None
    error: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "error", FrozenDict(self.error))


def _check(found: Energy | Cost, what: str, words: tuple[str, ...]) -> None:
    """Refuse text, or less than nothing, where numbers belong."""
    for part in fields(found):
        value = getattr(found, part.name)
        if part.name in words:
            continue
        if isinstance(value, Mapping):
            rows = {f"{part.name}.{key}": one for key, one in value.items()}
        elif isinstance(value, tuple):
            rows = {f"{part.name}.{at}": one for at, one in enumerate(value)}
        else:
            rows = {part.name: value}
        for name, number in rows.items():
            if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < 1e300:
                raise SpecError(f"result: {what}.{name}: {number!r:.40} is not a number at least 0")


def energy_from(data: Mapping[str, Any] | None) -> Energy | None:
    """What `plain` made of it, back again."""
    if not data:
        return None
    return Energy(**{**data, "over_time": tuple(data["over_time"]), "warnings": tuple(data["warnings"])})


def cost_from(data: Mapping[str, Any] | None) -> Cost | None:
    """What `plain` made of it, back again."""
    return Cost(**data) if data else None
