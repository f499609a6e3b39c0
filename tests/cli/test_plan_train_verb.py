"""``scaleout plan train`` as people type it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from scaleout.cli.plan import command
from scaleout.errors import SpecError
from scaleout.io.experiments import experiment
from scaleout.simulate import simulate

FILES = ["front.png", "front.svg", "launch.sh", "plan.html", "plan.json", "plan.yaml"]
SMALL = [
    "train", "--model", "llama-3.2-1b", "--tokens", "1B", "--chips", "8", "--batch", "32", "--sequence", "1024",
    "--only", "pp=1", "--only", "micro=1", "--only", "zero=1", "--only", "cp=1",
    "--only", "recompute=none,norm+mlp_product",
]  # fmt: skip


def test_a_plan_is_printed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "plan"
    done = CliRunner().invoke(command, [*SMALL, "--out", str(out)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    first = " ".join(done.output.split())
    assert first.startswith("8 h100-sxm-80gb (dgx-h100), tp")
    assert "days" in first
    assert "--tensor-model-parallel-size" in done.output
    assert sorted(path.name for path in out.iterdir()) == FILES
    plan = json.loads((out / "plan.json").read_text())
    assert simulate(experiment(out / "plan.yaml")).step_time == plan["best"]["figures"]["step_time"]
    assert (out / "launch.sh").read_text().startswith("#!/bin/sh\n")


def test_json_is_one_object_in_si_units() -> None:
    done = CliRunner().invoke(command, [*SMALL, "--json", "--days", "30"], catch_exceptions=False)
    assert done.exit_code == 0
    plan = json.loads(done.output)
    assert plan["kind"] == "training"
    assert plan["unit"] == "s"
    assert plan["best"]["layout"]["tp"] in (1, 2, 4, 8)
    assert plan["question"]["days"] == 30.0


def test_nothing_that_does_it_is_no_success() -> None:
    done = CliRunner().invoke(command, [*SMALL, "--days", "0.0001"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "need at least" in " ".join(done.output.split())


def test_an_empty_space_is_said() -> None:
    done = CliRunner().invoke(command, [*SMALL, "--only", "tp=3"], catch_exceptions=False)
    assert done.exit_code == 1
    assert "no layout is legal with what was asked of tp" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--tokens", "many"], "--tokens: 'many'"),
        (["--max-power", "25"], "25"),
        (["--max-cost", "3 days"], "USD"),
        (["--chips", "8,x"], "--chips: 'x' is not a whole number"),
        (["--only", "zero"], "expected AXIS=A,B"),
        (["--only", "zeros=1"], "'zeros' is no axis.*zero"),
        (["--only", "tp=0"], "--only tp: 0 is not accepted"),
        (["--max-power", "much"], "--max-power: 'much'"),
        (["--batch", "1X"], "batch: '1X'"),
        (["--gap", "3"], "--gap: 3"),
        (["--only", "tp=two"], "--only tp: 'two'"),
        (["--only", "context=rings"], "'rings' is unknown.*ring"),
        (["--only", "sequence_parallel=yes"], "expected true or false"),
        (["--only", "schedule=zb"], "zb-h1"),
        (["--limit", "-1"], "--limit"),
        (["--minimise", "speed"], "minimise: 'speed'"),
    ],
)
def test_bad_input_is_refused_in_words(more: list[str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        CliRunner().invoke(command, [*SMALL, *more], catch_exceptions=False)
