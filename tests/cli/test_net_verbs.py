"""Nets on the command line: run and show, as a user meets them."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.inferred import NetResult


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_run_prints_tables_and_writes_a_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "whisper-h100") == 0
    out = capsys.readouterr().out
    assert "reply cross attention" in out
    assert "first token after" in out
    written = json.loads(Path("results/whisper-h100/result.json").read_text(encoding="utf-8"))
    assert NetResult.from_dict(written).name == "whisper-large-v3 on 1 x h100-sxm-80gb, offline"


def test_run_prints_json_and_refuses_what_is_for_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "run", "resnet-50-l40s-single", "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["format"], printed["kind"]) == (2, "inference")
    assert abs(printed["error"]) < 0.2
    assert call(monkeypatch, "run", "resnet-50-l40s-single", "--chips", "8") == 2
    assert "--chips: is for training or serving" in capsys.readouterr().err
    assert call(monkeypatch, "run", "resnet-50-h20") == 2
    assert "did you mean 'resnet-50-h200'" in capsys.readouterr().err


def test_show_lists_nets_with_their_families(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "show", "nets") == 0
    assert ["dlrm-v2", "dlrm"] in [line.split() for line in capsys.readouterr().out.splitlines()]
    assert call(monkeypatch, "show", "resnet-50", "--json") == 0
    assert json.loads(capsys.readouterr().out)["parameters"] == 25_557_032
