"""``scaleout sweep`` as a user meets it."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

import scaleout
from scaleout.cli import main
from scaleout.cli.sweep import _Watch
from scaleout.sweep.progress import Progress
from scaleout.sweep.store import Store

SLOW = Path(__file__).parent.parent / "sweep" / "slow_sweep.py"
SWEEP = """
kind: sweep
base:
  system: dgx-h100
  chips: 16
  model: llama-3.2-1b
  layout: {tp: 2, pp: 2, dp: 4}
  batch: {global: 32, sequence: 1024}
axes:
  layout.zero: [0, 1]
  batch.micro: [1, 2, 3, 4, 8]
  batch.sequence: [1024, 2048]
stages: [analytic, {evaluator: event, within: 0.3}]
"""


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", "sweep", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SWEEP)


def test_a_dry_run_computes_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "small.yaml", "--dry-run") == 0
    out = capsys.readouterr().out
    for words in (
        "20 points",
        "stage 2, event: those within 30.0%",
        "first: layout.zero=0, batch.micro=1",
        "0 are stored",
    ):
        assert words in out
    assert [path.name for path in tmp_path.iterdir()] == ["small.yaml"]
    assert call(monkeypatch, "layouts", "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert 1500 < told["sweep"]["points"] < 2500 < told["sweep"]["combinations"]


def test_what_will_take_long_is_told_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "layouts", "--dry-run") == 0
    assert "beyond the closed form" not in capsys.readouterr().out
    slow = ("--set", "axes.layout.zero=[1, 3]")
    assert call(monkeypatch, "layouts", *slow, "--dry-run") == 0
    assert "points are beyond the closed form" in capsys.readouterr().out


def test_a_sweep_ends_with_its_best_points_and_is_there_the_next_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "small.yaml") == 0
    captured = capsys.readouterr()
    for words in (
        "small: 20 points of training: 16 computed",
        "next: scaleout export results/small",
        "kept in results",
    ):
        assert words in captured.out
    assert "stage 2 of 2, event:" in captured.err
    assert call(monkeypatch, "small.yaml", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["format", "sweep", "columns", "counts", "best", "store", "run"]
    assert told["run"]["computed"] == 0
    assert told["counts"] == {"points": 20, "done": 16, "infeasible": 4, "failed": 0, "missing": 0}
    rates = [row["tokens_per_second"] for row in told["best"]]
    assert rates == sorted(rates, reverse=True)
    assert all(row["evaluator"] == "event" for row in told["best"])
    assert call(monkeypatch, "small.yaml", "--dry-run") == 0
    assert "all 20 points; 20 are stored" in capsys.readouterr().out


def test_settings_reach_the_sweep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--set", "axes.batch.micro=[1]", "--set", "stages=[analytic]", "--store", "elsewhere")
    assert call(monkeypatch, "small.yaml", *options, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["counts"]["done"], told["store"]) == (4, "elsewhere")


MANY = [
    part
    for key in ("chips", "layout.tp", "layout.pp", "layout.dp", "batch.global")
    for part in ("--set", f"axes.{key}={list(range(1, 65))}")
]
BAD = {
    "name": (["layout"], "did you mean 'layouts'"),
    "file": (["none.yaml"], "none.yaml"),
    "an experiment": (["training.yaml"], "expected 'sweep'"),
    "an empty file": (["empty.yaml"], "is empty; expected one mapping"),
    "no axis": (["none.yaml"], "axes: none, which leaves the base alone"),
    "no text": (["random.yaml"], "not a text file"),
    "no YAML": (["broken.yaml"], "broken.yaml, line 2: expected"),
    "kind": (["wrong.yaml"], "kind: 'sweeep' is not accepted; expected 'sweep'"),
    "rules leave none": (["small.yaml", "--set", "axes.layout.tp=[3]", "--set", "rules=[fill-dp]"], "leave none"),
    "axis": (["small.yaml", "--set", "axes.layout.typ=[1]"], "did you mean"),
    "no values": (["small.yaml", "--set", "axes.layout.tp=[]"], "has no values"),
    "rule": (["small.yaml", "--set", "rules=[divide]"], "did you mean 'divides'"),
    "objective": (["small.yaml", "--set", "objective=mfuu"], "did you mean 'mfu'"),
    "too many": (["small.yaml", *MANY], "combinations"),
    "address": (["small.yaml", "--ray", "cluster"], "is no address; expected local, auto, HOST:PORT"),
    "nobody there": (["small.yaml", "--ray", "127.0.0.1:{free}"], "cannot be reached: Connection refused"),
    "workers": (["small.yaml", "--workers", "0"], "--workers"),
    "too many workers": (["small.yaml", "--workers", "100000"], "workers: 100,000 are too many for"),
    "store is a file": (["small.yaml", "--store", "small.yaml"], "is a file; a store is a folder"),
    "no store": (["small.yaml", "--store", "folder", "--dry-run"], "is not a store"),
    "newer store": (["small.yaml", "--store", "newer"], "was made by a newer version of scaleout (format 99"),
    "store cut short": (["small.yaml", "--store", "cut"], "points.sqlite: is corrupt"),
    "unwritable": (["small.yaml", "--store", "/proc/store"], "/proc/store"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (tmp_path / "training.yaml").write_text("kind: training\n")
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "none.yaml").write_text("kind: sweep\nbase: llama-3.1-8b-16\n")
    (tmp_path / "wrong.yaml").write_text("kind: sweeep\n")
    (tmp_path / "random.yaml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "broken.yaml").write_text("a: [1, 2\nb: }{")
    for store in ("folder", "newer", "cut"):
        (tmp_path / store).mkdir()
        (tmp_path / store / "writer.lock").touch()
    (tmp_path / "folder" / "points.sqlite").write_text("text\n" * 100)
    for store in ("newer", "cut"):
        with Store.open(tmp_path / store, write=True):
            pass
        with closing(sqlite3.connect(tmp_path / store / "points.sqlite")) as database:
            database.execute("pragma journal_mode=delete")
            database.execute(f"pragma user_version={99 if store == 'newer' else 1}")
    whole = (tmp_path / "cut" / "points.sqlite").read_bytes()
    (tmp_path / "cut" / "points.sqlite").write_bytes(whole[:5000])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    args, says = BAD[name]
    before = sorted(tmp_path.rglob("*"))
    assert call(monkeypatch, *(arg.replace("{free}", str(free)) for arg in args)) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(("number", "word"), [(signal.SIGINT, "Interrupted"), (signal.SIGTERM, "Terminated")])
def test_an_interrupt_ends_cleanly_and_says_what_is_kept(number: signal.Signals, word: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(Path(scaleout.__file__).parent.parent)}
    command = [sys.executable, str(SLOW), "sweep", "small.yaml"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env) as driver:
        wal = Path("results/small/points.sqlite-wal")
        while driver.poll() is None and not (wal.exists() and wal.stat().st_size > 100_000):
            time.sleep(0.01)
        driver.send_signal(number)
        out, err = driver.communicate(timeout=60)
    assert driver.returncode == 128 + number
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith(f"{word}. ")
    assert "Traceback" not in err
    assert last.endswith(("are kept; the same command goes on from there.", "Nothing was computed yet."))


def test_help_has_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "--help") == 0
    assert "Examples:\n" in capsys.readouterr().out


def test_when_nothing_comes_for_long_that_is_said_and_no_line_is_said_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scaleout.cli.sweep._LINES", 0.01)
    monkeypatch.setattr("scaleout.cli.sweep._QUIET", 3)
    watch = _Watch()
    lines: list[str] = []
    with watch._looks(lines.append):
        watch._follow(Progress(1, 1, "analytic", 9, 0, 2, 0, 0, 1.0, 2.0, "mfu", None, None))
        while len(lines) < 3:
            time.sleep(0.01)
    first, then, later = lines[:3]
    assert first.startswith("analytic: 2 of 9 points")
    assert then == f"nothing new for 0 s, the closed form compiles once for good; {first}"
    assert later.startswith("nothing new for 0 s") and later.endswith(first)
