"""A sweep checks and freezes itself, whether it comes from a file, a mapping or Python."""

import json
import pickle
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from scaleout.cli import cli
from scaleout.errors import SpecError
from scaleout.io.catalogue import find, list_names
from scaleout.sweep.files import load_sweep, sweep_schema
from scaleout.sweep.identity import files_of
from scaleout.sweep.outcomes import ANALYTIC, OBJECTIVES, OUTCOMES, sense_of
from scaleout.sweep.points import points_of
from scaleout.sweep.spec import Stage, Sweep

BASE = "llama-3.1-8b-16"


def test_what_is_said_shortly_is_the_same_at_length() -> None:
    short = Sweep(
        base=BASE, axes={"layout.tp": range(1, 3), "precision": "bf16"}, zipped={"layout.pp": [1, 2], "chips": [8, 16]},
        rules="divides", stages="analytic",
    )  # fmt: skip
    long = Sweep(
        base=BASE, axes={"layout.tp": (1, 2), "precision": ("bf16",)},
        zipped=({"layout.pp": (1, 2), "chips": (8, 16)},),
        rules=("divides",), stages=(Stage(evaluator="analytic"),),
    )  # fmt: skip
    assert short == long
    assert hash(short) == hash(long)
    assert pickle.loads(pickle.dumps(short)) == long
    with pytest.raises(FrozenInstanceError):
        short.seeds = 2  # type: ignore[misc]
    assert Sweep(base=BASE, axes={"layout.tp": np.array([1, 2])}).axes["layout.tp"] == (1, 2)


def test_whole_mappings_are_values_and_are_frozen() -> None:
    system = {"from": "dgx-h100", "network": {"bandwidth": "800 Gb/s"}}
    sweep = Sweep(base={"model": "llama-3.1-8b", "layout": {"tp": 8}}, axes={"system": [system, "dgx-a100"]})
    system["network"] = {}
    assert hash(sweep) == hash(pickle.loads(pickle.dumps(sweep)))
    assert sweep.axes["system"][0]["network"]["bandwidth"] == "800 Gb/s"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"axes": {"layout.tp": []}}, "layout.tp: has no values"),
        ({"axes": {"layout.tp": [1, 2, 1]}}, "1 is given twice"),
        ({"axes": {"layout..tp": [1]}}, "is no dotted key"),
        ({"axes": {"seed": [1, 2]}}, "say how many there are with seeds"),
        ({"axes": {"layout.tp": [1]}, "zipped": [{"layout.tp": [1]}]}, "has values twice"),
        ({"zipped": [{"layout.tp": [1, 2], "layout.pp": [1]}]}, "different lengths: layout.tp 2, layout.pp 1"),
        ({"axes": {"batch.global": [float("nan")]}}, "nan is not accepted"),
        ({"axes": {"model": ["\U0001f600", "\ud800"]}}, "model: half a character"),
        ({"stages": []}, "stages: none"),
        ({"stages": [{"evaluator": "event", "within": 0.1}]}, "no stage before the first"),
        ({"stages": [{"evaluator": "guess"}]}, "'guess' is not accepted"),
        ({"seeds": 0}, "seeds: 0 is not a whole number"),
        ({"base": ""}, "base: empty"),
        ({"base": 7}, "base: 7 is no experiment|7 is not"),
    ],
)
def test_mistakes_are_told(given: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Sweep(**{"base": BASE, **given})  # type: ignore[arg-type]


def test_files_are_read_with_every_mistake_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("kind: sweep\nbase: llama-3.1-8b-16\naxis: {layout.tp: [1]}\nseeds: none\n")
    with pytest.raises(SpecError) as caught:
        load_sweep(path)
    assert "axis: unknown key; did you mean 'axes'" in str(caught.value)
    assert "seeds:" in str(caught.value)
    path.write_text("kind: training\nbase: llama-3.1-8b-16\n")
    with pytest.raises(SpecError, match="expected 'sweep'; scaleout run"):
        load_sweep(path)
    with pytest.raises(SpecError, match="did you mean 'layouts'"):
        load_sweep("layout")


def test_paths_are_found_beside_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "away"
    folder.mkdir()
    (folder / "base.yaml").write_text(
        "system: dgx-h100\nchips: 8\nmodel: llama-3.1-8b\nlayout: {tp: 8}\nbatch: {global: 8, sequence: 2048}\n"
    )
    (folder / "mine.yaml").write_text("kind: sweep\nbase: base.yaml\naxes: {layout.tp: [8], model: [m.json]}\n")
    (folder / "m.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    sweep = load_sweep("away/mine.yaml", ("axes.model=null",))
    assert (sweep.base, sweep.name) == ("away/base.yaml", "mine")
    assert files_of(sweep) == [Path("away/base.yaml")]
    assert len(points_of(sweep)) == 1
    assert load_sweep("away/mine.yaml").axes["model"] == ("away/m.json",)


def test_overrides_reach_keys_axes_and_the_base() -> None:
    mapping = {"base": BASE, "axes": {"layout.tp": [1, 2], "layout.pp": [1]}}
    settings = ("seeds=3", "axes.layout.tp=[4, 8]", "axes.layout.pp=null", "base.precision=fp8", "rules=divides")
    sweep = load_sweep(mapping, settings)
    assert sweep == Sweep(base=BASE, axes={"layout.tp": [4, 8], "precision": ["fp8"]}, seeds=3, rules="divides")
    with pytest.raises(SpecError, match=r"no key of a sweep; .* --set base.layout.tp=4"):
        load_sweep(mapping, ("layout.tp=4",))
    with pytest.raises(SpecError, match="is an axis"):
        load_sweep(mapping, ("base.layout.tp=4",))


@pytest.mark.parametrize("name", list_names("sweep"))
def test_sweeps_that_come_along_have_points(name: str) -> None:
    sweep = load_sweep(name)
    assert sweep.name == name
    points = points_of(sweep)
    assert 10 <= len(points) <= 2500
    if name == "layouts":
        assert len(points) == 1960
    Draft202012Validator(sweep_schema()).validate(yaml.safe_load(find("sweep", name).read_text()))
    settings = points.settings(len(points) - 1)
    assert points.texts([len(points) - 1]) == [json.dumps(settings, sort_keys=True, separators=(",", ":"))]


def test_sweeps_are_shown() -> None:
    runner = CliRunner()
    listed = runner.invoke(cli, ["show", "sweeps"])
    assert "layouts   layout.tp, layout.pp" in listed.output
    assert "kind: sweep" in runner.invoke(cli, ["show", "layouts"]).output
    assert json.loads(runner.invoke(cli, ["schema", "sweep"]).output)["properties"]["kind"] == {"const": "sweep"}


def test_every_kind_has_an_objective_with_a_sense() -> None:
    for kind, (name, sense) in OBJECTIVES.items():
        assert sense_of(kind, name) == sense
        assert ANALYTIC[kind] <= set(OUTCOMES[kind])
