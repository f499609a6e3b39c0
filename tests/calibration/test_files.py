import pytest
import yaml

from scaleout.calibration.files import replace_section, write_section
from scaleout.errors import SpecError

TEXT = """\
# a chip
name: a
gemm:   # rates
  bf16:
    t: 1
  # eight bits
  fp8:
    t: 3

# last
source: |
  words
"""


def test_only_the_named_section_changes() -> None:
    new = replace_section(TEXT, ("gemm", "bf16"), "t: 2\nu:\n  v: 5")
    assert yaml.safe_load(new) == {
        "name": "a",
        "gemm": {"bf16": {"t": 2, "u": {"v": 5}}, "fp8": {"t": 3}},
        "source": "words\n",
    }
    assert [line for line in TEXT.splitlines() if line not in new.splitlines()] == ["    t: 1"]


def test_a_missing_section_is_added_at_its_level() -> None:
    data = yaml.safe_load(replace_section(TEXT, ("gemm", "fp4"), "t: 4"))
    assert data["gemm"] == {"bf16": {"t": 1}, "fp8": {"t": 3}, "fp4": {"t": 4}}
    assert data["source"] == "words\n"
    data = yaml.safe_load(replace_section(TEXT, ("attention", "a", "b"), "t: 4"))
    assert data["attention"] == {"a": {"b": {"t": 4}}}


def test_replacing_twice_is_replacing_once() -> None:
    once = replace_section(TEXT, ("gemm",), "fp8:\n  t: 9")
    assert replace_section(once, ("gemm",), "fp8:\n  t: 9") == once
    assert yaml.safe_load(once)["gemm"] == {"fp8": {"t": 9}}
    assert "# last" in once


def test_a_section_written_in_one_line_is_refused_and_the_file_left_alone(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "chip.yaml"
    file.write_text("gemm: {}\n")
    with pytest.raises(SpecError, match=r"chip\.yaml: gemm: is not written as an indented block"):
        write_section(file, ("gemm", "bf16"), "t: 1")
    assert file.read_text() == "gemm: {}\n"
    assert list(tmp_path.iterdir()) == [file]
