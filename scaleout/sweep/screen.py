"""Training steps in closed form, many at a time: layouts of one experiment go through its recurrence together.

Points that differ in their layout and batch alone form a group: its model, system and stack are made once, and
`scaleout.space.design_space` takes the rest as arrays. What its recurrence does not know is left to be evaluated by
itself. Numbers do not depend on which points come together: of few the recurrence runs plain, of many compiled, on
the same integers.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from scaleout.arrays import Floats, Ints
from scaleout.collectives.places import railed
from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import ScaleoutError
from scaleout.evaluate.analytic import analyse, given, refuse_slow
from scaleout.hardware.formats import format_of
from scaleout.io.catalogue import validate
from scaleout.models import training_flops
from scaleout.space import PARTS as COLUMNS
from scaleout.space import PROBLEMS, design_space
from scaleout.specs import TrainingExperiment
from scaleout.specs.experiment import LARGEST_MACHINE
from scaleout.sweep.build import Forms
from scaleout.sweep.divide import Ground, refusals, refused
from scaleout.sweep.outcomes import ALWAYS, PARTS, Outcome, parts_of
from scaleout.sweep.spec import canonical
from scaleout.training.memory import check_fits
from scaleout.training.missing import uncovered
from scaleout.training.mixed import mean_peak, seats

__all__ = ["FEW", "one_step", "screen"]

_WHOLE = {
    "layout.tp": ("tp", 1, LARGEST_MACHINE), "layout.pp": ("pp", 1, LARGEST_MACHINE),
    "layout.dp": ("dp", 1, LARGEST_MACHINE), "layout.vpp": ("vpp", 1, LARGEST_MACHINE),
    "layout.zero": ("zero", 0, 1), "batch.global": ("batch", 1, 2**31), "batch.micro": ("micro", 1, LARGEST_MACHINE),
    "chips": ("chips", 1, LARGEST_MACHINE),
}  # fmt: skip
"""Keys that are taken as arrays: column, least and most."""
_SPLIT = "layout.sequence_parallel"
_DEFAULTS = {"layout.tp": 1, "layout.pp": 1, "layout.dp": 1, "layout.vpp": 1, "layout.zero": 0, "batch.micro": 1}
FEW = 16
"""Points for which nothing is compiled."""
_MOST_GROUPS = 1024
_FITS, _FITS_NOT = PROBLEMS.index(""), PROBLEMS.index("does not fit in HBM")


class _Group(NamedTuple):
    """What points have in common: an experiment on one chip, and what they have where they say nothing.

    `railed`: on a machine whose wires are counted in closed form, which `design_space` needs.
    """

    spec: TrainingExperiment
    default: Mapping[str, Any]
    railed: bool


def screen(forms: Forms, points: Sequence[Mapping[str, Any]]) -> list[Outcome | None]:
    """Outcomes of points, in their order; None of those that are to be evaluated one by one."""
    found: list[Outcome | None] = [None] * len(points)
    ready = []
    for rest, mine in _grouped(points):
        group = _group(forms, rest)
        if group is not None:
            ready.append((group, mine, *_columns(group, [points[at] for at in mine])))
    few = sum(int(usable.sum()) for _, _, _, usable in ready) <= FEW
    for group, mine, at, usable in ready:
        rows = np.array(mine)[usable].tolist()
        try:
            outcomes = _rows(group, at, few)
        except Exception as error:
            # one point by itself says what is wrong, and does not take others with it
            if isinstance(error, MemoryError):
                raise
            continue
        for place, row in zip(rows, outcomes, strict=True):
            found[place] = row
    return found


def one_step(spec: TrainingExperiment, compiled: bool = False) -> dict[str, Any]:
    """Outcomes of a training experiment by the analytic evaluator.

    Parameters
    ----------
    compiled
        Quicker, with the same numbers, after some seconds to start.

    Raises
    ------
    ScaleoutError
        It does not fit, or the evaluator does not know it.
    """
    analysis = analyse(spec, compiled=compiled)
    check_fits(spec, analysis.peaks, advise=False)
    rooms = [seat.chip.hbm_bytes for seat in seats(spec)[1]]
    held = [sum(kinds.values()) for kinds in analysis.peaks]
    fullest = max(range(len(held)), key=lambda at: held[at] / rooms[at])
    ticks = np.array([[analysis.end, *(analysis.parts.get(name, 0) for name in COLUMNS)]])
    columns = (np.array([spec.chips]), np.array([spec.batch.global_]), ticks, np.array([held[fullest]]))
    return _Table(spec, rooms[fullest], *columns).row(0)


def _grouped(points: Sequence[Mapping[str, Any]]) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Points with equal keys that differ in what is taken as arrays alone: what else they set, and which they are."""
    groups: dict[tuple[Any, ...], list[int]] = {}
    names: dict[tuple[str, ...], tuple[str, ...]] = {}
    for place, point in enumerate(points):
        keys = tuple(point)
        others = names.get(keys)
        if others is None:
            others = names[keys] = tuple(key for key in keys if key not in _WHOLE and key != _SPLIT)
        # told apart by how they are written: 1 and true are equal
        key = (keys, *[repr(point[name]) for name in others])
        mine = groups.get(key)
        if mine is None:
            groups[key] = [place]
        else:
            mine.append(place)
    for (keys, *_), mine in groups.items():
        yield {name: points[mine[0]][name] for name in names[keys]}, mine


