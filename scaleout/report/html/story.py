"""What the page of a sweep says, before anything is written: the answer, counts, reasons, ties, the table."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from scaleout.arrays import Ints
from scaleout.errors import ScaleoutError, SpecError
from scaleout.io.yaml import parse_value
from scaleout.report.html.columns import (
    Column,
    Scale,
    codes,
    numbers,
    scale_of,
    setting_words,
    whole,
    words,
)
from scaleout.report.html.reasons import Reason, plain_message, reasons_of
from scaleout.report.html.rests import Rests, rests_of
from scaleout.sweep.outcomes import sense_of
from scaleout.sweep.points import points_of
from scaleout.sweep.results import SweepResults
from scaleout.sweep.spec import SEED, canonical

__all__ = ["MOST_ROWS", "STATUSES", "Best", "Failed", "Story", "Tie", "story_of"]

MOST_ROWS = 200_000
"""Rows up to which the page has all of them [1]."""
_KEPT = 100_000
"""Rows of a page that cannot have all [1]."""
_MOST_MESSAGES = 500_000
"""Characters of messages that the table has in full [1]."""
_SHOWN_TIES = 10
_SHORT = 60
"""Characters of a setting in a sentence [1]."""
_PART = "time."
STATUSES = {
    "done": "with outcomes",
    "infeasible": "refused by the experiment, with a reason",
    "failed": "an error of the program",
    "missing": "not computed yet",
}
"""What becomes of points, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The best point.

    Parameters
    ----------
    point
        Its place in the sweep, from 0.
    evaluator
        Who found its outcomes.
    settings
        Keys and their values.
    outcomes, parts
        In words, with units; parts of a step apart.
    value
        The objective, with unit and error band.
    command
        That computes it alone; None where no command line says it.
    """

    point: int
    evaluator: str
    settings: Mapping[str, str]
    outcomes: tuple[tuple[str, str], ...]
    parts: tuple[tuple[str, str], ...]
    value: str
    command: str | None


@dataclass(frozen=True, slots=True)
class Tie:
    """A point within the error band of the best."""

    point: int
    settings: str
    value: str


@dataclass(frozen=True, slots=True)
class Failed:
    """An error, by how many points it ended, and one of them."""

    message: str
    count: int
    point: int
    settings: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All words and numbers of the page.

    Parameters
    ----------
    title, answer
        The answer is one sentence.
    objective
        In words, with "least" or "most".
    total
        Points [1].
    counts
        Of them, by status.
    left_out
        Combinations that are no points, by the rule that leaves them out [1].
    best
        None where no point has outcomes.
    error
        Of the best [1]; None where none is stated.
    errors
        Least, middle and largest of all points [1].
    ties, tied
        The first of them, and how many there are [1].
    infeasible, failed
        By reason.
    rests
        What the best point rests on.
    columns, rows
        The table, the best first, and how many of the points it has [1].
    notes
        Sentences about what the table leaves out or rounds.
    """

    title: str
    answer: str
    objective: str
    total: int
    counts: Mapping[str, int]
    left_out: Mapping[str, int]
    best: Best | None
    error: float | None
    errors: tuple[float, float, float] | None
    ties: tuple[Tie, ...]
    tied: int
    infeasible: tuple[Reason, ...]
    failed: tuple[Failed, ...]
    rests: Rests
    columns: tuple[Column, ...]
    rows: int
    notes: tuple[str, ...]


def story_of(results: SweepResults, title: str | None = None) -> Story:
    """Find what is to be said of a sweep."""
    objective, best = results.objective, results.best
    sense = sense_of(results.kind, objective)
    status = results.column("status").astype(str)
    counts = {name: int(np.count_nonzero(status == name)) for name in (*STATUSES, *sorted(set(status) - {*STATUSES}))}
    counts["missing"] = results.missing
    counts = {name: number for name, number in counts.items() if number}
    scales = _scales(results)
    error = _error(results, best)
    ties = _ties(results, best, error)
    order = _order(results, status, sense)
    notes: list[str] = []
    if len(results) > MOST_ROWS:
        order = order[:_KEPT]
        notes.append(f"The table has {_KEPT:,} of {len(results):,} points, the best first; an export has all of them.")
    problems = results.column("problem")
    said = {int(row): str(problems[row]) for row in np.flatnonzero(status != "done") if problems[row]}
    settings, left_out = _points(results, best)
    found = None if best is None else _best(results, best, settings, scales, error)
    return Story(
        title=title or f"Sweep {results.name}",
        answer=_answer(found, words(objective), sense, counts, int(np.count_nonzero(results.compared))),
        objective=f"the {sense} {words(objective)}",
        total=max(results.stored.points, len(results)),
        counts=counts,
        left_out=left_out,
        best=found,
        error=error,
        errors=_errors(results),
        ties=tuple(
            Tie(_position(results, row), _settings_line(results, row), _value(results, row, scales))
            for row in ties[:_SHOWN_TIES]
        ),
        tied=len(ties),
        infeasible=_infeasible(status, said),
        failed=_failures(results, status, said),
        rests=rests_of(results, settings),
        columns=_columns(results, order, status, scales, said, notes),
        rows=len(order),
        notes=tuple(notes),
    )


