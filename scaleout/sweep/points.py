"""Points of a sweep: all combinations of values that the rules leave, as whole numbers, a few bytes each."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import prod
from typing import Any

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import ScaleoutError, SweepError
from scaleout.io.catalogue import UNKNOWN
from scaleout.sweep.build import Forms, forms_of
from scaleout.sweep.columns import Column, Columns
from scaleout.sweep.outcomes import ANALYTIC, OBJECTIVES, check_objective
from scaleout.sweep.rules import rule_of
from scaleout.sweep.seeds import SEED_KEYS, draws
from scaleout.sweep.spec import MOST_POINTS, SEED, Sweep, canonical, thawed
from scaleout.training.missing import uncovered

__all__ = ["Points", "points_of", "slow_points"]

_CHUNK = 1 << 19
"""Combinations that rules see at a time."""
_COUNTABLE = 2**62
"""Combinations that can be numbered."""
_MOST_TRIED = 100
"""Experiments that are asked whether they draw anything."""
_MOST_ASKED = 200
"""Points of which it is asked whether the closed form knows them."""
_PLACES = ("has no key", "is no place in the list")
"""What a message says of a key that leads nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Axis:
    """Keys whose values go together."""

    names: tuple[str, ...]
    values: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.values[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Points in order, the last axis the fastest.

    Parameters
    ----------
    kind
        Of the experiment.
    names
        Keys that points set: of axes, then those that rules derive, then "seed" where there are several.
    left_out
        Combinations that each rule left out, in order.
    """

    kind: str
    names: tuple[str, ...]
    left_out: Mapping[str, int]
    _axes: tuple[_Axis, ...] = field(repr=False)
    _numbers: Ints | None = field(repr=False)
    _derived: Mapping[str, Column] = field(repr=False)
    _seeds: int
    _seed: int
    _count: int

    def __len__(self) -> int:
        return self._count

    def column(self, name: str, positions: "Sequence[int] | Ints | None" = None) -> Column:
        """Distinct values of a key, and which of them each point has; `positions`: of these points alone."""
        at = np.arange(self._count) if positions is None else np.asarray(positions, dtype=np.int64)
        row, seed = np.divmod(at, self._seeds)
        if name == SEED:
            return Column(range(self._seed, self._seed + self._seeds), seed)
        if name in self._derived:
            column = self._derived[name]
            return Column(column.values, column.index[row])
        number = row if self._numbers is None else self._numbers[row].astype(np.int64)
        slower = 1
        for axis in reversed(self._axes):
            if name in axis.names:
                return Column(axis.values[axis.names.index(name)], number // slower % len(axis))
            slower *= len(axis)
        raise SweepError(f"{name!r:.60} is no key that the points set; these are: {', '.join(self.names)}")

    def settings(self, position: int) -> dict[str, Any]:
        """What a point sets: keys and plain values."""
        if not -self._count <= position < self._count:
            raise SweepError(f"point {position} is not one of the {self._count:,}")
        columns = {name: self.column(name, [position % self._count]) for name in self.names}
        return {name: thawed(column.values[int(column.index[0])]) for name, column in columns.items()}

    def texts(self, positions: "Sequence[int] | Ints") -> list[str]:
        """Canonical JSON of the settings of points, which is what they are known by."""
        if not self.names:
            return ["{}"] * len(positions)
        columns = []
        for at, name in enumerate(sorted(self.names)):
            column = self.column(name, positions)
            pieces = np.empty(len(column.values), dtype=object)
            start = "{" if at == 0 else ","
            end = "}" if at == len(self.names) - 1 else ""
            pieces[:] = [f"{start}{canonical(name)}:{canonical(value)}{end}" for value in column.values]
            columns.append(pieces[column.index].tolist())
        return ["".join(row) for row in zip(*columns, strict=True)]


def points_of(sweep: Sweep) -> Points:
    """The points of a sweep, after its rules.

    Raises
    ------
    SpecError
        The base is no experiment.
    SweepError
        An axis names no key, a rule is unknown or leaves nothing, there are too many combinations, repetitions of
        what is not random, or stages that cannot be compared.
    """
    forms = forms_of(sweep)
    _check_stages(sweep, forms.kind)
    axes = _axes(sweep)
    _check_keys(forms, axes)
    _check_seeds(sweep, forms, axes)
    rules = [(name, rule_of(name, forms.kind)) for name in sweep.rules]
    total = prod(len(axis) for axis in axes)
    drawn = _drawn(sweep, axes, total)
    kept: list[Ints] = []
    derived: dict[str, list[Any]] = {}
    left_out = dict.fromkeys(sweep.rules, 0)
    for numbers in _chunks(drawn, total):
        columns = _columns(forms, axes, numbers)
        stays = np.ones(len(numbers), dtype=bool)
        for name, rule in rules:
            try:
                found = rule(columns)
            except SweepError as error:
                raise SweepError(f"rules: {name}: {error}") from None
            if found is not None:
                found = _checked(name, found, len(numbers))
                left_out[name] += int((stays & ~found).sum())
                stays &= found
        kept.append(numbers[stays])
        for key, values in columns.derived.items():
            derived.setdefault(key, []).append(values[stays])
    numbers = np.concatenate(kept)
    if not len(numbers):
        by = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
        raise SweepError(f"sweep: the rules leave none of {_words(drawn, total)}: left out by {by}")
    whole = drawn is None and len(numbers) == total
    if len(numbers) * sweep.seeds > MOST_POINTS:
        raise SweepError(
            f"sweep: {len(numbers):,} points x seeds {sweep.seeds:,} are more than the {MOST_POINTS:,} that are "
            "enumerated; take fewer seeds"
        )
    columns_of = {key: _packed(np.concatenate(values)) for key, values in derived.items()}
    seeded = (SEED,) if sweep.seeds > 1 else ()
    return Points(
        kind=forms.kind,
        names=(*(name for axis in axes for name in axis.names), *columns_of, *seeded),
        left_out=left_out,
        _axes=axes,
        _numbers=None if whole else numbers.astype(_smallest(total)),
        _derived=columns_of,
        _seeds=sweep.seeds,
        _seed=sweep.seed,
        _count=len(numbers) * sweep.seeds,
    )


def slow_points(sweep: Sweep, points: Points) -> int:
    """About how many points the closed form of a training step does not know, by a sample of them [1].

    The analytic evaluator takes these one by one through their Programs: 0.05 to 1 s each.
    """
    if points.kind != "training":
        return 0
    forms, slow = forms_of(sweep), 0
    asked = _sampled(len(points), min(len(points), _MOST_ASKED), np.random.default_rng(0)).tolist()
    for position in asked:
        # what is refused takes no time
        with suppress(ScaleoutError):
            slow += bool(uncovered(forms.experiment(points.settings(position))))
    return round(len(points) * slow / len(asked))


def _axes(sweep: Sweep) -> tuple[_Axis, ...]:
    axes = [_Axis(names=(key,), values=(values,)) for key, values in sweep.axes.items()]
    axes += [_Axis(names=tuple(group), values=tuple(group.values())) for group in sweep.zipped]
    for axis in axes:
        rows = [" ".join(map(canonical, row)) for row in zip(*axis.values, strict=True)]
        if len(set(rows)) < len(rows):
            raise SweepError(f"zipped: {', '.join(axis.names)}: the same values are given twice")
    return tuple(axes)


def _drawn(sweep: Sweep, axes: Sequence[_Axis], total: int) -> Ints | None:
    """Numbers of the combinations that are looked at; None: all."""
    if total >= _COUNTABLE:
        raise SweepError(f"sweep: {total:.1e} combinations cannot even be drawn from; {_screen(axes)}")
    if sweep.sample is not None and sweep.sample < total:
        return _sampled(total, sweep.sample, np.random.default_rng(sweep.seed))
    if total > MOST_POINTS:
        raise SweepError(
            f"sweep: {total:,} combinations are more than the {MOST_POINTS:,} that are enumerated; {_screen(axes)}, or "
            "look at some drawn at random first, such as sample: 100000"
        )
    return None


def _screen(axes: Sequence[_Axis]) -> str:
    largest = sorted(axes, key=lambda axis: (-len(axis), axis.names))[:3]
    words = ", ".join(f"{axis.names[0]} {len(axis):,}" for axis in largest)
    return f"largest axes: {words}; take fewer values, have a rule derive a key in place of an axis (fill-dp)"


def _sampled(total: int, count: int, draw: np.random.Generator) -> Ints:
    """So many different numbers below `total`, in order."""
    if total <= MOST_POINTS:
        return np.sort(draw.choice(total, count, replace=False))
    found = np.empty(0, dtype=np.int64)
    while len(found) < count:
        found = np.unique(np.concatenate([found, draw.integers(total, size=count - len(found))]))
    return found


def _chunks(drawn: Ints | None, total: int) -> Iterator[Ints]:
    """Combinations, some at a time."""
    count = total if drawn is None else len(drawn)
    for low in range(0, count, _CHUNK):
        high = min(low + _CHUNK, count)
        yield np.arange(low, high) if drawn is None else drawn[low:high]


def _columns(forms: Forms, axes: Sequence[_Axis], numbers: Ints) -> Columns:
    found: dict[str, Column] = {}
    slower = 1
    for axis in reversed(axes):
        index = numbers // slower % len(axis)
        slower *= len(axis)
        found |= {name: Column(values, index) for name, values in zip(axis.names, axis.values, strict=True)}
    return Columns(forms, found, len(numbers))


def _checked(name: str, found: Any, count: int) -> Bools:
    """What a rule says of which combinations stay."""
    stays = np.asarray(found)
    if stays.dtype != bool or stays.shape != (count,):
        raise SweepError(
            f"rules: {name}: gave {stays.shape} values of type {stays.dtype}; expected true or false of each of the "
            f"{count} combinations, or None"
        )
    return stays


def _packed(values: "np.ndarray[Any, Any]") -> Column:
    """A derived column as its distinct values, and small whole numbers."""
    distinct, index = np.unique(values, return_inverse=True)
    return Column(distinct.tolist(), index.reshape(-1).astype(_smallest(len(distinct))))


def _smallest(count: int) -> Any:
    return np.min_scalar_type(max(count - 1, 0))


def _words(drawn: Ints | None, total: int) -> str:
    if drawn is None:
        return f"the {total:,} combinations" if total > 1 else "the one combination"
    return f"{len(drawn):,} combinations that were drawn of {total:,}"


def _check_stages(sweep: Sweep, kind: str) -> None:
    """Refuse an evaluator that the kind has not, and stages that have nothing to compare."""
    name = sweep.objective or OBJECTIVES[kind][0]
    check_objective(kind, name)
    for at, stage in enumerate(sweep.stages):
        if stage.evaluator == "analytic" and not ANALYTIC[kind]:
            raise SweepError(f"stages.{at}: no analytic evaluator knows experiments of kind {kind}; take event")
        before = sweep.stages[at - 1] if at else None
        if stage.within is not None and before and before.evaluator == "analytic" and name not in ANALYTIC[kind]:
            raise SweepError(
                f"stages.{at}.within: the analytic evaluator does not know {name}, by which points are compared; "
                f"known: {', '.join(sorted(ANALYTIC[kind]))}"
            )


def _check_keys(forms: Forms, axes: Sequence[_Axis]) -> None:
    """Refuse axes that name no key: the first value of each is tried on the base."""
    mistakes = []
    for axis in axes:
        for name, values in zip(axis.names, axis.values, strict=True):
            try:
                forms.experiment({name: values[0]})
            except ScaleoutError as error:
                # that the value does not fit is the affair of the points that have it
                lines = str(error).splitlines()
                found = [line for line in lines if UNKNOWN in line or any(words in line for words in _PLACES)]
                mistakes += [f"axes: {name}: {line.removeprefix(f'{name}: ')}" for line in found]
    if mistakes:
        raise SweepError("\n".join(dict.fromkeys(mistakes)))


def _check_seeds(sweep: Sweep, forms: Forms, axes: Sequence[_Axis]) -> None:
    """Refuse repetitions of what is the same every time."""
    if sweep.seeds == 1:
        if sweep.seed and sweep.sample is None:
            raise SweepError(f"seed: {sweep.seed}: nothing is drawn with it; say how many seeds, or a sample")
        return
    for axis in axes:
        for name in axis.names:
            if name in SEED_KEYS[forms.kind]:
                raise SweepError(f"seeds: {sweep.seeds} of each point, and {name} is an axis; leave out one of them")
    first = {name: values[0] for axis in axes for name, values in zip(axis.names, axis.values, strict=True)}
    tried = [first]
    for axis in axes:
        rows = zip(*axis.values, strict=True)
        tried += [first | dict(zip(axis.names, row, strict=True)) for row in islice(rows, 1, _MOST_TRIED)]
    for settings in tried[:_MOST_TRIED]:
        try:
            if draws(forms.experiment(settings)):
                return
        except ScaleoutError:
            # whether it draws anything is not known
            return
    if len(tried) > _MOST_TRIED:
        return
    raise SweepError(
        f"seeds: {sweep.seeds}: nothing in the base or its axes is drawn at random, so all would be equal; leave it out"
    )
