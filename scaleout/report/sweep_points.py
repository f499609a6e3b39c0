"""The points of a sweep as figures take them: axes that vary, outcomes with their spread, the best of many.

Points that differ by their seed alone are one setting: its value is the mean of them, its range that of all. Where the
error band of a time is known the range is widened by it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import SweepError, near
from scaleout.report.sweep_words import key_words, reason_of, value_words
from scaleout.sweep.outcomes import OUTCOMES, sense_of

if TYPE_CHECKING:
    from scaleout.sweep.results import SweepResults

__all__ = ["MOST_SERIES", "Axis", "Series", "Settings", "Spread", "best_in", "settings_of"]

MOST_SERIES = 8
"""Lines that are told apart by colour and mark; the others are drawn in grey."""
_SEED = "seed"
_BANDED = ("step_time", "tokens_per_second", "mfu", "cost_per_mtoken")
"""Outcomes whose error is that of the time, besides the parts of it."""
_JOB = ("model", "batch.sequence", "requests", "net", "training")
"""How keys begin that say what is to be done, not with what."""
_SAYING = ("system", "model", "precision", "stack", "engine", "system.chip", "facility", "net")
"""Keys whose values say what they are."""
_WIDEST = 0.9
"""Error beyond which a range would leave the page [1]."""


class Axis(NamedTuple):
    """A key that takes several values.

    Parameters
    ----------
    key, words
        Dotted, and in short.
    values
        Numbers upwards, others in the order in which they were given.
    of
        Index of each setting's value.
    own
        False where a rule derives it from the others.
    """

    key: str
    words: str
    values: tuple[Any, ...]
    of: Ints
    own: bool = True

    @property
    def numeric(self) -> bool:
        """Whether all values are numbers."""
        return all(isinstance(one, int | float) and not isinstance(one, bool) for one in self.values)

    @property
    def labels(self) -> tuple[str, ...]:
        """Values in a few letters each."""
        return tuple(value_words(one) for one in self.values)


class Spread(NamedTuple):
    """An outcome of each setting, SI: mean over seeds, and from where to where it is; NaN where there is none."""

    value: Floats
    low: Floats
    high: Floats


class Series(NamedTuple):
    """Which line a setting belongs to.

    Parameters
    ----------
    labels
        Of the lines, the best first; a single "" where there is one alone.
    of
        Line of each setting; -1 among the others.
    others
        Lines that have no name.
    """

    labels: tuple[str, ...]
    of: Ints
    others: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Settings:
    """Points of a sweep without their seeds.

    Parameters
    ----------
    results
        Where they are from.
    axes
        Keys that take several values, the seed apart.
    of
        Setting of each row.
    rows
        First row of each setting.
    done
        Rows that have outcomes of the last stage: a bound is no rival of what was simulated.
    screened
        Rows that have outcomes of an earlier stage, as later ones did not take them.
    """

    results: "SweepResults"
    axes: tuple[Axis, ...]
    of: Ints
    rows: Ints
    done: Bools
    screened: Bools

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def kind(self) -> str:
        """Of the experiment."""
        return self.results.kind

    @property
    def name(self) -> str:
        """Of the sweep."""
        return self.results.name

    @property
    def objective(self) -> str:
        """Outcome that says which point is the best."""
        return self.results.objective

    @property
    def ranges(self) -> str:
        """What ranges of outcomes hold, in words; "" where there is nothing to range over."""
        error = ["error band of the simulated time"] * ("error" in self.results.outcomes)
        return " and ".join([*error, *["range of seeds"] * (len(self) < len(self.results))])

    @property
    def chips(self) -> Floats:
        """Of each setting [1]; NaN where it is not known."""
        if "chips" in self.results.keys:
            return np.asarray(self.results.column("chips")[self.rows], dtype=float)
        return self.spread("chips").value if self.has("chips") else np.full(len(self), np.nan)

    @property
    def own(self) -> tuple[Axis, ...]:
        """Axes of the sweep itself, without what rules derive from them."""
        return tuple(axis for axis in self.axes if axis.own)

    def axis(self, key: str) -> Axis:
        """An axis by its key, or by the last part of it.

        Raises
        ------
        SweepError
            There is none, or it takes one value.
        """
        known = {axis.key: axis for axis in self.axes}
        found = [axis for name, axis in known.items() if key in (name, axis.words)]
        if len(found) == 1:
            return found[0]
        if key in self.results.keys:
            if key == _SEED:
                raise SweepError(f"{key}: seeds are drawn as a spread, not as an axis; {near('', known)}")
            raise SweepError(f"{key}: takes one value in sweep {self.name!r}; {_varied(known)}")
        raise SweepError(f"{key!r:.60} is no axis of sweep {self.name!r}; {near(key, known)}")

    @property
    def made(self) -> str:
        """What a title says of points that nobody simulated."""
        evaluators = set(self.results.column("evaluator")[self.done].tolist())
        return ", in closed form" if evaluators == {"analytic"} else ""

    def outcome(self, name: str) -> str:
        """The name, where there is such an outcome, in numbers.

        Raises
        ------
        SweepError
            There is none.
        """
        if name not in self.results.outcomes:
            other = next((kind for kind, names in OUTCOMES.items() if name in names and kind != self.kind), None)
            numbers = self.numbers()
            if name in OUTCOMES.get(self.kind, {}):
                why = "the analytic evaluator leaves it out, a stage with evaluator 'event' knows it" * bool(self.made)
                raise SweepError(
                    f"{name}: no point of sweep {self.name!r} has it{'; ' if why else ''}{why}; there are "
                    f"{', '.join(numbers)}"
                )
            if other is not None:
                raise SweepError(f"{name}: is of {other}; sweep {self.name!r} is of {self.kind}: {', '.join(numbers)}")
            raise SweepError(f"{name!r:.60} is no outcome of sweep {self.name!r}; {near(name, numbers)}")
        if not self._is_number(name):
            raise SweepError(f"{name}: is text, which has no place on an axis; {near('', self.numbers())}")
        return name

    def numbers(self) -> list[str]:
        """Outcomes that some point has as numbers, in their order."""
        return [name for name in self.results.outcomes if self._is_number(name)]

    def _is_number(self, name: str) -> bool:
        column = self.results.column(name)
        return column.dtype.kind in "fiu" and bool(np.isfinite(column[self.done]).any())

    def has(self, *names: str) -> bool:
        """Whether there are numbers of all these outcomes."""
        return all(name in self.results.outcomes and self._is_number(name) for name in names)

    def least(self, name: str) -> bool:
        """Whether less of an outcome is better."""
        return sense_of(self.kind, name) == "least"

    def spread(self, name: str) -> Spread:
        """An outcome of each setting, with the range of its seeds and the error band of its time."""
        column = np.asarray(self.results.column(name), dtype=float)
        low = high = column
        if "error" in self.results.outcomes and (name in _BANDED or name.startswith("time.")):
            error = np.clip(np.nan_to_num(np.asarray(self.results.column("error"), dtype=float)), 0.0, _WIDEST)
            if self.least(name):
                low, high = column * (1.0 - error), column * (1.0 + error)
            else:
                low, high = column / (1.0 + error), column / (1.0 - error)
        taken = self.done & np.isfinite(column)
        counts = np.maximum(np.bincount(self.of[taken], minlength=len(self)), 1)
        return Spread(
            _merged(np.add, column, self.of, taken, len(self)) / counts,
            _merged(np.minimum, low, self.of, taken, len(self)),
            _merged(np.maximum, high, self.of, taken, len(self)),
        )

    def bound(self, name: str) -> Floats:
        """An outcome of each setting that was screened out, by the stage that last took it, SI; NaN of all others."""
        column = np.asarray(self.results.column(name), dtype=float)
        return _merged(np.minimum if self.least(name) else np.maximum, column, self.of, self.screened, len(self))

    def text(self, name: str) -> list[str]:
        """An outcome in words, of the first point of each setting."""
        return [str(one) for one in self.results.column(name)[self.rows]]

    def reasons(self) -> list[str]:
        """Why a setting has no outcomes; "" where it has."""
        has = np.bincount(self.of[self.done], minlength=len(self)) > 0
        status, problem = self.results.column("status"), self.results.column("problem")
        return [
            "" if fine else reason_of(status[row], problem[row] or "")
            for fine, row in zip(has.tolist(), self.rows.tolist(), strict=True)
        ]

    def words(self, setting: int, axes: Sequence[Axis] | None = None) -> str:
        """What a setting is, by the axes that vary, such as "tp 8, pp 2"."""
        parts = []
        # of what rules derive numbers are told, as dp, not whether sequence parallelism is on
        for axis in [one for one in self.axes if one.own or one.numeric] if axes is None else axes:
            value = axis.values[axis.of[setting]]
            words = value_words(value)
            parts.append(words if axis.key in _SAYING else f"{axis.words} {words}")
        return ", ".join(parts)

    def series(self, axes: Sequence[Axis], worth: Floats, *, least: bool, most: int = MOST_SERIES) -> Series:
        """Lines by the values of some axes; of too many those keep their names that reach the best values."""
        if not axes:
            return Series(("",), np.zeros(len(self), dtype=np.int64))
        codes = _joined(axes)
        _, first, of = np.unique(codes, return_index=True, return_inverse=True)
        best = best_in(of, worth, len(first), least=least)
        with_any = np.flatnonzero(best >= 0)
        if len(with_any) <= most:
            chosen = with_any
        else:
            order = np.argsort(worth[best[with_any]] * (1.0 if least else -1.0), kind="stable")
            chosen = with_any[order[:most]]
        # in the order of the axes' values, which readers know
        chosen = np.sort(chosen)
        place = np.full(len(first), -1, dtype=np.int64)
        place[chosen] = np.arange(len(chosen))
        labels = tuple(self.words(int(first[one]), axes) for one in chosen)
        return Series(labels, place[of], len(with_any) - len(chosen))

    def jobs(self, *, also: Sequence[str] = (), most: int = MOST_SERIES) -> list[Axis]:
        """Axes that make another job, of which none is better than another; and more of them while lines are few."""
        found = [axis for axis in self.own if axis.key.startswith(_JOB) and not axis.key.endswith("rate")]
        count = int(np.prod([len(axis.values) for axis in found], dtype=float))
        for axis in self.own:
            if axis not in found and axis.key in also and count * len(axis.values) <= most:
                found.append(axis)
                count *= len(axis.values)
        return found

    def strength(self, axis: Axis, worth: Floats, *, least: bool) -> float:
        """How much worse the worst value of an axis is than its best, the others at their best [1]."""
        best = best_in(axis.of, worth, len(axis.values), least=least)
        found = np.abs(worth[best[best >= 0]])
        return float(found.max() / found.min()) if found.size and found.min() > 0.0 else 1.0


def settings_of(results: "SweepResults") -> Settings:
    """What figures are drawn of.

    Raises
    ------
    SweepError
        No point has an outcome.
    """
    status, stage = np.asarray(results.column("status")), np.asarray(results.column("stage"))
    if not len(results):
        raise SweepError(f"sweep {results.name!r}: none of its points has been computed yet")
    found, last = np.asarray(status == "done", dtype=bool), stage == stage.max()
    done = np.asarray(found & last, dtype=bool)
    if not done.any():
        raise _nothing(results)
    coded = [(key, *_coded(results.column(key))) for key in results.keys if key != _SEED]
    varied = [(key, values, of) for key, values, of in coded if len(values) > 1]
    names = [key for key, _, _ in varied]
    asked = {*results.sweep.axes, *(key for group in results.sweep.zipped for key in group)}
    rows = [Axis(key, key_words(key, names), values, of, key in asked) for key, values, of in varied]
    codes = _joined(rows) if rows else np.zeros(len(results), dtype=np.int64)
    _, first, of = np.unique(codes, return_index=True, return_inverse=True)
    # settings in the order of their first points
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    first = first[order]
    axes = tuple(axis._replace(of=axis.of[first]) for axis in rows)
    return Settings(results, axes, rank[of], first, done, np.asarray(found & ~last, dtype=bool))


def _nothing(results: "SweepResults") -> SweepError:
    """Why there is nothing to draw."""
    texts = [str(text or "") for text in results.column("problem")]
    whys = [reason_of(state, text) for state, text in zip(results.column("status"), texts, strict=True)]
    common = Counter(whys).most_common(1)[0][0]
    first = texts[whys.index(common)].splitlines() or [""]
    return SweepError(
        f"sweep {results.name!r}: none of its {len(results):,} points can be simulated; the commonest reason is "
        f"{common!r}: {first[0]}"
    )


def _coded(column: Any) -> tuple[tuple[Any, ...], Ints]:
    """Distinct values of a column, and which one each row has."""
    column = np.asarray(column)
    if column.dtype.kind in "fiu":
        values, of = np.unique(column, return_inverse=True)
        return tuple(int(one) if one == np.floor(one) else one for one in values.tolist()), of.astype(np.int64)
    seen: dict[Any, int] = {}
    kept: list[Any] = []
    of = np.empty(len(column), dtype=np.int64)
    for at, value in enumerate(column.tolist()):
        simple = isinstance(value, str | int | float | bool | None)
        name = (type(value), value) if simple else json.dumps(value, sort_keys=True, default=str)
        if name not in seen:
            seen[name] = len(kept)
            kept.append(value)
        of[at] = seen[name]
    if all(isinstance(one, int | float) and not isinstance(one, bool) for one in kept):
        order = np.array(sorted(range(len(kept)), key=kept.__getitem__))
        place = np.empty(len(order), dtype=np.int64)
        place[order] = np.arange(len(order))
        return tuple(kept[at] for at in order), place[of]
    return tuple(kept), of


def _joined(axes: Sequence[Axis]) -> Ints:
    """One number for each combination of values."""
    codes = axes[0].of
    for axis in axes[1:]:
        codes = np.unique(codes, return_inverse=True)[1] * len(axis.values) + axis.of
    return codes


def _merged(how: np.ufunc, column: Floats, of: Ints, taken: Bools, count: int) -> Floats:
    """A column by setting; NaN where nothing was taken."""
    found = np.full(count, np.nan)
    rows = np.flatnonzero(taken)
    if rows.size:
        rows = rows[np.argsort(of[rows], kind="stable")]
        settings, starts = np.unique(of[rows], return_index=True)
        found[settings] = how.reduceat(column[rows], starts)
    return found


def best_in(of: Ints, worth: Floats, count: int, *, least: bool) -> Ints:
    """The best of each of `count` groups, the first of equals; -1 where a group has none."""
    found = np.full(count, -1, dtype=np.int64)
    rows = np.flatnonzero(np.isfinite(worth) & (of >= 0))
    if rows.size:
        rows = rows[np.lexsort((rows, worth[rows] * (1.0 if least else -1.0), of[rows]))]
        groups, starts = np.unique(of[rows], return_index=True)
        found[groups] = rows[starts]
    return found


def _varied(known: dict[str, Axis]) -> str:
    return f"these take several: {', '.join(known)}" if known else "no key takes several"
