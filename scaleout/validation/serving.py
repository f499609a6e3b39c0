"""A measured run of a serving engine, replayed: the same requests at the same times, by the same settings.

Beside ``NAME.csv`` with a row for each request lies ``NAME.meta.json`` with the model, the version of
vLLM and the settings of its engine; the chip is what the file's name begins with.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import MeasurementError, ScaleoutError, near
from scaleout.io.catalogue import known_chips, known_models, list_names, load, plain_name
from scaleout.io.requests import Trace
from scaleout.io.table import Row, Watch, take_rows
from scaleout.serve import serve_log
from scaleout.specs import Arrivals, Cache, Model, Pool, Requests, Scheduler, ServingExperiment, System
from scaleout.validation.agreement import Agreement, Compared, Skipped, statistics

__all__ = ["COLUMNS", "Replay", "compare"]

COLUMNS = ("request_id", "input_toks", "output_toks", "arrival_s", "ttft_s", "tpot_ms", "latency_s")
_METRICS = {"ttft": ("ttft_s", 1.0), "tpot": ("tpot_ms", 1e-3), "latency": ("latency_s", 1.0)}
"""Metric -> its column and the column's unit [s]."""
_DTYPES = {"auto": "bf16", "bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp8": "fp8", "fp8_e4m3": "fp8"}
"""Dtypes as vLLM names them -> as they are named here; "auto" of a cache is that of the model."""
_LARGEST = 1 << 20
"""Bytes of a file of settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay(Agreement):
    """A replayed run: the groups are its metrics, each with the error of the means and of percentiles."""

    def summary(self) -> dict[str, Any]:
        """As of any table; ``bias`` of a group is that of the means, ``mape`` is over requests, ``p50`` and ``p99``
        are the errors of those percentiles."""
        # zero-argument super() knows the class before slots made another of it
        whole = Agreement.summary(self)
        groups = {}
        for name in _METRICS:
            rows = [row for row in self.compared if row.keys["metric"] == name]
            if rows:
                groups[name] = statistics(rows) | _of_means(rows)
        return whole | {"groups": groups}


def _of_means(rows: Sequence[Compared]) -> dict[str, float]:
    """Errors of the mean and of two percentiles [1]."""
    measured, simulated = (np.array([getattr(row, name) for row in rows]) for name in ("measured", "simulated"))
    p50, p99 = np.quantile(simulated, (0.5, 0.99)) / np.quantile(measured, (0.5, 0.99)) - 1.0
    return {"bias": float(simulated.mean() / measured.mean() - 1.0), "p50": float(p50), "p99": float(p99)}


def compare(path: Path, watch: Watch | None = None) -> Replay:
    """Every request of a run: its time to the first token, per token after it, and to the last.

    Raises
    ------
    MeasurementError
        The file, or that of its settings, is malformed or names what nobody knows.
    """
    experiment, flags = _experiment(path)
    rows = take_rows(path, COLUMNS, _read, watch)
    log = serve_log(experiment, Trace(path, "bench"))[1]
    order = np.argsort(np.asarray(log.number))
    arrival, first, finish = (
        np.asarray(getattr(log, name))[order] / TICKS_PER_SECOND for name in ("arrival", "first", "finish")
    )
    simulated = {"ttft": first - arrival, "latency": finish - arrival, "tpot": finish - first}
    found: list[Compared | Skipped] = []
    for at, row in enumerate(rows):
        for metric, value in row.values.items():
            seconds = float(simulated[metric][at])
            if metric == "tpot":
                if row.outputs == 1:
                    found.append(Skipped(row.line, "no time per token of a reply of one token"))
                    continue
                seconds /= row.outputs - 1
            label = f"{metric} of {row.inputs:,} in, {row.outputs:,} out"
            found.append(Compared(row.line, {"metric": metric}, value, seconds, flags, label))
    made = Agreement.of("serving", found)
    return Replay(kind=made.kind, compared=made.compared, skipped=made.skipped)


@dataclass(frozen=True, slots=True)
class _Measured:
    """A request: its line, tokens, and times [s]."""

    line: int
    inputs: int
    outputs: int
    values: Mapping[str, float]


def _read(row: Row) -> _Measured:
    values = {name: row.number(column) * unit for name, (column, unit) in _METRICS.items()}
    return _Measured(row.line, row.whole("input_toks"), row.whole("output_toks"), values)


def _experiment(path: Path) -> tuple[ServingExperiment, tuple[str, ...]]:
    """The experiment of a run, and what of it is assumed."""
    meta = _settings(path)
    where = path.with_suffix(".meta.json")
    settings = meta.get("engine_kwargs", {})
    if not isinstance(settings, dict):
        raise MeasurementError(f"{where}: engine_kwargs: expected a mapping of vLLM's settings")
    whole = partial(_whole, where, settings)
    model = _model(where, str(meta.get("model", "")).rpartition("/")[2])
    tp, dp = whole("tensor_parallel_size") or 1, whole("data_parallel_size") or 1
    pool = Pool(tp=tp, dp=dp, ep=tp * dp) if settings.get("enable_expert_parallel") else Pool(tp=tp, replicas=dp)
    engine, flags = _engine(str(meta.get("vllm_version", "")))
    system = _system(path)
    dtype, cache = (str(settings.get(key, "auto")) for key in ("dtype", "kv_cache_dtype"))
    for key, value in (("dtype", dtype), ("kv_cache_dtype", cache)):
        if value not in _DTYPES:
            raise MeasurementError(f"{where}: {key}: {value!r:.60} is unknown; {near(value, _DTYPES)}")
    precision: Any = _DTYPES[dtype]
    try:
        return (
            ServingExperiment(
                system=system, model=model, engine=load("engine", engine), pools=(pool,), precision=precision,
                requests=Requests(trace=str(path), form="bench", arrivals=Arrivals(process="trace")),
                scheduler=Scheduler(
                    max_sequences=whole("max_num_seqs"), max_batched_tokens=whole("max_num_batched_tokens"),
                    max_length=whole("max_model_len"),
                ),
                cache=Cache(
                    dtype=precision if cache == "auto" else _DTYPES[cache],  # type: ignore[arg-type]
                    prefix=settings.get("enable_prefix_caching") is True,
                ),
            ),
            flags,
        )  # fmt: skip
    except ScaleoutError as error:
        raise MeasurementError(f"{where}: {error}") from None


def _model(where: Path, words: str) -> Model:
    """The model of a name; what is trained further, such as -Instruct-2507, has the shape of what it was made of."""
    models, name = known_models(), words
    while name and plain_name(name) not in models:
        name = name.rpartition("-")[0]
    if not name:
        raise MeasurementError(f"{where}: model: {words!r:.80} is unknown; {near(words, list_names('model'))}")
    return models[plain_name(name)]


def _settings(path: Path) -> dict[str, Any]:
    """The settings beside a run."""
    where = path.with_suffix(".meta.json")
    try:
        with where.open("rb") as file:
            text = file.read(_LARGEST + 1)
    except OSError as error:
        raise MeasurementError(f"{where}: {error.strerror}; a run has its engine's settings beside it") from None
    try:
        meta = json.loads(text) if len(text) <= _LARGEST else None
    except (ValueError, RecursionError):
        meta = None
    if not isinstance(meta, dict):
        raise MeasurementError(f"{where}: expected a JSON object with model, vllm_version and engine_kwargs")
    return meta


def _whole(where: Path, settings: Mapping[str, Any], key: str) -> int | None:
    """A whole number above 0 among settings; None where it is left to the engine."""
    value = settings.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise MeasurementError(f"{where}: {key}: {value!r:.60} is not accepted; expected a whole number above 0")
    return value


def _engine(version: str) -> tuple[str, tuple[str, ...]]:
    """The engine of a version of vLLM, or the nearest one."""
    known = [name for name in list_names("engine") if name.startswith("vllm-") and name[5:6].isdigit()]
    wanted = "vllm-" + ".".join(version.split(".")[:2])
    if wanted in known:
        return wanted, ()
    return known[-1], (f"vLLM {version or 'of no version'} as {known[-1]}",)


def _system(path: Path) -> System:
    """The machine whose chip the name of the file begins with."""
    words, chips = path.name.partition("_")[0], known_chips()
    found = next((chip for name, chip in sorted(chips.items()) if plain_name(name) == plain_name(words)), None)
    if found is None:
        raise MeasurementError(f"{path.name}: begins with no chip; {near(words.lower(), chips)}")
    for name in list_names("system"):
        system: System = load("system", name)
        if system.chip.name == found.name:
            return system
    raise MeasurementError(f"{path.name}: no system has the chip {found.name}")
