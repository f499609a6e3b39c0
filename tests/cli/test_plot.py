"""``scaleout plot`` on stores of small sweeps: files, tables, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scaleout.cli import cli
from scaleout.errors import ScaleoutError, SweepError
from scaleout.report.sweep_figures import KINDS
from scaleout.sweep.spec import Sweep

TRAINING = Sweep(
    base={
        "system": "dgx-h100", "chips": 8, "model": "llama-3.2-1b", "layout": {"dp": 8, "zero": 1},
        "batch": {"global": 8, "sequence": 1024},
    },
    axes={"layout.tp": (1, 2, 3), "layout.pp": (1, 2)},
    rules=("fill-dp",),
    name="small",
)  # fmt: skip


@pytest.fixture(scope="module", name="store")
def _store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores") / "small"
    TRAINING.run(store=folder)
    return folder


def plot(*arguments: Any) -> str:
    result = CliRunner().invoke(cli, ["plot", *map(str, arguments)])
    if isinstance(result.exception, ScaleoutError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_a_store_alone_says_which_kinds_fit(store: Path) -> None:
    output = plot(store)
    assert "small: 4 points of training" in output
    fits, misfits = output.split("Do not fit:")
    assert "heatmap" in fits
    assert "sweep over chips" in misfits
    found = json.loads(plot(store, "--json"))
    assert {*(row["kind"] for row in found["fit"]), *found["do_not_fit"]} == set(KINDS)


def test_a_figure_lands_here_or_where_it_is_told(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "wrote heatmap.png" in plot(store, "heatmap")
    assert (tmp_path / "heatmap.png").read_bytes().startswith(b"\x89PNG")
    first = tmp_path / "first.svg"
    plot(store, "breakdown", "-o", first)
    plot(store, "breakdown", "-o", tmp_path / "second.svg")
    assert first.read_bytes() == (tmp_path / "second.svg").read_bytes()
    assert b"<svg" in first.read_bytes()


def test_the_table_is_what_is_drawn(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = json.loads(plot(store, "heatmap", "--x", "tp", "--by", "layout.pp", "--y", "mfu", "--json"))
    assert (found["figure"], found["x"], found["y"], found["outcome"]) == ("heatmap", "tp", "pp", "mfu")
    assert found["columns"] == ["1", "2"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["heatmp"], "did you mean 'heatmap'"),
        (["heatmap", "--x", "layout.tpp"], "did you mean 'layout.tp'"),
        (["heatmap", "--y", "step_tim"], "did you mean 'step_time'"),
        (["heatmap", "--y", "bound_by"], "is text"),
        (["latency"], "is of serving"),
        (["tornado", "--x", "tp"], "--x: tornado has no choice there"),
        (["scaling"], "sweep over chips"),
        (["heatmap", "-o", "heat.pdf"], "ends in .png or .svg"),
        (["heatmap", "-o", "nowhere/heat.png"], "there is no folder"),
        (["heatmap", "-o", "heat.png", "--json"], "leave --out or --json out"),
        (["heatmap", "--sweep", "other"], "other"),
        (["-o", "heat.png"], "of which KIND"),
    ],
)
def test_what_it_refuses_and_leaves_nothing(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScaleoutError, match=words):
        plot(store, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_store(tmp_path: Path) -> None:
    with pytest.raises(SweepError, match="store"):
        plot(tmp_path, "heatmap")
