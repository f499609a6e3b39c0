"""What a sweep is: a base experiment, keys that take several values, rules, and who evaluates the points."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from scaleout.errors import SpecError
from scaleout.specs.fields import FrozenDict, check_fields
from scaleout.units import Number, Positive

if TYPE_CHECKING:
    from scaleout.sweep.results import SweepResults

__all__ = ["MOST_POINTS", "SEED", "Stage", "Sweep", "canonical", "frozen", "in_form", "thawed"]

MOST_POINTS = 10_000_000
"""Combinations of values that are enumerated, before rules."""
SEED = "seed"
"""Key of a point that says which of its repetitions it is."""
_LARGEST = 2**62
_OWN = (SEED, "kind", "settings", "name")
"""Keys that no axis may have: they say nothing of what is simulated, or belong to the sweep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass over the points.

    Parameters
    ----------
    evaluator
        "analytic": a bound, in closed form; "event": simulated.
    within
        Takes only points whose objective, in the stage before, is at most so much worse than the best one's [1]; None
        takes all that can be simulated.
    """

    evaluator: Literal["analytic", "event"] = "event"
    within: Positive | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Points around one experiment.

    Parameters
    ----------
    base
        A file, a name, or a mapping of an experiment, of any kind.
    axes
        Dotted keys of the experiment, each with the values that it takes; points are all combinations, the last
        axis the fastest.
    zipped
        Groups of keys whose values go together: each of them one more axis, after `axes`.
    rules
        Names of rules, which are carried out in order: they derive keys, or leave points out.
    sample
        So many of the combinations, drawn at random by `seed` before the rules [1]; None takes all.
    seeds
        Every point so many times, each with a seed of its own [1]; the fastest axis of all.
    seed
        The first of them; and that of the sample.
    stages
        One after the other.
    objective
        Outcome that says which point is the best; None for that of the kind of experiment.
    name
        What it is called.

    Raises
    ------
    SpecError
        Every mistake at once, one a line.
    """

    base: str | Mapping[str, Any]
    axes: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    zipped: tuple[Mapping[str, tuple[Any, ...]], ...] = ()
    rules: tuple[str, ...] = ()
    sample: Annotated[int, Number(low=1, high=MOST_POINTS, above=False, integer=True)] | None = None
    seeds: Annotated[int, Number(low=1, high=1e6, above=False, integer=True)] = 1
    seed: Annotated[int, Number(low=0, high=_LARGEST, above=False, integer=True)] = 0
    stages: tuple[Stage, ...] = (Stage(),)
    objective: str | None = None
    name: str = "sweep"

    def __post_init__(self) -> None:
        shaped = in_form({name: getattr(self, name) for name in ("base", "axes", "zipped", "rules", "stages")})
        for name, value in shaped.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "stages", _stages(self.stages))
        check_fields(self)
        mistakes = [*_base_mistakes(self.base), *self._axis_mistakes()]
        if not self.stages:
            mistakes.append("stages: none; expected at least one, such as [event]")
        elif self.stages[0].within is not None:
            mistakes.append(
                f"stages.0.within: {self.stages[0].within:g}: there is no stage before the first; leave it out"
            )
        if mistakes:
            raise SpecError("\n".join(f"sweep.{mistake}" for mistake in mistakes))
        axes = {key: tuple(frozen(value) for value in values) for key, values in self.axes.items()}
        object.__setattr__(self, "axes", FrozenDict(axes))
        groups = [{k: tuple(frozen(value) for value in values) for k, values in group.items()} for group in self.zipped]
        object.__setattr__(self, "zipped", tuple(FrozenDict(group) for group in groups))
        if not isinstance(self.base, str):
            object.__setattr__(self, "base", frozen(self.base))

    def _axis_mistakes(self) -> Iterator[str]:
        """What is wrong with keys and values."""
        seen: set[str] = set()
        rows = [("axes", "axes", key, values) for key, values in self.axes.items()]
        rows += [
            ("zipped", f"zipped.{at}", key, values)
            for at, group in enumerate(self.zipped)
            for key, values in group.items()
        ]
        for kind, place, key, values in rows:
            if key in seen:
                yield f"{place}.{key}: has values twice; expected once, in axes or in one group of zipped"
            seen.add(key)
            if key in _OWN:
                yield f"{place}.{key}: cannot be an axis{'; say how many there are with seeds' if key == SEED else ''}"
            elif not all(part.strip() == part and part for part in key.split(".")):
                yield f"{place}.{key!r}: is no dotted key; expected one such as layout.tp"
            if not values:
                yield f"{place}.{key}: has no values; expected a list such as [1, 2, 4]"
            try:
                texts = [canonical(value) for value in values]
            except (TypeError, ValueError) as error:
                yield f"{place}.{key}: {error}"
                continue
            if any("\\ud" in text and not _is_unicode(text) for text in texts):
                yield f"{place}.{key}: half a character (a lone surrogate) is no text"
            if kind == "axes" and len(set(texts)) < len(texts):
                twice = next(text for at, text in enumerate(texts) if text in texts[:at])
                yield f"{place}.{key}: {twice:.60} is given twice"
        for at, group in enumerate(self.zipped):
            counts = {key: len(values) for key, values in group.items()}
            if not group:
                yield f"zipped.{at}: no keys; expected lists of equal length"
            elif len(set(counts.values())) > 1:
                sizes = ", ".join(f"{key} {count}" for key, count in counts.items())
                yield f"zipped.{at}: lists of different lengths: {sizes}"

    def run(
        self, *, store: str | Path | None = None, ray: str | None = None, workers: int | None = None
    ) -> "SweepResults":
        """Compute what is missing of the points, and give all.

        Parameters
        ----------
        store
            Folder in which results are kept, and found again; None keeps them for this call alone.
        ray
            None: in this process; "local": on a Ray of one's own; otherwise the address of one, or "auto".
        workers
            Processes at a time; None for as many as there are cores.

        Raises
        ------
        SweepError
            The store cannot be used, or Ray cannot be reached.
        """
        from scaleout.sweep.run import run_sweep

        return run_sweep(self, store=None if store is None else Path(store), ray=ray, workers=workers)