def _points(results: SweepResults, best: int | None) -> tuple[dict[str, Any], Mapping[str, int]]:
    """What the best point sets, and combinations that rules leave out."""
    try:
        points = points_of(results.sweep)
        return {} if best is None else points.settings(_position(results, best)), points.left_out
    except ScaleoutError:
        # the sweep is of other code or of files that are gone: the table has the values, those with parts as text
        row = {} if best is None else results.row(best)
        return {name: row[name] for name in results.keys if row.get(name) is not None}, {}


def _scales(results: SweepResults) -> dict[str, Scale]:
    """Units of outcomes that are numbers; parts of a step are in that of the step."""
    # the objective may be a key too, such as chips
    names = [*results.outcomes, *([results.objective] if results.objective in results.keys else [])]
    names = [name for name in names if results.column(name).dtype.kind in "if"]
    scales = {name: scale_of(name, results.unit(name), results.column(name)) for name in names}
    whole_step = scales.get("step_time")
    if whole_step is not None:
        scales |= {name: whole_step for name in names if name.startswith(_PART)}
    return scales


def _position(results: SweepResults, row: int) -> int:
    return int(results.column("position")[row])


def _error(results: SweepResults, row: int | None) -> float | None:
    if row is None or "error" not in results.outcomes:
        return None
    error = float(results.column("error")[row])
    return error if np.isfinite(error) else None


def _errors(results: SweepResults) -> tuple[float, float, float] | None:
    if "error" not in results.outcomes:
        return None
    known = results.column("error")
    known = known[np.isfinite(known)]
    return (float(known.min()), float(np.median(known)), float(known.max())) if len(known) else None


def _ties(results: SweepResults, best: int | None, error: float | None) -> list[int]:
    """Rows of the best one's stage whose objective is within its error band, the nearest first."""
    if best is None or error is None:
        return []
    values = results.column(results.objective)
    off = np.abs(values - values[best])
    near = np.flatnonzero((off <= error * abs(values[best])) & results.compared)
    return [int(row) for row in sorted(near, key=lambda row: (off[row], row)) if row != best]


def _order(results: SweepResults, status: Any, sense: str) -> Ints:
    """Rows as the table has them at first: what went the furthest, the best first, then those without outcomes."""
    values = np.full(len(results), np.nan)
    if results.objective in results.outcomes:
        values = results.column(results.objective).astype(float)
    values = np.where(np.isfinite(values), values if sense == "least" else -values, np.inf)
    rank = {name: at for at, name in enumerate(STATUSES)}
    state = np.array([rank.get(name, len(rank)) for name in status.tolist()], dtype=np.int64)
    stage = np.where(state == 0, -results.column("stage"), 0.0)
    order: Ints = np.lexsort((np.arange(len(values)), values, stage, state))
    if results.best is not None and len(order):
        order = np.concatenate([[results.best], order[order != results.best]])
    return order


def _best(
    results: SweepResults, row: int, settings: Mapping[str, Any], scales: Mapping[str, Scale], error: float | None
) -> Best:
    values = results.row(row)
    outcomes: list[tuple[str, str]] = []
    parts: list[tuple[str, str]] = []
    for name in results.outcomes:
        value = values.get(name)
        if value is None or (isinstance(value, float) and not np.isfinite(value)):
            continue
        text = setting_words(value)
        if name in scales:
            # alone it has the unit that suits it, unlike in a column
            text = scale_of(name, results.unit(name), np.array([value], dtype=float)).words(float(value))
        if name.startswith(_PART):
            if value:
                parts.append((words(name.removeprefix(_PART)), text))
        else:
            outcomes.append((words(name), text))
    mean = ""
    if results.sweep.seeds > 1:
        column = np.where(results.compared, results.column(results.objective), np.nan)
        middle = float(results.over_seeds(column)[row])
        mean = f" ({scales[results.objective].words(middle)} in the mean of its seeds)"
    return Best(
        point=_position(results, row),
        evaluator=str(values["evaluator"]),
        settings={name: setting_words(settings[name]) for name in _in_order(settings, results.keys)},
        outcomes=tuple(outcomes),
        parts=tuple(parts),
        value=_value(results, row, scales) + ("" if error is None else f" ± {100.0 * error:.2g}\u00a0%") + mean,
        command=_command(results.sweep.base, settings, str(values["evaluator"])),
    )


