"""Files of a sweep's table: the same table, the same bytes."""

import csv
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from scaleout.errors import ScaleoutError, SweepError
from scaleout.sweep import export as exports
from scaleout.sweep.export import ENDINGS, export
from scaleout.sweep.results import SweepResults, results_from
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store

SWEEP = Sweep(base={"kind": "training"}, axes={"layout.tp": (1, 2, 4), "offload": (True, {"optimizer": True}, "no")})
ROWS: list[tuple[dict[str, Any], str, Any]] = [
    ({"layout.tp": 1, "offload": True, "zero": True}, "done", {"step_time": 0.1, "mfu": 1 / 3, "bound_by": "compute"}),
    ({"layout.tp": 2, "offload": {"optimizer": True}}, "infeasible", 'does "not"\nfit, at all'),
    ({"layout.tp": 4, "offload": "no", "zero": False}, "done", {"step_time": 1e-300, "mfu": 2}),
]
HEAD = ["position", "layout.tp", "offload", "zero", "stage", "evaluator", "status", "problem"]
TABLE: list[list[Any]] = [
    [0, 1, True, True, 0, "event", "done", None, 0.1, 1 / 3, "compute"],
    [1, 2, '{"optimizer":true}', None, 0, "event", "infeasible", 'does "not"\nfit, at all', None, None, None],
    [2, 4, "no", False, 0, "event", "done", None, 1e-300, 2.0, None],
]


def results(order: Sequence[int] = (0, 1, 2)) -> SweepResults:
    """The table, recorded in some order."""
    with Store.open(None, write=True) as store:
        number = store.begin(SWEEP, "a", points=3)
        store.enlist(number, 0, [str(at).encode() for at in range(3)])
        for at in order:
            settings, status, outcome = ROWS[at]
            text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
            store.record([(str(at).encode(), "event", text, status, json.dumps(outcome))])
        return results_from(store, number)


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_order_in_which_points_came_does_not_show(ending: str, tmp_path: Path) -> None:
    one, other = (export(results(order), tmp_path / f"{order[0]}{ending}") for order in ((0, 1, 2), (2, 0, 1)))
    assert one.read_bytes() == other.read_bytes()
    assert sorted(tmp_path.iterdir()) == [one, other]


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_json(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exports, "_ROWS", rows)
    found = json.loads(results().export(tmp_path / "table.json").read_text())
    assert [column["name"] for column in found["columns"]] == [*HEAD, "step_time", "mfu", "bound_by"]
    assert found["rows"] == TABLE
    assert found == results().to_dict()


def test_csv(tmp_path: Path) -> None:
    head, *rows = csv.reader(io.StringIO(export(results(), tmp_path / "table.csv").read_text(), newline=""))
    assert head == [*HEAD, "step_time", "mfu", "bound_by"]
    spelled = {None: "", True: "true", False: "false"}
    assert rows == [
        [spelled[one] if one is None or isinstance(one, bool) else str(one) for one in row] for row in TABLE
    ]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(export(results(), tmp_path / "table.PARQUET"))
    rows = [list(row.values()) for row in table.to_pylist()]
    # a column of several kinds is text
    assert rows == [[row[0], row[1], "true" if row[2] is True else row[2], *row[3:]] for row in TABLE]
    assert [str(kind) for kind in table.schema.types] == (
        ["int64", "int64", "string", "bool", "int64", "string", "string", "string", "double", "double", "string"]
    )
    about = json.loads(table.schema.metadata[b"scaleout"])
    assert about == results().head()
    assert set(table.schema.metadata) == {b"scaleout"}


def test_a_table_without_rows(tmp_path: Path) -> None:
    with Store.open(None, write=True) as store:
        store.begin(SWEEP, "a", points=3)
        empty = results_from(store)
    assert export(empty, tmp_path / "t.csv").read_text() == "position,stage,evaluator,status,problem\n"
    assert json.loads(export(empty, tmp_path / "t.json").read_text())["rows"] == []
    assert export(empty, tmp_path / "t.parquet").stat().st_size


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, words: str) -> None:
        with pytest.raises(SweepError, match=words):
            export(results(), tmp_path / name)

    refused("table.xlsx", r"ends in '\.xlsx'; a table ends in \.parquet, \.csv, \.json")
    refused("table", "ends in 'nothing'")
    refused("none/table.csv", "there is no folder")
    (tmp_path / "folder.csv").mkdir()
    refused("folder.csv", "is a folder")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused("table.parquet", r"pip install 'scaleout\[tables\]'")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "table.csv"
    path.write_text("before")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(ENDINGS, ".csv", full)
    with pytest.raises(ScaleoutError, match=r"table\.csv: cannot be written: No space left on device"):
        export(results(), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
