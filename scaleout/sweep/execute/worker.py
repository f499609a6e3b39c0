"""What a Ray worker does: batches, of the same code and the same files as the driver's."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scaleout.errors import ScaleoutError, SweepError
from scaleout.sweep.evaluate import evaluate_batch
from scaleout.sweep.execute.batches import Job
from scaleout.training.registry import SCHEDULES

__all__ = ["Held", "evaluate_there", "hold"]


class Held(NamedTuple):
    """What is sent to the workers once a stage: the job, and where its driver finds files."""

    job: Job
    folder: str
    path: str | None


_settled: dict[tuple[str, str], Held] = {}
"""By context and evaluator: what this process has checked, kept so that what was worked out for it serves again."""


def hold(job: Job) -> Held:
    """Of the driver: what its workers need to know.

    Raises
    ------
    SweepError
        The driver knows more than they can.
    """
    own = sorted(name for name, one in SCHEDULES.items() if not one.passes.__module__.startswith("scaleout."))
    if own:
        raise SweepError(
            f"schedule {own[0]}: was registered in this process, and Ray's workers do not know it; run without Ray"
        )
    return Held(job, str(Path.cwd()), os.environ.get("SCALEOUT_PATH"))


def evaluate_there(held: Held, texts: Sequence[str]) -> tuple[float, list[tuple[str, str]]]:
    """Evaluate a batch in a worker.

    Returns
    -------
    tuple
        How long it took [s], and status and text of each point.

    Raises
    ------
    SweepError
        This worker has other code or other files than the driver.
    """
    job = _settle(held).job
    begun = time.perf_counter()
    outcomes = [(status, text) for status, text in evaluate_batch(job.sweep, job.evaluator, texts)]
    return time.perf_counter() - begun, outcomes


def _settle(held: Held) -> Held:
    """The first time, go to where the driver is and see that points would come out as they do there."""
    known = (held.job.context, held.job.evaluator)
    if known not in _settled:
        if held.path is not None:
            os.environ["SCALEOUT_PATH"] = held.path
        # on the driver's machine, or one that shares its files; elsewhere Ray has put a copy where this process starts
        if Path(held.folder).is_dir():
            os.chdir(held.folder)
        _compare(held.job)
        _settled[known] = held
    return _settled[known]


def _compare(job: Job) -> None:
    from scaleout.sweep.identity import context_of

    here = f"the worker on {os.uname().nodename}"
    advice = "install the same version there, and let the folder travel: ray job submit --working-dir . -- scaleout ..."
    try:
        context = context_of(job.sweep)
    except ScaleoutError as error:
        raise SweepError(f"{here} cannot read what the sweep rests on: {error}; {advice}") from None
    if context != job.context:
        raise SweepError(
            f"{here} has another version of scaleout, or other files in topologies/ and workloads/, than this process: "
            f"its points would not be the same; {advice}"
        )
