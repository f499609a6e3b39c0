"""``scaleout chip`` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", "chip", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_page_and_its_figure(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "example-training-chip", "--plot") == 0
    out = capsys.readouterr().out
    for words in (
        "made up", "ridge [flop/byte]", "products of a layer, 64 tokens, fp8", "a100-sxm-80gb", "registers", "! ",
        "to make one", "masks 40 MUSD", "constants of b200-sxm-180gb", "scale_up.bandwidth", "wrote roofline.png",
    ):  # fmt: skip
        assert words in out
    assert Path("roofline.png").read_bytes().startswith(b"\x89PNG")


def test_json_alone(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "example-inference-asic", "--json", "--beside", "none", "--set", "design.cores=8") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["chip"]["cores"] == 8
    assert found["beside"] == []


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("h100-sxm",), "did you mean"),
        (("h100-sxm-80gb", "--plot", "x.gif"), ".png or .svg"),
        (("h100-sxm-80gb", "--beside", "none", "--beside", "l40s"), "--beside"),
        (("h100-sxm-80gb", "--volume", "0"), "volume"),
        (("h100-sxm-80gb", "--set", "design.clock"), "key=value"),
        (("example-training-chip", "--set", "design.dies=0"), "dies"),
    ],
)
def test_bad_input_ends_with_one_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    assert call(monkeypatch, *args) == 2
    error = capsys.readouterr().err
    assert words in error
    assert "Traceback" not in error
