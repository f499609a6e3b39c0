"""``scaleout collective`` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.cli.collective import parse_size
from scaleout.errors import SpecError


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", "collective", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_json_has_a_row_a_size(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "all_reduce", "--system", "dgx-h100", "--nodes", "2", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [row["bytes"] for row in data["rows"]] == [8 * 2**k for k in range(31)]
    assert {"bytes", "time", "algbw", "busbw", "algorithm", "bottleneck", "bound_by"} <= set(data["rows"][0])
    assert data["chips"] == 16
    assert data["run"]["wall_time"] > 0


def test_the_table_and_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--min", "1M", "--max", "64M", "--explain", "--plot", "bw.svg", "--links", "links.png")
    assert call(monkeypatch, "all_reduce", "--system", "dgx-h100", *options) == 0
    out = capsys.readouterr().out
    for words in ("busbw [GB/s]", "bottleneck link", "Time of every candidate", "nvls/NVLS", "64 MiB", "chip 0 ->"):
        assert words in out
    assert {path.name for path in tmp_path.iterdir()} == {"bw.svg", "links.png"}


def test_figures_without_a_name_have_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, "all_reduce", "--system", "dgx-h100", "--max", "1K", "--plot", "--links", "--json") == 0
    json.loads(capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["scaleout", "show", "topology", "dgx-h100", "--plot"])
    with pytest.raises(SystemExit):
        main()
    assert {path.name for path in tmp_path.iterdir()} == {"busbw.png", "links.png", "topology.png"}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("all_reduce",), "give one of them"),
        (("all_reduce", "--system", "tpu-v4", "--chips", "8", "--by-tuner"), "has no tuner of NCCL's"),
        (("all_reduce", "--system", "dgx-h10"), "did you mean"),
        (("all_redduce", "--system", "dgx-h100"), "did you mean 'all_reduce'"),
        (("all_reduce", "--system", "dgx-h100", "--min", "3x"), "'3x' is no size"),
        (("all_reduce", "--system", "dgx-h100", "--min", "8G", "--max", "8"), "0 <= min <= max"),
        (("all_reduce", "--system", "dgx-h100", "--factor", "1"), "factor above 1"),
        (("all_reduce", "--system", "dgx-h100", "--nodes", "2", "--chips", "4"), "give one of them"),
        (("all_reduce", "--system", "dgx-h100", "--algorithm", "rng"), "did you mean 'ring'"),
        (("all_reduce", "--system", "dgx-h100", "--plot", "x.png", "--links", "x.png"), "give two files"),
        (("all_reduce", "--system", "dgx-h100", "--plot", "x.gif"), "ends in .png or .svg"),
        (("all_reduce", "--system", "dgx-h100", "--plot", "nowhere/x.png"), "no folder nowhere"),
    ],
)
def test_bad_input_ends_with_one_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    args: tuple[str, ...],
    words: str,
) -> None:
    assert call(monkeypatch, *args) == 2
    captured = capsys.readouterr()
    assert words in captured.err
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_sizes_are_read_as_nccl_tests_reads_them() -> None:
    assert [parse_size(text, "--min") for text in ("8", "64K", "8G", "1 GB", "2 MiB")] == [8, 2**16, 2**33, 1e9, 2**21]
    with pytest.raises(SpecError):
        parse_size("-8", "--min")
