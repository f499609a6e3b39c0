"""Training steps: a published run, what it took an iteration, and the same step simulated."""

from functools import partial
from pathlib import Path

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import ScaleoutError
from scaleout.evaluate import evaluate
from scaleout.io.table import Row, Watch, take_rows
from scaleout.training.memory import stage_peaks
from scaleout.training.step import build
from scaleout.validation.agreement import Agreement, Compared, Skipped
from scaleout.validation.runs import Known, experiment_of, iteration_seconds, source_of

__all__ = ["COLUMNS", "compare"]

COLUMNS = ("seq", "gbs", "gpus", "tp", "pp", "system")

_NUMBERS = (
    "layers", "hidden", "heads", "kv_heads", "ffn", "vocab", "experts", "topk", "seq", "gbs", "mbs", "gpus", "tp", "pp",
    "vpp", "dp", "cp", "ep", "sp", "zero_stage", "iter_s", "tflops_gpu", "tokens_s", "tokens_s_gpu",
)  # fmt: skip
"""Columns of numbers, none below 0."""


def compare(path: Path, watch: Watch | None = None) -> Agreement:
    """Every row, its step simulated by the event evaluator."""
    rows = take_rows(path, COLUMNS, partial(_compare_row, Known()), watch)
    return Agreement.of("training", rows, combined=[("source", "system")])


def _compare_row(known: Known, row: Row) -> Compared | Skipped:
    for column in _NUMBERS:
        # a malformed cell is an error also in a row that is left out
        row.optional_number(column, above=False)
    found = experiment_of(row, known)
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
