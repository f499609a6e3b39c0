"""``scaleout chip --on`` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main

JOB = """
kind: training
system: dgx-h100
chips: 8
model: llama-3.1-8b
layout: {tp: 8, dp: 1, sequence_parallel: true}
batch: {global: 4, sequence: 2048}
"""


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("job.yaml").write_text(JOB)


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", "chip", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


def test_knobs_of_a_design_under_a_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("example-training-chip", "--beside", "none", "--on", "job.yaml", "--evaluator", "analytic")
    knobs = ("--knob", "clock", "--knob", "hbm-capacity", "--factor", "1.5", "--tornado", "knobs.svg")
    assert call(monkeypatch, *args, *knobs) == 0
    out = capsys.readouterr().out
    for words in (
        "What 1.5 times as much of each knob of example-training-chip does", "x 1.5", "elasticity", "step time",
        "USD/Mtoken", "J/token", "attention by cudnn", "wrote knobs.svg",
    ):  # fmt: skip
        assert words in out
    assert b"<svg" in Path("knobs.svg").read_bytes()


def test_json_has_them(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("h100-sxm-80gb", "--beside", "none", "--on", "job.yaml", "--evaluator", "analytic", "--json")
    assert call(monkeypatch, *args, "--knob", "tensor", "--set", "hbm_bandwidth=4 TB/s") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chip"]["hbm_bandwidth"] == 4e12
    assert {row["outcome"] for row in found["elasticities"]["effects"]} == {"step time", "energy", "cost"}
    assert found["elasticities"]["factor"] == 1.1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--factor", "2"), "--on: missing"),
        (("--tornado", "x.png"), "--on: missing"),
        (("--on", "job.yaml", "--on", "job.yaml"), "twice"),
        (("--on", "job.yaml", "--knob", "hbm"), "hbm-bandwidth"),
        (("--on", "job.yaml", "--factor", "1"), "factor"),
        (("--on", "resnet-50-h200"), "of training or of serving"),
        (("--on", "llama3-70b-poison"), "llama3-70b-poisson"),
        (("--on", "job.yaml", "--tornado", "x.gif"), ".png or .svg"),
    ],
)
def test_mistakes(
    args: tuple[str, ...], words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "h100-sxm-80gb", "--beside", "none", *args) == 2
    err = capsys.readouterr().err
    assert words in err
    assert "Traceback" not in err