def _group(forms: Forms, rest: Mapping[str, Any]) -> _Group | None:
    """The group of these settings, made once; None where the recurrence does not hold."""
    key = canonical(rest)
    if key not in forms.groups:
        if len(forms.groups) >= _MOST_GROUPS:
            forms.groups.clear()
        forms.groups[key] = _made(forms, rest)
    group: _Group | None = forms.groups[key]
    return group


def _made(forms: Forms, rest: Mapping[str, Any]) -> _Group | None:
    try:
        data = forms.mapping(rest)
        layout, batch = data.get("layout", {}), data.get("batch", {})
        default = {**_DEFAULTS, _SPLIT: False, "chips": data.get("chips")}
        default |= {f"layout.{key}": value for key, value in layout.items()}
        default |= {f"batch.{key}": value for key, value in batch.items()}
        alone = {"tp": 1, "pp": 1, "dp": 1, "vpp": 1, "zero": 0, "sequence_parallel": False}
        data |= {"chips": 1, "layout": {**layout, **alone}, "batch": {**batch, "global": 1, "micro": 1}}
        spec = validate("training", data, "point")
        refuse_slow(spec)
    except (ScaleoutError, AttributeError, TypeError):
        # it is told why of each point by itself
        return None
    return None if uncovered(spec) else _Group(spec, default, railed(spec.system))


def _columns(group: _Group, points: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Ints], "np.ndarray[Any, Any]"]:
    """Arrays of points with equal keys that can be looked at together, and which those are."""
    usable = np.ones(len(points), dtype=bool)
    found: dict[str, Ints] = {}
    for key, (name, low, high) in _WHOLE.items():
        default = group.default.get(key)
        if key not in points[0] and type(default) is int and low <= default <= high:
            found[name] = np.full(len(points), default)
            continue
        values: list[Any] = [point[key] for point in points] if key in points[0] else [default] * len(points)
        if set(map(type, values)) != {int}:
            usable &= [type(value) is int for value in values]
            values = [value if type(value) is int else low for value in values]
        if max(values) > high or min(values) < low:
            usable &= [low <= value <= high for value in values]
            values = [min(max(value, low), high) for value in values]
        found[name] = np.array(values, dtype=np.int64)
    default = group.default.get(_SPLIT)
    split = [point.get(_SPLIT, default) for point in points]
    usable &= [type(value) is bool for value in split]
    found["sequence_parallel"] = np.array([value is True for value in split], dtype=np.int64)
    return {name: column[usable] for name, column in found.items()}, usable


