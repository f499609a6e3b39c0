from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from scaleout.errors import PlanError, SpecError
from scaleout.io.catalogue import FOLDERS, find, list_names, load, schema
from scaleout.io.experiments import any_experiment, experiment
from scaleout.simulate import simulate
from scaleout.specs import Chip, Layout
from scaleout.specs.experiment import LARGEST_MACHINE

GOOD = """kind: training
system: dgx-h100
chips: 64
model: llama-3.1-8b
layout: {tp: 8, pp: 2, dp: 4, sequence_parallel: true, zero: 1}
batch: {global: 64, micro: 1, sequence: 4096}
"""


def write(folder: Path, text: str, name: str = "x.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


# sweeps stand on a higher floor, and are looked at in tests/sweep
KINDS = sorted(set(FOLDERS) - {"sweep"})


@pytest.mark.parametrize("kind", KINDS)
def test_everything_shipped_loads(kind: str) -> None:
    for name in list_names(kind):
        if kind in ("training", "serving", "inference", "stream"):
            assert any_experiment(name).kind == kind
        else:
            # several versions of an engine have one name
            assert name.startswith(load(kind, name).name) if kind == "engine" else load(kind, name).name == name


def test_a_file_and_the_same_in_python_are_equal(tmp_path: Path) -> None:
    assert experiment(write(tmp_path, GOOD)) == experiment(
        {
            "system": "dgx-h100",
            "chips": 64,
            "model": "llama-3.1-8b",
            "layout": {"tp": 8, "pp": 2, "dp": 4, "sequence_parallel": True, "zero": 1},
            "batch": {"global": 64, "micro": 1, "sequence": 4096},
        }
    )


@pytest.mark.parametrize(
    ("settings", "path", "value"),
    [
        (("layout.pp=4", "chips=128"), ("layout", "pp"), 4),
        (("system.network.oversubscription=2",), ("system", "network", "oversubscription"), 2.0),
        (("system.chip.hbm_bandwidth=5 TB/s",), ("system", "chip", "hbm_bandwidth"), 5e12),
        (("stack=megatron-lm", "stack.kernel_gap=3 us"), ("stack", "kernel_gap"), 3e-6),
        (("model.layers=64",), ("model", "layers"), 64),
        (("recompute=[selective]",), ("recompute",), ("core_attention",)),
        (("recompute=full",), ("recompute",), ("full",)),
        (("batch.global=1e2", "layout.dp=2", "chips=32"), ("batch", "global_"), 100),
        (("slow.chips={3: 0.9}",), ("slow", "chips"), {3: 0.9}),
    ],
)
def test_settings_reach_any_key(tmp_path: Path, settings: tuple[str, ...], path: tuple[str, ...], value: Any) -> None:
    spec: Any = experiment(write(tmp_path, GOOD), settings)
    for step in path:
        spec = getattr(spec, step)
    assert spec == value


def test_names_are_found_in_the_working_folder_then_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / FOLDERS["model"]).mkdir(parents=True)
    (tmp_path / "there" / FOLDERS["model"]).mkdir(parents=True)
    for place, layers in (("here", 2), ("there", 3)):
        text = find("model", "llama-3.1-8b").read_text().replace("layers: 32", f"layers: {layers}")
        (tmp_path / place / FOLDERS["model"] / "llama-3.1-8b.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SCALEOUT_PATH", str(tmp_path / "there"))
    assert load("model", "llama-3.1-8b").layers == 3
    monkeypatch.chdir(tmp_path / "here")
    assert load("model", "llama-3.1-8b").layers == 2


