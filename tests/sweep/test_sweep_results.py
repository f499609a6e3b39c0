"""The table of a sweep: a row a point, and which of them are the best."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaleout.errors import SweepError
from scaleout.sweep import store as stores
from scaleout.sweep.identity import key_of
from scaleout.sweep.results import SweepResults, results_from, results_of
from scaleout.sweep.spec import Stage, Sweep
from scaleout.sweep.store import Store

Point = tuple[dict[str, Any], str, Any]
SWEEP = Sweep(base={"kind": "training"}, axes={"layout.tp": (1, 2), "chips": (8, 16)}, name="small")


def fill(store: Store, sweep: Sweep, *stages: dict[int, Point], points: int | None = None) -> int:
    """Record what each stage makes of points by position: settings, status and outcome."""
    number = store.begin(sweep, "a", points=points or len(stages[0]))
    for stage, rows in enumerate(stages):
        evaluator = sweep.stages[stage].evaluator
        texts = [json.dumps(settings, sort_keys=True, separators=(",", ":")) for settings, _, _ in rows.values()]
        keys = [key_of(f"{number}", evaluator, f"{at} {text}") for at, text in zip(rows, texts, strict=True)]
        store.enlist(number, stage, keys, rows)
        store.record(
            (key, evaluator, text, status, json.dumps(outcome))
            for key, text, (_, status, outcome) in zip(keys, texts, rows.values(), strict=True)
        )
    return number


def table(*stages: dict[int, Point], sweep: Sweep = SWEEP, points: int | None = None) -> SweepResults:
    with Store.open(None, write=True) as store:
        fill(store, sweep, *stages, points=points)
        return results_from(store)


def done(*outcomes: dict[str, Any]) -> dict[int, Point]:
    return {at: ({"layout.tp": at}, "done", outcome) for at, outcome in enumerate(outcomes)}


FOUR: dict[int, Point] = {
    0: ({"layout.tp": 1, "chips": 8, "seed": 5}, "done", {"mfu": 0.25, "step_time": 2, "tokens_per_second": 10.0}),
    1: ({"layout.tp": 1, "chips": 16, "seed": 6}, "infeasible", "does not fit"),
    2: ({"layout.tp": 2, "chips": 8, "seed": 5}, "failed", "KeyError: 'x'"),
    3: ({"layout.tp": 2, "chips": 16, "seed": 6}, "done", {"mfu": 0.5, "step_time": 1, "bound_by": "compute"}),
}


def test_columns_in_their_order_and_kinds() -> None:
    results = table(FOUR)
    assert list(results.columns) == [
        "position", "layout.tp", "chips", "seed", "stage", "evaluator", "status", "problem",
        "step_time", "tokens_per_second", "mfu", "bound_by",
    ]  # fmt: skip
    assert results.keys == ("layout.tp", "chips", "seed")
    assert results.outcomes == ("step_time", "tokens_per_second", "mfu", "bound_by")
    assert [results.column(name).dtype.kind for name in ("position", "chips", "step_time", "bound_by")] == list("iifO")
    np.testing.assert_array_equal(results.column("step_time"), [2.0, np.nan, np.nan, 1.0])
    assert results.column("problem").tolist() == [None, "does not fit", "KeyError: 'x'", None]
    assert (len(results), results.missing, results.kind, results.name) == (4, 0, "training", "small")
    assert (results.unit("step_time"), results.unit("bound_by"), results.unit("chips")) == ("s", "", "")
    assert results.row(3) == {
        "position": 3, "layout.tp": 2, "chips": 16, "seed": 6, "stage": 0, "evaluator": "event", "status": "done",
        "problem": None, "step_time": 1.0, "tokens_per_second": None, "mfu": 0.5, "bound_by": "compute",
    }  # fmt: skip
    assert results.sweep == SWEEP
    with pytest.raises(ValueError, match="read-only"):
        results.column("step_time")[0] = 1.0
    with pytest.raises(SweepError, match=r"sweep 'small' has no column 'step_tim'; did you mean 'step_time'"):
        results.column("step_tim")


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_columns_do_not_depend_on_batches(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values: list[Any] = [1, 2, 2.5, "x", None, True, {"b": [1, None]}, [], 2**70]
    mixed: dict[int, Point] = {at: ({"mixed": value}, "done", {"mfu": at}) for at, value in enumerate(values)}
    whole, halves, some, truths = [1, 2, 3], [1, 2.5, 3], [1, None, 2.5], [True, None, False]
    three: dict[int, Point] = {
        at: ({"whole": w, "halves": h, "some": s, "truths": t}, "done", {} if at == 1 else {"mfu": at})
        for at, (w, h, s, t) in enumerate(zip(whole, halves, some, truths, strict=True))
    }
    monkeypatch.setattr(stores, "_BATCH", batch)
    results = table(mixed)
    assert results.column("mixed").tolist() == [1, 2, 2.5, "x", None, True, '{"b":[1,null]}', "[]", 2**70]
    assert results.column("mfu").dtype == np.float64
    results = table(three)
    assert [results.column(name).dtype.kind for name in ("whole", "halves", "some", "truths")] == list("iffO")
    assert [results.row(1)[name] for name in ("halves", "some", "truths", "mfu")] == [2.5, None, None, None]
    assert results.column("truths").tolist() == truths


def test_a_key_goes_before_an_outcome_of_its_name() -> None:
    results = table({0: ({"chips": 8}, "done", {"chips": 8, "mfu": 0.5})})
    assert (results.keys, results.outcomes) == (("chips",), ("mfu",))
    assert results.column("chips").tolist() == [8]


def test_a_row_is_that_of_the_last_stage_that_computed_it() -> None:
    sweep = Sweep(base={"kind": "training"}, stages=(Stage(evaluator="analytic"), Stage(within=0.5)))
    rows = [{"tokens_per_second": rate} for rate in (10.0, 9.0, 8.0, 1.0)]
    first = done(*rows)
    second = {at: first[at] for at in (2, 0)} | {1: (first[1][0], "done", {"tokens_per_second": 8.5})}
    results = table(first, second, sweep=sweep)
    assert results.column("stage").tolist() == [1, 1, 1, 0]
    assert results.column("evaluator").tolist() == ["event", "event", "event", "analytic"]
    assert results.column("tokens_per_second").tolist() == [10.0, 8.5, 8.0, 1.0]
    # a bound is no rival: with fewer tokens a second than the bound of the first, the second is still the best
    results = table(first, {1: (first[1][0], "done", {"tokens_per_second": 0.5})}, sweep=sweep)
    assert results.best == 1
    assert results.pareto(["tokens_per_second"]) == [1]


def test_the_best_of_several_seeds_is_that_of_their_mean() -> None:
    rates = (9.0, 1.0, None, 6.0, 4.0, 5.0)
    rows = done(*({} if rate is None else {"tokens_per_second": rate} for rate in rates))
    assert table(rows).best == 0
    # means of pairs are 5, 6 and 4.5
    assert table(rows, sweep=replace(SWEEP, seeds=2)).best == 3


def test_an_objective_that_is_a_key_too() -> None:
    few = replace(SWEEP, objective="chips")
    rows = {at: ({"chips": chips}, status, {"mfu": 0.5}) for at, (chips, status) in enumerate(CHIPS)}
    assert table(rows, sweep=few).best == 2
    assert table({**rows, 3: ({"chips": "8"}, "done", {"mfu": 0.5})}, sweep=few).best is None


CHIPS = ((4, "infeasible"), (16, "done"), (8, "done"))


def test_the_best_is_that_of_the_objective() -> None:
    rows = done({"mfu": 0.5, "step_time": 2.0}, {"mfu": 0.7, "step_time": 1.0}, {"mfu": 0.7, "step_time": 1.0})
    assert table(rows).best is None
    assert table(rows, sweep=Sweep(base={}, objective="mfu")).best == 1
    assert table(rows, sweep=Sweep(base={}, objective="step_time")).best == 1
    assert table({0: FOUR[1]}, sweep=Sweep(base={}, objective="mfu")).best is None
    assert table(FOUR).objective == "tokens_per_second"
    assert table(FOUR).best == 0


PLAIN = table(done({}))


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12))
def test_the_front_is_that_of_brute_force(values: list[tuple[int, int, int]]) -> None:
    names = ("step_time", "mfu", "memory")
    columns = dict(zip(names, np.array(values, dtype=np.float64).T, strict=True))
    columns |= {"stage": np.zeros(len(values)), "status": np.full(len(values), "done", dtype=object)}
    results = replace(PLAIN, columns=columns)
    costs = [(time, -mfu, memory) for time, mfu, memory in values]

    def beaten(at: int) -> bool:
        return any(
            all(a <= b for a, b in zip(one, costs[at], strict=True)) and (one != costs[at] or other < at)
            for other, one in enumerate(costs)
            if other != at
        )

    assert results.pareto(names) == [at for at in range(len(values)) if not beaten(at)]


def test_a_front_of_what_is_no_number() -> None:
    with pytest.raises(SweepError, match="'bound_by' is not a column of numbers"):
        table(FOUR).pareto(["step_time", "bound_by"])
    assert table(FOUR).pareto(["step_time", "tokens_per_second"]) == [0]


def test_points_that_are_not_computed_are_left_out_and_counted(tmp_path: Path) -> None:
    with Store.open(tmp_path, write=True) as store:
        fill(store, SWEEP, {at: FOUR[at] for at in (1, 3)}, points=4)
        fill(store, Sweep(base={}, name="none"), {}, points=7)
    results = results_of(tmp_path, "small")
    assert results.column("position").tolist() == [1, 3]
    assert results.missing == 2
    empty = results_of(str(tmp_path))
    assert (len(empty), empty.missing, empty.best) == (0, 7, None)
    assert list(empty.columns) == ["position", "stage", "evaluator", "status", "problem"]
    assert empty.to_dict()["rows"] == []
    assert len(results_of(tmp_path, 1)) == 2
    with pytest.raises(SweepError, match="no sweep 'other'; known: 1, 2, none, small"):
        results_of(tmp_path, "other")


def test_rows_that_are_no_json(tmp_path: Path) -> None:
    with Store.open(tmp_path, write=True) as store:
        store.enlist(store.begin(SWEEP, "a", points=1), 0, [b"1"])
        store.record([(b"1", "event", "{}", "done", '{"mfu":')])
    with pytest.raises(SweepError, match="is corrupt; a row of it is no JSON"):
        results_of(tmp_path)


def test_a_frame() -> None:
    frame = table(FOUR).to_frame()
    assert list(frame.columns) == list(table(FOUR).columns)
    assert frame["step_time"].isna().tolist() == [False, True, True, False]
    assert frame.loc[3, "bound_by"] == "compute"


def test_a_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(SweepError, match=r"pip install 'scaleout\[tables\]'"):
        table(FOUR).to_frame()


def test_json_is_the_table() -> None:
    found = json.loads(table(FOUR).to_json())
    assert found == table(FOUR).to_dict()
    assert list(found) == ["format", "sweep", "columns", "rows"]
    assert found["sweep"]["spec"]["axes"] == [["layout.tp", [1, 2]], ["chips", [8, 16]]]
    assert {"name": "step_time", "unit": "s"} in found["columns"]
    assert found["rows"][1][-4:] == [None] * 4
