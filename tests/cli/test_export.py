"""``scaleout export`` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.sweep.spec import Sweep
from scaleout.sweep.store import Store


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", "export", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Store.open(Path("store"), write=True) as store:
        for name in ("first", "second"):
            number = store.begin(Sweep(base={}, axes={"chips": (8, 16)}, name=name), "a", points=2)
            store.enlist(number, 0, [b"8", b"16"])
        store.record([(b"8", "event", '{"chips":8}', "done", '{"step_time":0.5}')])


def test_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "store", "-o", "table.csv") == 0
    out = capsys.readouterr()
    assert out.out == "wrote table.csv  (1 points of sweep 'second', 7 columns)\n"
    assert out.err == "1 of 2 points are not computed yet\n"
    assert Path("table.csv").read_text().splitlines()[1] == "0,8,0,event,done,,0.5"


def test_json_to_the_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "store", "--json", "--sweep", "first") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["sweep"]["name"] == "first"
    assert found["rows"] == [[0, 8, 0, "event", "done", None, 0.5]]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("none", "-o", "t.csv"), "Error: none: there is no such store"),
        (("store",), "Error: give a file with -o"),
        (("store", "-o", "t.pdf"), "Error: t.pdf: ends in '.pdf'"),
        (("store", "-o", "no/t.csv"), "Error: no/t.csv: there is no folder no"),
        (("store", "--json", "--sweep", "secon"), "did you mean 'second'?"),
    ],
)
def test_mistakes(
    args: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *args) == 2
    out = capsys.readouterr()
    assert words in out.err
    assert not out.out
    assert [path.name for path in Path().iterdir()] == ["store"]