BAD: dict[str, tuple[str, tuple[str, ...]]] = {
    "unknown name": (GOOD.replace("dgx-h100", "dgx-h10"), ("unknown system 'dgx-h10'", "did you mean 'dgx-h100'")),
    "unknown key": (GOOD + "recompte: [norm]\n", ("recompte: unknown key", "did you mean 'recompute'")),
    "unknown nested key": (GOOD.replace("tp: 8", "tq: 8"), ("layout.tq: unknown key", "'tp'")),
    "missing key": (GOOD.replace("chips: 64\n", ""), ("chips: missing",)),
    "missing nested key": (GOOD.replace(", sequence: 4096", ""), ("batch.sequence: missing",)),
    "zero": (GOOD.replace("chips: 64", "chips: 0"), ("chips: 0 is not a whole number at least 1",)),
    "negative": (GOOD.replace("pp: 2", "pp: -2"), ("layout.pp: -2 is not a whole number",)),
    "fraction": (GOOD.replace("pp: 2", "pp: 1.5"), ("layout.pp: 1.5 is not a whole number",)),
    "nan": (GOOD.replace("sequence: 4096", "sequence: .nan"), ("batch.sequence: nan is not",)),
    "infinity": (GOOD.replace("chips: 64", "chips: .inf"), ("chips: inf is not",)),
    "text for a number": (GOOD.replace("tp: 8", "tp: eight"), ("layout.tp: 'eight' is not a whole number",)),
    "bool for a number": (GOOD.replace("tp: 8", "tp: on"), ("layout.tp: True is not",)),
    "list for a mapping": (GOOD.replace("layout: {", "layout: [1]\nx: {"), ("layout", "x: unknown key")),
    "wrong choice": (
        GOOD + "precision: int3\n",
        ("precision: 'int3' is not accepted; expected 'bf16', 'fp16', 'fp8', 'fp8_current', ",),
    ),
    "unknown module": (GOOD + "recompute: [nrom]\n", ("recompute: unknown module 'nrom'", "'norm'")),
    "other kind": (GOOD.replace("kind: training", "kind: serving"), ("kind: 'serving' is not accepted",)),
    "too large": (GOOD.replace("chips: 64", f"chips: {LARGEST_MACHINE + 1}"), ("at most 1,048,576",)),
    "slow rank": (GOOD + "slow: {chips: {99: 0.5}}\n", ("slow.chips: rank 99",)),
    "slow share": (GOOD + "slow: {chips: {3: 1.5}}\n", ("slow.chips", "1.5 is not a number above 0, at most 1")),
    "a tag": ("!!python/object/apply:os.system ['true']", ("could not determine a constructor",)),
    "an anchor": ("a: &a [1]\nb: *a\n", ("line 1: anchors and aliases are not accepted",)),
    "a key twice": (GOOD + "chips: 65\n", ("line 7: key 'chips' is given twice",)),
    "not a mapping": ("- 1\n- 2\n", ("is a list; expected one mapping",)),
    "empty": ("", ("is empty; expected one mapping",)),
    "broken": ("a: [1, 2\n", ("line",)),
    "deep": ("a: " + "[" * 500 + "]" * 500, ("nested deeper than 20 levels",)),
    "control characters": ("a: \x00\n", ("not readable as YAML",)),
}
PLANS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "degrees": (("layout.dp=3",), ("tp 8 x pp 2 x dp 3 = 48 chips, but chips is 64; dp 4 would fit",)),
    "stages": (("layout.pp=64", "layout.dp=1", "layout.tp=1"), ("64 chunks, but llama-3.1-8b has 32 layers",)),
    "heads": (("layout.tp=3", "layout.pp=1", "chips=12"), ("3 does not divide the 32 attention heads",)),
    "batch": (("batch.global=63",), ("batch.global: 63 is not a multiple of dp 4 x micro 1 = 4; nearest: 60 or 64",)),
    "nodes": (("chips=12", "layout.tp=1", "layout.pp=1", "layout.dp=12"), ("12 is not a multiple of the 8 chips",)),
    "work": (("batch.global=4e7",), ("at most 200,000 are simulated",)),
    "positions": (("model=gpt3-1.3b",), ("more than the 2048 learned positions",)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_file_key_and_what_is_accepted(tmp_path: Path, name: str) -> None:
    text, says = BAD[name]
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        experiment(path)
    message = str(caught.value)
    assert message.startswith(path)
    assert all(words in message for words in says), message
    assert len(message) < 1200


@pytest.mark.parametrize("name", PLANS)
def test_layouts_that_do_not_divide_are_refused(tmp_path: Path, name: str) -> None:
    settings, says = PLANS[name]
    with pytest.raises(PlanError) as caught:
        experiment(write(tmp_path, GOOD), settings)
    assert all(words in str(caught.value) for words in says), str(caught.value)


def test_all_mistakes_come_at_once(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        experiment(write(tmp_path, GOOD.replace("chips: 64", "chips: 0").replace("pp: 2", "pp: x") + "foo: 1\n"))
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize(
    "setting", ["layout.pp", "=4", "layout..pp=4", ".=1", "layout.pp.x=1", "layout.pp=[", "chip=3"]
)
def test_bad_settings_are_refused(tmp_path: Path, setting: str) -> None:
    with pytest.raises(SpecError, match=r"--set|unknown key"):
        experiment(write(tmp_path, GOOD), (setting,))


@pytest.mark.parametrize("name", ["nothing.yaml", "no-such", "../secret", "/etc/passwd", "", ".", "a/b"])
def test_names_and_paths_that_lead_nowhere(name: str) -> None:
    with pytest.raises(SpecError, match=r"no such file|unknown experiment"):
        experiment(name)


def test_files_that_are_no_text_or_too_large(tmp_path: Path) -> None:
    binary, folder, large = tmp_path / "b.yaml", tmp_path / "d.yaml", tmp_path / "l.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    folder.mkdir()
    large.write_text("a: 1\n" * 300_000)
    for path, says in ((binary, "UTF-8"), (large, "larger than 1,000,000 bytes"), (folder, "no such file")):
        with pytest.raises(SpecError, match=says):
            experiment(str(path))


def test_a_chip_needs_units_and_a_source(tmp_path: Path) -> None:
    text = find("chip", "h100-sxm-80gb").read_text()
    for change, says in (
        (("3.35 TB/s", "3.35"), "hbm_bandwidth: 3.35 has no unit"),
        (("3.35 TB/s", "3.35 TB"), "is in byte, not in byte/s"),
        (("700 W", "-700 W"), "power: '-700 W' is not a value such as"),
        (("norm: ", "norm: -"), "is not a number at least 1"),
        (("source: >-\n  NVIDIA", "sauce: >-\n  NVIDIA"), "source: missing"),
    ):
        assert change[0] in text
        with pytest.raises(SpecError) as caught:
            load("chip", write(tmp_path, text.replace(*change)))
        assert says in str(caught.value)


def test_a_mistake_in_a_named_file_names_that_file(tmp_path: Path) -> None:
    chip = write(tmp_path, find("chip", "h100-sxm-80gb").read_text().replace("132", "zero"), "chip.yaml")
    system = find("system", "dgx-h100").read_text().replace("chip: h100-sxm-80gb", f"chip: {chip}")
    path = write(tmp_path, GOOD.replace("dgx-h100", write(tmp_path, system, "system.yaml")))
    with pytest.raises(SpecError, match=r"x\.yaml: system: .*system\.yaml: chip: .*chip\.yaml: cores: 'zero'"):
        experiment(path)


def test_specs_made_in_python_obey_the_same_table() -> None:
    with pytest.raises(SpecError, match=r"layout\.tp: 0 is not a whole number at least 1"):
        Layout(tp=0)
    with pytest.raises(SpecError, match="needs a source"):
        Chip(
            name="x", vendor="x", cores=1, peak_flops={}, hbm_bytes=1.0, hbm_bandwidth=1.0, power=1.0, source=" "
        )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_obeys_its_json_schema(kind: str) -> None:
    import yaml
    from jsonschema import Draft202012Validator

    checks = Draft202012Validator(schema(kind))
    for name in list_names(kind):
        checks.validate(yaml.safe_load(find(kind, name).read_text()))


def test_the_json_schema_refuses_what_is_refused() -> None:
    import yaml
    from jsonschema import ValidationError, validate

    for text in (GOOD + "foo: 1\n", GOOD.replace("chips: 64", "chips: 0"), GOOD.replace("zero: 1", "zero: 7")):
        with pytest.raises(ValidationError):
            validate(yaml.safe_load(text), schema("training"))


def test_the_smallest_chip_of_the_page_on_systems_can_be_simulated(tmp_path: Path, monkeypatch: Any) -> None:
    page = Path(__file__).parents[2] / "docs" / "systems.md"
    (tmp_path / "topologies" / "chips").mkdir(parents=True)
    text = page.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    (tmp_path / "topologies" / "chips" / "my-chip.yaml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    spec = experiment(write(tmp_path, GOOD), "system.chip=my-chip")
    with pytest.raises(SpecError, match=r"choose another with --set stack\.attention=unfused"):
        simulate(spec)
    result = simulate(experiment(write(tmp_path, GOOD), ["system.chip=my-chip", "stack.attention=unfused"]))
    assert 0.0 < result.mfu < 1.0
    assert any("my-chip" in row.name and not row.verified for row in result.assumptions)


SYSTEMS = [
    *("dgx-a100", "dgx-h100", "hgx-h200", "dgx-b200", "dgx-b300", "gb200-nvl72", "gb300-nvl72", "dgx-1", "dgx-2"),
    *("a100-40gb-roce1600", "a100-80gb-roce1600", "vtrain-a100-4xhdr200", "jean-zay-a100", "meta-roce-24k"),
    *("aws-p5", "gcp-a2", "gcp-a3", "grand-teton-h100-500w", "a100-pcie-pairs", "h100-pcie-pairs", "a40-pairs"),
    *("l40s-8", "rtxpro6000-8", "mi300x-8", "tpu-v4", "tpu-v5e", "tpu-v5p", "tpu-v6e", "tpu-v7", "trn1"),
]
"""Systems that published tables of measurements name, and Meta's."""


@pytest.mark.parametrize("name", SYSTEMS)
def test_systems_of_published_tables_are_there_with_what_nobody_checked(name: str) -> None:
    system = load("system", name)
    assert len(system.source) > 30
    for item in system.unverified:
        head, *rest = item.split(".")
        part = getattr(system, head)
        for step in rest:
            protocols = getattr(part, "protocols", {})
            if isinstance(part, Mapping) or step in protocols:
                part = (part if isinstance(part, Mapping) else protocols)[step]
            elif not hasattr(part, step):
                # a field that all protocols have
                assert all(hasattr(rules, step) for rules in protocols.values()), item
                assert protocols, item
            else:
                part = getattr(part, step)
    assert "library" in " ".join(system.unverified)


BAD_SYSTEMS: dict[str, tuple[str, tuple[str, str], str]] = {
    "unknown node": ("mi300x-8", ("kind: mesh", "kind: mesch"), "scale_up.kind: 'mesch' is not accepted; expected"),
    "unknown network": ("tpu-v5e", ("kind: leaf-spine", "kind: dcn"), "network.kind: 'dcn' is not accepted"),
    "no shape": ("tpu-v5e", ("shape: [16, 16]", "shape: []"), "a torus needs 1 to 6 lengths such as [16, 16]"),
    "zero length": ("tpu-v5e", ("shape: [16, 16]", "shape: [16, 0]"), "[16, 0] is not accepted"),
    "shape in words": ("tpu-v5e", ("shape: [16, 16]", "shape: 16x16"), "scale_up.shape: '16x16' is not accepted"),
    "small torus": (
        "tpu-v5e",
        ("shape: [16, 16]", "shape: [8, 8]"),
        "do not fit its torus of 8 x 8",
    ),
    "no rate": ("mi300x-8", ("  bandwidth: 400 Gb/s", "  tiers: 2"), "network.bandwidth: missing"),
    "zero rate": ("mi300x-8", ("bandwidth: 400 Gb/s", "bandwidth: 0 Gb/s"), "network.bandwidth: missing"),
    "no PCIe": ("a40-pairs", ("pcie_bandwidth: 24 GB/s", "wrap: 1"), "scale_up.pcie_bandwidth: missing"),
    "half a pair": ("a40-pairs", ("chips_per_node: 2", "chips_per_node: 3"), "do not divide the 3 chips"),
    "uneven pods": (
        "meta-roce-24k",
        ("nodes_per_pod: 384", "nodes_per_pod: 383"),
        "383 is not a multiple of the 2",
    ),
    "no nodes": ("meta-roce-24k", ("nodes_per_leaf: 2", "nodes_per_leaf: 0"), "0 is not a whole number at least 1"),
    "no taper": ("meta-roce-24k", ("pod_oversubscription: 7", "pod_oversubscription: -7"), "is not a number above 0"),
}


@pytest.mark.parametrize("name", BAD_SYSTEMS)
def test_bad_systems_are_refused_with_what_is_accepted(tmp_path: Path, name: str) -> None:
    system, change, says = BAD_SYSTEMS[name]
    text = find("system", system).read_text()
    assert change[0] in text
    path = write(tmp_path, text.replace(*change))
    with pytest.raises(SpecError) as caught:
        load("system", path)
    assert str(caught.value).startswith(path)
    assert says in str(caught.value), str(caught.value)


def test_settings_reach_other_kinds_of_machines(tmp_path: Path) -> None:
    text = GOOD.replace("dgx-h100", "tpu-v5e").replace("zero: 1", "zero: 0")
    spec = experiment(write(tmp_path, text), ["system.chips_per_node=64", "system.network.oversubscription=4"])
    assert spec.system.ports_per_node == 8
    with pytest.raises(PlanError, match="64 is not a multiple of the 48 chips"):
        experiment(write(tmp_path, text), ["system.chips_per_node=48"])


def test_the_json_schema_knows_every_kind_of_machine() -> None:
    definitions = schema("system")["$defs"]
    assert set(definitions["ScaleUp"]["properties"]["kind"]["enum"]) == {"nvswitch", "mesh", "torus", "pairs", "pcie"}
    assert {"none", "clos", "rail-only"} <= set(definitions["Network"]["properties"]["kind"]["enum"])
    assert definitions["Network"]["required"] == ["kind"]
