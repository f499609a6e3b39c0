"""Tables of kernels that chip files name: what is read, what is refused, and where they are looked for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from scaleout.errors import SpecError
from scaleout.evaluate.analytic import analyse
from scaleout.evaluate.assumptions import assumptions
from scaleout.evaluate.ranges import range_warnings
from scaleout.hardware.gemm import gemm_seconds, gemm_vector
from scaleout.io.catalogue import load, schema
from scaleout.io.experiments import experiment
from scaleout.io.kernels import read_tables
from scaleout.parallel.inference_kernels import Kernels
from scaleout.space import analyse_many
from scaleout.specs import SystolicConstants, TrainingExperiment

H100 = load("chip", "h100-sxm-80gb")
HEAD = "chip,dtype,m,n,k,time_us\n"
ROWS = "".join(
    f"h100-sxm,bfloat16,{m},{n},{k},{1.5e6 * gemm_seconds(m, n, k, 2.0, gemm_vector(H100, 'bf16')):.6f}\n"
    for m in (1024, 8192) for n in (1024, 8192) for k in (1024, 8192)
)  # fmt: skip
Make = Callable[..., TrainingExperiment]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "mine.csv"
    path.write_text(HEAD + ROWS + "v100,bfloat16,1,1,1,1\nh100-sxm,bfloat16,8192,8192,8192,3\n")
    return path


def test_rows_of_this_chip_are_kept_and_what_beats_its_data_sheet_is_counted(table: Path) -> None:
    found = read_tables({"gemm": str(table)}, H100)["gemm"]
    assert (found.count, found.left_out, found.file) == (8, 1, "mine.csv")
    assert found.rows["bf16"][0][:3] == (1024, 1024, 1024)
    assert len(found.digest) == 64


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bf16,1,2,3,-4\nbf16,1,x,3,4\n", "line 2, column 'time_us': '-4' is not accepted"),
        ("bf16,1,2,3,4\nbf16,1,x,3,4\n", "line 3, column 'n': 'x' is not accepted; expected a whole number"),
        ("bf61,1,2,3,4\n", "line 2, column 'dtype': 'bf61'; did you mean 'bf16'"),
        (
            "bf16,8192,8192,8192,3\n",
            "1 of 1 rows are faster than the data sheet of 'h100-sxm-80gb' allows\n.*line 2: 3 us",
        ),
        ("", "has a header, but no rows"),
    ],
)
def test_a_bad_table_is_refused_by_line_and_reason(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("dtype,m,n,k,time_us\n" + text)
    with pytest.raises(SpecError, match=words):
        read_tables({"gemm": str(path)}, H100)


def test_no_such_file_kind_chip_or_kernel(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text(HEAD + "v100,bf16,1,1,1,1\n")
    for names, words in [
        ({"gemm": "nothing.csv"}, r"tables.gemm: nothing.csv: cannot be read: No such file"),
        ({"gem": str(path)}, "tables.gem: unknown key; did you mean 'gemm'"),
        ({"gemm": str(path)}, "has no row of chip 'h100-sxm-80gb'"),
        ({"gemm": 3}, "expected the path of a CSV or Parquet file"),
        ([], "tables: .* is not accepted"),
    ]:
        with pytest.raises(SpecError, match=words):
            read_tables(names, H100)
    path.write_text(
        "phase,dtype,kv_dtype,batch,q_len,kv_len,heads,kv_heads,head_dim,time_us,source\n"
        "decode,bf16,bf16,1,1,4096,32,8,128,40,flash-attention-9\n"
    )
    with pytest.raises(SpecError, match=r"no row of an attention kernel of 'h100-sxm-80gb'; .*flash-attention-9"):
        read_tables({"attention": str(path)}, H100)
    path.write_text(path.read_text().replace("flash-attention-9", "TensorRT-LLM"))
    (row,) = read_tables({"attention": str(path)}, H100)["attention"].rows["trtllm decode bf16 bf16"]
    assert row == pytest.approx((1.0, 1.0, 4096.0, 32.0, 8.0, 128.0, 40e-6))


def test_a_table_is_found_beside_the_file_that_names_it(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip = table.parent / "mine.yaml"
    text = (Path(__file__).resolve().parents[2] / "topologies/chips/h100-sxm-80gb.yaml").read_text()
    chip.write_text(text + "tables:\n  gemm: mine.csv\n")
    assert load("chip", str(chip)).tables["gemm"].count == 8
    monkeypatch.chdir(table.parent)
    spec = experiment("llama-3.1-8b-16", ("system=dgx-h100", "system.chip.tables.gemm=mine.csv"))
    assert spec.system.chip.tables["gemm"].left_out == 1
    assert schema("chip")["properties"]["tables"]["properties"].keys() == {"gemm", "attention"}


def test_parquet_gives_the_same_rows_or_says_what_it_needs(table: Path) -> None:
    path = table.with_suffix(".parquet")
    try:
        import pyarrow.csv
        import pyarrow.parquet
    except ImportError:
        path.write_bytes(b"PAR1")
        with pytest.raises(SpecError, match=r"is Parquet, which needs pyarrow: pip install pyarrow"):
            read_tables({"gemm": str(path)}, H100)
        return
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(table), path)
    assert read_tables({"gemm": str(path)}, H100)["gemm"].rows == read_tables({"gemm": str(table)}, H100)["gemm"].rows
    path.write_bytes(b"PAR1")
    with pytest.raises(SpecError, match="cannot be read as Parquet"):
        read_tables({"gemm": str(path)}, H100)


def test_every_evaluator_feels_it_and_says_so(table: Path, small: Make) -> None:
    plain = small()
    system = plain.system
    measured = replace(H100, tables=read_tables({"gemm": str(table)}, H100))
    arrays = replace(
        H100,
        gemm={"bf16": SystolicConstants(rows=128, columns=128, arrays=64, hbm_efficiency=0.9, source="by hand")},
    )
    with_table, with_arrays = (replace(plain, system=replace(system, chip=chip)) for chip in (measured, arrays))
    specs = (plain, with_table, with_arrays)
    # machine code, and the same source run plain
    many, each = analyse_many(specs), [analyse(spec, compiled=False).end for spec in specs]
    assert many.step_time_ps.tolist() == each
    assert each[1] > 1.03 * each[0]
    assert each[2] != each[0]
    said = [row for row in assumptions(with_table) if "measured products" in row.name]
    assert [row.value for row in said] == ["8 rows of mine.csv; 1 left out, faster than the data sheet allows"]
    assert any("outside the calibrated 1,024 to 8,192" in line for line in range_warnings(with_table))


def test_serving_feels_it(table: Path) -> None:
    engine = load("engine", "vllm-0.19")
    measured = replace(H100, tables=read_tables({"gemm": str(table)}, H100))
    kernels, plain = (Kernels(chip, engine, "bf16", "bf16") for chip in (measured, H100))
    vector = gemm_vector(measured, "bf16", sustained=True)
    assert kernels.linear(1024, 8192, 1024).seconds == gemm_seconds(1024, 8192, 1024, 2.0, vector)
    assert kernels.linear(1024, 8192, 1024).seconds > 1.3 * plain.linear(1024, 8192, 1024).seconds
