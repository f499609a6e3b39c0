"""Results of sweeps that were never run: every combination of some values, and outcomes that a test makes up."""

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from scaleout.sweep.outcomes import OUTCOMES
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import StoredSweep

Made = Mapping[str, Any] | str
"""Outcomes of a point, or why it has none."""


def made_up(
    kind: str,
    axes: Mapping[str, Sequence[Any]],
    outcomes: Callable[[dict[str, Any]], Made],
    *,
    derived: Callable[[dict[str, Any]], dict[str, Any]] = lambda settings: {},
    seeds: int = 1,
    name: str = "made-up",
    base: Any = "llama-3.1-8b-1k",
    objective: str | None = None,
    stage: Callable[[dict[str, Any]], int] = lambda settings: 0,
) -> SweepResults:
    rows, found = [], []
    for values in itertools.product(*axes.values(), *([range(seeds)] if seeds > 1 else [])):
        settings = dict(zip(axes, values, strict=False))
        settings |= derived(settings) | ({"seed": values[-1]} if seeds > 1 else {})
        rows.append(settings)
        found.append(outcomes(settings))
    keys = tuple(rows[0]) if rows else ()
    names = [name for name in OUTCOMES[kind] if any(not isinstance(one, str) and name in one for one in found)]
    names = [name for name in names if name not in keys]
    columns: dict[str, Any] = {"position": np.arange(len(rows))}
    columns |= {key: column([row[key] for row in rows]) for key in keys}
    columns["stage"] = np.array([stage(row) for row in rows], dtype=np.int64)
    columns["evaluator"] = objects(["event"] * len(rows))
    columns["status"] = objects(["infeasible" if isinstance(one, str) else "done" for one in found])
    columns["problem"] = objects([one if isinstance(one, str) else None for one in found])
    for outcome in names:
        columns[outcome] = column([None if isinstance(one, str) else one.get(outcome) for one in found])
    taken = {key: tuple(values) for key, values in axes.items()}
    sweep = Sweep(base=base, axes=taken, seeds=seeds, name=name, objective=objective)
    stored = StoredSweep(1, name, kind, {}, "", "", "", len(rows))
    return SweepResults(stored=stored, sweep=sweep, keys=keys, outcomes=tuple(names), columns=columns, missing=0)


def column(values: list[Any]) -> Any:
    if all(isinstance(one, int) and not isinstance(one, bool) for one in values):
        return np.array(values)
    if all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in values):
        return np.array([np.nan if one is None else one for one in values], dtype=float)
    return objects([json.dumps(one) if isinstance(one, dict | list) else one for one in values])


def objects(values: list[Any]) -> Any:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
