"""Training steps: a published run, what it took an iteration, and the same step simulated.

A row must give the architecture (or a model's name), the layout, the precision, the system and a
measurement. What else is missing is assumed as its framework does it, and flagged.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import PlanError, ScaleoutError
from scaleout.evaluate import evaluate
from scaleout.io.catalogue import known_models, list_names, load, plain_name
from scaleout.io.table import Row, Watch, take_rows
from scaleout.models import training_flops
from scaleout.specs import Batch, Layout, Model, Stack, System, TrainingExperiment
from scaleout.training.memory import stage_peaks
from scaleout.training.step import build
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.frameworks import framework_of

__all__ = ["COLUMNS", "compare", "experiment_of", "iteration_seconds", "known_models", "named_model", "source_of"]

COLUMNS = ("seq", "gbs", "gpus", "tp", "pp", "system")


_NUMBERS = (
    "layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "seq", "gbs", "mbs", "gpus", "tp", "pp", "vpp",
    "dp", "cp", "sp", "zero_stage", "iter_s", "tflops_gpu", "tokens_s", "tokens_s_gpu",
)  # fmt: skip
"""Columns of numbers, none below 0."""
_PRECISIONS = {"fp16": "fp16", "bf16": "bf16", "nvfp4": "nvfp4"}
_UNTRAINED = re.compile(r"lora", re.IGNORECASE)
_SEQUENCE = 2048
_VOCABULARY = 51200
"""GPT-2's 50,257 tokens padded as Megatron-LM pads them."""


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, its step simulated by the event evaluator."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, _Known()), watch)
    return Agreement.of("training", rows, combined=[("source", "system")])


class _Known:
    """Specs by the names that rows use, loaded once."""

    def __init__(self) -> None:
        self.models = known_models()
        self.systems: dict[str, System] = {name: load("system", name) for name in list_names("system")}
        self.stacks: dict[str, Stack] = {name: load("stack", name) for name in list_names("stack")}


def _compare_row(known: _Known, row: Row) -> Compared | Skipped:
    for column in _NUMBERS:
        # a malformed cell is an error also in a row that is left out
        row.optional_number(column, above=False)
    found = experiment_of(row, known.models, known.systems, known.stacks)
    if isinstance(found, Skipped):
        return found
    experiment, flags = found
    measured = iteration_seconds(row, experiment)
    if measured is None:
        return Skipped(row.line, "no measurement")
    try:
        job = build(experiment)
        if max(sum(kinds.values()) for kinds in stage_peaks(job)) > experiment.system.chip.hbm_bytes:
            flags = [*flags, "does not fit by our count"]
        simulated = evaluate(experiment, job=job).timeline.end / TICKS_PER_SECOND
    except ScaleoutError as error:
        return Skipped(row.line, f"cannot be simulated: {str(error).splitlines()[0]:.120}")
    keys = {
        "source": source_of(row),
        "framework": row.optional("framework"),
        "system": experiment.system.name,
        "chip": experiment.system.chip.name,
        "precision": experiment.precision,
    }
    model, layout = experiment.model, experiment.layout
    label = (
        f"{model.layers} x {model.hidden}, {experiment.chips} chips, tp {layout.tp} pp {layout.pp} dp {layout.dp}, "
        f"micro-batch {experiment.batch.micro}"
    )
    return Compared(row.line, keys, measured, simulated, tuple(flags), label=label)


def source_of(row: Row) -> str:
    """Who published a row: the first word of its name, or its source."""
    return re.sub(r"[_-].*", "", row.optional("id")) or row.optional("source")


