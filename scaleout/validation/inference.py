"""Published inference: static batches step by step, and saturated queues of requests that are all alike.

What a row leaves out, an engine's own tools fill in as they do; everything assumed is flagged.
"""

import math
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from scaleout.errors import ScaleoutError
from scaleout.io.catalogue import load
from scaleout.io.table import Row, Watch, take_rows
from scaleout.models import active_parameters
from scaleout.serving.batches import saturated_rate, static_batch
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
    Scheduler,
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
    "vLLM (Splitwise characterisation)": "vllm-splitwise",
    "TensorRT-LLM v1.0 PyTorch backend": "tensorrt-llm-1.0",
}
_SYSTEMS = {
    "A100-80GB SXM (SuperPOD)": "dgx-a100",
    "A100-80GB": "dgx-a100",
    "H100-80GB": "dgx-h100",
    "H100 SXM 80GB": "dgx-h100",
    "H200": "hgx-h200",
    "B200": "dgx-b200",
    "GB200": "gb200-nvl72",
    "RTX PRO 6000 Server": "rtxpro6000-8",
}
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "fp8": "fp8", "fp4": "nvfp4"}
_SHAPE = re.compile(r"\(L=(\d+) h=(\d+) a=(\d+) V=(\d+)\)")
_STATIC, _STEPS, _OFFLINE = "static batch end-to-end", "static batch prefill/decode step", "offline max throughput"


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row; rows that tell both phases of a batch make two comparisons."""
    known = _Known()
    rows = take_rows(path, COLUMNS, known.take, watch)
    return Agreement.of("inference", [one for found in rows for one in found], combined=[("source", "phase")])


@dataclass
class _Known:
    """Pools whose step times are kept from row to row."""

    def take(self, row: Row) -> list[Compared | Skipped]:
        """Comparisons of a row."""
        kind, engine = row.text("metric_kind"), row.text("engine")
        if engine not in _ENGINES:
            return [Skipped(row.line, f"no engine {engine!r}")]
        if "power capped" in row.text("gpu"):
            return [Skipped(row.line, "not measured: prompts take 1.30 times as long as those of the uncapped chip")]
        if row.text("gpu") not in _SYSTEMS:
            return [Skipped(row.line, f"no chip {row.text('gpu')!r}")]
        if not kind.startswith((_STATIC, _STEPS, _OFFLINE)):
            return [Skipped(row.line, f"no figure of steps or of a saturated queue: {kind!r:.60}")]
        precision = row.text("precision")
        if precision not in _PRECISIONS:
            return [Skipped(row.line, f"unknown precision {precision!r:.60}")]
        flags: list[str] = []
        try:
            model = _model(row.text("model"))
            tp, pp = row.whole("tp"), row.optional_whole("pp") or 1
            pool = _pool(model, tp, pp, kind, flags)
            experiment = _experiment(
                _system(row.text("gpu")), model, _engine(engine), pool, _PRECISIONS[precision], kind
            )
            if kind.startswith(_OFFLINE):
                return [self._offline(row, experiment, pool, flags)]
            return self._static(row, experiment, pool, kind)
        except ScaleoutError as error:
            return [Skipped(row.line, str(error).partition("\n")[0])]

    def _keys(self, row: Row, phase: str) -> dict[str, str]:
        return {
            "source": re.sub(r"[_-].*", "", row.optional("id")),
            "engine": row.text("engine"),
            "chip": row.text("gpu"),
            "model": row.text("model").partition(" (")[0],
            "phase": phase,
        }

    def _static(self, row: Row, experiment: ServingExperiment, pool: Pool, kind: str) -> list[Compared | Skipped]:
        batch, inputs, outputs = row.whole("batch"), row.whole("isl"), row.whole("osl")
        found = static_batch(
            _timer(experiment), batch, inputs, outputs, pp=pool.pp, micro_tokens=experiment.engine.micro_batch_tokens
        )
        label = f"tp {pool.tp}, pp {pool.pp}, {batch} of {inputs} and {outputs} tokens"
        if kind.startswith(_STATIC):
            whole = found.prefill + found.decode
            return [Compared(row.line, self._keys(row, "whole batch"), row.number("e2e_ms") * 1e-3, whole, label=label)]
        peak = experiment.system.chip.flops("bf16") * pool.chips_each
        least = 2.0 * active_parameters(experiment.model) * batch * inputs / peak
        if row.number("ttft_ms") * 1e-3 < least:
            return [Skipped(row.line, "impossible: prompts faster than the chips' dense rate")]
        return [
            Compared(row.line, self._keys(row, "prefill"), row.number("ttft_ms") * 1e-3, found.prefill, label=label),
            Compared(row.line, self._keys(row, "decode"), row.number("tpot_ms") * 1e-3, found.step, label=label),
        ]

    def _offline(self, row: Row, experiment: ServingExperiment, pool: Pool, flags: list[str]) -> Compared | Skipped:
        requests = re.search(r"\d+", row.optional("concurrency_or_rate"))
        if requests is None:
            return Skipped(row.line, "the number of requests is not told")
        inputs, outputs = row.whole("isl"), row.whole("osl")
        space = room(experiment, pool)
        sequences, tokens = _tuned(experiment, pool, inputs, outputs)
        rate = saturated_rate(
            _timer(experiment), space, requests=int(requests[0]), inputs=inputs, outputs=outputs,
            most_sequences=sequences, most_tokens=tokens, ranks=pool.dp, pp=pool.pp,
        )  # fmt: skip
        if not rate:
            return Skipped(row.line, "no request fits in the KV cache")
        label = f"tp {pool.tp}, pp {pool.pp}, {inputs} and {outputs} tokens"
        # seconds a token, as everywhere: a slower simulation has a positive error
        return Compared(
            row.line, self._keys(row, "saturated"), 1.0 / row.number("out_tok_s"), 1.0 / rate, tuple(flags), label
        )


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
    found: System = load("system", _SYSTEMS[gpu])
    return found


@cache
def _engine(name: str) -> InferenceEngine:
    found: InferenceEngine = load("engine", _ENGINES[name])
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
        scheduler=Scheduler(),
    )


_timers: dict[str, PoolSteps] = {}


def _timer(experiment: ServingExperiment) -> PoolSteps:
    """Step times of an experiment with one pool, kept for the rows that follow."""
    pool = experiment.pools[0]
    key = repr(
        (
            experiment.system.name,
            experiment.model,
            experiment.engine.name,
            experiment.engine.version,
            pool,
            experiment.precision,
            experiment.cache.dtype,
        )
    )
    if key not in _timers:
        _timers[key] = PoolSteps(experiment, pool)
    return _timers[key]
