"""Streams on the command line: run and show, as a user meets them."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.streamed import StreamResult


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_run_prints_tables_and_writes_figure_and_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "driving-stack", "--set", "duration=0.2 s") == 0
    out = capsys.readouterr().out
    assert "0.99 of the items within" in out
    assert "detection: work" in out
    folder = Path("results/driving-stack")
    assert (folder / "stream.png").stat().st_size > 10_000
    written = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    assert StreamResult.from_dict(written).sources[0].came == 48


def test_json_and_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, "run", "driving-stack", "--set", "duration=0.1 s", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["format"], printed["kind"], printed["kept"]) == (1, "stream", True)
    assert call(monkeypatch, "run", "driving-stack", "--gantt", "a.png") == 2
    assert "of kind stream" in capsys.readouterr().err
    assert call(monkeypatch, "show", "driving-stack") == 0
    assert "retinanet-800" in capsys.readouterr().out
    assert call(monkeypatch, "show", "experiments") == 0
    assert "speech, requests with deadlines on jetson-thor" in capsys.readouterr().out
