"""Who computes the points of a sweep: this process, a Ray of one's own, or a Ray cluster.

An executor takes points from a `Work` as batches, has them evaluated, and gives each batch back as soon as it is
finished, in any order. It knows nothing of the store: what it gave is its caller's to keep.
"""

import os
from typing import TYPE_CHECKING

from scaleout.errors import SweepError

if TYPE_CHECKING:
    from scaleout.sweep.execute.batches import Executor

__all__ = ["cores", "executor_of"]

_A_CORE = 4
"""Processes for each core of this machine, at most [1]."""
_LEAST_ROOM = 64
"""So many it takes on any machine [1]."""


def executor_of(ray: str | None, workers: int | None) -> "Executor":
    """Who computes.

    Parameters
    ----------
    ray
        None: this process, or a Ray of one's own where more than one worker is wanted; "local": a Ray of one's own;
        otherwise the address of a cluster, or "auto".
    workers
        Batches at a time; None for as many as there are cores.

    Raises
    ------
    SweepError
        The address is none, nobody answers there, or this machine has no room for so many workers.
    """
    if workers is not None and workers < 1:
        raise SweepError(f"workers: {workers} is not accepted; expected a whole number of at least 1")
    if ray is None and (workers is None or workers == 1):
        from scaleout.sweep.execute.serial import Serial

        return Serial()
    from scaleout.sweep.execute.address import checked
    from scaleout.sweep.execute.tasks import OnRay

    if ray is None or ray == "local":
        most = max(_LEAST_ROOM, _A_CORE * cores())
        if workers is not None and workers > most:
            raise SweepError(
                f"workers: {workers:,} are too many for {cores():,} cores of this machine; expected at most {most:,}"
            )
        return OnRay(None, workers or cores())
    return OnRay(checked(ray), workers)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
