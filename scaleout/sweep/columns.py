"""Points as columns: what a rule sees of many combinations at once."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scaleout.arrays import Bools, Ints
from scaleout.errors import ScaleoutError, SweepError
from scaleout.sweep.build import Forms
from scaleout.sweep.divide import CONTEXTS, DEGREES, Ground, refusals
from scaleout.sweep.spec import thawed

__all__ = ["Column", "Columns"]

_GROUND = ("system", "model", "stack", "compress")
_LARGEST = 10**12


class Column:
    """A key of points: its distinct values, and which of them each point has.

    Parameters
    ----------
    values
        As a file would give them.
    index
        Place in `values`. Shape (points,).
    """

    __slots__ = ("index", "values")

    def __init__(self, values: Sequence[Any], index: Ints) -> None:
        self.values, self.index = values, index


class Columns:
    """Some combinations of a sweep's values, for a rule.

    ``columns.whole(key)`` gives whole numbers and ``columns.of(key)`` any values, one for each combination: from an
    axis, from a rule before, or from the base. ``columns.derive(key, values)`` sets a key. A rule returns which
    combinations stay, an array of booleans, or None for all.
    """

    def __init__(self, forms: Forms, columns: Mapping[str, Column], count: int) -> None:
        self._forms, self._count = forms, count
        self._columns = dict(columns)
        self.derived: dict[str, np.ndarray[Any, Any]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def kind(self) -> str:
        """Of the base: "training", "serving", "inference" or "stream"."""
        return self._forms.kind

    def column(self, key: str, default: Any = None) -> Column:
        """Distinct values of a key, and which of them each combination has."""
        if key in self.derived:
            values, index = np.unique(self.derived[key], return_inverse=True)
            return Column(values.tolist(), index.reshape(-1))
        if key in self._columns:
            return self._columns[key]
        # the longest key that this one is inside of
        steps = key.split(".")
        for depth in range(len(steps) - 1, 0, -1):
            outer = self._columns.get(".".join(steps[:depth]))
            if outer is not None:
                return Column([_inside(value, steps[depth:], default) for value in outer.values], outer.index)
        return Column([self._forms.value(key, default)], np.zeros(self._count, dtype=np.int64))

    def of(self, key: str, default: Any = None) -> "np.ndarray[Any, Any]":
        """A key's value of each combination; an array of objects where they are no numbers."""
        column = self.column(key, default)
        kinds = {type(value) for value in column.values}
        if kinds <= {int, float} or kinds == {bool}:
            return np.array(column.values)[column.index]
        values = np.empty(len(column.values), dtype=object)
        for at, value in enumerate(column.values):
            values[at] = thawed(value)
        found: np.ndarray[Any, Any] = values[column.index]
        return found

    def whole(self, key: str, default: int | None = None) -> Ints:
        """A key's whole number of each combination [1].

        Raises
        ------
        SweepError
            Neither an axis nor the base has it, or it is none.
        """
        column = self.column(key, default)
        for value in column.values:
            if value is None:
                raise SweepError(f"{key}: is neither an axis nor in the base, and a rule asks for it")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= _LARGEST:
                raise SweepError(f"{key}: {value!r:.40} is no whole number above 0, and a rule counts with it")
        return np.array(column.values, dtype=np.int64)[column.index]

    def truth(self, key: str, default: bool = False) -> Bools:
        """A key's true or false of each combination."""
        column = self.column(key, default)
        return np.array([value is True for value in column.values], dtype=bool)[column.index]

    def derive(self, key: str, values: "np.ndarray[Any, Any]") -> None:
        """Set a key of each combination.

        Raises
        ------
        SweepError
            It is an axis, inside of one, has another length, or a value is none that a file could give.
        """
        values = np.asarray(values)
        steps = key.split(".")
        outer = next(
            (one for one in (".".join(steps[:n]) for n in range(len(steps), 0, -1)) if one in self._columns), None
        )
        if outer is not None:
            raise SweepError(f"{key}: a rule derives it, and {outer} is an axis; leave out one of them")
        if values.shape != (self._count,) or values.dtype.kind not in "iubfU":
            raise SweepError(
                f"{key}: a rule derives {values.shape} values of type {values.dtype} for {self._count} combinations"
            )
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise SweepError(f"{key}: a rule derives what is no number")
        self.derived[key] = values

    def base_pool_chips(self) -> int:
        """Chips of the first pool of a base that serves [1]."""
        pool = {name: self._forms.value(f"pools.0.{name}", 1) for name in ("replicas", "tp", "pp", "dp")}
        if not all(isinstance(one, int) for one in pool.values()):
            raise SweepError("pools.0: the base does not say how many chips it has")
        return int(pool["replicas"] * pool["tp"] * pool["pp"] * pool["dp"])

    def grounds(self) -> tuple[list[Ground | None], Ints]:
        """Systems, models and stacks, and which of them each combination has; None where they cannot be made."""
        keys = [key for key in self._columns if key.partition(".")[0] in _GROUND]
        code = np.zeros(self._count, dtype=np.int64)
        for key in keys:
            column = self._columns[key]
            _, code = np.unique(code * len(column.values) + column.index, return_inverse=True)
        _, first, index = np.unique(code, return_index=True, return_inverse=True)
        found: list[Ground | None] = []
        for at in first.tolist():
            settings = {key: self._columns[key].values[self._columns[key].index[at]] for key in keys}
            found.append(self._ground(settings))
        return found, index.reshape(-1)

    def _ground(self, settings: Mapping[str, Any]) -> Ground | None:
        try:
            data = self._forms.mapping(settings)
        except ScaleoutError:
            return None
        found = Ground(data.get("model"), data.get("system"), data.get("stack"))  # type: ignore[arg-type]
        return None if any(isinstance(one, dict | None) for one in found) else found

    def on_grounds(self, each: Callable[[Ground], int]) -> Ints:
        """A number of each combination's system, model and stack; 0 where they cannot be made."""
        grounds, index = self.grounds()
        return np.array([each(one) if one is not None else 0 for one in grounds], dtype=np.int64)[index]

    def refusals(self) -> Ints:
        """Number of the first sentence against each layout (`scaleout.sweep.divide`), 0 where there is none."""
        at = {name: self.whole(key, default) for name, (key, default) in DEGREES.items()}
        at["shard"] = self.whole("layout.shard") if self._any("layout.shard") else np.zeros(self._count, dtype=np.int64)
        contexts = self.column("layout.context", "ring")
        places = [CONTEXTS.index(one) if one in CONTEXTS else 0 for one in contexts.values]
        at["context"] = np.array(places, dtype=np.int64)[contexts.index]
        at["sequence_parallel"] = self.truth("layout.sequence_parallel").astype(np.int64)
        grounds, index = self.grounds()
        found = np.zeros(self._count, dtype=np.int64)
        for number, ground in enumerate(grounds):
            mine = np.flatnonzero(index == number)
            if ground is not None:
                # what cannot be made is the point's own affair, when it is evaluated
                found[mine] = refusals(ground, {name: column[mine] for name, column in at.items()})
        return found

    def _any(self, key: str) -> bool:
        return any(value is not None for value in self.column(key).values)


def _inside(value: Any, steps: Sequence[str], default: Any) -> Any:
    """What a value has at a path inside of it."""
    for step in steps:
        if isinstance(value, Mapping) and step in value:
            value = value[step]
        elif isinstance(value, list | tuple) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return default
    return value