def experiment_of(
    row: Row, models: Mapping[str, Model], systems: Mapping[str, System], stacks: Mapping[str, Stack]
) -> tuple[TrainingExperiment, list[str]] | Skipped:
    """The experiment of a row and what was assumed for it, or why it cannot be one."""
    flags: list[str] = []
    precision = row.optional("precision").lower() or _found(_PRECISIONS, row.optional("source"))
    for column in ("gpus", "tp", "pp", "system"):
        if not row.optional(column):
            return Skipped(row.line, f"no {column}")
    if not precision:
        return Skipped(row.line, "no precision")
    if (row.optional_number("experts", above=False) or 0) > 0:
        return Skipped(row.line, "mixture of experts")
    if (row.optional_number("cp", above=False) or 1) > 1:
        return Skipped(row.line, "context parallelism")
    if (row.optional_number("zero_stage", above=False) or 0) > 1:
        return Skipped(row.line, "sharded gradients or weights (ZeRO-2, ZeRO-3, FSDP)")
    if _UNTRAINED.search(row.optional("model") + row.optional("framework")):
        return Skipped(row.line, "only a part of the weights is trained (LoRA)")
    framework = framework_of(row.optional("framework") or row.optional("source"), row.optional("system"))
    if framework is None:
        return Skipped(row.line, f"unknown framework {row.optional('framework')!r:.60}")
    name = row.text("system")
    system = systems.get(framework.systems.get(name, name))
    if system is None:
        return Skipped(row.line, f"unknown system {name!r:.60}")
    model = _model(row, models, flags)
    if isinstance(model, str):
        return Skipped(row.line, model)

    def given(column: str, default: int) -> int:
        value = row.optional_whole(column, low=0)
        if value is None:
            flags.append(f"{column} assumed")
            return default
        return value

    chips, tp, pp = row.whole("gpus"), row.whole("tp"), row.whole("pp")
    sequence, batch = row.optional_whole("seq"), row.optional_whole("gbs")
    tokens = _tokens(row)
    if tokens and batch and not sequence:
        flags.append("seq from tokens")
        sequence = round(tokens / batch)
    elif tokens and sequence and not batch:
        flags.append("gbs from tokens")
        batch = round(tokens / sequence)
    if not sequence or not batch:
        return Skipped(row.line, "no seq or no gbs")
    micro = given("mbs", 1)
    vpp = row.optional_whole("vpp") or 0
    if pp > 1 and not vpp:
        flags.append("vpp assumed")
        vpp = framework.chunks(model.layers, pp, batch * tp * pp // (chips * micro))
    vpp = vpp if pp > 1 else 1
    recompute = row.optional("recompute")
    if not recompute:
        flags.append("recompute assumed")
    precision = _PRECISIONS.get(precision, "fp8" if "fp8" in precision else precision)
    try:
        experiment = TrainingExperiment(
            system=system,
            chips=chips,
            model=model,
            layout=Layout(
                tp=tp,
                pp=pp,
                dp=max(1, chips // (tp * pp)),
                vpp=vpp,
                sequence_parallel=bool(given("sp", framework.sequence_parallel)) and tp > 1,
                zero=given("zero_stage", framework.zero),  # type: ignore[arg-type]
            ),
            batch=Batch(global_=batch, micro=micro, sequence=sequence),
            precision=precision,  # type: ignore[arg-type]
            gradients=framework.gradients[precision != "fp16"],  # type: ignore[arg-type]
            recompute=tuple(filter(None, [recompute or framework.recompute])),
            stack=stacks[framework.stack],
        )
    except PlanError:
        return Skipped(row.line, "the layout does not multiply out to the chips and the batch of the row")
    except ScaleoutError as error:
        return Skipped(row.line, f"no experiment: {str(error).splitlines()[0]:.120}")
    return experiment, flags


def _found(names: Iterable[str], text: str) -> str:
    """The first of some words that a text has, or ""."""
    return next((name for name in names if re.search(rf"\b{name}\b", text)), "")


def _model(row: Row, models: Mapping[str, Model], flags: list[str]) -> Model | str:
    """A model of the row's shape, or else of its name; or why there is none."""
    name = row.optional("model")
    if not all(row.optional(column) for column in ("layers", "hidden", "heads")):
        model = named_model(name, models)
        return model or f"no architecture (layers, hidden, heads), and unknown model {name!r:.60}"
    heads, hidden = row.whole("heads"), row.whole("hidden")
    if not row.optional("vocab"):
        flags.append("vocab assumed")
    if hidden % heads:
        return "the heads do not divide the hidden size"
    return Model(
        name=name or "of the row",
        layers=row.whole("layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=row.optional_whole("kv_heads") or heads,
        head_size=hidden // heads,
        ffn=row.optional_whole("ffn") or 4 * hidden,
        vocabulary=row.optional_whole("vocab") or _VOCABULARY,
        gated=False,
        norm="layer",
        bias=True,
        positions="learned",
        tied_embeddings=True,
        max_sequence=row.optional_whole("seq") or _SEQUENCE,
        source=row.optional("source") or "the row",
    )


def named_model(name: str, models: Mapping[str, Model]) -> Model | None:
    """The model that a name in a table means, whatever its case, separators and words about precision."""
    return models.get(_plain(name))


def _plain(name: str) -> str:
    """A model's name without case, separators and words about precision."""
    return plain_name(re.sub(r"\(.*?\)|\b(bf16|fp8|h100|finetuning|sft)\b", "", name.lower()))


def _tokens(row: Row) -> float | None:
    """Tokens of an iteration, from its time and the tokens a second."""
    seconds = row.optional_number("iter_s")
    rate = row.optional_number("tokens_s") or (row.optional_number("tokens_s_gpu") or 0) * row.whole("gpus")
    return seconds * rate if seconds and rate else None


def iteration_seconds(row: Row, experiment: TrainingExperiment) -> float | None:
    """Measured time of an iteration [s]: given, from tokens a second, or from the source's FLOP/s."""
    seconds = row.optional_number("iter_s")
    if seconds is not None:
        return seconds
    for column, chips in (("tokens_s", 1), ("tokens_s_gpu", experiment.chips)):
        rate = row.optional_number(column)
        if rate is not None:
            return experiment.batch.tokens / (rate * chips)
    rate = row.optional_number("tflops_gpu")
    if rate is None:
        return None
    model, batch = experiment.model, experiment.batch
    flops = training_flops(model, batch.global_, batch.sequence)
    if row.optional("flops_counted") == "hardware":
        # the formula of arXiv 2104.04473: layers are computed once more, the head is not
        flops += training_flops(replace(model, vocabulary=1), batch.global_, batch.sequence) / 3
    return flops / experiment.chips / (rate * 1e12)
