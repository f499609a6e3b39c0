"""Unfolded runs at scale: every operation of every rank, in one compiled loop.

The same meaning and the same integers as `scaleout.engine.accelerator`, which runs a process for
each stream in SimPy; ``docs/engine.md`` says what is alike and what is not.
"""

import numpy as np

from scaleout.engine.accelerator import stuck_at
from scaleout.engine.compiledloop import Record, State, run_loop
from scaleout.engine.program import Job
from scaleout.engine.timeline import ClassTimeline, Timeline
from scaleout.engine.unfolded import WIDTH, Script, Unfolded
from scaleout.engine.wireloop import EVENTS, SOLVES
from scaleout.errors import WorkloadError

__all__ = ["COMPILED_FROM", "run_unfolded"]

COMPILED_FROM = 100_000
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
    played = run_loop(script, wiring.meetings, wiring.wires, plain=plain)
    if played is None:
        raise OverflowError("a date beyond 64-bit integers")
    record, state, moved = played
    _check_ended(wiring.job, script, state)
    return Timeline(_classes(script, record), int(moved.count[EVENTS]), int(moved.count[SOLVES]))


def _classes(script: Script, record: Record) -> tuple[ClassTimeline, ...]:
    """Views of each rank's part of the record."""
    cuts = script.base.tolist()
    arrived, started, ended = record
    return tuple(
        ClassTimeline(arrived[low:high], started[low:high], ended[low:high])
        for low, high in zip(cuts[:-1], cuts[1:], strict=True)
    )


def _check_ended(job: Job, script: Script, state: State) -> None:
    streams = np.flatnonzero(state.step < script.last)
    stuck = [(int(stream // WIDTH), int(script.op[state.step[stream]])) for stream in streams[:8]]
    if stuck:
        raise WorkloadError(stuck_at(job, stuck))
