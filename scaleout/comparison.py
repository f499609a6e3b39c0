"""Two results side by side: what differs in the experiments, and where the time went or came from."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaleout.errors import SpecError
from scaleout.result import FORMAT, PART_WORDS, Result
from scaleout.simulate import simulate
from scaleout.specs import TrainingExperiment
from scaleout.specs.fields import FrozenDict, plain
from scaleout.units import describe

__all__ = ["Comparison", "Part", "compare"]

_WHERE = {"compute": "in kernels", "optimizer": "in the optimizer", "bubble": "in the pipeline bubble"}
_HEADLINE = (
    "name",
    "chips",
    "step_time",
    "error_band",
    "warnings",
    "tokens_per_second",
    "model_flops_per_chip",
    "mfu",
    "bound_by",
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the step in both results.

    Parameters
    ----------
    a, b
        Its time in a step [s].
    share
        Of the whole difference [1]; above 1, or negative, where other parts go the other way; None
        where the whole does not differ.
    """

    name: str
    a: float
    b: float
    share: float | None

    @property
    def difference(self) -> float:
        """What B takes more than A [s]."""
        return self.b - self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """B against A.

    Parameters
    ----------
    a, b
        The results.
    settings
        Key -> the values of A and of B where they differ; None for a key that one lacks.
    parts
        Parts of the breakdown that either has.
    per_token
        The steps differ in tokens: shares are of the time a token, not a step.
    tie
        The rates differ by no more than the wider of the two error bands.
    words
        What explains most of the difference, as a sentence.
    """

    a: Result
    b: Result
    settings: Mapping[str, tuple[Any, Any]]
    parts: tuple[Part, ...]
    per_token: bool
    tie: bool
    words: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "settings", FrozenDict(self.settings))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first."""

        def headline(result: Result) -> dict[str, Any]:
            rows = {name: plain(getattr(result, name)) for name in _HEADLINE}
            return {**rows, "memory": result.memory.total, **_footprint(result)}

        return {
            "format": FORMAT,
            "a": headline(self.a),
            "b": headline(self.b),
            "settings": {key: {"a": plain(a), "b": plain(b)} for key, (a, b) in self.settings.items()},
            "step_time_difference": self.b.step_time - self.a.step_time,
            "speed_up": self.b.tokens_per_second / self.a.tokens_per_second,
            "per_token": self.per_token,
            "tie": self.tie,
            "parts": [{**plain(part), "difference": part.difference} for part in self.parts],
            "words": self.words,
        }


def compare(a: TrainingExperiment | Result, b: TrainingExperiment | Result, *, evaluator: str = "event") -> Comparison:
    """Compare B with A.

    Parameters
    ----------
    a, b
        Experiments, which are simulated, or results. Of two experiments every setting is compared,
        otherwise those that a result records.
    evaluator
        As in `simulate`.

    Raises
    ------
    ScaleoutError
        An experiment cannot be simulated.
    """
    one, other = _result(a, evaluator), _result(b, evaluator)
    if isinstance(a, TrainingExperiment) and isinstance(b, TrainingExperiment):
        settings = _differences({**plain(a), "settings": None}, {**plain(b), "settings": None})
    else:
        settings = _differences(one.experiment, other.experiment)
    if "analytic" in (one.evaluator, other.evaluator) and one.evaluator != other.evaluator:
        settings["evaluator"] = (one.evaluator, other.evaluator)
    # the work of a step [token]
    work = [result.tokens_per_second * result.step_time for result in (one, other)]
    per_token = abs(work[1] / work[0] - 1) > 1e-9
    scale = work[0] / work[1] if per_token else 1.0
    whole = other.step_time * scale - one.step_time
    names = dict.fromkeys((*one.breakdown, *other.breakdown))
    times = {name: (one.breakdown.get(name, 0.0), other.breakdown.get(name, 0.0)) for name in names}
    parts = tuple(
        Part(name, x, y, (y * scale - x) / whole if whole else None) for name, (x, y) in times.items() if x or y
    )
    tie = abs(math.log(other.tokens_per_second / one.tokens_per_second)) <= math.log1p(_wider(one, other))
    return Comparison(
        a=one,
        b=other,
        settings=settings,
        parts=parts,
        per_token=per_token,
        tie=tie,
        words=_sentence(one, other, parts, per_token, tie),
    )


def _footprint(result: Result) -> dict[str, float | None]:
    """What a result draws and costs, in two figures each; None where it is not known."""
    energy, cost = result.energy, result.cost
    return {
        "power": energy.power if energy else None,
        "energy_per_token": energy.per_token if energy else None,
        "chip_hour": cost.chip_hour if cost else None,
        "cost_per_million_tokens": cost.per_million_tokens if cost else None,
    }


def _wider(a: Result, b: Result) -> float:
    """The wider error band of two results [1]."""
    return max(a.error_band.relative, b.error_band.relative)


def _result(item: TrainingExperiment | Result, evaluator: str) -> Result:
    if isinstance(item, Result):
        return item
    if not isinstance(item, TrainingExperiment):
        raise SpecError(f"{item!r:.80} is neither an experiment nor a result")
    return simulate(item, evaluator=evaluator)


def _differences(a: Mapping[str, Any], b: Mapping[str, Any], at: str = "") -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ; of two things with different names the names alone."""
    if at and "name" in a and "name" in b and a["name"] != b["name"]:
        return {at: (a["name"], b["name"])}
    found: dict[str, tuple[Any, Any]] = {}
    for key in dict.fromkeys((*a, *b)):
        x, y = a.get(key), b.get(key)
        path = f"{at}.{str(key).rstrip('_')}" if at else str(key).rstrip("_")
        if isinstance(x, Mapping) and isinstance(y, Mapping):
            found |= _differences(x, y, path)
        elif x != y:
            found[path] = (x, y)
    return found


def _sentence(a: Result, b: Result, parts: tuple[Part, ...], per_token: bool, tie: bool) -> str:
    """What explains most of the difference."""
    if all(not part.share for part in parts):
        return "Both take the same time, in every part."
    speed_up = b.tokens_per_second / a.tokens_per_second
    faster = f"B is {speed_up:.4g} times as fast" if speed_up >= 1 else f"B takes {1 / speed_up:.4g} times as long"
    main = max(parts, key=lambda part: part.share or 0.0)
    share = main.share or 0.0
    # opposite changes elsewhere make a share larger than the whole
    most = f"{share:.0%} of it is" if share <= 1 else "all of it and more, partly undone elsewhere, is"
    where = _WHERE.get(main.name, PART_WORDS.get(main.name, main.name))
    less = "less" if speed_up >= 1 else "more"
    if per_token:
        whole = f"{b.tokens_per_second:,.0f} token/s against {a.tokens_per_second:,.0f}"
        scales = [1e6 / (result.tokens_per_second * result.step_time) for result in (a, b)]
    else:
        whole, scales = f"{describe(b.step_time, 's')} a step against {describe(a.step_time, 's')}", [1.0, 1.0]
    times = f"{describe(main.a * scales[0], 's')} in A, {describe(main.b * scales[1], 's')} in B"
    each = " for a million tokens" if per_token else ""
    doubt = f" That is within the error band ({_wider(a, b):.0%}): treat it as a tie." if tie else ""
    return f"{faster} ({whole}): {most} {less} time {where} ({times}{each}).{doubt}"
