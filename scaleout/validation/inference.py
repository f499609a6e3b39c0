"""Published inference: static batches step by step, and saturated queues of requests that are all alike.

What a row leaves out, an engine's own tools fill in as they do; everything assumed is flagged.
"""

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from scaleout.errors import MeasurementError, ScaleoutError
from scaleout.io.catalogue import load
from scaleout.io.table import Row, Watch, take_rows
from scaleout.models import active_parameters
from scaleout.serving.closed_forms import saturated_rate, static_batch
from scaleout.serving.room import room, weight_bytes
from scaleout.serving.steps import PoolSteps
from scaleout.specs import (
    Arrivals,
    Cache,
    InferenceEngine,
    Length,
    Model,
    Pool,
    Requests,
    ServingExperiment,
    System,
)
from scaleout.validation.agreement import Agreement, Compared, Skipped

__all__ = ["COLUMNS", "compare"]

COLUMNS = (
    "id",
    "model",
    "gpu",
    "n_gpus",
    "tp",
    "pp",
    "ep",
    "precision",
    "engine",
    "isl",
    "osl",
    "batch",
    "metric_kind",
)

_ENGINES = {
    "FasterTransformer": "fastertransformer",
    "Megatron": "megatron",
    "vLLM (Splitwise": "vllm-splitwise",
    "TensorRT-LLM v1": "tensorrt-llm-1.0",
}
"""How the name of an engine begins -> its file."""
_SYSTEMS = {
    "A100-40GB": "dgx-a100-40gb",
    "A100": "dgx-a100",
    "H100": "dgx-h100",
    "H200": "hgx-h200",
    "GB200": "gb200-nvl72",
    "B200": "dgx-b200",
    "RTX PRO 6000": "rtxpro6000-8-peer",
}
"""A word of the name of a chip -> the machine that it stood in; the first that fits."""
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "fp8": "fp8", "fp4": "nvfp4"}
_SHAPE = re.compile(r"\(L=(\d+) h=(\d+) a=(\d+) V=(\d+)\)")
Timers = dict[tuple[Hashable, ...], PoolSteps]
_MOST = 64
"""Pools whose step times are kept from row to row."""
_STATIC, _STEPS, _OFFLINE = "static batch end-to-end", "static batch prefill/decode step", "offline max throughput"


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row; rows that tell both phases of a batch make two comparisons."""
    timers: Timers = {}
    rows = take_rows(path, COLUMNS, partial(_take, timers), watch)
    return Agreement.of("inference", [one for found in rows for one in found], combined=[("source", "phase")])


def _take(timers: Timers, row: Row) -> list[Compared | Skipped]:
    """Comparisons of a row."""
    kind, engine, gpu, precision = (row.text(name) for name in ("metric_kind", "engine", "gpu", "precision"))
    for column in ("isl", "osl", "batch"):
        # online runs have names of data sets there
        if row.optional(column).isdigit():
            row.whole(column)
    reason = ""
    if not kind.startswith((_STATIC, _STEPS, _OFFLINE)):
        reason = f"no figure of steps or of a saturated queue: {kind!r:.60}"
    elif not _named(_ENGINES, engine):
        reason = f"no engine {engine!r:.60}"
    elif "power capped" in gpu:
        reason = "derived, not measured: prompts take exactly 1.30 times as long as uncapped, tokens just as long"
    elif not _named(_SYSTEMS, gpu):
        reason = f"no system of {gpu!r:.60}"
    elif precision not in _PRECISIONS:
        reason = f"unknown precision {precision!r:.60}"
    if reason:
        return [Skipped(row.line, reason)]
    flags: list[str] = []
    try:
        model = _model(row.text("model"))
        pool = _pool(model, row.whole("tp"), row.optional_whole("pp") or 1, kind, flags)
        experiment = _experiment(_system(gpu), model, _engine(engine), pool, _PRECISIONS[precision], kind)
        if kind.startswith(_OFFLINE):
            return [_offline(timers, row, experiment, flags)]
        return _static(timers, row, experiment, kind)
    except ScaleoutError as error:
        if isinstance(error, MeasurementError):
            raise
        return [Skipped(row.line, str(error).partition("\n")[0])]


def _named(known: Mapping[str, str], words: str) -> str:
    """What the first known word among others stands for, or ""."""
    return next((name for word, name in known.items() if word in words), "")


def _keys(row: Row, phase: str) -> dict[str, str]:
    return {
        "source": re.sub(r"[_-].*", "", row.optional("id")),
        "engine": row.text("engine"),
        "chip": row.text("gpu"),
        "model": row.text("model").partition(" (")[0],
        "phase": phase,
    }


def _static(timers: Timers, row: Row, experiment: ServingExperiment, kind: str) -> list[Compared | Skipped]:
    """A batch whose requests enter and leave together."""
    batch, inputs, outputs, pool = row.whole("batch"), row.whole("isl"), row.whole("osl"), experiment.pools[0]
    found = static_batch(
        _timer(timers, experiment), batch, inputs, outputs, pp=pool.pp,
        micro_tokens=experiment.engine.micro_batch_tokens,
    )  # fmt: skip
    label = f"tp {pool.tp}, pp {pool.pp}, {batch} of {inputs} and {outputs} tokens"
    if kind.startswith(_STATIC):
        whole = found.prefill + found.decode
        return [Compared(row.line, _keys(row, "whole batch"), row.number("e2e_ms") * 1e-3, whole, label=label)]
    first, further = row.number("ttft_ms") * 1e-3, row.number("tpot_ms") * 1e-3
    peak = experiment.system.chip.flops("bf16") * pool.chips_each
    if first < 2.0 * active_parameters(experiment.model) * batch * inputs / peak:
        return [Skipped(row.line, "impossible: prompts faster than the chips' dense rate")]
    return [
        Compared(row.line, _keys(row, "prefill"), first, found.prefill, label=label),
        Compared(row.line, _keys(row, "decode"), further, found.step, label=label),
    ]


def _offline(timers: Timers, row: Row, experiment: ServingExperiment, flags: list[str]) -> Compared | Skipped:
    """A queue of equal requests."""
    requests = re.search(r"\d+", row.optional("concurrency_or_rate"))
    if requests is None:
        return Skipped(row.line, "the number of requests is not told")
    inputs, outputs, pool = row.whole("isl"), row.whole("osl"), experiment.pools[0]
    sequences, tokens = _tuned(experiment, pool, inputs, outputs)
    rate = saturated_rate(
        _timer(timers, experiment), room(experiment, pool), requests=int(requests[0]), inputs=inputs, outputs=outputs,
        most_sequences=sequences, most_tokens=tokens, ranks=pool.dp, pp=pool.pp,
    )  # fmt: skip
    if not rate:
        return Skipped(row.line, "no request fits in the KV cache")
    label = f"tp {pool.tp}, pp {pool.pp}, dp {pool.dp}, {inputs} and {outputs} tokens"
    # seconds a token, as everywhere: a slower simulation has a positive error
    return Compared(row.line, _keys(row, "saturated"), 1.0 / row.number("out_tok_s"), 1.0 / rate, tuple(flags), label)


def _tuned(experiment: ServingExperiment, pool: Pool, inputs: int, outputs: int) -> tuple[int, int]:
    """Sequences and tokens of a step as trtllm-bench sets them (tensorrt_llm/bench/build/tuning.py)."""
    chip, chips = experiment.system.chip, pool.chips_each
    free = chips * chip.hbm_bytes - weight_bytes(experiment, pool) * chips
    token = room(experiment, pool).token * (pool.tp * pool.pp)
    fits = free * experiment.engine.memory_share / (token * (inputs + outputs))
    sequences = min(fits, 4096.0) / pool.pp
    tokens = min(sequences * (1.0 + inputs / outputs), 32768.0)
    if sequences < 256:
        most = max(64, 32 * math.ceil(sequences / 32))
    else:
        step = 128 if sequences < 1024 else 256
        most = step * math.ceil(sequences / step)
    if tokens < 4096:
        budget = max(2048, 256 * math.ceil(tokens / 256))
    else:
        step = 512 if tokens < 8192 else 1024
        budget = step * math.ceil(tokens / step)
    return most * pool.pp, max(budget, inputs)


def _pool(model: Model, tp: int, pp: int, kind: str, flags: list[str]) -> Pool:
    if kind.startswith(_OFFLINE) and model.experts is not None and tp > 1:
        # its options ask for attention by data parallelism; --ep is not told, and 1 unless given
        flags.append("attention by data parallelism, experts cut over all chips")
        return Pool(tp=1, pp=pp, dp=tp)
    return Pool(tp=tp, pp=pp)


@cache
def _system(gpu: str) -> System:
    found: System = load("system", _named(_SYSTEMS, gpu))
    return found


@cache
def _engine(name: str) -> InferenceEngine:
    found: InferenceEngine = load("engine", _named(_ENGINES, name))
    return found


@cache
def _model(name: str) -> Model:
    shape = _SHAPE.search(name)
    found: Model
    if shape is None:
        found = load("model", name)
        return found
    layers, hidden, heads, vocabulary = map(int, shape.groups())
    # Megatron's GPT: four times as wide inside, layer norms, biases
    base: Model = load("model", "ft-gpt-20b")
    return replace(
        base, name=name.partition(" (")[0], layers=layers, hidden=hidden, heads=heads, kv_heads=heads,
        head_size=hidden // heads, ffn=4 * hidden, vocabulary=vocabulary, max_sequence=4096,
    )  # fmt: skip


def _experiment(
    system: System, model: Model, engine: InferenceEngine, pool: Pool, precision: str, kind: str
) -> ServingExperiment:
    narrow = kind.startswith(_OFFLINE) and precision in ("fp8", "nvfp4")
    return ServingExperiment(
        system=system,
        model=model,
        engine=engine,
        pools=(pool,),
        precision=precision,  # type: ignore[arg-type]
        requests=Requests(
            input=Length(mean=1.0), output=Length(mean=1.0), arrivals=Arrivals(process="closed", clients=1)
        ),
        # checkpoints that NVIDIA quantised keep keys and values in 8 bits too
        cache=Cache(dtype="fp8" if narrow else "bf16"),
    )


def _timer(timers: Timers, experiment: ServingExperiment) -> PoolSteps:
    """Step times of an experiment with one pool, kept for the rows that follow."""
    pool, engine = experiment.pools[0], experiment.engine
    key = (
        experiment.system.name, experiment.model.name, engine.name, engine.version, pool, experiment.precision,
        experiment.cache.dtype,
    )  # fmt: skip
    if key not in timers:
        if len(timers) >= _MOST:
            timers.clear()
        timers[key] = PoolSteps(experiment, pool)
    return timers[key]