def _in_order(settings: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """Keys as the table has them, then others."""
    return [*(key for key in keys if key in settings), *sorted(set(settings) - {*keys})]


def _value(results: SweepResults, row: int, scales: Mapping[str, Scale]) -> str:
    return scales[results.objective].words(float(results.column(results.objective)[row]))


def _settings_line(results: SweepResults, row: int) -> str:
    values = results.row(row)
    return ", ".join(
        f"{name} = {_short(setting_words(values[name]))}" for name in results.keys if values.get(name) is not None
    )


def _command(base: object, settings: Mapping[str, Any], evaluator: str) -> str | None:
    """The command line that computes the point, where there is one: a file or a name, and no seeds of repetitions."""
    if not isinstance(base, str) or SEED in settings:
        return None
    chosen = "".join(f" --set {shlex.quote(f'{key}={_typed(settings[key])}')}" for key in sorted(settings))
    return f"scaleout run {shlex.quote(base)}{chosen}{' --evaluator analytic' if evaluator == 'analytic' else ''}"


def _typed(value: Any) -> str:
    """A value as ``--set`` reads it: text where that is read as the same, otherwise JSON, which YAML reads too."""
    text = canonical(value)
    try:
        return value if isinstance(value, str) and parse_value(value, "") == value else text
    except SpecError:
        return text


def _answer(best: Best | None, objective: str, sense: str, counts: Mapping[str, int], many: int) -> str:
    if best is None:
        if not counts:
            return "This sweep has no points yet."
        none = f"tells its {objective}" if many else "has outcomes"
        last = " of its last stage" if counts.get("done", 0) > many else ""
        known = ", ".join(f"{number:,} {name}" for name, number in counts.items())
        return f"No point of this sweep {none}{last}: {known}."
    where = ", ".join(f"{name} = {_short(text)}" for name, text in best.settings.items())
    bound = ", a bound in closed form" if best.evaluator == "analytic" else ""
    of = f"the best of {many:,} points with outcomes" if many > 1 else "the only point with outcomes"
    if earlier := counts.get("done", 0) - many:
        waiting = min(earlier, counts.get("missing", 0))
        rest = [f"earlier stages left out {earlier - waiting:,}"] if earlier > waiting else []
        rest += [f"{waiting:,} are still to come"] if waiting else []
        of += f" of the last stage; {', '.join(rest)}"
    at = f", at {where}" if where else ""
    return f"The {sense} {objective} is {best.value}{bound}{at}: {of}."


def _short(text: str) -> str:
    return text if len(text) <= _SHORT else f"{text[: _SHORT - 1]}…"


def _infeasible(status: Any, said: Mapping[int, str]) -> tuple[Reason, ...]:
    rows = np.flatnonzero(status == "infeasible")
    return reasons_of((int(row), said.get(int(row), "")) for row in rows)


def _failures(results: SweepResults, status: Any, said: Mapping[int, str]) -> tuple[Failed, ...]:
    rows = np.flatnonzero(status == "failed")
    return tuple(
        Failed(reason.example, reason.count, _position(results, reason.row), _settings_line(results, reason.row))
        for reason in reasons_of((int(row), said.get(int(row), "")) for row in rows)
    )


def _columns(
    results: SweepResults,
    order: Ints,
    status: Any,
    scales: Mapping[str, Scale],
    said: Mapping[int, str],
    notes: list[str],
) -> tuple[Column, ...]:
    columns = [whole("point", results.column("position")[order], role="place")]
    columns += [codes(name, results.column(name)[order].tolist(), role="setting") for name in results.keys]
    columns.append(codes("status", status[order].tolist(), role="status"))
    for name in ("stage", "evaluator"):
        values = results.column(name)
        if len({*values.tolist()} - {None, ""}) > 1:
            columns.append(codes(name, values[order].tolist(), role="note"))
    for name in results.outcomes:
        values, shown = results.column(name), not name.startswith(_PART)
        if name in scales:
            if np.isfinite(values).any():
                columns.append(numbers(name, values[order], scales[name], shown=shown))
        elif {*values.tolist()} - {None, ""}:
            columns.append(codes(name, values[order].tolist(), role="outcome", shown=shown))
    if said:
        distinct = {text: plain_message(text) for text in said.values()}
        if sum(map(len, distinct.values())) > _MOST_MESSAGES:
            notes.append("The table gives messages with “…” for their numbers; an export has each in full.")
            distinct = {text: reasons_of([(0, text)])[0].pattern for text in distinct}
        columns.append(codes("problem", [distinct.get(said.get(int(row), ""), "") for row in order], role="note"))
    return tuple(columns)
