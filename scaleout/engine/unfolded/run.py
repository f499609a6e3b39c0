"""Unfolded runs at scale: every operation of every rank, in one compiled loop.

The same meaning and the same integers as `scaleout.engine.accelerator`, which runs a process for
each stream in SimPy; ``docs/engine.md`` says what is alike and what is not.
"""

from itertools import pairwise

import numpy as np

from scaleout.engine.accelerator import stuck_at
from scaleout.engine.program import Job
from scaleout.engine.timeline import ClassTimeline, Timeline
from scaleout.engine.unfolded.layout import BASE, OP, WIDTH, Script, Small, Unfolded
from scaleout.engine.unfolded.loop import AT, run_loop
from scaleout.errors import WorkloadError

__all__ = ["COMPILED_FROM", "run_unfolded"]

COMPILED_FROM = 200_000
"""Operations of all ranks from which on an unfolded run is worth loading compiled code."""


def run_unfolded(wiring: Unfolded, *, plain: bool = False) -> Timeline:
    """Run every rank to its end.

    Parameters
    ----------
    plain
        True runs the loop as Python, slowly; the times are the same.

    Raises
    ------
    WorkloadError
        Some operations wait for each other for ever; the message names them.
    """
    script = wiring.script
    record, streams, events, solves = run_loop(script, wiring.meetings, wiring.wires, plain=plain)
    _check_ended(wiring.job, script, streams)
    cuts = [*script.ranks[:, BASE].tolist(), script.operations]
    arrived, started, ended = record.T
    classes = tuple(
        ClassTimeline(arrived[low:high], started[low:high], ended[low:high]) for low, high in pairwise(cuts)
    )
    return Timeline(classes, events, solves)


def _check_ended(job: Job, script: Script, streams: Small) -> None:
    waiting = np.flatnonzero(streams[:, AT] < script.last)[:8]
    if len(waiting):
        ops = script.steps[streams[waiting, AT], OP].tolist()
        raise WorkloadError(stuck_at(job, list(zip((waiting // WIDTH).tolist(), ops, strict=True))))
