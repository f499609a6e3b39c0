"""Measured runs of serving engines: what is read of them, and what is refused."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import MeasurementError
from scaleout.io.requests import Trace
from scaleout.serve import serve_log
from scaleout.validation.kinds import tables_in
from scaleout.validation.serving import COLUMNS, compare
from scaleout.validation.serving import _experiment as experiment_of

MEASURED = Path(__file__).resolve().parents[2].parent / "shared" / "validation" / "serving"
SETTINGS = {
    "tensor_parallel_size": 1, "data_parallel_size": 1, "enable_expert_parallel": False, "max_num_seqs": 4,
    "max_num_batched_tokens": 512, "max_model_len": None, "dtype": "bfloat16", "kv_cache_dtype": "auto",
}  # fmt: skip


def written(folder: Path, rows: list[tuple[object, ...]], meta: object = None, name: str = "RTXPRO6000_run") -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    if meta is None:
        meta = {"model": "meta-llama/Llama-3.1-8B", "vllm_version": "0.19.0", "engine_kwargs": SETTINGS}
    path.with_suffix(".meta.json").write_text(json.dumps(meta))
    return path


def rows(factor: float = 1.0) -> list[tuple[object, ...]]:
    sizes = [(300, 20, 0.0), (900, 5, 0.01), (64, 1, 0.02), (700, 40, 0.05), (2000, 9, 0.3), (10, 30, 0.31)]
    return [(f"r{at}", *size, factor, 10 * factor, 2 * factor) for at, size in enumerate(sizes)]


def replayed(path: Path) -> list[tuple[object, ...]]:
    """The rows, with what is simulated in place of what was measured."""
    experiment, _ = experiment_of(path)
    log = serve_log(experiment, Trace(path, "bench"))[1]
    by_number = {number: at for at, number in enumerate(log.number)}
    found = []
    for number, (name, inputs, outputs, arrival, *_) in enumerate(rows()):
        at = by_number[number]
        first, finish = (np.asarray(column)[at] / TICKS_PER_SECOND for column in (log.first, log.finish))
        tpot = (finish - first) / max(1, int(outputs) - 1) * 1e3
        found.append((name, inputs, outputs, arrival, first - arrival, tpot or 1.0, finish - arrival))
    return found


def test_a_run_as_it_is_simulated_is_met(tmp_path):
    path = written(tmp_path, replayed(written(tmp_path, rows())))
    summary = compare(path).summary()
    assert set(summary["groups"]) == {"ttft", "tpot", "latency"}
    for group in summary["groups"].values():
        for name in ("bias", "mape", "p50", "p99"):
            assert group[name] == pytest.approx(0.0, abs=1e-9)
    # a reply of one token has no time between tokens
    assert summary["skipped"] == 1


def test_the_bias_is_that_of_the_means(tmp_path):
    path = written(tmp_path, rows())
    group = compare(path).summary()["groups"]["latency"]
    simulated = np.mean([row[6] for row in replayed(path)])
    assert group["bias"] == pytest.approx(simulated / 2.0 - 1.0)


@pytest.mark.parametrize(
    ("settings", "pool"),
    [
        ({"tensor_parallel_size": 2}, (1, 2, 1, 1)),
        ({"data_parallel_size": 2}, (2, 1, 1, 1)),
        ({"data_parallel_size": 2, "enable_expert_parallel": True}, (1, 1, 2, 2)),
    ],
)
def test_settings_become_a_pool(tmp_path, settings, pool):
    model = "Qwen/Qwen3-30B-A3B-Instruct-2507"
    meta = {"model": model, "vllm_version": "0.19.0", "engine_kwargs": SETTINGS | settings}
    experiment, flags = experiment_of(written(tmp_path, rows(), meta))
    (one,) = experiment.pools
    assert (one.replicas, one.tp, one.dp, one.ep) == pool
    assert (experiment.max_sequences, experiment.max_batched_tokens, flags) == (4, 512, ())


def test_another_version_is_flagged(tmp_path):
    meta = {"model": "meta-llama/Llama-3.1-8B", "vllm_version": "0.99.1", "engine_kwargs": SETTINGS}
    agreement = compare(written(tmp_path, rows(), meta))
    assert all(row.flags == ("vLLM 0.99.1 as vllm-0.19",) for row in agreement.compared)


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ([], "expected a JSON object"),
        ({"model": "someone/Nothing-9B", "engine_kwargs": SETTINGS}, "'Nothing-9B' is unknown"),
        ({"model": "Llama-3.1-8B", "engine_kwargs": 3}, "engine_kwargs: expected a mapping"),
        ({"model": "Llama-3.1-8B", "engine_kwargs": {"max_num_seqs": 0}}, "max_num_seqs: 0 is not accepted"),
        ({"model": "Llama-3.1-8B", "engine_kwargs": {"max_num_seqs": True}}, "max_num_seqs: True is not accepted"),
        ({"model": "Llama-3.1-8B", "engine_kwargs": {"dtype": "int3"}}, "dtype: 'int3' is unknown"),
        ({"model": "Llama-3.1-8B", "engine_kwargs": {"tensor_parallel_size": 5}}, "does not divide"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tmp_path, meta, words):
    with pytest.raises(MeasurementError, match=words):
        compare(written(tmp_path, rows(), meta))


def test_a_run_without_settings_or_of_an_unknown_chip_is_refused(tmp_path):
    path = written(tmp_path, rows())
    path.with_suffix(".meta.json").unlink()
    with pytest.raises(MeasurementError, match=r"run\.meta\.json: No such file"):
        compare(path)
    with pytest.raises(MeasurementError, match="begins with no chip"):
        compare(written(tmp_path, rows(), name="ABACUS_run"))


@pytest.mark.parametrize("cell", ["-1", "nan", "", "abc", "1e99"])
def test_malformed_rows_are_refused_with_their_line(tmp_path, cell):
    bad = rows()
    bad[3] = (*bad[3][:4], cell, *bad[3][5:])
    with pytest.raises(MeasurementError, match="line 5"):
        compare(written(tmp_path, bad))


def test_runs_lie_in_a_folder_of_their_own(tmp_path):
    (tmp_path / "serving").mkdir()
    path = written(tmp_path / "serving", rows())
    (tmp_path / "serving" / "kernels.csv").write_text("a,b\n")
    assert tables_in(tmp_path) == {path: "serving"}


@pytest.mark.parametrize("name", ["RTXPRO6000_Llama-3.1-8B", "RTXPRO6000_Qwen3-32B"])
def test_published_runs_are_met(name):
    path = MEASURED / f"{name}.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not here")
    groups = compare(path).summary()["groups"]
    for metric, most in (("tpot", 0.08), ("latency", 0.10), ("ttft", 0.20)):
        assert abs(groups[metric]["bias"]) <= most
