"""``scaleout validate`` and ``scaleout accuracy`` as a user meets them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import scaleout
from scaleout.cli import main
from scaleout.validation.kinds import KINDS, TABLES, kind_module

HEADER = "chip,dtype,m,n,k,time_us,source\n"
# Stas Bekman, Machine Learning Engineering, table of achievable matmul rates: 271.2 and 794.5 TFLOP/s
GOOD = HEADER + (
    "a100-sxm-80gb,bfloat16,1024,10240,5120,395.9,ml-engineering\n"
    "h100-sxm,bfloat16,2048,2048,13312,140.6,ml-engineering\n"
    "abacus,bfloat16,2048,2048,13312,1e9,imagined\n"
)


def call(monkeypatch: pytest.MonkeyPatch, *args: str) -> int:
    monkeypatch.setattr(sys, "argv", ["scaleout", *args])
    with pytest.raises(SystemExit) as caught:
        main()
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _in_a_folder_with_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gemm.csv").write_text(GOOD)


def test_tables_of_errors_and_of_rows_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "validate", "gemm", "gemm.csv", "--rows", "1") == 0
    captured = capsys.readouterr()
    for words in ("all rows", "MAPE", "chip=h100-sxm", "Furthest off (1 of 2 rows)", "unknown chip 'abacus'"):
        assert words in captured.out
    assert captured.err == ""


def test_json_is_the_object_of_the_contract_and_more_only_when_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "validate", "gemm", "gemm.csv", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert list(summary) == ["kind", "n", "skipped", "mape", "median", "p90", "bias", "groups"]
    assert (summary["kind"], summary["n"], summary["skipped"]) == ("gemm", 2, 1)
    assert summary == scaleout.validate("gemm", "gemm.csv").summary()
    assert call(monkeypatch, "validate", "gemm", "gemm.csv", "--json", "--all") == 0
    everything = json.loads(capsys.readouterr().out)
    assert {key: everything[key] for key in summary} == summary
    assert [row["line"] for row in everything["rows"]] == [2, 3]
    assert [row["line"] for row in everything["skipped_rows"]] == [4]


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_the_figure_is_written_where_it_is_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "new" / f"gemm.{suffix}"
    assert call(monkeypatch, "validate", "gemm", "gemm.csv", "--json", "--plot", str(path)) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["n"] == 2
    assert f"wrote {path}" in captured.err
    assert path.read_bytes().startswith(b"\x89PNG" if suffix == "png" else b"<?xml")


MALFORMED = {
    "missing column": (b"chip,dtype,m,n,time_us\n", "column 'k' is missing"),
    "text": (HEADER.encode() + b"h100-sxm,bfloat16,many,2,3,4,x\n", "'many' is not accepted"),
    "negative": (HEADER.encode() + b"h100-sxm,bfloat16,1,2,3,-4,x\n", "'-4' is not accepted"),
    "nan": (HEADER.encode() + b"h100-sxm,bfloat16,1,2,3,nan,x\n", "'nan' is not accepted"),
    "infinite": (HEADER.encode() + b"h100-sxm,bfloat16,1,2,3,inf,x\n", "'inf' is not accepted"),
    "zero": (HEADER.encode() + b"h100-sxm,bfloat16,1,2,3,0,x\n", "'0' is not accepted"),
    "too many cells": (GOOD.encode() + b"h100-sxm,bfloat16,1,2,3,4,x,y\n", "line 5: 8 cells; expected 7"),
    "not UTF-8": (GOOD.encode() + b"\xff,bfloat16,1,2,3,4,x\n", "line 5: not UTF-8"),
    "empty": (b"", "is empty"),
    "binary": (bytes(range(256)) * 50, "expected CSV"),
}


@pytest.mark.parametrize("name", MALFORMED)
@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_malformed_table_ends_with_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, options: list[str]
) -> None:
    data, says = MALFORMED[name]
    (tmp_path / "gemm.csv").write_bytes(data)
    assert call(monkeypatch, "validate", "gemm", "gemm.csv", "--plot", "folder/figure.svg", *options) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert captured.err.startswith("Error: gemm.csv: ")
    assert [path.name for path in tmp_path.iterdir()] == ["gemm.csv"]


BAD = {
    "kind": (["validate", "gem", "gemm.csv"], "did you mean 'gemm'"),
    "no file": (["validate", "gemm", "gem.csv"], "gem.csv: cannot be read: No such file"),
    "a folder": (["validate", "gemm", "."], "cannot be read: Is a directory"),
    "figure": (["validate", "gemm", "gemm.csv", "--plot", "gemm.txt"], "a figure is written as .png or .svg"),
    "rows": (["validate", "gemm", "gemm.csv", "--rows", "-1"], "--rows"),
    "no tables": (["accuracy", "nowhere", "--write", "a.md"], "holds no table; expected some of attention.csv"),
    "notes": (["accuracy", ".", "--write", "a.md", "--notes", "n.yaml"], "n.yaml"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    args, says = BAD[name]
    assert call(monkeypatch, *args) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""


@pytest.mark.parametrize("verb", ["validate", "accuracy"])
def test_help_has_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str) -> None:
    assert call(monkeypatch, verb, "--help") == 0
    assert "Examples:\n" in capsys.readouterr().out


def test_a_table_may_come_through_a_pipe(tmp_path: Path) -> None:
    command = f"{sys.executable} -m scaleout validate gemm /dev/stdin --json < <(cat gemm.csv)"
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["n"] == 2


def test_every_kind_has_a_module_and_a_table_of_its_name() -> None:
    # runs of serving engines have names of their own
    assert set(TABLES.values()) | {"serving"} == set(KINDS)
    for kind in KINDS:
        assert kind_module(kind).COLUMNS


def test_accuracy_writes_the_same_page_each_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "notes.yaml").write_text("about: All of it.\ngemm: One is off.\n")
    for folder in ("a", "b"):
        options = ["--write", f"{folder}/page.md", "--notes", "notes.yaml", "--date", "2026-01-02"]
        assert call(monkeypatch, "accuracy", ".", *options) == 0
        assert f"wrote {folder}/page.md" in capsys.readouterr().out
    pages = [(tmp_path / folder / "page.md").read_text() for folder in ("a", "b")]
    figures = [(tmp_path / folder / "figures" / "accuracy-gemm.svg").read_bytes() for folder in ("a", "b")]
    assert pages[0] == pages[1]
    assert figures[0] == figures[1]
    for words in ("2026-01-02", "All of it.", "One is off.", "(figures/accuracy-gemm.svg)", "unknown chip 'abacus'"):
        assert words in pages[0]
