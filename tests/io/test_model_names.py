"""Names of models: spellings, aliases, and those that published tables use."""

import csv
from pathlib import Path

import pytest

from scaleout.errors import SpecError
from scaleout.io.catalogue import FOLDERS, find, known_models, list_names, load, plain_name
from scaleout.validation.runs import named_model

BULK = Path(__file__).resolve().parents[2].parent / "shared" / "validation"
NOT_TRANSFORMERS = ["resnet-50", "dlrm-dcnv2 (MLPerf)"]
"""Of models.csv."""


def rows(name: str) -> list[dict[str, str]]:
    with (BULK / name).open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("FT GPT-6.7B", "ft-gpt-6.7b"), ("GPT OSS 120B", "gpt-oss-120b"), ("Qwen3_235B_a22B", "qwen3-235b-a22b"),
        ("vit-b/16", "vit-b-16"), ("turing-530B", "megatron-530b"), ("kimi-k2-1t", "kimi-k2"),
        ("llama3-70b", "llama-3.1-70b"), ("Grok 1 314b", "grok-1"), ("MPT-7b", "mpt-7b"), ("mpt-3b", "mpt-3b-foundry"),
        ("deepseek2-16b", "deepseek-v2-lite"), ("llama4-17b-128e", "llama-4-maverick"), ("DeepSeekV3", "deepseek-v3"),
    ],
)  # fmt: skip
def test_a_model_is_found_by_aliases_and_whatever_case_and_separators(name: str, file: str) -> None:
    assert find("model", name).stem == file
    assert known_models()[plain_name(name)] == load("model", file)


def test_no_two_models_have_one_plain_name() -> None:
    models = [load("model", name) for name in list_names("model")]
    names = [plain_name(name) for model in models for name in (model.name, *model.aliases)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("name", [*NOT_TRANSFORMERS, "", ".", "-", "gpt-oss-12b"])
def test_other_names_are_refused_with_near_matches(name: str) -> None:
    with pytest.raises(SpecError, match=r"unknown model|no such file"):
        find("model", name)


def test_a_broken_file_hides_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / FOLDERS["model"]
    folder.mkdir(parents=True)
    (folder / "broken.yaml").write_text("aliases: [")
    (folder / "mine.yaml").write_text((find("model", "llama-2-7b").read_text()) + "aliases: [My Model]\n")
    monkeypatch.chdir(tmp_path)
    assert find("model", "my-model") == Path(FOLDERS["model"]) / "mine.yaml"
    assert find("model", "grok 1 314b").stem == "grok-1"


@pytest.mark.skipif(not (BULK / "models.csv").is_file(), reason="models.csv, the table of architectures, is not here")
def test_every_transformer_of_the_table_is_there_with_its_shape() -> None:
    found = []
    for row in rows("models.csv"):
        if row["name"] in NOT_TRANSFORMERS:
            continue
        model = load("model", row["name"])
        assert (model.layers, model.hidden) == (int(row["layers"]), int(row["hidden"])), row["name"]
        if row["experts"]:
            assert model.experts is not None
            assert (model.experts.count, model.experts.top_k) == (int(row["experts"]), int(row["experts_per_token"]))
            assert model.experts.ffn == int(row["moe_ffn"])
        found.append(row["name"])
    assert len(found) >= 70


@pytest.mark.skipif(not (BULK / "training.csv").is_file(), reason="training.csv, the table of steps, is not here")
def test_names_of_published_runs_are_known_but_for_layers_that_no_model_can_tell() -> None:
    known = known_models()
    unknown = {
        row["model"]
        for row in rows("training.csv")
        if not row["layers"] and "lora" not in row["model"].lower() and named_model(row["model"], known) is None
    }
    # state-space layers, image models, and runs that are named after their size alone
    told = ("Nemotron_3", "Nemotron-H", "wan2.1", "gemma4", "DeepSeekV4", "BLOOM-prequel")
    assert [name for name in sorted(unknown) if not name.startswith(told)] == []
