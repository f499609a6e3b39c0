"""``scaleout plan serve``."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.io.yaml import read_mapping
from scaleout.planning import serve_ways

FILES = ["front.png", "front.svg", "launch.sh", "plan.html", "plan.json", "plan.yaml"]
ASKED = [
    "plan", "serve", "--model", "llama-3.1-8b", "--rate", "20/s", "--ttft", "500ms", "--tpot", "20ms", "--share",
    "0.95", "--output", "60", "--count", "100", "--precision", "fp8", "--no-inputs",
]  # fmt: skip


@pytest.fixture(autouse=True)
def few_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_ways, "STAGES", (1,))


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_it_prints_tables_and_writes_what_runs_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *ASKED, "--out", str(tmp_path / "plan")) == 0
    out = capsys.readouterr().out
    assert "the optimum of the space" in out
    assert "vllm serve" in out
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == FILES
    data = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert read_mapping(tmp_path / "plan" / "plan.yaml") == data["experiment"]
    assert call(monkeypatch, "run", str(tmp_path / "plan" / "plan.yaml"), "--json") == 0
    served = json.loads(capsys.readouterr().out)
    assert sum(served["cost"]["hour"].values()) == pytest.approx(data["best"]["value"], rel=1e-12)
    assert served["tpot"]["p99"] == data["best"]["figures"]["tpot_p99"]


def test_json_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, *ASKED, "--json", "--minimise", "chips") == 0
    data = json.loads(capsys.readouterr().out)
    assert data["kind"] == "serving"
    assert data["best"]["value"] == data["best"]["chips"] == 1


def test_nothing_found_is_status_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *ASKED, "--ttft", "1ms", "--out", str(tmp_path / "plan")) == 1
    assert "What is in the way" in capsys.readouterr().out
    assert sorted(path.name for path in (tmp_path / "plan").iterdir()) == ["plan.html", "plan.json"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--gap", "2"], "--gap"),
        (["--limit", "0"], "--limit"),
        (["--chunk", "few"], "--chunk"),
        (["--rate", "none"], "rate:"),
        (["--system", "dgx"], "unknown system"),
        (["--precision", "fp9"], "precision"),
    ],
)
def test_mistakes_write_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    words: str,
) -> None:
    assert call(monkeypatch, *ASKED, *more, "--out", str(tmp_path / "plan")) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "plan").exists()
