"""Serving on the command line: run and capacity, as a user meets them."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.served import Served

NAME = "llama3-70b-poisson"
SHORT = ["run", NAME, "--set", "requests.count=60"]
FILE = """
kind: serving
system: dgx-h100
model: llama-3.1-8b
engine: vllm-0.19
requests: {trace: requests.csv}
slo: {ttft: 1 s}
"""


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_run_prints_tables_and_writes_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SHORT, "--gantt", "gantt.png") == 0
    out = capsys.readouterr().out
    for words in ("TTFT", "TPOT", "ITL", "end to end", "queue", "goodput", "floor", "stability", "error band",
                  "KV cache", "Rests on", "! ", "overridden", "gantt.png"):  # fmt: skip
        assert words in out, words
    folder = tmp_path / "results" / NAME
    assert sorted(path.name for path in folder.iterdir()) == [
        "course.png", "course.svg", "latency.png", "latency.svg", "requests.csv", "result.json",
    ]  # fmt: skip
    assert Served.from_json((folder / "result.json").read_text()).requests["served"] == 60
    rows = (folder / "requests.csv").read_text().splitlines()
    assert len(rows) == 61
    assert rows[1].split(",")[4] == "served"


def test_no_line_of_a_table_is_cut_at_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert call(monkeypatch, *SHORT) == 0
    assert "…" not in capsys.readouterr().out


def test_run_json_is_one_object_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SHORT, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "serving"
    assert {"wall_time", "events", "date"} == set(data["run"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option",
    [["--chips", "8"], ["--weak"], ["--links", "x.png"], ["--memory", "x.png"], ["--pipeline", "x.png"], ["--no-fold"],
     ["--evaluator", "analytic"]],
)  # fmt: skip
def test_options_of_training_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: list[str]
) -> None:
    assert call(monkeypatch, *SHORT, *option) == 2
    error = capsys.readouterr().err
    assert option[0] in error
    assert "for training" in error
    assert list(tmp_path.iterdir()) == []


def test_options_of_serving_are_refused_of_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "--gantt", "x.png") == 2
    assert "for serving" in capsys.readouterr().err


HEADER = "arrival_s,input_tokens,output_tokens\n"


@pytest.mark.parametrize(
    ("trace", "words"),
    [
        (HEADER + "0,200000,10\n", "line 2"),
        (HEADER + "0,10,10\n5,10,10\n4,10,10\n", "line 4"),
        (HEADER + "-1,10,10\n", "line 2"),
        (HEADER + "0,10\n", "line 2"),
        (HEADER, "no rows"),
        ("", "empty"),
        ("when,how_many\n1,2\n", "when"),
    ],
)
def test_bad_traces_end_with_one_message_and_write_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, trace: str, words: str
) -> None:
    (tmp_path / "requests.csv").write_text(trace)
    (tmp_path / "mine.yaml").write_text(FILE)
    assert call(monkeypatch, "run", "mine.yaml") == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: ")
    assert "requests.csv" in error
    assert words in error
    assert "Traceback" not in error
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "requests.csv"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pools.0.tp=3", "does not divide"),
        ("pools.0.replicas=0", "replicas"),
        ("pools.0.tp=1", "fits"),
        ("pools.0.size=1", "size"),
        ("slo.tpot=1 ms", "floor"),
        ("requests.arrivals.rate=0", "rate"),
        ("requests.trace=nowhere.csv", "no such file"),
        ("cache.blocks=20", "at most 320 fit"),
    ],
)
def test_bad_settings_end_with_one_message_and_write_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, setting: str, words: str
) -> None:
    assert call(monkeypatch, "run", NAME, "--set", setting) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
    assert list(tmp_path.iterdir()) == []


def test_capacity_prints_a_table_and_writes_files(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    settings = ["--set", "requests.count=40", "--set", "slo.share=0.5"]
    monkeypatch.setenv("COLUMNS", "80")
    assert call(monkeypatch, "capacity", NAME, "--rates", "1,3", *settings) == 0
    out = capsys.readouterr().out
    assert "requests/s" in out
    assert "…" not in out
    folder = tmp_path / "results" / f"{NAME}-capacity"
    assert sorted(path.name for path in folder.iterdir()) == [
        "capacity.json", "frontier.png", "frontier.svg", "rates.png", "rates.svg",
    ]  # fmt: skip
    (found,) = json.loads((folder / "capacity.json").read_text())["experiments"]
    assert {1.0, 3.0} <= {point["rate"] for point in found["points"]}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ([NAME, "--rates", "1,x"], "not a number"),
        ([NAME, "--rates", "0"], "above 0"),
        (["llama2-70b-offline"], "no rate to search"),
        (["llama-3.1-8b-1k"], "llama-3.1-8b-1k"),
    ],
)
def test_capacity_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, args: list[str], words: str
) -> None:
    assert call(monkeypatch, "capacity", *args) == 2
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