def _rows(group: _Group, at: Mapping[str, Ints], few: bool) -> list[Outcome | None]:
    """Outcomes of points of one group."""
    spec, count = group.spec, len(at["tp"])
    ground = Ground(spec.model, spec.system, spec.stack)
    ones, zeros = np.ones(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    sequence = np.full(count, spec.batch.sequence)
    columns = {**at, "cp": ones, "ep": ones, "etp": ones, "shard": zeros, "context": zeros, "sequence": sequence}
    against = refusals(ground, columns)
    found: list[Outcome | None] = [None] * count
    for place in np.flatnonzero(against).tolist():
        point = {name: int(column[place]) for name, column in columns.items()}
        found[place] = Outcome("infeasible", json.dumps(refused(int(against[place]), ground, point)))
    left = np.flatnonzero(against == 0)
    if not len(left):
        return found
    mine = {name: column[left] for name, column in at.items()}
    problem, ticks, memory = (
        _together(spec, mine) if group.railed and not few else _one_by_one(spec, mine, compiled=not few)
    )
    fine = problem == _FITS
    capacity = spec.system.chip.hbm_bytes
    table = _Table(spec, capacity, mine["chips"][fine], mine["batch"][fine], ticks[fine], memory[fine])
    for place, text in zip(left[fine].tolist(), table.texts(), strict=True):
        found[place] = Outcome("done", text)
    for number in np.flatnonzero(problem == _FITS_NOT).tolist():
        words = f"does not fit in HBM: {memory[number] / 1e9:.1f} GB on a chip of {capacity / 1e9:.1f} GB"
        found[int(left[number])] = Outcome("infeasible", json.dumps(words))
    return found


def _together(spec: TrainingExperiment, at: Mapping[str, Ints]) -> tuple[Ints, Ints, Floats]:
    """Problem, step with its parts [ps], and memory [byte], all at once."""
    table = design_space(
        spec, tp=at["tp"], pp=at["pp"], dp=at["dp"], vpp=at["vpp"], sequence_parallel=at["sequence_parallel"],
        zero=at["zero"], global_batch=at["batch"], micro=at["micro"],
    )  # fmt: skip
    return table.problem, np.concatenate([table.step_time_ps[:, None], table.breakdown_ps], axis=1), table.memory


def _one_by_one(spec: TrainingExperiment, at: Mapping[str, Ints], compiled: bool) -> tuple[Ints, Ints, Floats]:
    """The same, on any machine; without numba where it is not compiled, which takes seconds to start."""
    count, capacity = len(at["tp"]), spec.system.chip.hbm_bytes
    problem = np.full(count, PROBLEMS.index("no time model"))
    ticks, memory = np.zeros((count, 1 + len(COLUMNS)), dtype=np.int64), np.full(count, np.nan)
    for place in range(count):
        point = {name: int(column[place]) for name, column in at.items()}
        layout = replace(
            spec.layout, tp=point["tp"], pp=point["pp"], dp=point["dp"], vpp=point["vpp"],
            zero=1 if point["zero"] else 0, sequence_parallel=bool(point["sequence_parallel"]),
        )  # fmt: skip
        batch = replace(spec.batch, global_=point["batch"], micro=point["micro"])
        try:
            one = replace(spec, chips=point["chips"], layout=layout, batch=batch)
            if uncovered(one):
                continue
            numbers = given(one)
            run = numbers.point.compiled if compiled else numbers.point
            ticks[place], stages = run(*numbers, capacity)
        except ScaleoutError:
            # told of the point by itself
            continue
        memory[place] = float(stages.sum(axis=1).max())
        problem[place] = _FITS_NOT if memory[place] > capacity else _FITS
    return problem, ticks, memory


class _Table:
    """Outcomes of steps that are known."""

    def __init__(
        self, spec: TrainingExperiment, room: float, chips: Ints, batch: Ints, ticks: Ints, memory: Floats
    ) -> None:
        seconds = ticks / TICKS_PER_SECOND
        step = seconds[:, 0]
        peak = chips * mean_peak(spec, format_of(spec.precision).rate)
        flops = training_flops(spec.model, 1, spec.batch.sequence) * batch / peak
        self.columns: dict[str, list[Any]] = {
            "chips": chips.tolist(),
            "step_time": step.tolist(),
            "tokens_per_second": (batch.astype(np.float64) * spec.batch.sequence / step).tolist(),
            "mfu": (flops / step).tolist(),
            "memory": memory.tolist(),
            "memory_share": (memory / room).tolist(),
        }
        self.parts = {name: seconds[:, 1 + at].tolist() for at, name in enumerate(COLUMNS)}
        others = [1 + at for at, name in enumerate(COLUMNS) if name not in ALWAYS]
        self.usual = not ticks[:, others].any()

    def row(self, place: int) -> dict[str, Any]:
        """Of one of them."""
        parts = parts_of((name, column[place]) for name, column in self.parts.items())
        return {**{name: column[place] for name, column in self.columns.items()}, **parts}

    def texts(self) -> list[str]:
        """JSON of each of them."""
        if not self.usual:
            return [json.dumps(self.row(at), separators=(",", ":")) for at in range(len(self.columns["chips"]))]
        columns = self.columns | {f"time.{name}": self.parts[name] for name in PARTS if name in ALWAYS}
        form = "{" + ",".join(f'"{name}":%r' for name in columns) + "}"
        return [form % row for row in zip(*columns.values(), strict=True)]
