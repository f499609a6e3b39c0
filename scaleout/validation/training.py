"""Training steps: a published run, what it took an iteration, and the same step simulated."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from scaleout.engine.program import TICKS_PER_SECOND
from scaleout.errors import ScaleoutError
from scaleout.evaluate.event import evaluate
from scaleout.io.table import Row, Watch, take_rows
from scaleout.specs import TrainingExperiment
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


def compare(path: Path, watch: Watch | None = None, jobs: int = 1) -> Agreement:
    """Every row, its step simulated by the event evaluator; equal experiments of several rows once.

    Parameters
    ----------
    watch
        Is told how many experiments are simulated, of how many.
    jobs
        Processes that simulate; the result is the same for any number.
    """
    rows = take_rows(path, COLUMNS, partial(_read, Known()))
    distinct = list(dict.fromkeys(row.experiment for row in rows if isinstance(row, _Published)))
    results: dict[TrainingExperiment, _Simulated] = {}
    for done, (experiment, result) in enumerate(zip(distinct, _simulate_all(distinct, jobs), strict=True), start=1):
        results[experiment] = result
        if watch is not None:
            watch(done, len(distinct))
    compared = [row if isinstance(row, Skipped) else _compared(row, results[row.experiment]) for row in rows]
    return Agreement.of("training", compared, combined=[("source", "system")])


@dataclass(frozen=True, slots=True)
class _Published:
    """A row's line, what it belongs to, its measured time [s], its experiment and what was assumed for it."""

    line: int
    keys: Mapping[str, str]
    measured: float
    experiment: TrainingExperiment
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Simulated:
    """Time of a step [s] and whether it fits in HBM; or why there is none."""

    seconds: float = 0.0
    fits: bool = True
    refusal: str = ""


def _read(known: Known, row: Row) -> _Published | Skipped:
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
    keys = {
        "source": source_of(row),
        "framework": row.optional("framework"),
        "system": experiment.system.name,
        "chip": experiment.system.chip.name,
        "precision": experiment.precision,
    }
    return _Published(row.line, keys, measured, experiment, tuple(flags))


def _simulate_all(experiments: Sequence[TrainingExperiment], jobs: int) -> Iterator[_Simulated]:
    """Results in the order of the experiments, by so many processes."""
    if jobs == 1:
        yield from map(_simulated, experiments)
    else:
        # a process that draws a progress bar has threads, and is not to be forked
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield from pool.map(_simulated, experiments)


def _simulated(experiment: TrainingExperiment) -> _Simulated:
    try:
        job = build(experiment)
        fits = max(sum(kinds.values()) for kinds in stage_peaks(job)) <= experiment.system.chip.hbm_bytes
        return _Simulated(evaluate(experiment, job=job).timeline.end / TICKS_PER_SECOND, fits)
    except ScaleoutError as error:
        return _Simulated(refusal=f"cannot be simulated: {str(error).splitlines()[0]:.120}")


def _compared(row: _Published, result: _Simulated) -> Compared | Skipped:
    if result.refusal:
        return Skipped(row.line, result.refusal)
    experiment = row.experiment
    layout = experiment.layout
    label = (
        f"{experiment.model.layers} x {experiment.model.hidden}, {experiment.chips} chips, "
        f"tp {layout.tp} pp {layout.pp} dp {layout.dp}, micro-batch {experiment.batch.micro}"
    )
    flags = row.flags if result.fits else (*row.flags, "does not fit by our count")
    return Compared(row.line, row.keys, row.measured, result.seconds, flags, label=label)
