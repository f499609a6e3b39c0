"""Keys change with whatever could change a result, and with nothing else."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaleout.sweep import identity
from scaleout.sweep.identity import catalogue_digest, code_version, context_of, key_of, kind_of, spec_of, sweep_of
from scaleout.sweep.spec import Stage, Sweep

BASE: dict[str, Any] = {"kind": "training", "system": "dgx-h100", "chips": 8, "model": "llama-3.1-8b"}
SWEEP = Sweep(base=BASE, axes={"layout.tp": (1, 2)})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SCALEOUT_PATH", raising=False)
    code_version.cache_clear()
    yield
    code_version.cache_clear()


def test_a_key_has_all_three_parts_in_it() -> None:
    keys = {key_of(*parts) for parts in (("a", "event", "{}"), ("b", "event", "{}"), ("a", "analytic", "{}"))}
    assert len(keys | {key_of("a", "event", '{"layout.tp":1}')}) == 4
    assert key_of("a", "event", "{}") in keys
    assert {len(key) for key in keys} == {16}


def test_which_points_there_are_does_not_change_the_context() -> None:
    changes: list[dict[str, Any]] = [
        {"name": "other"}, {"axes": {"layout.pp": (1, 2)}}, {"rules": ("fits",)}, {"seeds": 3}, {"sample": 2},
        {"stages": (Stage(evaluator="analytic"),)}, {"objective": "mfu"},
    ]  # fmt: skip
    assert {context_of(replace(SWEEP, **change)) for change in changes} == {context_of(SWEEP)}
    assert context_of(replace(SWEEP, base={**BASE, "chips": 16})) != context_of(SWEEP)


def test_a_base_is_its_content_wherever_it_lies() -> None:
    text = json.dumps(BASE)
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "base.yaml").write_text(text)
    first = context_of(replace(SWEEP, base="a/base.yaml"))
    assert context_of(replace(SWEEP, base="b/base.yaml")) == first
    Path("a/base.yaml").write_text(text + "\n# changed")
    assert context_of(replace(SWEEP, base="a/base.yaml")) != first


FILES = {
    "table.csv": "m,n,k\n",
    "config.json": "{}",
    "log.jsonl": "{}\n",
    "own/chip.yaml": "name: own\ntables: {gemm: shapes.csv}\n",
    "own/shapes.csv": "m,n,k\n",
    "own/system.yaml": "name: own\nchip: chip.yaml\n",
}


@pytest.mark.parametrize(
    ("changed", "sweep"),
    [
        ("config.json", {"base": {**BASE, "model": "config.json"}}),
        ("config.json", {"axes": {"model": ("gpt2", "config.json")}}),
        ("config.json", {"zipped": ({"model": ("config.json",), "chips": (8,)},)}),
        ("table.csv", {"axes": {"system": ({"from": "dgx-h100", "chip": {"tables": {"gemm": "table.csv"}}},)}}),
        ("own/system.yaml", {"axes": {"system": ("own/system.yaml",)}}),
        ("own/chip.yaml", {"axes": {"system": ("own/system.yaml",)}}),
        ("own/shapes.csv", {"base": {**BASE, "system": "own/system.yaml"}}),
        ("log.jsonl", {"base": {"kind": "serving", "requests": {"trace": "log.jsonl"}}}),
        ("log.jsonl", {"axes": {"requests.trace": ("log.jsonl",)}}),
    ],
)
def test_an_edited_file_changes_the_context(changed: str, sweep: dict[str, Any]) -> None:
    Path("own").mkdir()
    for name, text in FILES.items():
        Path(name).write_text(text)
    before, other = context_of(replace(SWEEP, **sweep)), context_of(SWEEP)
    Path(changed).write_text(FILES[changed] + "\n")
    assert context_of(replace(SWEEP, **sweep)) != before
    assert context_of(SWEEP) == other


def test_a_file_counts_for_the_points_that_name_it() -> None:
    for name in ("a.json", "b.json"):
        Path(name).write_text("{}")
    texts = [f'{{"chips":8,"model":"{name}"}}' for name in ("gpt2", "a.json", "b.json")]

    def keys(*values: str) -> list[bytes]:
        context = context_of(replace(SWEEP, axes={"model": values}))
        return [key_of(context, "event", text) for text in texts]

    first = keys("gpt2", "a.json")
    assert len({*first, *keys("gpt2", "a.json", "b.json")}) == 4
    assert keys("gpt2", "a.json", "b.json")[:2] == first[:2]
    Path("a.json").write_text(" {}")
    changed = keys("gpt2", "a.json", "b.json")
    assert changed[0] == first[0]
    assert changed[1] != first[1]
    Path("a.json").write_text("{}")
    assert keys("gpt2", "a.json") == first


def test_files_are_found_beside_the_base() -> None:
    for folder in ("a", "b"):
        Path(folder).mkdir()
        Path(folder, "base.yaml").write_text("model: config.json")
        Path(folder, "config.json").write_text("{}")
        Path(folder, "chip.yaml").write_text("name: own")
    sweep = replace(SWEEP, base="a/base.yaml", axes={"system.chip": ("chip.yaml",)})
    before = context_of(sweep)
    assert context_of(replace(sweep, base="b/base.yaml")) == before
    for name in ("config.json", "chip.yaml"):
        Path("a", name).write_text(" ")
        assert context_of(sweep) != before
        before = context_of(sweep)


def test_experiments_count_where_they_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEOUT_PATH", str(tmp_path / "mine"))
    for name in ("training/job", "serving/service", "sweeps/many"):
        path = tmp_path / f"mine/workloads/{name}.yaml"
        path.parent.mkdir(parents=True)
        path.write_text("training: job\n" if "serving" in name else "chips: 8\n")
    sweeps = [replace(SWEEP, base="service"), replace(SWEEP, base={"training": "job"}), SWEEP]
    before = [context_of(sweep) for sweep in sweeps]
    (tmp_path / "mine/workloads/sweeps/many.yaml").write_text("chips: 16\n")
    assert [context_of(sweep) for sweep in sweeps] == before
    (tmp_path / "mine/workloads/training/job.yaml").write_text("chips: 16\n")
    assert [context_of(sweep) == then for sweep, then in zip(sweeps, before, strict=True)] == [False, False, True]


def test_what_a_file_of_the_catalogue_names_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCALEOUT_PATH", str(tmp_path / "mine"))
    for name, text in {
        "topologies/systems/own.yaml": "name: own\nchip: own\n",
        "topologies/chips/own.yaml": "name: own\ntables: {gemm: shapes.csv}\n",
        "topologies/chips/shapes.csv": "m,n,k\n",
        "workloads/traces/busy.csv": "time\n",
    }.items():
        path = tmp_path / "mine" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sweeps = [
        replace(SWEEP, axes={"system": ("dgx-h100", "own")}),
        replace(SWEEP, base={"kind": "serving", "requests": {"trace": "busy"}}),
        SWEEP,
    ]
    before = [context_of(sweep) for sweep in sweeps]
    (tmp_path / "mine/topologies/chips/shapes.csv").write_text("m,n,k,time_us\n")
    assert [context_of(sweep) == then for sweep, then in zip(sweeps, before, strict=True)] == [False, True, True]
    (tmp_path / "mine/workloads/traces/busy.csv").write_text("time,input\n")
    assert [context_of(sweep) == then for sweep, then in zip(sweeps, before, strict=True)] == [False, False, True]
    (tmp_path / "mine/topologies/chips/own.yaml").write_text("name: own\n")
    assert context_of(SWEEP) != before[2]


def test_the_catalogue_is_what_names_stand_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = catalogue_digest()
    folder = tmp_path / "mine/topologies/chips"
    folder.mkdir(parents=True)
    source = Path(identity.__file__).parents[2] / "topologies/chips/t4.yaml"
    (folder / "t4.yaml").write_bytes(source.read_bytes())
    monkeypatch.setenv("SCALEOUT_PATH", str(tmp_path / "mine"))
    assert catalogue_digest() == shipped
    (folder / "t4.yaml").write_bytes(source.read_bytes() + b"\n")
    assert catalogue_digest() != shipped
    # a folder that comes before goes before
    monkeypatch.setenv("SCALEOUT_PATH", f"{source.parents[2]}:{tmp_path / 'mine'}")
    assert catalogue_digest() == shipped


def test_the_code_is_what_results_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "package"
    for name in ("evaluate/event.py", "report/page.py", "sweep/identity.py", "sweep/run.py", "sweep/evaluate.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text("")
    monkeypatch.setattr(identity, "__file__", str(package / "sweep/identity.py"))

    def digest(changed: str) -> str:
        (package / changed).write_text("changed")
        code_version.cache_clear()
        return code_version()

    before = code_version()
    assert digest("report/page.py") == digest("sweep/run.py") == before
    assert len({before, digest("evaluate/event.py"), digest("sweep/evaluate.py")}) == 3


def test_kinds() -> None:
    Path("own.yaml").write_text("kind: stream\n")
    bases = ["llama-3.1-8b-1k", "llama3-70b-poisson", "resnet-50-h200", "driving-stack", "own.yaml", {}]
    kinds = ["training", "serving", "inference", "stream", "stream", "training"]
    assert [kind_of(Sweep(base=base)) for base in bases] == kinds


def test_a_sweep_comes_back_from_its_text() -> None:
    sweep = Sweep(
        base=BASE, axes={"b": (1, 2.5, None), "a": ("x", {"p": [1]})}, zipped=({"c": (1,), "d": (True,)},),
        rules=("r",), seeds=2, seed=7, sample=5, stages=(Stage(evaluator="analytic"), Stage(within=0.1)),
        objective="mfu",
    )  # fmt: skip
    again = sweep_of(json.loads(spec_of(sweep)))
    assert again == sweep
    assert spec_of(again) == spec_of(sweep)
    assert list(again.axes) == ["b", "a"]
    assert again.stages == sweep.stages


def test_what_cannot_be_read_is_no_error_here() -> None:
    Path("broken.yaml").write_text("a: [trace: x.csv")
    Path("folder.csv").mkdir()
    sweep = replace(SWEEP, axes={"system": ("broken.yaml", "folder.csv", "none.yaml", "", "a\0b.c", "x" * 5000 + ".")})
    assert context_of(sweep) == context_of(sweep)
