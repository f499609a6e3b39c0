"""What came out of a sweep: a table of columns, one row a point, read from a store."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from scaleout.arrays import Bools, Floats, Ints
from scaleout.errors import SweepError, near
from scaleout.sweep.identity import sweep_of
from scaleout.sweep.outcomes import OBJECTIVES, OUTCOMES, sense_of
from scaleout.sweep.schema import in_words
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store, StoredSweep

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FORMAT", "Column", "SweepResults", "plain_values", "results_from", "results_of"]

FORMAT = 1
"""Version of the JSON form."""
Column = npt.NDArray[Any]
_Parts = dict[str, list[tuple[int, Column]]]
_FRONT = {"position": np.int64}
_BACK = {"stage": np.int64, "evaluator": object, "status": object, "problem": object}
"""Columns before and after those of the keys."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SweepResults:
    """A table with a row for each point that was computed, in the order of the points.

    Parameters
    ----------
    stored
        The sweep as the store has it.
    sweep
        The sweep itself.
    keys
        Keys of the experiment that points set: axes and what goes with them, what rules derive, the seed.
    outcomes
        Names of what came out; units are those of `unit`. A key of the same name goes before an outcome.
    columns
        By name, in their order: "position" (of the point in the sweep, from 0), the keys, "stage" (from 0, the last
        one that computed the point), "evaluator", "status" ("done"; "infeasible": the experiment refuses; "failed"),
        "problem" (the error's message, None where there is none), the outcomes. Numbers as int64 or, with NaN where
        there is none, float64; what is not numbers alone as objects, with None. Values with parts are JSON text.
    missing
        Points that have yet to be computed, or be computed by the last stage that takes them [1].
    """

    stored: StoredSweep
    sweep: Sweep
    keys: tuple[str, ...]
    outcomes: tuple[str, ...]
    columns: Mapping[str, Column]
    missing: int

    def __len__(self) -> int:
        return len(self.columns["position"])

    @property
    def name(self) -> str:
        """What the sweep is called."""
        return self.stored.name

    @property
    def kind(self) -> str:
        """The kind of experiment: training, serving, inference or stream."""
        return self.stored.kind

    @property
    def objective(self) -> str:
        """The outcome that says which point is the best."""
        return self.sweep.objective or OBJECTIVES[self.kind][0]

    def column(self, name: str) -> Column:
        """One column, read only.

        Raises
        ------
        SweepError
            There is none of this name.
        """
        if name not in self.columns:
            raise SweepError(f"sweep {self.name!r} has no column {name[:80]!r}; {near(name, self.columns)}")
        return self.columns[name]

    def unit(self, name: str) -> str:
        """The unit of a column; "" where it has none, or is as the experiment gives it."""
        return "" if name in self.keys else OUTCOMES.get(self.kind, {}).get(name, "")

    def row(self, row: int) -> dict[str, Any]:
        """One row, plain values by name; None where there is no value."""
        return {name: plain_values(column[row : row + 1])[0] for name, column in self.columns.items()}

    @property
    def best(self) -> int | None:
        """The row of the best objective, of equals the first; None where no row has one.

        Of several stages only rows of the last are compared: a bound is no rival of what was simulated. Of several
        seeds their mean is: the best draw of all is luck.
        """
        return next(iter(self.ranked().tolist()), None)

    def ranked(self) -> Ints:
        """Rows that have the objective and are compared, as for `best`, the best first, of equals the first first."""
        if self.objective not in self.columns or self.columns[self.objective].dtype.kind not in "if":
            return np.empty(0, dtype=np.int64)
        costs = self.over_seeds(self._costs(self.objective))
        order: Ints = np.argsort(costs, kind="stable")
        return order[: np.count_nonzero(~np.isnan(costs))]

    def pareto(self, names: Sequence[str]) -> list[int]:
        """Rows, in their order, that no other row equals or beats in all of some outcomes; of equal rows the first.

        Rows are compared as for `best`.

        Raises
        ------
        SweepError
            A name is no outcome of numbers.
        """
        costs = np.stack([self._costs(name) for name in names], axis=1)
        rows = np.flatnonzero(~np.isnan(costs).any(axis=1))
        # no row comes before one that beats it
        rows = rows[np.lexsort((rows, *costs[rows].T[::-1]))]
        front = []
        while rows.size:
            front.append(int(rows[0]))
            rows = rows[(costs[rows] < costs[rows[0]]).any(axis=1)]
        return sorted(front)

    def over_seeds(self, values: Floats) -> Floats:
        """In each row that has a value the mean of those that differ from it by their seed alone."""
        if self.sweep.seeds == 1:
            return values
        _, setting = np.unique(self.columns["position"] // self.sweep.seeds, return_inverse=True)
        known = ~np.isnan(values)
        total = np.bincount(setting[known], values[known], minlength=len(values))
        many = np.bincount(setting[known], minlength=len(values))
        return np.where(known, (total / np.maximum(many, 1))[setting], np.nan)

    def _costs(self, name: str) -> Floats:
        """A column as what is to be least; NaN in rows that cannot be compared."""
        column = self.column(name)
        if column.dtype.kind not in "if":
            raise SweepError(f"{name!r} is not a column of numbers, so that no row is the best by it")
        values = column.astype(np.float64)
        return np.where(self.compared, -values if sense_of(self.kind, name) == "most" else values, np.nan)

    @property
    def compared(self) -> Bools:
        """Rows with outcomes of the last stage that took any: those of which the best is one."""
        stage = self.columns["stage"]
        compared: Bools = (self.columns["status"] == "done") & (stage == stage.max(initial=0))
        return compared

    def to_frame(self) -> "pd.DataFrame":
        """The table as a frame of pandas.

        Raises
        ------
        SweepError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise SweepError("a frame needs pandas: pip install 'scaleout[tables]'") from None
        return pd.DataFrame(dict(self.columns))

    def to_dict(self) -> dict[str, Any]:
        """Plain values only, SI units, ``format`` first; rows are lists in the order of the columns."""
        columns = [plain_values(column) for column in self.columns.values()]
        return {**self.head(), "rows": [list(row) for row in zip(*columns, strict=True)]}

    def head(self) -> dict[str, Any]:
        """As `to_dict`, without the rows."""
        stored = self.stored
        known = {"name": stored.name, "kind": stored.kind, "points": stored.points, "missing": self.missing}
        made = {"code": stored.code, "catalogue": stored.catalogue, "context": stored.context}
        return {
            "format": FORMAT,
            "sweep": {**known, "objective": self.objective, **made, "spec": stored.spec},
            "columns": [{"name": name, "unit": self.unit(name)} for name in self.columns],
        }

    def to_json(self) -> str:
        """`to_dict` as compact JSON."""
        from scaleout.sweep.export import json_pieces

        return "".join(json_pieces(self))

    def export(self, path: str | Path) -> Path:
        """Write the table as ``.parquet``, ``.csv`` or ``.json``; see `scaleout.sweep.export`.

        Raises
        ------
        SweepError
            Another ending, no such folder, pyarrow is not installed, or the file cannot be written.
        """
        from scaleout.sweep.export import export

        return export(self, path)


def results_of(folder: str | Path, sweep: int | str | None = None) -> SweepResults:
    """The table of a sweep in a store.

    Parameters
    ----------
    sweep
        Its name (of several the latest) or number; None for the latest of all.

    Raises
    ------
    SweepError
        There is no store, or no such sweep in it.
    """
    with Store.open(Path(folder), write=False) as store:
        return results_from(store, sweep)


def results_from(store: Store, sweep: int | str | None = None) -> SweepResults:
    """As `results_of`, from a store that is open."""
    stored = store.sweep(sweep)
    table = _Table()
    with in_words(store.path), store.snapshot():
        for batch in store.batches(stored.number):
            table.take(batch)
        missing = store.missing(stored.number)
    plain, settings, found = (table.columns(parts) for parts in (table.plain, table.settings, table.found))
    spec = sweep_of(stored.spec)
    asked = [*spec.axes, *(key for group in spec.zipped for key in group)]
    keys = tuple(_in_order(settings, [key for key in asked if key != "seed"], last="seed"))
    outcomes = tuple(name for name in _in_order(found, OUTCOMES.get(stored.kind, {})) if name not in keys)
    columns = {name: plain.get(name, np.empty(0, dtype=kind)) for name, kind in _FRONT.items()}
    columns |= {key: settings[key] for key in keys}
    columns |= {name: plain.get(name, np.empty(0, dtype=kind)) for name, kind in _BACK.items()}
    # a whole number is one by chance: a point that was not simulated would make all of its column floats
    columns |= {name: found[name] * 1.0 if found[name].dtype.kind == "i" else found[name] for name in outcomes}
    for column in columns.values():
        column.setflags(write=False)
    return SweepResults(
        stored=stored,
        sweep=spec,
        keys=keys,
        outcomes=outcomes,
        columns=columns,
        missing=missing,
    )


def _in_order(names: Iterable[str], first: Iterable[str], last: str | None = None) -> list[str]:
    """Names that are there: some first and one last, the others between, sorted."""
    there = set(names)
    front = [name for name in first if name in there]
    rest = sorted(there - set(front) - {last})
    return [*front, *rest, *([last] if last in there else [])]


class _Table:
    """Rows of a store, taken a batch at a time; a column is where its parts begin, and the parts."""

    def __init__(self) -> None:
        self.length = 0
        self.plain: _Parts = {}
        self.settings: _Parts = {}
        self.found: _Parts = {}
        self._same: dict[Any, Any] = {}

    def take(self, batch: Sequence[tuple[Any, ...]]) -> None:
        positions, stages, evaluators, texts, statuses, outcomes = zip(*batch, strict=True)
        # one text parses several times faster than its parts do
        settings, found = (json.loads(f"[{','.join(column)}]") for column in (texts, outcomes))
        problems = [None if type(one) is dict else one for one in found]
        plain = (positions, stages, evaluators, statuses, problems)
        for name, values in zip(("position", "stage", "evaluator", "status", "problem"), plain, strict=True):
            self.plain.setdefault(name, []).append((self.length, self._array(values, empty=object)))
        for columns, rows in ((self.settings, settings), (self.found, found)):
            dicts = [one if type(one) is dict else {} for one in rows]
            forms = dict.fromkeys(map(tuple, dicts))
            for name in dict.fromkeys(name for form in forms for name in form):
                values = [one.get(name) for one in dicts]
                columns.setdefault(name, []).append((self.length, self._array(values)))
        self.length += len(batch)

    def _array(self, values: Sequence[Any], empty: type = float) -> Column:
        kinds = set(map(type, values))
        if kinds == {int}:
            with suppress(OverflowError):
                return np.array(values, dtype=np.int64)
        if kinds <= ({int, float, NoneType} if empty is float else {int, float}):
            with suppress(OverflowError):
                return np.array(values, dtype=np.float64)
        if kinds & {dict, list}:
            values = [_flat(value) for value in values]
        if kinds <= {str, NoneType, dict, list}:
            # equal texts are one object: a table of a million rows has few of them
            values = [self._same.setdefault(value, value) for value in values]
        made = np.empty(len(values), dtype=object)
        made[:] = values
        return made

    def columns(self, parts: _Parts) -> dict[str, Column]:
        """The columns of full length, NaN or None where no part is."""
        return {name: self._joined(some) for name, some in parts.items()}

    def _joined(self, parts: Sequence[tuple[int, Column]]) -> Column:
        kinds = {part.dtype for _, part in parts}
        whole = sum(len(part) for _, part in parts) == self.length
        if len(kinds) == 1 and whole:
            return np.concatenate([part for _, part in parts])
        mixed = np.dtype(object) in kinds
        made: Column = np.full(self.length, None if mixed else np.nan, dtype=object if mixed else np.float64)
        for start, part in parts:
            made[start : start + len(part)] = plain_values(part) if mixed else part
        return made


def _flat(value: Any) -> Any:
    """A value with parts as compact JSON text."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False) if isinstance(value, dict | list) else value


def plain_values(column: Column) -> list[Any]:
    """Values of a column, None where there is none."""
    values: list[Any] = column.tolist()
    return [None if value != value else value for value in values] if column.dtype.kind == "f" else values