def in_form(data: Mapping[str, Any]) -> dict[str, Any]:
    """What a file may say shortly, at length: one value is a list of it. Wrong types are left as they are."""
    found = dict(data)
    if isinstance(found.get("base"), Path):
        found["base"] = str(found["base"])
    if isinstance(found.get("axes"), Mapping):
        found["axes"] = {key: _values(values) for key, values in found["axes"].items()}
    groups = found.get("zipped")
    if isinstance(groups, Mapping):
        groups = [groups]
    if isinstance(groups, list | tuple):
        groups = [
            {k: _values(values) for k, values in group.items()} if isinstance(group, Mapping) else group
            for group in groups
        ]
        found["zipped"] = tuple(groups)
    for key in ("rules", "stages"):
        if isinstance(found.get(key), str | Mapping | Stage):
            found[key] = [found[key]]
    if isinstance(found.get("stages"), list | tuple):
        found["stages"] = [{"evaluator": one} if isinstance(one, str) else one for one in found["stages"]]
    return found


def _values(values: Any) -> tuple[Any, ...]:
    """Values of an axis: a list of them, or one."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if not isinstance(values, list | tuple | range):
        values = (values,)
    return tuple(one.item() if hasattr(one, "item") else str(one) if isinstance(one, Path) else one for one in values)


def _stages(stages: Any) -> Any:
    """Stages that are given as mappings, made."""
    if not isinstance(stages, list | tuple):
        return stages
    made = []
    for at, stage in enumerate(stages):
        try:
            made.append(Stage(**stage) if isinstance(stage, Mapping) else stage)
        except TypeError:
            raise SpecError(f"sweep.stages.{at}: {dict(stage)!r:.60}: expected the keys evaluator and within") from None
    return tuple(made)


def _base_mistakes(base: object) -> Iterator[str]:
    if isinstance(base, str):
        if not base.strip():
            yield "base: empty; expected a name, a path, or a mapping of an experiment"
    elif not isinstance(base, Mapping):
        yield f"base: {base!r:.60} is no experiment; expected a name, a path, or a mapping"


def frozen(value: Any) -> Any:
    """Lists and mappings of a file, at any depth, as what is hashable."""
    if isinstance(value, Mapping):
        return FrozenDict({key: frozen(one) for key, one in value.items()})
    if isinstance(value, list | tuple):
        return tuple(frozen(one) for one in value)
    return value


def thawed(value: Any) -> Any:
    """The same as plain lists and mappings, anew."""
    if isinstance(value, Mapping):
        return {key: thawed(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [thawed(one) for one in value]
    return value


def _is_unicode(text: str) -> bool:
    """Whether the texts in JSON can be written in a file."""
    try:
        json.dumps(json.loads(text), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, ASCII alone.

    Raises
    ------
    ValueError
        The value is none that a file could give.
    """
    try:
        return json.dumps(thawed(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        raise ValueError(
            f"{value!r:.60} is not accepted; expected numbers, text, true, false, null, lists or mappings of them"
        ) from None
