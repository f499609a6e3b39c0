"""The command line as a user meets it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scaleout.cli import main
from scaleout.result import Result

SMALL = ["run", "llama-3.1-8b-1k", "--set", "chips=64", "--set", "layout.dp=32", "--set", "batch.global=64"]


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
    assert call(monkeypatch, *SMALL) == 0
    out = capsys.readouterr().out
    for words in ("step time", "tokens/s", "MFU", "bound by", "HBM at its peak", "capacity", "! ", "ui.perfetto.dev"):
        assert words in out
    folder = tmp_path / "results" / "llama-3.1-8b-1k"
    assert sorted(p.name for p in folder.iterdir()) == [
        "breakdown.png",
        "breakdown.svg",
        "result.json",
        "timeline.json",
    ]
    assert Result.from_json((folder / "result.json").read_text()).chips == 64


def test_run_json_is_one_object_in_si_units_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert call(monkeypatch, *SMALL, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert {
        "step_time", "step_time_ps", "tokens_per_second", "model_flops_per_chip", "mfu", "breakdown", "breakdown_ps",
        "memory", "bound_by", "evaluator", "classes", "assumptions", "run",
    } <= set(data)  # fmt: skip
    assert {"wall_time", "events"} <= set(data["run"])
    assert sum(data["breakdown_ps"].values()) == data["step_time_ps"]
    assert list(tmp_path.iterdir()) == []


def test_folded_or_not_prints_the_same_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = []
    for option in ([], ["--no-fold"]):
        assert call(monkeypatch, *SMALL, "--json", *option) == 0
        data = json.loads(capsys.readouterr().out)
        results.append((data["step_time_ps"], data["breakdown_ps"], data["memory"]))
    assert results[0] == results[1]


BAD = {
    "unknown experiment": (["run", "lama-3.1-8b-1k"], "did you mean 'llama-3.1-8b-1k'"),
    "no such file": (["run", "x.yaml"], "x.yaml: no such file"),
    "unknown key": ([*SMALL, "--set", "layout.ppp=2"], "layout.ppp: unknown key"),
    "no value": ([*SMALL, "--set", "layout.pp"], "expected key=value"),
    "degrees": ([*SMALL, "--set", "layout.pp=3"], "but chips is 64"),
    "unit": ([*SMALL, "--set", "system.chip.hbm_bandwidth=3"], "has no unit"),
    "hbm": ([*SMALL, "--set", "model=llama-3.1-405b"], "does not fit in HBM: stage 0 of 1"),
    "radix": (["run", "--set", "system.network.radix=4"], "radix"),
    "attention": ([*SMALL, "--set", "stack.attention=none"], "attention kernel 'none'"),
    "library": ([*SMALL, "--set", "system.library.algorithms=[rign]"], "did you mean 'ring'"),
    "too long": ([*SMALL, "--set", "system.scale_up.latency=1e9 s"], "longer than 106 days"),
    "exponent": ([*SMALL, "--set", "system.chip.gemm.bf16.norm=0.001"], "norm: 0.001 is not a number at least 1"),
    "mapping": ([*SMALL, "--set", "layout=null"], "expected a mapping with the keys tp, pp"),
    "list": ([*SMALL, "--set", "recompute=3"], "recompute: 3 is not accepted; expected a list"),
    "verb": (["rnu"], "did you mean 'run'"),
    "option": (["run", "--jsn"], "--json"),
    "name": (["show", "dgx-h10"], "did you mean 'dgx-h100'"),
    "kind": (["schema", "chips"], "'chip'"),
    "folder": ([*SMALL, "--out", "/proc/nowhere"], "cannot be written to"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_ends_with_one_message_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    args, says = BAD[name]
    assert call(monkeypatch, *args) == 2
    captured = capsys.readouterr()
    assert says in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("verb", [[], ["run"], ["show"], ["schema"]])
def test_help_has_examples(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    assert call(monkeypatch, *verb, "--help") == 0
    assert "Examples:\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "what", ["chips", "systems", "models", "stacks", "experiments", "dgx-a100", "gpt3-175b", "pytorch"]
)
def test_show_lists_and_details(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str) -> None:
    assert call(monkeypatch, "show", what) == 0
    assert len(capsys.readouterr().out.splitlines()) >= 2
    assert call(monkeypatch, "show", what, "--json") == 0
    assert json.loads(capsys.readouterr().out)


def test_schema_prints_json_schema(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(monkeypatch, "schema", "training") == 0
    assert "global" in json.loads(capsys.readouterr().out)["$defs"]["Batch"]["properties"]


def test_a_closed_pipe_is_no_error() -> None:
    command = f"{sys.executable} -m scaleout show models | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert done.stderr == ""
